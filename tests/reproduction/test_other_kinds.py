"""Folders that hold one kind of file alone, files of other names, sessions of other spellings, samples unanswered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_files import HUMAN_TRUTH, evaluation, files, open_bins, sitting, write_file

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.results import read_results
from connectomebench.reproduction import reproduce
from connectomebench.reproduction.accuracy_differences import accuracy_differences
from connectomebench.reproduction.checkpoints import parse_checkpoint
from connectomebench.reproduction.differences import right_share
from connectomebench.reproduction.network_differences import network_differences
from connectomebench.reproduction.published_names import species_name, task_name
from connectomebench.reproduction.published_records import write_records
from connectomebench.reproduction.published_scores import own_scores, stated_scores, sweep_scores
from connectomebench.reproduction.reproduce import report_published
from connectomebench.reproduction.results_folder import Published, read_published
from connectomebench.reproduction.table import benchmark_table

LABELS = [1, 0, 1, 0, 1, 0, 1, 0, 1, 1]
ANSWERS = [1, 0, 1, 1, 1, 0, 0, 0, 1, 1]
FROZEN = "resnet50_resnet50_split_action_test_frozen"


def outputs(name: str = FROZEN, **more: Any) -> dict[str, Any]:
    right = [a == t for a, t in zip(ANSWERS, LABELS, strict=True)]
    return {
        "confidences": [0.55 + 0.04 * n for n in range(10)],
        "predictions": ANSWERS,
        "labels": LABELS,
        "accuracy": sum(right) / 10,
        "checkpoint_path": f"/checkpoints/{name}",
        "task_name": "split_action",
        "model_name": "resnet50",
        "metrics": {"ece": 0.5},
        **more,
    }


def checkpoint_file(checkpoint: str, correct: int, total: int, balanced: float, **more: Any) -> dict[str, Any]:
    rows = {"correct": correct, "total": total, "accuracy": correct / total, "balanced_accuracy": balanced}
    return {"checkpoint": checkpoint, "task": None, "dataset_path": None, "use_test_set": True, **rows, **more}


def read(folder: Path, contents: dict[str, Any]) -> Published:
    for name, content in contents.items():
        write_file(folder / name, content)
    return read_published(folder)


TRANSFER = {
    "task": "merge_action",
    "species": "fly",
    "model_type": "linear_probe",
    "train_species": "mouse",
    "train_samples": 70,
    "test_samples": 20,
    "test_accuracy": 0.85,
    "test_balanced_accuracy": 0.8,
    "ece": 0.1,
}
PUBLISHED = files()
KINDS: dict[str, tuple[str, Any]] = {
    "outputs of one network": ("per_sample.json", outputs()),
    "outputs of several": ("all/summary.json", {FROZEN: outputs(), "b_test": outputs("resnet50_b_test")}),
    "a checkpoint": ("resnet50_x.json", checkpoint_file("resnet50_merge_action_test", 8, 10, 0.75)),
    "checkpoints": ("list.json", [checkpoint_file("resnet50_merge_action_test", n, 10, 0.75) for n in (7, 8)]),
    "transfer of a probe": ("one.json", TRANSFER),
    "transfers of a probe": ("cross.json", [TRANSFER, TRANSFER | {"species": "human"}]),
    "a sweep": ("sweep_of_mine.json", PUBLISHED["linear_probe_sweep/data_sweep_merge_action.json"]),
    "answers": ("answers-of-a-model.json", PUBLISHED["final_data/eval_merge_action_gpt-5_votes3.json"]),
    "a session": ("session_7.json", PUBLISHED["human_eval/human_eval_merge_anonymous_1.json"]),
}


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: tests of the page and of figures look at those of the whole folder."""
    monkeypatch.setattr(reproduce, "write_figures", lambda *_: [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_one_kind_alone_whatever_its_names(tmp_path: Path, kind: str) -> None:
    name, content = KINDS[kind]
    found = read(tmp_path / "in", {name: content})
    assert [f.used for f in found.files] == [True] and "left out" not in found.files[0].state


@pytest.mark.usefixtures("without_figures")
def test_the_page_says_whether_there_are_programs(tmp_path: Path) -> None:
    write_file(tmp_path / "in" / "a.json", {FROZEN: outputs()})
    page = report_published(tmp_path / "in", tmp_path / "out", resamples=20).read_text()
    assert "not in it: a way of" in page and "ResNet-50 (frozen)" in page
    write_file(tmp_path / "in" / "plot.py", "print(1)")
    assert (
        "Programs in it are not run or read"
        in report_published(tmp_path / "in", tmp_path / "b", resamples=20).read_text()
    )


def test_outputs_give_balanced_accuracy_and_an_interval(tmp_path: Path) -> None:
    found = read(tmp_path / "in", {"a.json": {FROZEN: outputs()}})
    (run,) = found.runs
    assert (run.model, run.revision, run.partition, run.species) == ("resnet_frozen", FROZEN, "test", "mouse")
    frame = read_results(write_records(found.runs, tmp_path / "records"))
    expected = [c if a else 1 - c for c, a in zip(outputs()["confidences"], ANSWERS, strict=True)]
    assert frame["probability"].tolist() == pytest.approx(expected) and set(frame["condition"]) == {"default"}
    (score,) = (s for s in own_scores(found, frame, resamples=50) if s.metric == "balanced_accuracy")
    assert score.value == pytest.approx((5 / 6 + 3 / 4) / 2) and score.lower < score.value < score.upper


def test_the_calibration_of_outputs_by_the_published_rule(tmp_path: Path) -> None:
    found = read(tmp_path / "in", {"a.json": {FROZEN: outputs()}})
    frame = read_results(write_records(found.runs, tmp_path / "records"))
    (score,) = (s for s in own_scores(found, frame, resamples=50) if s.metric == "ece")
    right = [float(a == t) for a, t in zip(ANSWERS, LABELS, strict=True)]
    assert score.value == pytest.approx(open_bins(outputs()["confidences"], [bool(r) for r in right]))
    assert score.lower <= score.value <= score.upper and score.interval and score.how.endswith("ten bins")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidences": [0.5] * 9}, "not as many"),
        ({"confidences": [1.5] * 10}, "outside"),
        ({"labels": [2] * 10}, "neither 0"),
        ({"task_name": "sorting"}, "unknown task"),
        ({"checkpoint_path": "../.."}, "cannot be used"),
        ({"labels": [], "predictions": [], "confidences": []}, "no rows"),
    ],
)
def test_outputs_that_cannot_be_used_are_left_out_with_the_reason(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    found = read(tmp_path, {"a.json": {"bad": outputs() | change, FROZEN: outputs()}})
    assert len(found.runs) == 1 and words in found.files[0].state


def test_a_checkpoint_is_named_by_its_folder_and_dataset(tmp_path: Path) -> None:
    names = {
        "resnet50_resnet50_merge_action_test": "resnet_finetuned",
        "resnet50_resnet50_merge_action_test_small": "resnet_small",
        "vit_l_32_resnet50_merge_action_test_frozen_wide_resnet101_2": "vit_l_32_frozen",
        "resnet50_split_action_20260128_082058": "resnet50_run_20260128_082058",
    }
    assert {name: parse_checkpoint(name).method for name in names} == names
    fish = checkpoint_file("resnet50_split_action_test", 8, 10, 0.75, dataset_path="generalization/fish-jan24")
    wrong = checkpoint_file("resnet50_split_action_test", 8, 10, 0.75) | {"correct": 3}
    found = read(tmp_path, {"a.json": fish, "b.json": wrong, "c.json": checkpoint_file("resnet50_x_test", 1, 2, 0.5)})
    assert [(s.task, s.species) for s in found.checkpoints] == [("split_action", "zebrafish")]
    assert [f.used for f in found.files] == [True, False, False]
    assert "3 of 10 rows" in found.files[1].state and "names no task" in found.files[2].state


def test_why_a_total_is_not_that_of_the_outputs(tmp_path: Path) -> None:
    """The same checkpoint on other rows, another checkpoint, and a training found by its number."""
    totals = {
        "frozen_model": {"accuracy": 0.7, "balanced_accuracy": 0.68, "correct": 14, "total": 20},
        "fully_finetuned_model": {"accuracy": 0.9, "balanced_accuracy": 0.88, "correct": 18, "total": 20},
    }
    run = "resnet50_split_action_20260101_000000"
    found = read(
        tmp_path,
        {
            "resnet_results.json": {"split_action_resnet": totals},
            "outputs.json": {FROZEN: outputs(), "f": outputs("resnet50_split_action_test")},
            "evaluations/1.json": checkpoint_file(FROZEN, 14, 20, 0.68),
            "evaluations/2.json": checkpoint_file(run, 18, 20, 0.88),
        },
    )
    why = {row[0].split(",")[0]: row[3] for d in network_differences(found) if d.key == "outputs" for row in d.rows}
    assert why == {
        "ResNet-50 (frozen)": "the same checkpoint, other rows (20 instead of 10)",
        "ResNet-50 (fine-tuned)": f"another checkpoint ({run} instead of resnet50_split_action_test), "
        "other rows (20 instead of 10)",
    }
    assert {s.checkpoint.method for s in found.checkpoints} == {"resnet_frozen", "resnet_finetuned"}


def _bare(session: dict[str, Any]) -> dict[str, Any]:
    for response in session["responses"]:
        response["zoe"] = response.pop("zoe_answer")
    return session


def _listed(session: dict[str, Any]) -> dict[str, Any]:
    session["zoe_responses"] = [response.pop("zoe_answer") for response in session["responses"]]
    return session


@pytest.mark.parametrize("spelling", [lambda s: s, _bare, _listed])
def test_a_session_in_any_spelling(tmp_path: Path, spelling: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    session = spelling(sitting()) | {"task_name": "split-correction-evaluation"}
    for response in session["responses"]:
        response["skipped"] = False  # not a person
    found = read(tmp_path, {"human_eval_x.json": session})
    assert [(r.model, r.task) for r in found.runs] == [("person-1", "split_action"), ("person-2", "split_action")]
    assert [right_share(r, [s.votes[0] for s in r.samples]) for r in found.runs] == [7 / 8, 1.0]
    assert [s.truth for s in found.runs[1].samples] == HUMAN_TRUTH and "zoe" not in repr(found.runs)


def test_names_of_tasks_and_species() -> None:
    assert task_name("split-correction-evaluation") == "split_action"
    assert task_name("Split error correction") == "merge_action"
    assert species_name("fish-jan24") == "zebrafish" and species_name("starfish") == "mouse"
    with pytest.raises(ConnectomeBenchError, match="unknown task"):
        task_name("sorting")


def test_a_left_out_session_is_not_said_to_be_absent(tmp_path: Path) -> None:
    session = sitting() | {"task_name": "sorting"}
    found = read(tmp_path, {"human_eval_x.json": session, "a.json": outputs()})
    lines = benchmark_table(found, stated_scores(found), [], sweep_scores(found), []).empty
    assert any("1 file is left out" in line for line in lines if line.startswith("Person 1"))


@pytest.mark.usefixtures("without_figures")
def test_samples_without_any_answer_under_each_rule(tmp_path: Path) -> None:
    """Twelve samples, six of them yes: four are answered, three rightly; the others hold no answer in any vote."""
    votes: list[list[bool | None]] = [[None] * 3 for _ in range(12)]
    votes[0], votes[2], votes[4], votes[1] = [True] * 3, [True] * 3, [False] * 3, [False] * 3
    stored = evaluation("gpt-5", "test", votes, confident=False)
    # as the publication counts: no answer is "no"; right are 0, 2 and all six of the answer no
    stored |= {"accuracy": 8 / 12, "majority_accuracy": 8 / 12, "individual_accuracy": 9 / 12}
    found = read(tmp_path / "in", {"eval_merge_action_gpt-5_votes3.json": stored})
    differences = {d.key: d for d in accuracy_differences(found)}
    assert "not_reproduced" not in differences
    (row,) = differences["unanswered"].rows
    assert row[1:3] == ("4 of 12", "66.67%")
    assert row[3].startswith("66.67%") and row[4].startswith("75.00%") and row[5].startswith("25.00%")
    report_published(tmp_path / "in", tmp_path / "out", resamples=20)
    text = (tmp_path / "out" / "table.tex").read_text()
    assert "no answer as ``no''" in text and "66.7" in text and "75.0 (accuracy of 4)" in text
    stored["majority_accuracy"] = 0.9
    found = read(tmp_path / "in", {"eval_merge_action_gpt-5_votes3.json": stored})
    assert "not_reproduced" in {d.key for d in accuracy_differences(found)}


def test_files_with_less_and_other_detail_are_read(tmp_path: Path) -> None:
    answers = evaluation("gpt-5", "test", [[True] * 3 for _ in range(12)], confident=False)
    for number, entry in enumerate(answers["predictions"]):
        entry["sample_id"] = [None, 7, {"interface_point": [1.5, 2.0], "split_hash": None}][number % 3]
        entry["all_responses"] = [None] * 3
    answers["calibration"] = {"ece": 0.2, "bins": [1, 2], "note": "ten"}
    session = sitting()
    session.pop("session_id")
    for response in session["responses"]:
        response["metadata"] = None
    found = read(tmp_path, {"eval_a.json": answers, "human_eval_b.json": session})
    assert [f.used for f in found.files] == [True, True], [f.state for f in found.files]
    assert found.runs[0].stated["calibration_ece"] == 0.2 and len(found.runs) == 3


def test_content_that_is_no_result_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, {"a.json": outputs(), "b.json": {"hello": 1}, "c.json": [1, 2], "d.json": {}})
    assert [f.used for f in found.files] == [True, False, False, False]
    assert all("neither its name nor its fields" in f.state for f in found.files[1:])
    (tmp_path / "e.json").write_text(json.dumps("text"))
    assert not read_published(tmp_path).files[4].used
