"""Reading published files: what is in them, what they may not do, and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published_files import SEGMENTS, TASK, N, evaluation, files, vlm_votes, write_file, write_published

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction.published_names import identify, model_name, species_name, task_name
from connectomebench.reproduction.published_records import Run
from connectomebench.reproduction.results_folder import Published, ResultFile, read_published

EVALUATION = "final_data/eval_merge_action_vlm_votes3.json"


def run_of(published: Published, model: str) -> Run:
    return next(run for run in published.runs if run.model == model)


def state(published: Published, name: str) -> ResultFile:
    return next(file for file in published.files if file.name == name)


def changed(folder: Path, name: str, **values: Any) -> Published:
    """Read the folder with some top-level values of one file replaced."""
    write_published(folder)
    write_file(folder / name, files()[name] | values)
    return read_published(folder)


def test_every_file_is_read_and_hashed(published: Published, published_folder: Path) -> None:
    assert {f.name for f in published.files} == set(files())
    assert all(f.used and len(f.sha256) == 64 for f in published.files)
    assert state(published, EVALUATION).state == f"{N} samples, 3 answers each"
    models = sorted(run.model for run in published.runs)
    assert models == ["gpt-5", "person-1", "person-2", "qwen3-vl-4b-instruct-finetuned"]
    assert len(published.sweeps) == 2


def test_samples_that_share_a_segment_are_one_group(published: Published) -> None:
    groups = [s.group for s in run_of(published, "gpt-5").samples]
    assert groups[0] == groups[1] == "segment-801"
    assert len(set(groups)) == N - 1
    # named by the smaller segment, whatever the order of the samples
    assert groups[2] == f"segment-{min(SEGMENTS[2])}"


def test_all_is_test_only_where_every_sample_is_in_a_test_file(published: Published, tmp_path: Path) -> None:
    assert run_of(published, "gpt-5").partition == "test"
    write_published(tmp_path)
    content = files()["final_data/eval_merge_action_gpt-5_votes3.json"]
    content["predictions"][0]["image_paths"] = ["images/77_0_another_place_8192nm_front.png"]
    write_file(tmp_path / "final_data/eval_merge_action_gpt-5_votes3.json", content)
    assert run_of(read_published(tmp_path), "gpt-5").partition == "all"


def test_the_same_samples_have_the_same_fingerprint(published: Published) -> None:
    vlm, gpt = run_of(published, "qwen3-vl-4b-instruct-finetuned"), run_of(published, "gpt-5")
    assert vlm.fingerprint == gpt.fingerprint != run_of(published, "person-1").fingerprint


def test_people_are_numbered_and_their_names_are_not_kept(published: Published) -> None:
    first, second = run_of(published, "person-1"), run_of(published, "person-2")
    assert first.task == TASK and first.species == "mouse"
    assert [s.latency_s for s in first.samples][:2] == [5.0, 6.0]
    assert all(s.latency_s is None for s in second.samples)
    assert [s.votes for s in second.samples] == [(s.truth,) for s in second.samples]
    assert first.stated["accuracy"] == 7 / 8 and second.stated == {"accuracy": 1.0}
    assert "zoe" not in repr(published).lower()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"num_samples": 11}, "says 11 samples and holds 12"),
        ({"num_votes": 4}, "does not hold the 4 votes"),
        ({"predictions": []}, "holds no samples"),
        ({"predictions": 7}, "predictions: Input should be"),
        ({"task_name": "cooking"}, "unknown task 'cooking'"),
        ({"split": "../../elsewhere"}, "the partition '../../elsewhere' cannot be used"),
        ({"model": "../.."}, "cannot be used"),
        ({"accuracy": float("nan")}, "accuracy is not a finite number"),
    ],
)
def test_a_damaged_file_is_left_out_and_says_why(values: dict[str, Any], why: str, tmp_path: Path) -> None:
    published = changed(tmp_path, EVALUATION, **values)
    file = state(published, EVALUATION)
    assert not file.used and file.state.startswith("left out: ") and why in file.state and "\n" not in file.state
    assert len(published.runs) == 3


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("ground_truth", "yes", "ground_truth: Input should be a valid boolean"),
        ("confidence", 7.0, "the confidence of sample 0 lies outside [0, 1]"),
        ("image_paths", ["images/1_0_merge_701_803_801_8192nm_front.png"], "names a sample twice"),
    ],
)
def test_a_damaged_sample_leaves_the_file_out(key: str, value: Any, why: str, tmp_path: Path) -> None:
    content = files()[EVALUATION]
    content["predictions"][0][key] = value
    published = changed(tmp_path, EVALUATION, **content)
    assert why in state(published, EVALUATION).state and not state(published, EVALUATION).used


def test_a_damaged_entry_leaves_the_rest_of_its_file(tmp_path: Path) -> None:
    name = "final_data/resnet_cross_species_results.json"
    content = files()[name]
    content[TASK]["unicorn"] = {"finetuned": {"accuracy": 0.5}}
    content[TASK]["fly"]["finetuned"]["accuracy"] = 1.5
    published = changed(tmp_path, name, **content)
    file = state(published, name)
    assert file.used and "unicorn, finetuned: unknown species" in file.state
    assert "fly, finetuned: accuracy is 1.5, outside [0, 1]" in file.state
    assert {(c.method, c.species) for c in published.cells if c.file == name} == {
        ("resnet_finetuned", "mouse"),
        ("vlm", "mouse"),
    }


def test_cut_off_unknown_and_linked_files_are_left_out(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "folder")
    whole = (folder / EVALUATION).read_text()
    (folder / EVALUATION).write_text(whole[: len(whole) // 2])
    write_file(folder / "notes.json", {"a": 1})
    outside = write_file(tmp_path / "outside.json", files()[EVALUATION])
    (folder / "eval_linked.json").symlink_to(outside)
    published = read_published(folder)
    assert "damaged or of another shape: Invalid JSON" in state(published, EVALUATION).state
    assert "neither its name nor its fields" in state(published, "notes.json").state
    linked = state(published, "eval_linked.json")
    assert "leads out of the folder" in linked.state and linked.sha256 == ""


def test_two_files_of_one_run_get_names_of_their_own(tmp_path: Path) -> None:
    write_published(tmp_path)
    write_file(tmp_path / "final_data/eval_z_again.json", evaluation("gpt-5", "all", vlm_votes(), confident=False))
    assert sorted(r.model for r in read_published(tmp_path).runs if r.model.startswith("gpt")) == ["gpt-5", "gpt-5-2"]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="there is no folder"):
        read_published(tmp_path / "nowhere")
    (tmp_path / "other.json").write_text(json.dumps({}))
    with pytest.raises(ConnectomeBenchError, match="holds no published results"):
        read_published(tmp_path)


def test_names() -> None:
    assert task_name("split-error-identification") == "endpoint_error_identification_with_em"
    assert task_name("merge_action") == "merge_action"
    assert species_name("merge-parquet", "eval_zebrafish_x.json") == "zebrafish"
    assert species_name("mouse_exm-data") == "mouse_exm"
    assert species_name("humanoid") == "mouse"
    assert model_name("google/gemini-x") == ("gemini-x", "google/gemini-x")
    assert model_name("/checkpoints/a_Qwen3-VL-4B-Instruct_b") == (
        "qwen3-vl-4b-instruct-finetuned",
        "a_Qwen3-VL-4B-Instruct_b",
    )
    identity = identify({"root_id": "5", "split_hash": "6"}, ["/home/me/images/3_1_6_split_True_7500nm_side.png"], 0)
    assert (identity.sample_id, identity.segments) == ("3-6_split_True", ("5",))
    assert identify({"index": 4}, None, 9).sample_id == "number-4"
