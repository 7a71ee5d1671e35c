"""Judge the cuts that answers of `split_proposal` imply: the segmentation is cut between the places, by its own method.

Many places imply the same cut, so an answer far from the reference may still be right. Its cut is judged by the rule of
`split_action`: good > k * bad for every body larger than t in the cutout of edge e (:mod:`connectomebench.cuts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.cut import ProposalConfig, Verdict
from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.places import nodes_in, read_places
from connectomebench.core.site import Point
from connectomebench.cuts.seeded_cuts import judge_seeds
from connectomebench.evaluation.formatting import interval_text, without_nan
from connectomebench.evaluation.mask_scores import mean_statistic
from connectomebench.evaluation.result_records import by_keys, label, predictions_and_answers
from connectomebench.evaluation.statistics import Estimate, bootstrap_interval

if TYPE_CHECKING:
    import pandas as pd

    from connectomebench.core.source import Source
    from connectomebench.sources.family import SegmentationFamily

NO_PLACES = "the answer names no places on both sides"


@dataclass(frozen=True)
class CutVerdict:
    """What became of one answer.

    Attributes
    ----------
    good
        The segmentation makes a cut between the places, and the rule calls it good.
    problem
        Why there is no cut to judge; None where there is one.
    worst_ratio
        Smallest good / bad over the bodies that count; None without a cut.
    """

    good: bool
    problem: str | None = None
    worst_ratio: float | None = None


def judge_answers(
    predictions: Sequence[str | None],
    rows: Sequence[Mapping[str, Any]],
    source: Source | SegmentationFamily,
    rules: ProposalConfig,
) -> list[CutVerdict]:
    """Cut segments as answers say, and judge the cuts.

    Parameters
    ----------
    predictions
        Answers as result records hold them; None or empty where unparsed.
    rows
        The stored rows, in the same order; ``question``, ``location_nm``, ``segment_ids``, ``edit_id`` and ``source``
        are read.
    source
        What the rows were built from: it cuts by minimum cut, or by the server's multicut.
    rules
        k, t and e, and the edge of the cube in which a segment is cut: those of the build.

    Returns
    -------
    list of CutVerdict
        One a row. An answer without places on both sides is not good.

    Raises
    ------
    ConnectomeBenchError
        If a row is of another source.
    """
    places = {
        name: {split.edit_id: split.location_nm for split in own.corrections().splits}
        for name, own in _members(source).items()
    }
    found = []
    for prediction, row in zip(predictions, rows, strict=True):
        own = _member(source, str(row["source"]))
        center = places[own.info.name].get(str(row["edit_id"])) or _point(row["location_nm"])
        found.append(_judge(prediction, row, own, center, rules))
    return found


def good_cuts(verdicts: Sequence[CutVerdict]) -> NDArray[np.float64]:
    """Return 1 for a good cut and 0 for others, shape (rows,), for statistics over groups."""
    return np.array([float(one.good) for one in verdicts])


@dataclass(frozen=True)
class CutScores:
    """What became of the answers of one model.

    Attributes
    ----------
    model
        As :func:`connectomebench.evaluation.result_records.label` names it.
    samples
        Ids of the judged samples.
    verdicts
        One a sample, in the same order.
    good
        Share of good cuts, with its 95% interval over groups.
    """

    model: str
    samples: tuple[str, ...]
    verdicts: tuple[CutVerdict, ...]
    good: Estimate


def judge_records(
    frame: pd.DataFrame,
    rows: Mapping[str, Mapping[str, Any]],
    source: Source | SegmentationFamily,
    rules: ProposalConfig,
) -> list[CutScores]:
    """Judge the answers in result records, model by model.

    Parameters
    ----------
    frame
        Result records of one task, species and partition, from
        :func:`connectomebench.evaluation.result_records.read_results`.
    rows
        Sample id -> stored row; see :func:`judge_answers`.
    source, rules
        As for :func:`judge_answers`.

    Raises
    ------
    ConnectomeBenchError
        If a record is of a sample that is not among the rows, or as :func:`judge_answers`.
    """
    found = []
    for (model, condition), records in by_keys(frame, ("model", "condition")).items():
        samples = records["sample_id"].tolist()
        if missing := [sample for sample in samples if sample not in rows]:
            raise ConnectomeBenchError(f"the dataset has no sample {missing[0]} of {model}; give the one it answered")
        said, _ = predictions_and_answers(records)
        verdicts = judge_answers(said.tolist(), [rows[sample] for sample in samples], source, rules)
        share = bootstrap_interval(
            mean_statistic(good_cuts(verdicts)), records["group"].to_numpy(dtype=str), bounds=(0.0, 1.0)
        )
        found.append(CutScores(label(model, condition), tuple(samples), tuple(verdicts), share))
    return found


def cuts_text(scores: Sequence[CutScores]) -> str:
    """Format the share of good cuts of each model, and why answers give no cut."""
    lines = []
    for one in scores:
        lines.append(
            f"{one.model}: good cuts {interval_text(one.good)}, {one.good.n} rows in {one.good.n_groups} groups"
        )
        problems = Counter(verdict.problem for verdict in one.verdicts if verdict.problem is not None)
        lines += [f"  {number} without a cut: {problem}" for problem, number in problems.most_common()]
    return "\n".join(lines)


def cuts_json(scores: Sequence[CutScores]) -> list[dict[str, Any]]:
    """Return the scores and every verdict as plain values."""
    return [
        without_nan(
            {
                "model": one.model,
                "good_cuts": {"value": one.good.value, "low": one.good.lower, "high": one.good.upper},
                "n": one.good.n,
                "n_groups": one.good.n_groups,
                "cuts": [
                    {"sample_id": sample, **asdict(verdict)}
                    for sample, verdict in zip(one.samples, one.verdicts, strict=True)
                ],
            }
        )
        for one in scores
    ]


def _judge(
    prediction: str | None, row: Mapping[str, Any], source: Source, center_nm: Point, rules: ProposalConfig
) -> CutVerdict:
    answer = read_places(prediction)
    answer = answer and answer.points(nodes_in(row["question"]))
    if answer is None or not answer.sinks:
        return CutVerdict(False, NO_PLACES)
    here = np.asarray(row["location_nm"], np.float64)
    sides = [tuple(_point(here + place) for place in side) for side in (answer.sources, answer.sinks)]
    try:
        verdict = judge_seeds(source, int(row["segment_ids"][0]), sides[0], sides[1], center_nm, rules)
    except SiteUnavailable as error:
        return CutVerdict(False, str(error))
    if isinstance(verdict, Verdict):
        return CutVerdict(verdict.good, None, verdict.worst_ratio)
    return CutVerdict(False, verdict)


def _members(source: Source | SegmentationFamily) -> dict[str, Source]:
    members: Mapping[str, Source] | None = getattr(source, "members", None)
    own = list(members.values()) if members is not None else [source]
    return {one.info.name: one for one in own}  # type: ignore[union-attr, misc]


def _member(source: Source | SegmentationFamily, name: str) -> Source:
    members = _members(source)
    if name not in members:
        raise ConnectomeBenchError(
            f"a row is of the source {name}, not of {' or '.join(members)}; open what the dataset was built from"
        )
    return members[name]


def _point(place: Sequence[float] | NDArray[np.floating]) -> Point:
    x, y, z = (float(c) for c in place)
    return (x, y, z)
