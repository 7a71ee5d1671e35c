"""A finished run as the comparison of runs reads it, and whether runs may be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.graph_files import RUN
from connectomebench.proofreading.score_files import check_written

SCORES = "scores.json"
# what makes two runs runs of one place, by key of run.json
_PLACE = {
    "code_version": "version of connectomebench",
    "config": "configuration",
    "segmentation": "segmentation",
    "box_nm": "box",
    "place": "supervoxels or truth",
}
# what runs of one group share beside
_OPTIONS = {
    "min_confidence": "--min-confidence",
    "min_identification": "--min-identification",
    "trusted": "trusted segments",
    "max_density": "--max-density",
    "contacts": "--contacts",
    "validation_box_nm": "--validation-box",
    "precision": "--precision",
    "max_decisions": "--max-decisions",
    "max_rounds": "--max-rounds",
    "tasks": "tasks of the models",
    "people": "decisions of people",
}


@dataclass(frozen=True)
class FinishedRun:
    """What the small files of a run say.

    Attributes
    ----------
    folder
        Its output folder.
    place, options
        What it is of, and how it was made.
    models
        Task -> name and revision.
    errors
        Before and after.
    fall_bits
        By how much the variation of information falls.
    decisions
        Corrections of the first round that a person would decide.
    edits
        int64, shape (k, 3): part of the place, right edits, wrong edits.
    waiting
        Corrections that still wait for a person.
    orders
        Orders in which corrections or pairs were decided; not every run can have all.
    """

    folder: Path
    place: dict[str, Any]
    options: dict[str, Any]
    models: dict[str, Any]
    errors: tuple[int, int]
    fall_bits: float
    decisions: int
    edits: NDArray[np.int64]
    waiting: int = 0
    orders: frozenset[str] = frozenset()


def open_run(folder: Path) -> FinishedRun:
    """Open a finished run that was scored.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds none, or one of an older version.
    """
    identity = _read_json(
        folder / RUN, f"there is no {folder / RUN}; {folder} must be the output folder of connectomebench proofread"
    )
    scores = _read_json(
        folder / SCORES,
        f"{folder} has no {SCORES}: the run is not finished, or its configuration has no truth (`proofread`)",
    )
    check_written(folder)
    try:
        rules = scores["rules"]
        return FinishedRun(
            folder,
            {name: identity[name] for name in _PLACE},
            {
                **{name: identity[name] for name in _OPTIONS if name in identity},
                **{name: rules[name] for name in ("max_decisions", "max_rounds")},
                "tasks": sorted(identity["models"]),
                "people": "people" in scores and bool(scores["people"]["reviewers"]),
            },
            dict(identity["models"]),
            (int(scores["before"]["errors"]), int(scores["after"]["errors"])),
            float(scores["interval"]["fall_bits"]),
            int(scores["effort"]["expected_gain"]["decisions"]),
            np.array(
                [[one[name] for name in ("part", "corrected", "added")] for one in scores["edits_by_part"]], np.int64
            ).reshape(-1, 3),
            int(scores.get("people", {}).get("waiting", 0)),
            frozenset(scores["effort"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ConnectomeBenchError(f"{RUN} or {SCORES} of {folder} is damaged; proofread again") from None


def check_comparable(groups: Sequence[Sequence[FinishedRun]]) -> None:
    """Refuse runs that are not of one place, and groups whose runs differ in more than their models.

    Raises
    ------
    ConnectomeBenchError
        In one line that says what differs.
    """
    seen: set[Path] = set()
    first = groups[0][0]
    for run in (one for group in groups for one in group):
        if run.folder.resolve() in seen:
            raise ConnectomeBenchError(f"{run.folder} is given twice; name each run once")
        seen.add(run.folder.resolve())
        if other := _different(first.place, run.place, _PLACE):
            raise ConnectomeBenchError(
                f"{run.folder} and {first.folder} are not runs of one place (different: {other}); proofread both alike"
            )
    for group in groups:
        for i, run in enumerate(group):
            if other := _different(group[0].options, run.options, _OPTIONS):
                raise ConnectomeBenchError(
                    f"{run.folder} and {group[0].folder} differ in more than the models (different: {other}); give one "
                    "of them after --against"
                )
            if same := next((one for one in group[:i] if one.models == run.models), None):
                raise ConnectomeBenchError(
                    f"{run.folder} and {same.folder} are runs of the same models; give runs of models of other seeds"
                )


def _different(first: dict[str, Any], second: dict[str, Any], titles: dict[str, str]) -> str:
    return ", ".join(title for name, title in titles.items() if first.get(name) != second.get(name))


def _read_json(path: Path, missing: str) -> dict[str, Any]:
    if not path.exists():
        raise ConnectomeBenchError(missing)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        raise ConnectomeBenchError(f"{path} is damaged; proofread again") from None
