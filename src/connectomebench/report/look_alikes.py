"""The closest look-alike pictures of two partitions, for the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectomebench.dataset.leak_words import LookAlike
from connectomebench.dataset.schema import read_images


@dataclass(frozen=True)
class ShownPair:
    """Two pictures as data URIs, and their distance in words."""

    pictures: tuple[str, str]
    distance: str


def show_closest(folder: Path, pairs: Sequence[LookAlike]) -> ShownPair | None:
    """Read the two pictures of the closest pair; None if there is no pair.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    pairs
        From the manifest, the closest first.
    """
    if not pairs:
        return None
    pair = pairs[0]
    first = _picture(folder, pair.first_partition, pair.first)
    second = _picture(folder, pair.second_partition, pair.second)
    return ShownPair((first, second), pair.distance) if first and second else None


def _picture(folder: Path, partition: str, name: str) -> str | None:
    sample, _, view = name.partition("/")
    for sample_id, views, images in read_images(folder, partition):
        if sample_id == sample and view in views:
            return f"data:image/png;base64,{base64.b64encode(images[views.index(view)]).decode('ascii')}"
    return None
