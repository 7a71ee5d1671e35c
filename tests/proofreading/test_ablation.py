"""The step that is worse than the others is named, and intervals cover what they should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_graphs import chain
from toy_models import RULES, ToyModel, toy_models
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.core.site import Part, Site
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.ablation import ExactGraph
from connectomebench.proofreading.calibration import Calibration, OperationCalibration
from connectomebench.proofreading.deciders import Judgement
from connectomebench.proofreading.finder import FoundPlaces
from connectomebench.proofreading.intervals import variation_interval
from connectomebench.proofreading.loop import LoopConfig, Round, judge_once
from connectomebench.proofreading.proposals import Candidate, Proposal
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
from connectomebench.proofreading.task_models import TaskModel
from connectomebench.proofreading.truth_table import Overlaps, TruthTable


class Blind(ToyModel):
    """Says no to everything."""

    def predict(self, batch: Batch) -> list[Answer]:
        return [Answer("no", {"no": 0.97, "yes": 0.03}) for _ in batch["views"]]


@pytest.mark.parametrize(
    ("tasks", "step"),
    [
        (("endpoint_error_identification", "merge_error_identification"), "identification"),
        (("merge_action", "split_action"), "correction"),
    ],
)
def test_the_step_that_fails_is_named(tmp_path: Path, tasks: tuple[str, ...], step: str):
    models = toy_models() | {task: TaskModel(task, Blind(task), ()) for task in tasks}
    assert set(tasks) < set(RULES)
    lines: list[str] = []
    config = load_config(write_toy(tmp_path), truth_needed=False)
    proofread(config, models, tmp_path / "out", tmp_path, ProofreadConfig(rules=LoopConfig(0.9)), lines.append)
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["after"]["vi_split"] == scores["before"]["vi_split"] > 0
    lost = {name: own["share_of_oracle"] for name, own in scores["ablation"].items()}
    assert lost[step] == pytest.approx(1) and all(lost[name] == 0 for name in lost if name != step)
    assert f"most is lost by {step}" in "\n".join(lines)
    page = (tmp_path / "out/report/index.html").read_text()
    assert "oracle in place of" in page and scores["interval"]["fall_bits"] == 0


class KnownEnds:
    """Knows at which ends something is wrong; the models say what they say."""

    end_task = "endpoint_error_identification"

    def known_error(self, proposals: Sequence[Proposal], graph: SegmentationGraph) -> bool:
        return 2 in proposals[0].sinks

    def can(self, operation: str) -> bool:
        return operation == "merge"

    def identify(self, sites: Sequence[Site], source: object) -> list[Judgement]:
        return [Judgement(0.3)] * len(sites)

    def correct(self, proposals: Sequence[Proposal], source: object, graph: SegmentationGraph) -> list[Judgement]:
        return [Judgement(0.6)] * len(proposals)


class Fixed:
    """Finds these merges."""

    def __init__(self, merges: Sequence[Proposal]) -> None:
        self._found = FoundPlaces(None, None, tuple(merges), ())  # type: ignore[arg-type]

    def find(self, *_: object) -> FoundPlaces:
        return self._found


def test_a_learnt_confidence_is_computed_from_what_models_say_where_errors_are_known():
    graph = SegmentationGraph(chain([1, 2, 3]))
    merges = []
    for a, b in ((0, 1), (1, 2)):
        segments = tuple(int(graph.objects[row]) for row in (a, b))
        sites = [
            Site(task, (float(a), 0.0, 0.0), 100.0, (Part(segments[0], "base"),), "no", segments, (), "control")
            for task in ("endpoint_error_identification", "merge_action")
        ]
        at = ((0.0, 0.0, 0.0),)
        merges.append(Proposal("merge", Candidate("end", sites[0], 10.0), sites[1], (a,), (b,), at, at, 0.1))
    zeros, ones = (0.0,) * 9, (1.0,) * 9
    learnt = OperationCalibration((1.0, *zeros[1:]), zeros, ones, 0.0, zeros, 0.0, zeros, 0.0, 0.5, 10, 5, 5, 1.0)
    for calibration, expected in ((Calibration(learnt, None, 0.9), 0.3), (None, 0.6)):
        current = Round(1)
        judge_once(Fixed(merges), graph, KnownEnds(), LoopConfig(calibration=calibration), current)  # type: ignore[arg-type]
        assert [one.proposal.sinks for one in current.judged] == [(2,)]
        assert current.judged[0].confidence == pytest.approx(expected)


def table(entries: list[tuple[int, int, int, int]], n: int) -> TruthTable:
    rows, bodies, where, voxels = np.array(entries).T
    return TruthTable([Overlaps(rows, bodies.astype(np.uint64), where, voxels)], n)


def test_an_interval_covers_the_fall_and_is_none_of_one_part():
    rng = np.random.default_rng(1)
    entries = [(2 * p + side, 10 + p, p, int(rng.integers(50, 150))) for p in range(20) for side in range(2)]
    known = table(entries, 40)
    apart, joined = np.arange(1, 41, dtype=np.uint64), (np.arange(40) // 2 + 1).astype(np.uint64)
    found = variation_interval(known, apart, joined)
    assert found["fall_bits"] == pytest.approx(sum(known.variation(apart)) - sum(known.variation(joined)))
    assert 0 < found["low"] < found["fall_bits"] < found["high"] and found["parts"] == 20
    same = variation_interval(known, joined, joined)
    assert same["fall_bits"] == same["low"] == same["high"] == 0
    worse = variation_interval(known, joined, apart)
    assert worse["high"] < 0
    alone = variation_interval(table([(0, 1, 5, 10), (1, 1, 5, 10)], 2), apart[:2], joined[:2])
    assert alone["low"] is None and alone["fall_bits"] == pytest.approx(1)


def test_exact_splits_follow_the_truth_and_not_the_thinnest_place():
    pieces = Supervoxels(
        np.full(4, 9, np.uint64), np.array([[10 * i, 0, 0] for i in range(4)], np.float32), np.full(4, 5),
        np.array([[0, 1], [1, 2], [2, 3]], np.int32), np.array([1, 9, 1], np.float32), np.zeros(4, np.uint64),
    )  # fmt: skip
    body = np.array([0, 0, 1, 1])
    graph = ExactGraph(pieces, body)
    graph.split([0], [3])
    assert len({*graph.objects[:2].tolist()}) == len({*graph.objects[2:].tolist()}) == 1
    plain = ExactGraph(pieces, np.zeros(4, np.int64))  # one body: the minimum cut stays
    plain.split([0], [3])
    assert sorted(np.unique(plain.objects, return_counts=True)[1].tolist()) == [1, 3]
