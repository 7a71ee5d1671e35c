"""A small dataset in the stored layout whose answer can be seen, and an encoder that counts its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value
from endpoint_server import Server, serve
from PIL import Image as PILImage
from PIL import ImageDraw

from connectomebench.models import encoders
from connectomebench.models import endpoint as endpoint_module
from connectomebench.models.encoders import EfficientNetLite0, Encoder
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE

VIEWS = ["front", "side"]


def draw(answer: str, random: np.random.Generator, size: int = 160) -> PILImage.Image:
    """A blue disc with an orange one of the same area that touches it (yes) or stands apart (no)."""
    image = PILImage.new("RGB", (size, size), BACKGROUND)
    pen = ImageDraw.Draw(image)
    radius = int(random.integers(18, 26))
    pen.point((int(random.integers(size)), size - 1 - int(random.integers(20))), fill=BLUE)  # no two images are equal
    gap = 2 * radius - 6 if answer == "yes" else 2 * radius + 30
    x, y = (int(c) for c in random.integers(radius + 2, 40, 2))
    for centre, colour in ((x, BLUE), (x + gap, ORANGE)):
        pen.ellipse((centre - radius, y - radius, centre + radius, y + radius), fill=colour)
    return image


def make_dataset(answers: Sequence[str], groups: Sequence[str], seed: int = 0, size: int = 160) -> Dataset:
    random = np.random.default_rng(seed)
    features = Features(
        {
            "images": List(Image()),
            "views": List(Value("string")),
            "question": Value("string"),
            "answer": Value("string"),
            "group": Value("string"),
        }
    )
    rows = {
        "images": [[draw(a, random, size) for _ in VIEWS] for a in answers],
        "views": [VIEWS] * len(answers),
        "question": ["Do the two touch?"] * len(answers),
        "answer": list(answers),
        "group": list(groups),
    }
    return Dataset.from_dict(rows, features=features)


class CountingEncoder:
    """Wraps an encoder and counts the images that it is asked to encode."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.name, self.revision = inner.name, inner.revision
        self.input_px, self.dim, self.has_cls = inner.input_px, inner.dim, inner.has_cls
        self.images = 0

    def encode(self, images: Sequence[PILImage.Image]) -> np.ndarray:
        self.images += len(images)
        return self.inner.encode(images)


@pytest.fixture(scope="session")
def whole_efficientnet() -> EfficientNetLite0:
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def efficientnet(whole_efficientnet: EfficientNetLite0) -> Iterator[EfficientNetLite0]:
    """The encoder with small batches, since it fills up each: most tests encode a few pictures at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "BATCH", 4)
        yield whole_efficientnet


@pytest.fixture
def encoder(efficientnet: EfficientNetLite0) -> CountingEncoder:
    return CountingEncoder(efficientnet)


@pytest.fixture(scope="session")
def train() -> Dataset:
    answers = ["yes", "no"] * 16
    return make_dataset(answers, [f"g{i // 4}" for i in range(len(answers))], seed=1)


@pytest.fixture(scope="session")
def test_rows() -> Dataset:
    answers = ["no", "yes"] * 6
    return make_dataset(answers, [f"t{i}" for i in range(len(answers))], seed=2)


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., Dataset]:
    return make_dataset


class PatchEncoder:
    """Mean colour of each of 4 x 4 patches: a real encoder, small enough for tests of what surrounds one."""

    name, revision, input_px, dim, has_cls = "patches", "1", 64, 3, False

    def encode(self, images: Sequence[PILImage.Image]) -> np.ndarray:
        pixels = np.stack([np.asarray(i.resize((64, 64)), dtype=np.float32) / 255 for i in images])
        return pixels.reshape(len(images), 4, 16, 4, 16, 3).mean(axis=(2, 4)).reshape(len(images), 16, 3)


@pytest.fixture
def patches() -> CountingEncoder:
    return CountingEncoder(PatchEncoder())


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    with serve() as state:
        yield state


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    one_server.forget()
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(endpoint_module, "_FIRST_PAUSE_S", 0.01)
    return one_server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Several threads wait for each other longer than so small a model computes, above all on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
