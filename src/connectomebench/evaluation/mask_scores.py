"""Score masks of the part that a split takes away: overlap with the true mask, of each view and of a row.

A split has no first side. So the main score, ``miou``, names the two parts in whichever way fits better, once for all
views of a row, and averages the overlap of both over the pixels of all views together: one part for everything scores
one half at most. ``miou_per_view`` names them again in every view and averages over views, as ConnectomeBench2 does; a
view that shows only one part then counts as found.

``iou`` and ``dice`` are of the part taken away, the one that covers fewer pixels. Where the two are nearly equal
(:data:`~connectomebench.core.part_masks.AMBIGUOUS_SHARE`) nobody could say which that is, and the better naming counts.

Only pixels of the segment count, since that is where the picture asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import AMBIGUOUS_SHARE, NOTHING, STAYS, TAKEN, decode_masks
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums

VIEW_METRICS = tuple(f"iou_{view}" for view in MESH_VIEWS)
MASK_METRICS: tuple[str, ...] = ("miou", "miou_per_view", "iou", "dice", *VIEW_METRICS)
"""Names of all scores; the first is the main one."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class MaskScore:
    """Scores of one row, each between 0 and 1; NaN where there is nothing to overlap.

    Attributes
    ----------
    miou
        Mean intersection over union of both parts, over the pixels of all views, in the better of their two namings.
    miou_per_view
        The mean over views, with the better naming in each, as ConnectomeBench2 scores.
    iou, dice
        Intersection over union and Dice coefficient of the part taken away, over the pixels of all views.
    views
        View -> intersection over union of the part taken away.
    """

    miou: float
    miou_per_view: float
    iou: float
    dice: float
    views: Mapping[str, float]

    def as_dict(self) -> dict[str, float]:
        """Return the scores by the names of :data:`MASK_METRICS`."""
        nan = float("nan")
        named = {f"iou_{view}": self.views.get(view, nan) for view in MESH_VIEWS}
        return {
            "miou": self.miou,
            "miou_per_view": self.miou_per_view,
            "iou": self.iou,
            "dice": self.dice,
            **named,
        }


def score_masks(predicted: Mapping[str, Mask] | None, truth: Mapping[str, Mask]) -> MaskScore:
    """Score the masks of one row.

    Parameters
    ----------
    predicted
        View -> mask, uint8, shape (rows, columns); from 128 on a pixel is taken away. None for a reply without masks,
        which scores 0.
    truth
        View -> mask of :data:`~connectomebench.core.part_masks.NOTHING`, ``STAYS`` and ``TAKEN``.

    Raises
    ------
    ConnectomeBenchError
        If a view is missing or of another size, or the true masks hold only one part.

    Examples
    --------
    >>> import numpy as np
    >>> truth = {"front": np.array([[0, 127, 127, 255]], np.uint8)}
    >>> score_masks({"front": np.array([[0, 0, 255, 255]], np.uint8)}, truth).iou
    0.5
    >>> score_masks({"front": np.array([[0, 255, 255, 0]], np.uint8)}, truth).miou
    1.0
    """
    parts = np.array([[np.count_nonzero(mask == value) for value in (TAKEN, STAYS)] for mask in truth.values()])
    if not len(parts) or not parts.sum(axis=0).all():
        raise ConnectomeBenchError("the true masks show only one part of the split; build the dataset again")
    if predicted is None:
        return MaskScore(
            0.0, 0.0, 0.0, 0.0, {view: 0.0 for view, taken in zip(truth, parts[:, 0], strict=True) if taken}
        )
    counts = np.stack([_counts(predicted, view, mask) for view, mask in truth.items()])
    whole = counts.sum(axis=0)
    # naming, part: the predicted parts as they are named, and the other way round
    pooled = np.stack([_overlap(whole), _overlap(whole[::-1])])
    by_view = np.stack([_overlap(counts), _overlap(counts[:, ::-1])])
    per_naming = pooled.mean(axis=1)
    share = parts[:, 0].sum() / parts.sum()
    naming = int(per_naming[1] > per_naming[0]) if min(share, 1 - share) >= AMBIGUOUS_SHARE else 0
    iou = float(pooled[naming, 0])
    views = {
        view: float(value) for view, value in zip(truth, by_view[naming, :, 0], strict=True) if not np.isnan(value)
    }
    return MaskScore(
        float(per_naming.max()),
        float(_mean(_mean(by_view, axis=2).max(axis=0), axis=0)),
        iou,
        2 * iou / (1 + iou),
        views,
    )


