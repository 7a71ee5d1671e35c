"""The real published records, where they are: counts, stated numbers, and what was found in them."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from connectomebench.core.tasks import TASKS
from connectomebench.evaluation.results import read_results
from connectomebench.reproduction.accuracy_differences import accuracy_differences
from connectomebench.reproduction.calibration_differences import calibration_differences
from connectomebench.reproduction.differences import PublishedDifference, right_share
from connectomebench.reproduction.network_differences import network_differences
from connectomebench.reproduction.published_names import COLUMNS
from connectomebench.reproduction.published_records import majority, write_records
from connectomebench.reproduction.published_scores import own_scores, sweep_scores
from connectomebench.reproduction.results_folder import Published, read_published
from connectomebench.reproduction.score_table import Score
from connectomebench.reproduction.sources import trace_totals

FOLDER = Path(__file__).parents[2].parent / "shared/data/published_results"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/data/published_results, which is not here")

IDENTIFY, MEND = "endpoint_error_identification_with_em", "merge_action"


@pytest.fixture(scope="module")
def real() -> Published:
    return read_published(FOLDER)


@pytest.fixture(scope="module")
def scores(real: Published, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    frame = read_results(write_records(real.runs, tmp_path_factory.mktemp("real")))
    return own_scores(real, frame, resamples=50)


@pytest.fixture(scope="module")
def differences(real: Published) -> dict[str, PublishedDifference]:
    found = (*accuracy_differences(real), *network_differences(real), *calibration_differences(real))
    return {d.key: d for d in found}


def test_every_known_file_is_read_whole(real: Published) -> None:
    assert {f.name for f in real.files} == {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()}
    assert len(real.files) == 66 and all(f.used for f in real.files)
    assert not any("left out" in f.state for f in real.files)
    models = [r for r in real.runs if not r.model.startswith("person") and not r.is_network]
    assert len(models) == 12 and all(len(r.samples) == 128 for r in models)
    networks = Counter((r.task, len(r.samples)) for r in real.runs if r.is_network)
    assert networks == {
        (IDENTIFY, 463): 2,
        (MEND, 1319): 6,
        ("merge_error_identification", 1200): 2,
        ("split_action", 1662): 2,
    }
    assert len(real.checkpoints) == 38 and all(s.task in COLUMNS for s in real.checkpoints)
    assert Counter(s.species for s in real.checkpoints) == {"mouse": 23, "fly": 5, "human": 5, "zebrafish": 5}
    people = [r for r in real.runs if r.model.startswith("person")]
    assert len(people) == 4 and all(len(r.samples) == 31 for r in people)
    assert {r.species for r in real.runs} == {"mouse"}


def test_stated_accuracies_come_out_of_the_answers(
    real: Published, differences: dict[str, PublishedDifference]
) -> None:
    for run in real.runs:
        assert math.isclose(run.stated["accuracy"], right_share(run, [s.votes[0] for s in run.samples]))
        if run.votes > 1:
            voted = right_share(run, [majority(s.votes) for s in run.samples])
            assert math.isclose(run.stated["majority_accuracy"], voted)
    assert "not_reproduced" not in differences


def test_the_published_people_of_a_task_are_those_of_the_records(real: Published) -> None:
    found: dict[str, list[tuple[int, int]]] = {}
    for run in sorted((r for r in real.runs if r.model.startswith("person")), key=lambda r: r.model):
        right = right_share(run, [s.votes[0] for s in run.samples]) * len(run.samples)
        found.setdefault(run.task, []).append((round(right), len(run.samples)))
    assert found == {t.name: list(t.published_people) for t in TASKS.values() if t.published_people}


def test_recomputed_cells(scores: list[Score]) -> None:
    voted = {
        (s.method, s.task): s.value for s in scores if s.metric == "balanced_accuracy" and s.how.startswith("majority")
    }
    # both answers are equally common, so that balanced accuracy is the share of right majorities of 128
    assert {key: round(value * 128) for key, value in voted.items()} == {
        ("gpt-5", MEND): 112,
        ("gpt-5", "merge_error_identification"): 75,
        ("gemini-3-pro-preview", MEND): 119,
        ("gemini-3-pro-preview", "merge_error_identification"): 88,
        ("vlm", IDENTIFY): 107,
        ("vlm", MEND): 120,
        ("vlm", "merge_error_identification"): 104,
        ("vlm", "split_action"): 91,
        ("vlm_answer_only", IDENTIFY): 97,
        ("vlm_answer_only", MEND): 120,
        ("vlm_answer_only", "merge_error_identification"): 106,
        ("vlm_answer_only", "split_action"): 100,
    }
    shares = {(s.method, s.task): s for s in scores if s.metric == "vote_share"}
    assert math.isclose(shares["vlm", IDENTIFY].value, 2233 / 3200)
    assert math.isclose(shares["vlm", MEND].value, 603 / 640)


def test_cells_of_networks_come_from_their_outputs_and_say_why_they_differ(
    scores: list[Score], differences: dict[str, PublishedDifference]
) -> None:
    """Counted from the stored predictions, by hand: right yes and right no."""
    outputs = json.loads((FOLDER / "calibration_results_all/calibration_summary.json").read_text())
    own = {(s.method, s.task): s for s in scores if s.metric == "balanced_accuracy" and s.how == "one answer a sample"}
    for key, method in {
        "resnet50_resnet50_merge_action_test": "resnet_finetuned",
        "resnet50_resnet50_split_action_test_frozen": "resnet_frozen",
        "vit_l_32_resnet50_merge_action_test_frozen_wide_resnet101_2": "vit_l_32_frozen",
    }.items():
        entry = outputs[key]
        pairs = Counter(zip(entry["labels"], entry["predictions"], strict=True))
        by_hand = (pairs[1, 1] / (pairs[1, 1] + pairs[1, 0]) + pairs[0, 0] / (pairs[0, 0] + pairs[0, 1])) / 2
        score = own[method, entry["task_name"]]
        assert math.isclose(score.value, by_hand) and score.lower <= by_hand <= score.upper
        assert score.n == len(entry["labels"])
    why = {row[0]: row[3] for row in differences["outputs"].rows}
    assert why["ResNet-50 (fine-tuned), merge error identification"].startswith("the same checkpoint, other rows (128 ")
    assert why["ResNet-50 (fine-tuned), split action evaluation"].startswith(
        "another checkpoint (resnet50_split_action_20260128_082058 "
    )
    assert not any("not known" in row[3] for row in differences["outputs"].rows)
    assert sum("always “no”" in row[2] for row in differences["outputs"].rows) == 2
    assert not any("not the stated" in row[2] for row in differences["network_ece"].rows)
    without = [row[0] for row in differences["checkpoints"].rows if row[2] == "none in the folder"]
    assert len(without) == 5 and all("mouse" not in cell for cell in without)


def test_both_rows_of_the_probe(real: Published, differences: dict[str, PublishedDifference]) -> None:
    rows = {row[0]: (row[1].split("%")[0], row[3].split("%")[0]) for row in differences["probe"].rows}
    printed = {"Split error identification": "72.25", "Split error correction": "97.17"}
    assert {title: single for title, (single, _) in rows.items()} == printed | {
        "Merge error identification": "64.51",
        "Split action evaluation": "60.42",
    }
    assert [repeated for _, repeated in rows.values()] == ["72.11", "95.91", "78.10", "69.77"]
    traced = trace_totals(real)
    assert traced is not None
    assert sum("one fit on" in row[4] for row in traced.rows) >= 22
    assert sum("outputs of resnet50_resnet50_" in row[4] for row in traced.rows) >= 3


def test_the_probe_of_the_table_is_the_end_of_its_sweep(real: Published) -> None:
    last = [s for s in sweep_scores(real) if s.train_samples == 4096 and s.metric == "balanced_accuracy"]
    stated = {c.task: c for c in real.cells if "linear_probe_cross" in c.file and c.species == "mouse"}
    assert len(last) == 2
    for score in last:
        assert math.isclose(score.value, stated[score.task].values["balanced_accuracy"])
        assert score.n == stated[score.task].n


def test_differences_that_the_folder_shows(differences: dict[str, PublishedDifference]) -> None:
    assert {row[1] for row in differences["unparsed"].rows} == {"1 of 3200", "1 of 640", "2 of 640"}
    assert len(differences["two_names"].rows) == 9
    assert len(differences["mixed"].rows) == 4 and len(differences["brier"].rows) == 4
    assert {row[1] for row in differences["zeros"].rows} == {"460 of 3199", "15 of 128"}
    assert "ResNet-50 (512 samples)" in differences["totals"].rows[0][3]
    assert len(differences["other_accuracy"].rows) == 2
    assert {row[3] for row in differences["samples"].rows} == {"128", "31", "463", "1319", "1200", "1662"}


def test_no_name_of_a_machine_or_a_person_is_kept(real: Published) -> None:
    kept = repr([(r.model, r.revision, r.source, [(s.sample_id, s.group) for s in r.samples]) for r in real.runs])
    assert "/Users" not in kept and "/checkpoints" not in kept and "tim" not in kept.lower().replace("estimate", "")
