"""The trivial baseline: brightness and area of each colour (what is seen of segment sizes), and nothing about shape.

The same numbers serve to match controls to cases before a dataset is written: what they tell apart, a model could learn
without looking at a neuron.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.errors import ConnectomeBenchError
from connectomebench.files import content_key
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.features import FeatureStore, stored_rows
from connectomebench.models.heads import Candidate, Head, fit_head
from connectomebench.models.images import StoredImage
from connectomebench.models.probe import training_columns, training_fingerprint
from connectomebench.models.saved import load_head, save_head
from connectomebench.rendering.colours import BLUE, ORANGE

if TYPE_CHECKING:
    from datasets import Dataset

EDGE_PX = 128
MIN_SATURATION = 64  # of 255: below it there is no colour to speak of (grey tissue, its hatched outside, soft edges)
HUE_REACH = 28  # of 256, either side: shading leaves the hue alone, antialiasing hardly moves it
WHITE = 250
NAMES = (
    "brightness_mean",
    "brightness_sd",
    "area_background",
    "area_blue",
    "area_orange",
)


def _hue(colour: tuple[int, int, int]) -> int:
    return Image.new("RGB", (1, 1), colour).convert("HSV").getpixel((0, 0))[0]  # type: ignore[index]


_HUES = (_hue(BLUE), _hue(ORANGE))


def image_features(image: Image.Image) -> NDArray[np.float64]:
    """Measure one image.

    Parameters
    ----------
    image
        Any size and mode; it is averaged down to about 128 px first.

    Returns
    -------
    float64, shape (5,)
        In the order of ``NAMES``: mean and standard deviation of brightness (0 to 1), share of the image that is white
        background, and share that is blue (base, source) and orange (candidate, sink).
    """
    rgb = image.convert("RGB")
    small = rgb.reduce(max(1, min(rgb.size) // EDGE_PX))
    brightness = np.asarray(small.convert("L"), dtype=np.float64) / 255
    background = np.asarray(small).min(axis=2) >= WHITE
    values = [brightness.mean(), brightness.std(), background.mean()]
    return np.array(values + [mask.mean() for mask in coloured(small)])


def coloured(image: Image.Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the pixels that are blue (base, source) and those that are orange (candidate, sink), however dark.

    Returns
    -------
    blue, orange
        bool, shape (rows, columns) each.
    """
    hue, saturation, _ = np.moveaxis(np.asarray(image.convert("RGB").convert("HSV"), dtype=np.int16), 2, 0)
    strong = saturation >= MIN_SATURATION
    blue, orange = (strong & (np.abs((hue - centre + 128) % 256 - 128) <= HUE_REACH) for centre in _HUES)
    return blue, orange


def trivial_features(
    images: Sequence[Image.Image], views: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Measure the images of one row.

    Parameters
    ----------
    images
        In the order of ``views``.
    views
        Names of the views.

    Returns
    -------
    names, values
        ``front_area_blue`` and so on, and float64 of shape (5 * views,); see :func:`image_features`.

    Raises
    ------
    ConnectomeBenchError
        If there are not as many images as views.
    """
    if len(images) != len(views):
        raise ConnectomeBenchError(f"got {len(images)} images for the views {', '.join(views)}; give one for each")
    names = tuple(f"{view}_{name}" for view in views for name in NAMES)
    return names, np.concatenate([image_features(image) for image in images])


@dataclass(frozen=True)
class TrivialConfig:
    """How the trivial model is made: folds of the grouped cross-validation, and the seed of folds and forest."""

    folds: int = 5
    seed: int = 0


def _candidates(seed: int) -> list[Candidate]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = [
        Candidate(
            {"head": "logistic", "C": c},
            Pipeline([("scale", StandardScaler()), ("head", LogisticRegression(C=c, max_iter=2000))]),
        )
        for c in (0.01, 0.1, 1.0)
    ]
    forest = [
        Candidate(
            {"head": "forest", "min_samples_leaf": leaf},
            Pipeline([("head", RandomForestClassifier(200, min_samples_leaf=leaf, random_state=seed))]),
        )
        for leaf in (10, 3)
    ]
    return logistic + forest


def _store(cache: Path | None) -> FeatureStore:
    settings = {"name": "trivial", "names": list(NAMES), "colours": [list(BLUE), list(ORANGE)], "format": 1}
    return FeatureStore(
        cache, settings, lambda images: np.stack([image_features(i) for i in images]).astype(np.float32)
    )


class TrivialModel:
    """A trained trivial model; see :func:`train_trivial` and :func:`load_trivial`."""

    name = "trivial"

    def __init__(self, config: TrivialConfig, head: Head, views: int, trained_on: str, cache: Path | None) -> None:
        self.config = config
        self.head = head
        self.views = views
        self.trained_on = trained_on
        self.revision = content_key(asdict(config), list(NAMES), trained_on)[:16]
        self._store = _store(cache)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch; see :class:`connectomebench.models.base.Model`."""
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        check_views(images, self.views)
        return self.head.answers(self._store.rows(lambda: images)) if len(images) else []

    def save(self, folder: Path) -> None:
        """Write the model to a folder that :func:`load_trivial` reads."""
        details: dict[str, Any] = {
            "config": asdict(self.config),
            "views": self.views,
            "trained_on": self.trained_on,
            "revision": self.revision,
        }
        save_head(folder, self.head, self.name, details)


def train_trivial(
    train: Dataset, config: TrivialConfig | None = None, cache: Path | None = None, *, progress: bool = True
) -> TrivialModel:
    """Train the trivial model: the better of logistic regression and a random forest, by grouped cross-validation.

    Parameters
    ----------
    train
        Stored rows; ``images``, ``answer`` and ``group`` are read.
    config
        How to make it; the defaults where None.
    cache
        Folder for the measurements; None keeps them in memory.
    progress
        Show progress bars for what takes over a second.

    Raises
    ------
    ConnectomeBenchError
        If columns, rows, answers or groups are too few.
    """
    config = config or TrivialConfig()
    answers, groups = training_columns(train)
    views = len(train[0]["images"])
    features = _store(cache).rows(stored_rows(train), views * len(train), "measure images" if progress else None)
    words = "fit trivial model" if progress else None
    head = fit_head(features, answers, groups, _candidates(config.seed), config.folds, config.seed, words)
    return TrivialModel(config, head, views, training_fingerprint(train), cache)


def load_trivial(folder: Path, cache: Path | None = None) -> TrivialModel:
    """Load a model saved by :meth:`TrivialModel.save`.

    Raises
    ------
    ConnectomeBenchError
        If the folder is damaged.
    """
    head, saved = load_head(folder, TrivialModel.name)
    return TrivialModel(TrivialConfig(**saved["config"]), head, saved["views"], saved["trained_on"], cache)
