"""Several runs of one place: against a second computation that is slow and plain, and end to end on the toy volume."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cloudvolume import CloudVolume
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import ToyModel, toy_models
from toy_segmentation import arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.cli import main
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.intervals import RESAMPLES, Falls, variation_interval
from connectomebench.proofreading.outputs import write_mapping
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_comparison import as_dict, as_text, compare_runs
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.score_files import changed_state, read_states, write_overlaps, write_states
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
from connectomebench.proofreading.task_models import TaskModel
from connectomebench.proofreading.truth_table import PARTS, Overlaps, TruthTable

generators = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))
BEFORE = np.arange(11, 31, dtype=np.uint64)  # 20 supervoxels, each a segment of its own


def plain_variation(cells: Sequence[tuple[int, int, float]]) -> float:
    """Variation of information of (object, body, voxels), from its definition."""
    total = sum(n for *_, n in cells)
    if not total:
        return 0.0
    both, one, other = Counter(), Counter(), Counter()
    for a, b, n in cells:
        both[a, b] += n
        one[a] += n
        other[b] += n
    return -sum(n / total * (math.log2(n / one[a]) + math.log2(n / other[b])) for (a, b), n in both.items() if n)


def drawn_table(rng: np.random.Generator) -> TruthTable:
    """Overlaps of 20 supervoxels with six bodies in some parts of the place, most of each with one body."""
    m = 60
    code = np.unique(np.stack([rng.integers(0, 20, m), rng.integers(1, 7, m), rng.choice(12, m) * 5], 1), axis=0)
    own = np.array([[row, row % 6 + 1, part * 5] for row in range(20) for part in range(12)])
    rows, bodies, parts = np.unique(np.concatenate([code, own]), axis=0).T
    voxels = rng.integers(1, 30, len(rows)) + np.where(bodies == rows % 6 + 1, rng.integers(0, 400, len(rows)), 0)
    return TruthTable([Overlaps(rows, bodies.astype(np.uint64), parts, voxels)], 20)


def drawn_state(rng: np.random.Generator, edits: int) -> np.ndarray:
    """Merges of segments, each with a new id as in a graph."""
    state = BEFORE.copy()
    for n in range(edits):
        a, b = state[rng.integers(0, 20, 2)]
        state[(state == a) | (state == b)] = 100 + n
    return state


@settings(max_examples=40, deadline=None)
@given(generators)
def test_a_fall_is_the_difference_of_two_plain_variations(rng: np.random.Generator):
    table = drawn_table(rng)
    entries, counts = table.entries
    parts = np.unique(entries[:, 2])
    before, after = drawn_state(rng, int(rng.integers(0, 6))), drawn_state(rng, int(rng.integers(0, 9)))
    weights = rng.integers(0, 3, (5, len(parts)))
    found = Falls(entries, counts, parts).between(before, after, weights)
    for fall, own in zip(found, weights, strict=True):
        times = dict(zip(parts.tolist(), own.tolist(), strict=True))
        states = [
            plain_variation(
                [(int(of[r]), b, n * times[p]) for (r, b, p), n in zip(entries.tolist(), counts, strict=True)]
            )
            for of in (before, after)
        ]
        assert fall == pytest.approx(states[0] - states[1], abs=1e-9)


def test_the_draws_of_one_run_are_those_of_a_loop_over_resamples():
    rng = np.random.default_rng(3)
    table, after = drawn_table(rng), drawn_state(rng, 8)
    entries, counts = table.entries
    parts = np.unique(entries[:, 2]).tolist()
    again, falls = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        times = Counter(parts[i] for i in again.integers(0, len(parts), len(parts)))
        cells = [(r, b, n * times[p]) for (r, b, p), n in zip(entries.tolist(), counts, strict=True)]
        first, second = ([(int(of[r]), b, n) for r, b, n in cells] for of in (BEFORE, after))
        falls.append(plain_variation(first) - plain_variation(second))
    found = variation_interval(table, BEFORE, after)
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(falls, [0.025, 0.975])), abs=1e-9)


def write_run(
    out: Path, table: TruthTable, states: dict[str, np.ndarray], edits: list[dict], seed: int, decisions: int = 10
) -> Path:
    """Write what the comparison reads, as a run does; ``states`` has ``after``, ``oracle`` and orders of decisions."""
    out.mkdir()
    n = len(BEFORE)
    edges = np.zeros((0, 2), np.int32)
    points, sources = np.zeros((n, 3), np.float32), np.zeros(n, np.uint64)
    graph = SegmentationGraph(Supervoxels(BEFORE, points, np.full(n, 9), edges, np.zeros(0, np.float32), sources))
    graph.objects = states["after"]
    write_mapping(graph, out)
    write_edges(graph, out)
    write_overlaps(table, out)
    named = [changed_state("oracle", 4, BEFORE, states["oracle"])]
    named += [
        changed_state(name, 3, BEFORE, state) for name, state in states.items() if name not in ("after", "oracle")
    ]
    write_states(named, out)
    identity = {
        "code_version": "0", "place": "p", "config": "c", "segmentation": None, "box_nm": [[0] * 3, [9] * 3],
        "models": {"merge_action": ["probe", str(seed)]}, "min_confidence": 0.9, "min_identification": 0.5,
        "trusted": [], "max_density": 100.0, "contacts": False, "validation_box_nm": None, "precision": 0.9,
    }  # fmt: skip
    scores = {
        "before": {"errors": 9},
        "after": {"errors": 5 + seed},
        "interval": {"fall_bits": sum(table.variation(BEFORE)) - sum(table.variation(states["after"]))},
        "edits_by_part": edits,
        "effort": {"expected_gain": {"decisions": decisions}},
        "rules": {"max_decisions": None, "max_rounds": 10},
    }
    (out / "run.json").write_text(json.dumps(identity))
    (out / "scores.json").write_text(json.dumps(scores))
    return out


def drawn_runs(folder: Path, rng: np.random.Generator, n: int, table: TruthTable, name: str = "run") -> list[Path]:
    runs = []
    for seed in range(n):
        states = {
            "after": drawn_state(rng, 4),
            "oracle": 200 + np.arange(20, dtype=np.uint64) % 6,
            "expected_gain": drawn_state(rng, 3),
        }
        states |= {f"random_{i}": drawn_state(rng, 2) for i in range(10)}
        edits = [
            {"part": int(part) * 5, "operation": "merge", "corrected": int(a), "added": int(b)}
            for part, a, b in zip(range(12), *rng.integers(0, 3, (2, 12)), strict=True)
            if a + b
        ]
        runs.append(write_run(folder / f"{name}{seed}", table, states, edits, seed))
    return runs


def plainly(runs: list[Path], times_of_parts: Counter, times_of_runs: list[int]) -> dict[str, float]:
    """Scores of a resample from the written files, one run after the other."""
    falls, shares, right, wrong, first = [], [], [], [], []
    for run, times in zip(runs, times_of_runs, strict=True):
        cells = pq.read_table(run / "overlaps.parquet").to_pylist()
        mapping = pq.read_table(run / "mapping.parquet").to_pylist()
        start = {row["supervoxel"]: row["segment"] for row in mapping}
        states = {"after": {row["supervoxel"]: row["object"] for row in mapping}}
        for row in pq.read_table(run / "states.parquet").to_pylist():
            states.setdefault(row["state"], dict(start))[row["supervoxel"]] = row["object"]

        def vi(of: dict[int, int], cells: list[dict] = cells) -> float:
            return plain_variation(
                [(of[c["supervoxel"]], c["body"], c["voxels"] * times_of_parts[c["part"]]) for c in cells]
            )

        before = vi(start)
        fall = {name: before - vi(of) for name, of in states.items()}
        edits = json.loads((run / "scores.json").read_text())["edits_by_part"]
        falls += [fall["after"]] * times
        shares += [fall["after"] / fall["oracle"]] * times
        first += [(fall["expected_gain"] - np.mean([fall[f"random_{i}"] for i in range(10)])) / fall["oracle"]] * times
        right += [sum(e["corrected"] * times_of_parts[e["part"]] for e in edits)] * times
        wrong += [sum(e["added"] * times_of_parts[e["part"]] for e in edits)] * times
    return {
        "fall_bits": np.mean(falls),
        "share_of_oracle": np.mean(shares),
        "first_30_percent_lead": np.mean(first),
        "edits_right": np.mean(right),
        "precision": sum(right) / (sum(right) + sum(wrong)),
    }


def test_means_and_intervals_are_those_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    few = 60
    for module in ("intervals", "run_comparison"):
        monkeypatch.setattr(f"connectomebench.proofreading.{module}.RESAMPLES", few)
    rng = np.random.default_rng(5)
    table = drawn_table(rng)
    runs, others = drawn_runs(tmp_path, rng, 3, table), drawn_runs(tmp_path, rng, 2, table, "other")
    found = compare_runs(runs, others)
    parts = sorted({*np.unique(table.entries[0][:, 2]).tolist(), *range(0, 60, 5)})
    assert found.parts == len(parts) and not found.paired
    shared, of_runs, of_others = (np.random.default_rng(s) for s in (0, (0, 1), (0, 2)))
    rows, more = [], []
    drawn_parts = [Counter(parts[i] for i in shared.integers(0, len(parts), len(parts))) for _ in range(few)]
    for times in drawn_parts:
        rows.append(plainly(runs, times, np.bincount(of_runs.integers(0, 3, 3), minlength=3).tolist()))
        more.append(plainly(others, times, np.bincount(of_others.integers(0, 2, 2), minlength=2).tolist()))
    once = Counter(parts)
    whole, other = plainly(runs, once, [1, 1, 1]), plainly(others, once, [1, 1])
    assert found.difference is not None
    for name, value in whole.items():
        own = found.group.scores[name]
        assert own.mean == pytest.approx(value, abs=1e-9)
        expected = np.quantile([row[name] for row in rows], [0.025, 0.975])
        assert (own.low, own.high) == pytest.approx(tuple(expected), abs=1e-9), name
        between = found.difference[name]
        assert between.mean == pytest.approx(value - other[name], abs=1e-9)
        expected = np.quantile([a[name] - b[name] for a, b in zip(rows, more, strict=True)], [0.025, 0.975])
        assert (between.low, between.high) == pytest.approx(tuple(expected), abs=1e-9), name
    assert found.group.values["errors_after"] == (5, 6, 7) and found.group.scores["errors_after"].mean == 6
    assert math.isnan(found.group.scores["errors_before"].low)


def test_one_run_copies_of_runs_and_groups_of_two_sizes(tmp_path: Path):
    rng = np.random.default_rng(8)
    table = drawn_table(rng)
    runs = drawn_runs(tmp_path, rng, 6, table)
    alone, together = compare_runs(runs[:1]), compare_runs(runs)
    assert alone.group.scores["fall_bits"].low < alone.group.values["fall_bits"][0]
    assert math.isnan(alone.group.scores["errors_after"].low) and together.group.scores["errors_after"].low < 7.5
    # one run draws the parts of its own scores.json
    of_run = variation_interval(table, BEFORE, pq.read_table(runs[0] / "mapping.parquet")["object"].to_numpy())
    own = alone.group.scores["fall_bits"]
    assert (own.mean, own.low, own.high) == pytest.approx(
        (of_run["fall_bits"], of_run["low"], of_run["high"]), abs=1e-9
    )
    # the same runs on both sides, in pairs, differ by nothing in any draw
    copies = [shutil.copytree(run, tmp_path / f"copy-{run.name}") for run in runs]
    same = compare_runs(runs, copies)
    assert same.paired and same.difference is not None
    assert all(score.mean == score.low == score.high == 0 for name, score in same.difference.items())
    fewer = compare_runs(runs, copies[:-1])
    assert not fewer.paired and fewer.difference is not None
    assert fewer.difference["fall_bits"].low < 0 < fewer.difference["fall_bits"].high
    assert as_dict(compare_runs(runs)) == as_dict(together)  # the same input gives the same numbers
    text = as_text(alone)
    assert (
        "1 run (" in text and "12 parts of the volume" in text and "one run: the interval is over parts alone" in text
    )
    assert "only 12 parts of the volume" in text and "only 5 runs" not in as_text(fewer)


def test_a_run_that_waits_for_a_person_says_so(tmp_path: Path):
    rng = np.random.default_rng(3)
    (run,) = drawn_runs(tmp_path, rng, 1, drawn_table(rng))
    waiting = change(run, "scores.json", people={"reviewers": {}, "waiting": 4})
    assert "4 corrections still wait for a person, and count as not made" in as_text(compare_runs([waiting]))
    assert "wait for a person" not in as_text(compare_runs([run]))


def test_no_edit_has_no_precision_and_nothing_to_gain_no_share(tmp_path: Path):
    table = drawn_table(np.random.default_rng(2))
    still = {"after": BEFORE, "oracle": BEFORE}
    found = compare_runs([write_run(tmp_path / "still", table, still, [], 1, 0)])
    scores = as_dict(found)["group"]["scores"]
    assert scores["precision"]["mean"] is None and scores["share_of_oracle"]["mean"] is None
    assert scores["fall_bits"] == {"mean": 0, "low": 0, "high": 0, "resamples": RESAMPLES}
    assert "cannot be told from that without any edit: the interval holds 0" in as_text(found)
    json.dumps(as_dict(found), allow_nan=False)


def change(run: Path, name: str, **values: object) -> Path:
    """Copy a run with other values in one of its JSON files."""
    made = shutil.copytree(run, run.with_name(f"{run.name}-{'-'.join(values)}"))
    (made / name).write_text(json.dumps(json.loads((run / name).read_text()) | values))
    return made


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(4)
    table = drawn_table(rng)
    runs = drawn_runs(tmp_path, rng, 2, table)
    seed = {"merge_action": ["probe", "7"]}
    box = change(runs[0], "run.json", box_nm=[[0] * 3, [5] * 3], models=seed)
    place = change(runs[0], "run.json", place="q", config="d", models=seed)
    rules = change(runs[0], "scores.json", rules={"max_decisions": 4, "max_rounds": 10})
    tasks = change(runs[0], "run.json", models={"merge_action_with_em": ["probe", "7"]})
    people = change(runs[0], "scores.json", people={"reviewers": {"ada": 3}})
    fall = change(runs[0], "scores.json", interval={"fall_bits": 0.9})
    broken = change(runs[0], "scores.json", effort={})
    other = shutil.copytree(runs[1], tmp_path / "other-truth")
    write_overlaps(drawn_table(rng), other)
    unlike = shutil.copytree(runs[1], tmp_path / "newer")
    pq.write_table(
        pq.read_table(unlike / "states.parquet").replace_schema_metadata({b"format_version": b"9"}),
        unlike / "states.parquet",
    )
    old, unscored = (shutil.copytree(runs[1], tmp_path / name) for name in ("old", "unscored"))
    (old / "states.parquet").unlink()
    (unscored / "scores.json").unlink()
    for words, message in (
        ([runs[0], box], r"not runs of one place \(different: box\)"),
        ([runs[0], "--against", place], r"not runs of one place \(different: configuration, supervoxels or truth\)"),
        ([runs[1], rules], r"more than the models \(different: --max-decisions\)"),
        ([runs[0], tasks], r"more than the models \(different: tasks of the models\)"),
        ([runs[1], people], r"more than the models \(different: decisions of people\)"),
        ([runs[0], runs[0]], "given twice"),
        ([runs[0], shutil.copytree(runs[0], tmp_path / "again")], "runs of the same models"),
        ([fall], "files of .* do not belong together"),
        ([runs[0], other], "files of .* do not belong together"),
        ([unlike], "states.parquet is damaged or of another version"),
        ([broken], "is damaged"),
        ([runs[0], old], "old has no states.parquet, which older versions did not write; run its .* again"),
        ([unscored], "unscored has no scores.json: the run is not finished, or .* no truth"),
        ([tmp_path / "none"], "there is no .*run.json"),
    ):
        assert main(["compare-proofreading", *map(str, words)]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and not said.out
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(said.err)


class Timid(ToyModel):
    """Says no to every cut."""

    def predict(self, batch: Batch) -> list[Answer]:
        return [Answer("no", {"no": 0.97, "yes": 0.03}) for _ in super().predict(batch)]


def models_of(seed: int, *, timid: bool) -> dict[str, TaskModel]:
    made = {}
    for task in toy_models():
        kind = Timid if timid and task == "split_action" else ToyModel
        made[task] = TaskModel(task, kind(task, revision=str(seed)), ())
    return made


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    config = load_config(write_toy(folder), truth_needed=False)
    for name, seed, timid in (("right", 1, False), ("timid", 2, True)):
        models, options = models_of(seed, timid=timid), ProofreadConfig(ablation=False)
        proofread(config, models, folder / name, folder, options, lambda _: None)
    return folder


def test_two_runs_of_the_toy_against_the_voxels(toy: Path):
    runs = [toy / "right", toy / "timid"]
    found = compare_runs(runs)
    made = arrays()
    truth = made["proofread"]
    where = np.indices(truth.shape)
    x, y, z = (at // -(-n // PARTS) for at, n in zip(where, truth.shape, strict=True))
    part = ((x * PARTS + y) * PARTS + z)[truth > 0]

    def cells(labels: np.ndarray) -> Counter:
        return Counter(zip(part.tolist(), labels[truth > 0].tolist(), truth[truth > 0].tolist(), strict=True))

    written = [
        np.asarray(CloudVolume(f"precomputed://file://{run}/segmentation", progress=False)[:])[..., 0] for run in runs
    ]
    states = [cells(labels) for labels in (made["automatic"], *written)]

    def falls(times: Counter) -> list[float]:
        first, *after = (plain_variation([(a, b, n * times[p]) for (p, a, b), n in state.items()]) for state in states)
        return [first - one for one in after]

    parts = sorted(set(part.tolist()))
    values = falls(Counter(parts))
    assert found.group.values["fall_bits"] == pytest.approx(values, abs=1e-9) and values[0] > values[1]
    assert found.parts == len(parts)
    score, shared, of_runs = found.group.scores["fall_bits"], np.random.default_rng(0), np.random.default_rng((0, 1))
    rows = []
    for _ in range(RESAMPLES):
        times = Counter(parts[i] for i in shared.integers(0, len(parts), len(parts)))
        rows.append(np.mean(np.array(falls(times))[of_runs.integers(0, 2, 2)]))
    assert score.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (score.low, score.high) == pytest.approx(tuple(np.quantile(rows, [0.025, 0.975])), abs=1e-9)


def test_the_scores_of_each_run_are_those_it_wrote(toy: Path):
    runs = [toy / "right", toy / "timid"]
    found = compare_runs(runs)
    for i, run in enumerate(runs):
        own = json.loads((run / "scores.json").read_text())
        values = {name: value[i] for name, value in found.group.values.items()}
        counts = own["edits"].values()
        assert values["share_of_oracle"] == pytest.approx(own["share_of_oracle"])
        assert values["edits_right"] == sum(one["corrected"] for one in counts)
        assert values["edits_wrong"] == sum(one["added"] for one in counts)
        for name, order in (("first_30_percent", "expected_gain"), ("first_30_percent_random", "random")):
            assert values[name] == pytest.approx(own["effort"][order]["share_in_first_30_percent"])
        assert (values["errors_before"], values["errors_after"]) == (own["before"]["errors"], own["after"]["errors"])
        # the oracle corrects all of it
        start = pq.read_table(run / "mapping.parquet")["segment"].to_numpy()
        [oracle] = [state for (name, _), state in read_states(run).items() if name == "oracle"]
        assert len(set(oracle.on(start).tolist())) == 4
    assert found.group.values["edits_right"] == (3, 2) and found.group.values["errors_after"] == (0, 1)
    assert found.group.scores["precision"].mean == 1
    against = compare_runs(runs[:1], runs[1:])
    assert against.paired and against.difference is not None and against.difference["fall_bits"].mean > 0
    assert "1 run (" in as_text(against) and "difference: VI " in as_text(against)


def test_an_older_run_gets_its_files_without_a_question(toy: Path, capsys: pytest.CaptureFixture[str]):
    old = shutil.copytree(toy / "right", toy / "old")
    kept = {name: (old / name).read_bytes() for name in ("overlaps.parquet", "states.parquet", "scores.json")}
    for name in kept:
        (old / name).unlink()
    (old / "scores.json").write_text("{}")
    assert main(["compare-proofreading", str(old), str(toy / "timid")]) == 2
    assert "run its connectomebench proofread again" in capsys.readouterr().err
    models = models_of(1, timid=False)
    config = load_config(toy / "toy.yaml", truth_needed=False)
    proofread(config, models, old, toy, ProofreadConfig(ablation=False), lambda _: None)
    assert all(one.model.asked == 0 for one in models.values())
    assert {name: (old / name).read_bytes() for name in kept} == kept
    assert main(["compare-proofreading", str(old), str(toy / "timid"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["group"]["n_runs"] == 2 and found["n_parts"] > 1 and found["against"] is None
    assert (
        found["group"]["scores"]["fall_bits"]["mean"]
        == compare_runs([old, toy / "timid"]).group.scores["fall_bits"].mean
    )
