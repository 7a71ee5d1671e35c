"""Check a dataset of masks: how well masks without any learning do on its test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.task_explanations import MASK_BASELINES
from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.formatting import interval_text, without_nan
from connectomebench.evaluation.mask_scores import MASK_METRICS, mask_statistics, score_texts
from connectomebench.evaluation.statistics import Estimate, bootstrap_intervals
from connectomebench.evaluation.true_answers import true_answers
from connectomebench.models.mask_baselines import HALVING, MaskBaseline

if TYPE_CHECKING:
    from connectomebench.dataset.rows import DataRecord

JUDGED = "test"
SHOWN = ("miou", "miou_per_view", "iou", "dice")
_ROWS = 16


@dataclass(frozen=True)
class MaskCheck:
    """Scores of masks without learning on one species of one dataset.

    Attributes
    ----------
    name
        Folder or ``ORG/NAME``, as it was asked for.
    data
        The judged rows.
    scores
        Baseline -> metric of :data:`connectomebench.evaluation.mask_scores.MASK_METRICS` -> estimate.
    """

    name: str
    data: DataRecord
    scores: Mapping[str, Mapping[str, Estimate]]


def check_masks(
    name: str, species: str, *, task: str | None = None, revision: str | None = None, rows_cache: Path | None = None
) -> MaskCheck:
    """Score every mask without learning on the test rows of a dataset.

    Parameters
    ----------
    name
        Folder of one task, or ``ORG/NAME`` on the Hub.
    species
        Config.
    task
        For public datasets that hold several.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    rows_cache
        Folder for the cache of `datasets`; its own by default.

    Raises
    ------
    ConnectomeBenchError
        If rows cannot be loaded, there are none, or the answer is no mask.
    """
    rows = load_rows(name, species, JUDGED, revision, rows_cache, task=task)
    if get_task(rows.data.task).scoring != "masks":
        raise ConnectomeBenchError(f"{name}: the answer to {rows.data.task} is no mask")
    if not len(rows.dataset):
        raise ConnectomeBenchError(f"{name}: {JUDGED} of {species} has no rows; build it with more data")
    models = [MaskBaseline(baseline) for baseline in HALVING]
    said: dict[str, list[str | None]] = {model.name: [] for model in models}
    truth: list[str] = []
    for start in range(0, len(rows.dataset), _ROWS):
        batch = rows.dataset[start : start + _ROWS]
        truth += true_answers(batch)
        for model in models:
            said[model.name] += [answer.prediction for answer in model.predict(batch)]
    groups = list(rows.dataset["group"])
    scores = {
        baseline: bootstrap_intervals(mask_statistics(score_texts(masks, truth)), groups, bounds=(0.0, 1.0))
        for baseline, masks in said.items()
    }
    return MaskCheck(name, rows.data, scores)


def mask_entry(check: MaskCheck) -> list[dict[str, Any]]:
    """Return the scores as plain values, for the manifest (``mask_baselines``) and JSON.

    Returns
    -------
    list
        One dict a baseline: ``baseline``, ``how``, ``partition``, ``n``, ``n_groups`` and ``metrics``, for each of
        :data:`SHOWN` its ``value``, ``low`` and ``high`` (95% over groups; None where undefined).
    """
    return [
        without_nan(
            {
                "baseline": baseline,
                "how": MASK_BASELINES[baseline],
                "partition": JUDGED,
                "n": found[MASK_METRICS[0]].n,
                "n_groups": found[MASK_METRICS[0]].n_groups,
                "metrics": {
                    name: {
                        "value": float(found[name].value),
                        "low": float(found[name].lower),
                        "high": float(found[name].upper),
                    }
                    for name in SHOWN
                },
            }
        )
        for baseline, found in check.scores.items()
    ]


def masks_text(check: MaskCheck) -> str:
    """Format one check as a table."""
    first = next(iter(check.scores.values()))[MASK_METRICS[0]]
    rows: list[tuple[str, ...]] = [("masks", *SHOWN, "how")]
    for baseline, found in check.scores.items():
        rows.append((baseline, *(interval_text(found[name]) for name in SHOWN), MASK_BASELINES[baseline]))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    lines = [
        f"{check.data.task}/{check.data.species}: masks without learning on {first.n} {JUDGED} rows in "
        f"{first.n_groups} groups; 95% intervals over groups"
    ]
    lines += [
        "  " + "  ".join([*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join(lines)
