"""Grey baseline: the probe trained on uniform grey images, which can only learn how common each answer is.

A balanced accuracy above one half means that something other than image content leaks the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.encoders import Encoder
from connectomebench.models.images import StoredImage, image_size
from connectomebench.models.probe import Probe, ProbeConfig, load_probe, train_probe

if TYPE_CHECKING:
    from datasets import Dataset

GREY = (127, 127, 127)


def grey_image(image: StoredImage) -> Image.Image:
    """Return a uniform grey image of the same size."""
    return Image.new("RGB", image_size(image), GREY)


class GreyModel:
    """A probe on grey images; see :func:`train_grey`."""

    name = "grey"

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.revision = probe.revision

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch; see :class:`connectomebench.models.base.Model`."""
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        return self.probe.predict_images([[grey_image(image) for image in row] for row in images])

    def save(self, folder: Path) -> None:
        """Write the model to a folder that :func:`load_grey` reads."""
        self.probe.save(folder, self.name)


def train_grey(
    train: Dataset,
    config: ProbeConfig | None = None,
    cache: Path | None = None,
    *,
    encoder: Encoder | None = None,
    progress: bool = True,
) -> GreyModel:
    """Train a probe on grey images; parameters and errors as :func:`.probe.train_probe`."""
    return GreyModel(train_probe(train, config, cache, encoder=encoder, change=grey_image, progress=progress))


def load_grey(folder: Path, cache: Path | None = None, *, encoder: Encoder | None = None) -> GreyModel:
    """Load a model saved by :meth:`GreyModel.save`; parameters and errors as :func:`.probe.load_probe`."""
    return GreyModel(load_probe(folder, cache, encoder=encoder, kind=GreyModel.name))
