"""Mean scores of several runs of one place, with intervals over parts of the volume and over runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.comparison import FEW_GROUPS
from connectomebench.evaluation.formatting import without_nan
from connectomebench.proofreading.effort import FIRST_SHARE, RANDOM_ORDERS, either_side
from connectomebench.proofreading.finished_run import FinishedRun, check_comparable, open_run
from connectomebench.proofreading.graph_files import MAPPING, read_columns
from connectomebench.proofreading.intervals import LEVEL, RESAMPLES, Falls, draws, quantiles
from connectomebench.proofreading.score_files import ChangedState, read_overlaps, read_states

# with fewer runs than this, a bootstrap over them is much too narrow
FEW_RUNS = 5
FORMAT_VERSION = 1
_NO_GAIN = 1e-12  # bits: rounding leaves as much where the oracle gains nothing in the parts drawn

# title and digits of each score
TITLES = {
    "fall_bits": ("fall of VI, bits", 4),
    "share_of_oracle": ("share of the oracle's gain", 3),
    "edits_right": ("right edits", 1),
    "edits_wrong": ("wrong edits", 1),
    "precision": ("precision of edits", 3),
    "first_30_percent": ("share of it in 30% of decisions", 3),
    "first_30_percent_random": ("the same in random order", 3),
    "first_30_percent_lead": ("lead over random order", 3),
    "first_30_percent_contact_look": ("the same without the models", 3),
    "first_30_percent_contact_look_lead": ("lead over that", 3),
    "first_30_percent_affinity": ("the same, highest affinity first", 3),
    "first_30_percent_affinity_lead": ("lead over highest affinity first", 3),
    "errors_before": ("errors before", 1),
    "errors_after": ("errors after", 1),
}
_SOME_ORDERS = ("contact_look", "affinity")  # compared only where all runs have them
_COUNTED_AS_A_WHOLE = ("errors_before", "errors_after")

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Score:
    """A score of a group of runs, or a difference of two groups.

    Attributes
    ----------
    mean
        Mean over the runs; NaN where it is undefined.
    low, high
        Of the 95% percentile interval; NaN where there is none.
    resamples
        In how many of them it is defined.
    """

    mean: float
    low: float
    high: float
    resamples: int


@dataclass(frozen=True)
class Group:
    """Runs that differ in their models alone.

    Attributes
    ----------
    runs
        The runs.
    values
        Score -> its value in each run; NaN where it is undefined.
    scores
        Score -> over all runs. ``precision`` is that of the edits of all runs together.
    """

    runs: tuple[FinishedRun, ...]
    values: dict[str, tuple[float, ...]]
    scores: dict[str, Score]


@dataclass(frozen=True)
class RunComparison:
    """Scores of one group of runs, or of two and their difference.

    Attributes
    ----------
    parts
        Parts of the volume that the intervals are over.
    group, against
        The runs; None where there is no second group.
    difference
        Those of ``group`` less those of ``against``; None where there is no second group.
    paired
        Whether runs were drawn in pairs, the first with the first, because both groups have as many.
    """

    parts: int
    group: Group
    against: Group | None
    difference: dict[str, Score] | None
    paired: bool


def compare_runs(folders: Sequence[Path], against: Sequence[Path] = (), seed: int = 0) -> RunComparison:
    """Score runs of one place together.

    Each resample draws parts of the volume with replacement, once for all runs, since all see the same volume, and runs
    with replacement: those of two groups in pairs where there are as many of both.

    Parameters
    ----------
    folders
        Output folders of ``connectomebench proofread`` that differ in their models alone.
    against
        Others, such as those of weaker models.
    seed
        Of the resamples. The parts drawn are those of ``interval`` in ``scores.json`` where it is 0.

    Returns
    -------
    RunComparison
        Scores, intervals and differences.

    Raises
    ------
    ConnectomeBenchError
        If a folder holds no finished run of this version, or runs are not of one place.
    """
    groups = [[open_run(folder) for folder in own] for own in (folders, against) if own]
    check_comparable(groups)
    every = [run for group in groups for run in group]
    overlaps = read_overlaps(every[0].folder)
    parts = np.unique(np.concatenate([overlaps[0][:, 2], *(run.edits[:, 0] for run in every)]))
    drawn = draws(len(parts), np.random.default_rng(seed)) if len(parts) else np.zeros((RESAMPLES, 0), np.int64)
    # the first row is the whole volume
    weights = np.concatenate([np.ones((1, len(parts)), np.int64), drawn])
    absent = [order for order in _SOME_ORDERS if not all(order in run.orders for run in every)]
    known = [name for name in TITLES if not name.startswith(tuple(f"first_30_percent_{order}" for order in absent))]
    made, resampled = [], []
    paired = len({len(group) for group in groups}) == 1
    for number, group in enumerate(groups, 1):
        measured = [_measure(run, overlaps, parts, weights) for run in group]
        runs = draws(len(group), np.random.default_rng((seed, 1 if paired else number)))
        times = np.concatenate([np.ones((1, len(group)), np.int64), runs])
        together = _together(measured, times)
        varied = _varied(len(parts), len(group))
        values = {name: tuple(float(one[name][0]) for one in map(_with_precision, measured)) for name in known}
        scores = {name: _score(together[name], varied[name]) for name in known}
        made.append(Group(tuple(group), values, scores))
        resampled.append((together, varied))
    difference = None
    if len(made) == 2:
        (first, varied), (second, also) = resampled
        difference = {
            name: _score(first[name] - second[name], varied[name] or also[name])
            for name in known
            if name != "errors_before"
        }
    return RunComparison(
        len(parts), made[0], made[1] if len(made) == 2 else None, difference, len(made) == 2 and paired
    )


def _measure(run: FinishedRun, known: tuple[Any, ...], parts: NDArray[np.int64], weights: NDArray[np.int64]) -> Values:
    """Score a run on each draw of parts; precision follows from the edits of all runs."""
    entries, bodies, counts = read_overlaps(run.folder)
    same = all(np.array_equal(a, b) for a, b in zip((entries, bodies, counts), known, strict=True))
    mapping = read_columns(run.folder, MAPPING)
    before, after = mapping["segment"].astype(np.uint64), mapping["object"].astype(np.uint64)
    states = read_states(run.folder)
    rows = np.concatenate([entries[:, 0], *(state.rows for state in states.values())])
    if not same or (len(rows) and not 0 <= rows.min() <= rows.max() < len(before)):
        raise _mixed(run)
    falls = Falls(entries, counts, parts)

    def fall(state: ChangedState | None) -> NDArray[np.float64]:
        return np.zeros(len(weights)) if state is None else falls.between(before, state.on(before), weights)

    fallen = falls.between(before, after, weights)
    if not math.isclose(fallen[0], run.fall_bits, abs_tol=1e-9):
        raise _mixed(run)
    oracle = fall(next((state for (name, _), state in states.items() if name == "oracle"), None))
    whole = np.where(oracle > _NO_GAIN, oracle, np.nan)
    floor, ceiling = either_side(run.decisions)
    beyond = FIRST_SHARE * run.decisions - floor

    def first_part(order: str) -> NDArray[np.float64]:
        low, high = (fall(states.get((order, n))) for n in (floor, ceiling))
        return (1 - beyond) * low + beyond * high

    ranked = first_part("expected_gain") / whole
    shuffled = np.mean([first_part(f"random_{i}") for i in range(RANDOM_ORDERS)], axis=0) / whole
    others = {order: first_part(order) / whole for order in _SOME_ORDERS if order in run.orders}
    edits = np.zeros((len(parts), 2))
    np.add.at(edits, np.searchsorted(parts, run.edits[:, 0]), run.edits[:, 1:])
    right, wrong = (weights @ edits).T
    return {
        "fall_bits": fallen,
        "share_of_oracle": fallen / whole,
        "edits_right": right,
        "edits_wrong": wrong,
        "first_30_percent": ranked,
        "first_30_percent_random": shuffled,
        "first_30_percent_lead": ranked - shuffled,
        **{f"first_30_percent_{order}": own for order, own in others.items()},
        **{f"first_30_percent_{order}_lead": ranked - own for order, own in others.items()},
        **{name: np.full(len(weights), float(n)) for name, n in zip(_COUNTED_AS_A_WHOLE, run.errors, strict=True)},
    }


def _mixed(run: FinishedRun) -> ConnectomeBenchError:
    return ConnectomeBenchError(
        f"the files of {run.folder} do not belong together; run its connectomebench proofread again"
    )


def _with_precision(values: Values) -> Values:
    made = values["edits_right"] + values["edits_wrong"]
    nothing = np.full(len(made), np.nan)
    return values | {"precision": np.divide(values["edits_right"], made, out=nothing, where=made > 0)}


def _together(measured: Sequence[Values], times: NDArray[np.int64]) -> Values:
    """Take the mean over the runs of each draw; ``times`` says how often each was drawn, shape (draws, runs)."""
    means = {}
    for name in (one for one in measured[0] if all(one in other for other in measured)):
        values = np.stack([one[name] for one in measured], axis=1)
        # a run that was not drawn may be undefined
        means[name] = np.where(times > 0, times * values, 0).sum(axis=1) / times.sum(axis=1)
    return _with_precision(means)


def _varied(parts: int, runs: int) -> dict[str, bool]:
    """Tell which scores differ between resamples: errors are counted in the whole volume."""
    over_parts, over_runs = parts > 1, runs > 1
    return {
        **{name: over_parts or over_runs for name in TITLES},
        "errors_before": False,
        "errors_after": over_runs,
    }


def _score(values: NDArray[np.float64], varied: bool) -> Score:
    """Make a score of its value in the whole volume, which comes first, and those of the resamples."""
    defined = values[1:][np.isfinite(values[1:])]
    if not varied or not np.isfinite(values[0]) or not len(defined):
        return Score(float(values[0]), math.nan, math.nan, len(defined))
    return Score(float(values[0]), *quantiles(defined), len(defined))


def as_dict(found: RunComparison) -> dict[str, Any]:
    """Return the comparison as values of JSON; what is undefined is None."""

    def of_group(group: Group) -> dict[str, Any]:
        runs = [
            {"folder": str(run.folder), "models": run.models, "scores": {k: v[i] for k, v in group.values.items()}}
            for i, run in enumerate(group.runs)
        ]
        return {"n_runs": len(runs), "scores": _dicts(group.scores), "runs": runs}

    return without_nan(
        {
            "format_version": FORMAT_VERSION,
            "place": found.group.runs[0].place,
            "n_parts": found.parts,
            "level": LEVEL,
            "resamples": RESAMPLES,
            "group": of_group(found.group),
            "against": None if found.against is None else of_group(found.against),
            "difference": None if found.difference is None else _dicts(found.difference),
            "paired": found.paired,
            "remarks": remarks(found),
        }
    )


def _dicts(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: asdict(score) for name, score in scores.items()}


def as_text(found: RunComparison) -> str:
    """Format the comparison as tables, with what must be known to read them."""
    blocks = [_table(f"{_runs(found.group)}, {found.parts} parts of the volume", found.group.scores, found.group)]
    if found.against is not None and found.difference is not None:
        blocks.append(_table(f"against {_runs(found.against)}", found.against.scores, found.against))
        how = "runs drawn in pairs" if found.paired else "runs drawn apart, since their numbers differ"
        blocks.append(_table(f"difference, {how}", found.difference))
    return "\n\n".join([*blocks, "\n".join(remarks(found))])


def _runs(group: Group) -> str:
    n = len(group.runs)
    return f"{n} run{'s' * (n > 1)} ({', '.join(str(run.folder) for run in group.runs)})"


def _table(title: str, scores: Mapping[str, Score], group: Group | None = None) -> str:
    head = ["", "mean" if group else "of the means", "95% interval", "each run" if group else ""]
    rows = []
    for name, score in scores.items():
        words, digits = TITLES[name]
        sign = "" if group else "+"
        each = "  ".join(_number(v, digits) for v in group.values[name]) if group else ""
        interval = f"[{_number(score.low, digits, sign)}, {_number(score.high, digits, sign)}]"
        rows.append([words, _number(score.mean, digits, sign), "–" if math.isnan(score.low) else interval, each])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(3)]
    lines = [f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}".rstrip() for a, b, c, d in [head, *rows]]
    return "\n".join([title, *lines])


def _number(value: float, digits: int, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}"


def remarks(found: RunComparison) -> list[str]:
    """Say what the intervals show, and how far they can be trusted."""
    lines = [_verdict(found.group.scores["fall_bits"], "", _NOTHING)]
    groups = [found.group]
    if found.against is not None and found.difference is not None:
        groups.append(found.against)
        lines.append(_verdict(found.against.scores["fall_bits"], "against: ", _NOTHING))
        lines.append(_verdict(found.difference["fall_bits"], "difference: ", _AGAINST))
    lines += [
        f"{run.folder}: {run.waiting} corrections still wait for a person, and count as not made"
        for group in groups
        for run in group.runs
        if run.waiting
    ]
    least = min(len(group.runs) for group in groups)
    if least == 1:
        lines.append("one run: the interval is over parts alone, and does not cover what another training would give")
    elif least < FEW_RUNS:
        lines.append(f"only {least} runs: with fewer than {FEW_RUNS}, intervals over runs are too narrow")
    if found.parts < 2:
        lines.append("truth and edits lie in a single part of the volume: there is no interval over parts")
    elif found.parts < FEW_GROUPS:
        lines.append(f"only {found.parts} parts of the volume: with fewer than {FEW_GROUPS}, intervals are too narrow")
    lines.append("errors are counted in the whole volume, so their intervals are over runs alone")
    every = [("", found.group.scores)]
    if found.against is not None and found.difference is not None:
        every += [("against: ", found.against.scores), ("difference: ", found.difference)]
    for where, scores in every:
        for name, score in scores.items():
            if not math.isnan(score.low) and score.resamples < RESAMPLES:
                lines.append(
                    f"{where}{TITLES[name][0]}: undefined in {RESAMPLES - score.resamples} of {RESAMPLES} resamples, "
                    "which are left out"
                )
    return lines


# what an interval above zero, below zero, and round it says
_NOTHING = (
    "VI is lower than without any edit",
    "VI is higher than without any edit",
    "VI cannot be told from that without any edit",
)
_AGAINST = (
    "VI falls further than in the runs after --against",
    "VI falls less than in the runs after --against",
    "VI cannot be told from that of the runs after --against",
)


def _verdict(fall: Score, where: str, words: tuple[str, str, str]) -> str:
    if math.isnan(fall.low):
        return f"{where}{words[2]}: there is no interval"
    if fall.low > 0:
        return f"{where}{words[0]}: the interval is above 0"
    if fall.high < 0:
        return f"{where}{words[1]}: the interval is below 0"
    return f"{where}{words[2]}: the interval holds 0"
