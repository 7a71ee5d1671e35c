"""Cheap cues of choices among candidates: what speaks for one of them without looking at a neuron as a whole.

The cues of pairs (:mod:`connectomebench.models.cues`) are measured on each candidate with the base; others compare the
candidates of a row with each other.

========== ==================================================================================
position   letter of a candidate, and how many there are
largest    area of a candidate in its views, against the others
nearest    distance of a candidate from the centre of its views, against the others
========== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.models.choices import candidate_rows, letters_of
from connectomebench.models.cues import CUES, CheapCue, Measured
from connectomebench.models.features import FeatureStore, stored_rows
from connectomebench.rendering.colour_features import coloured

if TYPE_CHECKING:
    from datasets import Dataset

_CHOICE = ("merge_action_multiple_choice",)
_COMPARED_PX = 256


def orange_features(image: Image.Image) -> NDArray[np.float32]:
    """Measure the candidate in one view.

    Returns
    -------
    float32, shape (2,)
        Its area as a share of the image, and its distance from the centre in edges (1 where it cannot be seen).
    """
    _, orange = coloured(image.convert("RGB").reduce(max(1, min(image.size) // _COMPARED_PX)))
    if not orange.any():
        return np.array([0, 1], np.float32)
    rows, columns = np.nonzero(orange)
    away = np.hypot((rows + 0.5) / orange.shape[0] - 0.5, (columns + 0.5) / orange.shape[1] - 0.5)
    return np.array([orange.mean(), away.min()], np.float32)


def _position(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
    values = [(k, len(own)) for own in map(letters_of, rows["views"]) for k in range(len(own))]
    return ("letter", "candidates"), np.array(values, np.float32)


def _compared(name: str, column: int, sign: int) -> Callable[[Dataset, Path | None, bool], Measured]:
    """Compare a measure of each candidate, summed over its views, with those of the others."""

    def measured(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
        settings = {"name": "cue candidates", "format": 1}
        store = FeatureStore(cache, settings, lambda images: np.stack([orange_features(i) for i in images]))
        each = candidate_rows(rows)
        words = "measure candidates" if progress else None
        found = store.rows(stored_rows(each), len(MESH_VIEWS) * len(each), words)
        total = found.reshape(len(each), len(MESH_VIEWS), 2)[:, :, column].sum(axis=1)
        values, start = [], 0
        for own in map(letters_of, rows["views"]):
            here = total[start : start + len(own)]
            start += len(own)
            order = np.argsort(np.argsort(sign * here, kind="stable"), kind="stable")
            best = np.max(sign * here)
            values += [(one, rank, sign * one - best) for one, rank in zip(here, order, strict=True)]
        return (name, f"{name}_rank", f"{name}_behind"), np.array(values, np.float32)

    return measured


def _of_each(cue: CheapCue) -> CheapCue:
    """Measure a cue of pairs on every candidate."""

    def measured(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
        return cue.measure(candidate_rows(rows), cache, progress)

    inherent = _CHOICE if cue.name in _PART_OF_THE_QUESTION else ()
    return CheapCue(cue.name, measured, cue.views, inherent)


# which candidate comes up to the end of the base is what is asked, and outlines show it
_PART_OF_THE_QUESTION = ("silhouette", "one_piece")
_OF_PAIRS = ("trivial", "one_piece", "silhouette", "grey", "metadata")

CHOICE_CUES: tuple[CheapCue, ...] = (
    CheapCue("position", _position),
    CheapCue("largest", _compared("area", 0, 1), MESH_VIEWS),
    CheapCue("nearest", _compared("distance", 1, -1), MESH_VIEWS, _CHOICE),
    *(_of_each(cue) for cue in CUES if cue.name in _OF_PAIRS),
)
"""All cues of a choice among candidates, the plainest first."""
