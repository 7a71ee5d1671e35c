"""What people said of the corrections that models judged: result records of rows that ask about the same places.

People rate rows of a dataset (``connectomebench human-eval``). A row asks the same question as a correction if it is of
the same kind, of the same segments, nearby, and has the same right answer: rows do not say where a cut runs, and a good
and a bad cut may lie at one place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import FILE_NAME
from connectomebench.evaluation.formatting import without_nan
from connectomebench.evaluation.precision_recall import precision_statistic, recall_statistic
from connectomebench.evaluation.result_records import YES_NO, by_keys, read_results
from connectomebench.evaluation.statistics import two_class_balanced_accuracy_statistic
from connectomebench.evaluation.weighted_statistics import plain_value
from connectomebench.proofreading.deciders import edit_gain
from connectomebench.proofreading.effort import make_proposal
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.proposals import Proposal, what_is_done
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.task_models import MERGE_TASKS, SPLIT_TASKS
from connectomebench.proofreading.truth_table import TruthTable

_PEOPLE = "person-"  # how the names of people begin in result records
_OPERATIONS: dict[str, str] = {**dict.fromkeys(MERGE_TASKS, "merge"), **dict.fromkeys(SPLIT_TASKS, "split")}
_COLUMNS = ("sample_id", "answer", "location_nm", "segment_ids", "source")


@dataclass(frozen=True)
class RatedRow:
    """A row that people answered.

    Attributes
    ----------
    sample_id
        Of the row.
    operation
        ``merge`` or ``split``.
    segments
        Segments that it asks about.
    location_nm
        Its place (x, y, z), nm.
    right
        Whether its right answer is yes.
    source
        Name of the data that it was made from.
    answers
        What each person said, by name: whether yes.
    seconds
        Time that they took, where it is known.
    """

    sample_id: str
    operation: str
    segments: frozenset[int]
    location_nm: tuple[float, float, float]
    right: bool
    source: str
    answers: dict[str, bool]
    seconds: tuple[float, ...]

    @property
    def accepts(self) -> bool | None:
        """What most people say; None if as many say yes as no."""
        yes = sum(self.answers.values())
        return None if 2 * yes == len(self.answers) else 2 * yes > len(self.answers)


def read_rated_rows(records: Path, data: str) -> list[RatedRow]:
    """Read what people said of corrections, with the rows that they saw.

    Parameters
    ----------
    records
        Folder or file of result records. Those of models, and those of other tasks than corrections, are left out. Of
        several records of one person for one row the first by condition counts.
    data
        The rated dataset, a folder or ``ORG/NAME`` on the Hub; or the output folder of a build, which holds one a task.

    Returns
    -------
    list of RatedRow
        By sample.

    Raises
    ------
    ConnectomeBenchError
        If there are no records of people, the rows cannot be loaded, or are not those that were rated.
    """
    frame = read_results(records)
    frame = frame[frame["model"].str.startswith(_PEOPLE)]
    if not len(frame):
        raise ConnectomeBenchError(
            f"{records} holds no answers of people; connectomebench human-eval writes them, as the model {_PEOPLE}NAME"
        )
    frame = frame[frame["task"].isin(list(_OPERATIONS)) & frame["prediction"].isin(list(YES_NO))]
    frame = frame.sort_values(["sample_id", "model", "condition"]).drop_duplicates(["task", "sample_id", "model"])
    made = []
    for (task, species, partition), rated in by_keys(frame, ("task", "species", "partition")).items():
        folder = Path(data, task)
        name = str(folder) if not Path(data, FILE_NAME).exists() and folder.is_dir() else data
        rows = load_rows(name, species, partition, task=task)
        columns = [list(rows.dataset[column]) for column in _COLUMNS]
        known = {sample: own for sample, *own in zip(*columns, strict=True)}
        if set(rated["dataset_fingerprint"]) != {rows.data.fingerprint} or not set(rated["sample_id"]) <= known.keys():
            raise ConnectomeBenchError(
                f"the records of {task} in {records} are of another build than {name}; give the dataset that was rated "
                "as --people-data"
            )
        for (sample,), own in by_keys(rated, ("sample_id",)).items():
            answer, (x, y, z), segments, source = known[sample]
            made.append(
                RatedRow(
                    sample,
                    _OPERATIONS[task],
                    frozenset(map(int, segments)),
                    (float(x), float(y), float(z)),
                    answer == "yes",
                    source,
                    dict(zip(own["model"], own["prediction"] == "yes", strict=True)),
                    tuple(own["latency_s"].dropna().tolist()),
                )
            )
    return sorted(made, key=lambda one: one.sample_id)


@dataclass(frozen=True)
class Matched:
    """A correction that a model and people answered.

    Attributes
    ----------
    judged
        What the model says.
    row
        The row that people saw.
    gain
        Bits that it gains, by the truth; right if above 0.
    """

    judged: Judged
    row: RatedRow
    gain: float


def match_rows(
    rows: Iterable[RatedRow],
    judged: Sequence[Judged],
    graph: SegmentationGraph,
    table: TruthTable,
    sources: Collection[str],
    distance_nm: float,
) -> tuple[list[Matched], int]:
    """Find the corrections that rows ask about.

    Parameters
    ----------
    rows
        What people answered.
    judged
        Corrections of the first round; those without an answer of a model are left out.
    graph, table
        Before any edit, and the truth.
    sources
        Names of the data that are proofread: ids of segments mean nothing elsewhere.
    distance_nm
        Rows further away than this ask about another place.

    Returns
    -------
    matched
        One for each correction, with the nearest row that asks about it.
    others
        Rows near a correction of their segments whose right answer is another one: they ask about another cut.
    """
    asked: dict[tuple[str, frozenset[int]], list[tuple[Judged, float]]] = defaultdict(list)
    for one in judged:
        if one.correction.probability is not None:
            key = (one.proposal.operation, frozenset(one.proposal.site.segment_ids))
            asked[key].append((one, edit_gain(graph, one.proposal, table)))
    nearest: dict[Hashable, tuple[float, str, Matched]] = {}
    others = 0
    for row in rows:
        known = asked.get((row.operation, row.segments), ()) if row.source in sources else ()
        found = [(_away(one, row), one.proposal.edit_id, one, gain) for one, gain in known]
        near = [each for each in found if each[0] <= distance_nm]
        same = [each for each in near if (each[3] > 0) == row.right]
        if not same:
            others += bool(near)
            continue
        far, _, one, gain = min(same, key=lambda each: each[:2])
        key = what_is_done(one.proposal)
        if key not in nearest or (far, row.sample_id) < nearest[key][:2]:
            nearest[key] = (far, row.sample_id, Matched(one, row, gain))
    return [one for _, _, one in sorted(nearest.values(), key=lambda each: each[1])], others


def _away(one: Judged, row: RatedRow) -> float:
    """Return how far the place of a correction is from that of a row, nm."""
    return float(np.linalg.norm(np.subtract(one.proposal.site.location_nm, row.location_nm)))


def score_people(
    rows: Sequence[RatedRow],
    judged: Sequence[Judged],
    graph: SegmentationGraph,
    table: TruthTable,
    sources: Collection[str],
    distance_nm: float,
) -> dict[str, Any]:
    """Score people and models on the same corrections; see :func:`match_rows` for the parameters.

    Returns
    -------
    dict
        ``rows`` that people answered, ``people`` who did (name -> answers that count), ``distance_nm``, ``decisions``
        (corrections that both answered), ``ties`` (as many said yes as no: no decision), ``other_questions`` (see
        :func:`match_rows`), ``seconds_median`` of an answer, and for ``by_people`` and ``by_models``: ``right``,
        ``accepted``, ``precision``, ``recall``, ``balanced_accuracy`` and ``gain_bits``, by how much what was accepted
        lowers the variation of information. What cannot be said is None.
    """
    matched, others = match_rows(rows, judged, graph, table, sources, distance_nm)
    decided = [one for one in matched if one.row.accepts is not None]
    seconds = [each for one in decided for each in one.row.seconds]
    names = Counter(name.removeprefix(_PEOPLE) for one in decided for name in one.row.answers)
    by_people = [bool(one.row.accepts) for one in decided]
    by_models = [(one.judged.correction.probability or 0.0) >= 0.5 for one in decided]
    return {
        "rows": len(rows),
        "people": dict(sorted(names.items())),
        "distance_nm": distance_nm,
        "decisions": len(decided),
        "ties": len(matched) - len(decided),
        "other_questions": others,
        "seconds_median": float(np.median(seconds)) if seconds else None,
        "by_people": _score(decided, by_people, graph, table),
        "by_models": _score(decided, by_models, graph, table),
    }


def _score(
    decided: Sequence[Matched], accepts: Sequence[bool], graph: SegmentationGraph, table: TruthTable
) -> dict[str, Any]:
    right = [one.gain > 0 for one in decided]
    taken = [one.judged.proposal for one, yes in zip(decided, accepts, strict=True) if yes]
    scores: dict[str, Any] = {
        "right": sum(said == is_right for said, is_right in zip(accepts, right, strict=True)),
        "accepted": len(taken),
        "precision": None,
        "recall": None,
        "balanced_accuracy": None,
        "gain_bits": _gain(taken, graph, table),
    }
    if decided:
        said, true = np.array(accepts, np.int64), np.array(right, np.int64)
        statistics = {
            "precision": precision_statistic,
            "recall": recall_statistic,
            "balanced_accuracy": two_class_balanced_accuracy_statistic,
        }
        scores |= {name: plain_value(of(said, true), len(said)) for name, of in statistics.items()}
    return without_nan(scores)


def _gain(proposals: Sequence[Proposal], graph: SegmentationGraph, table: TruthTable) -> float:
    """Compute by how many bits proposals lower the variation of information together; some may no longer be made."""
    state = graph.copy()
    for one in proposals:
        with suppress(EditRefused):
            make_proposal(state, one)
    return sum(table.variation(graph.objects)) - sum(table.variation(state.objects))


def people_sentence(found: dict[str, Any]) -> str:
    """Say how people and models do on the same corrections."""
    n = found["decisions"]
    if not n:
        return f"None of {found['rows']} rows that people answered asks about a correction of the first round"
    people, models = found["by_people"], found["by_models"]
    time = "" if found["seconds_median"] is None else f", in {found['seconds_median']:.1f} s an answer (median)"
    return (
        f"Of {n} corrections of the first round that people rated elsewhere, people are right about "
        f"{people['right']} and models about {models['right']}; what people accept gains {people['gain_bits']:.4f} "
        f"bits, what models accept {models['gain_bits']:.4f}{time}"
    )
