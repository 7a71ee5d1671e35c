"""Score answers in the demo, of visitors and of models: right or wrong, by distance, or by overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import decode_masks, stored_masks
from connectomebench.core.place_score import score_row, score_text
from connectomebench.core.tasks import TASKS

if TYPE_CHECKING:
    from connectomebench.demo.stored_samples import StoredSamples

RIGHT_OVERLAP = 0.75
"""Mean overlap of both parts from which on masks count as right; one part for everything has one half at most."""


def recorded_score(task: str, prediction: str | None, answer: str) -> float:
    """Score an answer of a result record; between 0 and 1.

    Parameters
    ----------
    task
        Name of the task.
    prediction, answer
        As the record has them.

    Raises
    ------
    ConnectomeBenchError
        If the true answer of the record cannot be read.
    """
    from connectomebench.evaluation.mask_scores import score_texts

    scoring = TASKS[task].scoring if task in TASKS else "exact"
    if scoring == "places":
        return score_text(prediction, answer)
    if scoring == "masks":
        return score_texts([prediction], [answer])[0].miou
    return float(prediction == answer)


def visitor_score(samples: StoredSamples, key: tuple[str, str], number: int, given: str) -> float:
    """Score what a visitor answered to a sample; between 0 and 1.

    Parameters
    ----------
    samples, key, number
        The samples, the collection and the row.
    given
        One of the task's labels, places (:mod:`connectomebench.core.places`), or masks
        (:func:`connectomebench.core.part_masks.encode_masks`).

    Raises
    ------
    ConnectomeBenchError
        If there is no such row, or its masks cannot be read.
    """
    from connectomebench.evaluation.mask_scores import score_masks

    row = samples.row(key, number)
    scoring = TASKS[key[0]].scoring
    if scoring == "places":
        return score_row(given, row)
    if scoring == "masks":
        try:
            return score_masks(decode_masks(given), stored_masks(row["views"], samples.masks(key, number))).miou
        except ValueError as error:
            raise ConnectomeBenchError("the answer of this sample cannot be read; choose another one") from error
    return float(row["answer"] == given)


def is_right(task: str, score: float) -> bool:
    """Tell whether a score counts as right: full credit for a place, :data:`RIGHT_OVERLAP` for masks."""
    masks = task in TASKS and TASKS[task].scoring == "masks"
    return score >= (RIGHT_OVERLAP if masks else 1.0)