def _counts(predicted: Mapping[str, Mask], view: str, truth: Mask) -> NDArray[np.float64]:
    """Count the pixels of a view that are predicted (first axis) and truly (second axis) taken away and staying."""
    if view not in predicted:
        raise ConnectomeBenchError(f"there is no mask of the {view} view; give one for every view of the row")
    mask = predicted[view]
    if mask.shape != truth.shape:
        raise ConnectomeBenchError(
            f"the mask of the {view} view is {_size(mask)} pixels and the true one {_size(truth)}; give masks of the "
            "size of the pictures"
        )
    segment = truth != NOTHING
    taken = mask[segment] >= 128
    truly = truth[segment] == TAKEN
    return np.bincount(2 * ~taken + ~truly, minlength=4).reshape(2, 2).astype(np.float64)


def _size(mask: Mask) -> str:
    return " x ".join(map(str, mask.shape[::-1]))


def _overlap(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each part: counts (..., 2, 2) -> (..., 2); NaN for an empty union."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-2) + counts.sum(axis=-1) - both
    return np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Average what is defined; NaN where nothing is."""
    known = ~np.isnan(values)
    number = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, number, out=np.full(np.shape(total), np.nan), where=number > 0)


def score_texts(predictions: Sequence[str | None], answers: Sequence[str]) -> list[MaskScore]:
    """Score masks as they stand in result records.

    Parameters
    ----------
    predictions, answers
        Text of :func:`connectomebench.core.part_masks.encode_masks`; None or empty for a reply without masks.

    Raises
    ------
    ConnectomeBenchError
        If a text holds no masks, or masks do not fit those of the answer.
    """
    if len(predictions) != len(answers):
        raise ConnectomeBenchError(f"{len(predictions)} predictions for {len(answers)} answers; give one for each")
    scores = []
    for number, (prediction, answer) in enumerate(zip(predictions, answers, strict=True)):
        try:
            scores.append(score_masks(decode_masks(prediction) if prediction else None, decode_masks(answer)))
        except ValueError as error:
            raise ConnectomeBenchError(f"row {number}: {error}; encode_masks of connectomebench writes them") from None
    return scores


def mask_statistics(scores: Sequence[MaskScore]) -> dict[str, Statistic]:
    """Return the mean of every score as a function of row weights, by the names of :data:`MASK_METRICS`.

    Rows in which a score is undefined are left out of its mean.
    """
    rows = [score.as_dict() for score in scores]
    return {name: mean_statistic(np.array([row[name] for row in rows])) for name in MASK_METRICS}


def mean_statistic(values: NDArray[np.float64]) -> Statistic:
    """Return the mean as a function of row weights; NaN values do not count, and no others give NaN.

    Parameters
    ----------
    values
        Shape (rows,).
    """
    known = ~np.isnan(values)
    terms = np.stack([np.where(known, values, 0.0), known.astype(np.float64)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total, mass = weighted_sums(weights, terms).T
        return np.divide(total, mass, out=np.full(total.shape, np.nan), where=mass > 0)

    return statistic


def mean_scores(scores: Sequence[MaskScore]) -> dict[str, float]:
    """Average the scores of rows; by the names of :data:`MASK_METRICS`, NaN where no row has one.

    Raises
    ------
    ConnectomeBenchError
        If there are no rows.
    """
    if not scores:
        raise ConnectomeBenchError("there are no rows to score; give at least one")
    ones = np.ones((1, len(scores)))
    return {name: float(statistic(ones)[0]) for name, statistic in mask_statistics(scores).items()}
