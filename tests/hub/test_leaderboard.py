from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries
from sklearn.metrics import balanced_accuracy_score
from stored_rows import entry

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import STAYS, TAKEN, encode_masks
from connectomebench.dataset.rows import DataRecord
from connectomebench.evaluation.results import read_results, write_results
from connectomebench.hub.leaderboard import eval_results, eval_yaml
from connectomebench.models.model_record import ModelRecord

TASK = "merge_action"
REPO = "brains/merge_action"
COMMIT = "5" * 40
COUNTS = {"train": {"no": 8, "yes": 8}, "validation": {"no": 2, "yes": 2}, "test": {"no": 12, "yes": 12}}


@pytest.fixture
def manifest() -> dict[str, Any]:
    species = {"fly": entry(COUNTS, "f" * 32), "mouse": entry(COUNTS, "a" * 32)}
    return {"format_version": "1.0", "package_version": "0.1.0", "task": TASK, "species": species}


@pytest.fixture
def record() -> ModelRecord:
    data = DataRecord(TASK, "fly", "train", None, None, "f" * 32, COUNTS["train"], {})
    return ModelRecord("probe", "probe", "r1", TASK, None, None, {}, (data,), {})


def _results(folder: Path, species: str = "fly", fingerprint: str = "f" * 32, **changes: Any) -> pd.DataFrame:
    """Return 24 rows in 12 groups: every fourth wrong, one reply without an answer."""
    rows = []
    for i in range(24):
        answer = ("no", "yes")[i % 2]
        said = answer if i % 4 else "yes"
        rows.append(
            {
                "sample_id": f"s{i}",
                "task": TASK,
                "species": species,
                "partition": "test",
                "model": "probe",
                "model_revision": "r1",
                "dataset_fingerprint": fingerprint,
                "code_version": "0.1.0",
                "question": "?",
                "prediction": None if i == 5 else said,
                "probability": None,
                "answer": answer,
                "group": f"g{i // 2}",
                **changes,
            }
        )
    return read_results(write_results(folder / f"{species}.parquet", rows))


def test_eval_yaml_has_one_task_a_species(manifest):
    manifest["species"]["mouse"]["source"]["simulated_errors"] = True
    found = yaml.safe_load(eval_yaml(manifest, REPO))
    assert list(found) == ["name", "description", "evaluation_framework", "tasks"]
    assert found["name"] == "ConnectomeBench: Split error correction"
    assert found["evaluation_framework"] == "connectomebench"
    assert found["tasks"] == [{"id": s, "config": s, "split": "test"} for s in ("fly", "mouse")]
    assert "balanced accuracy on the test partition, as a share; chance is 0.5." in found["description"]
    assert found["description"].endswith("The errors are simulated in `mouse`.")
    manifest["task"] = "endpoint_localization"
    asked = yaml.safe_load(eval_yaml(manifest, REPO))["description"]
    assert "accuracy" not in asked and "Metric: place score on the test partition, as a share." in asked


def test_places_and_masks_have_their_own_score(manifest, record, tmp_path):
    truth = '{"answer":"0, 0, 0","right":[[0,0,0]],"nodes":[],"full_nm":500}'
    taken = encode_masks({"front": np.array([[TAKEN, STAYS, STAYS, STAYS]], np.uint8)})
    half = encode_masks({"front": np.array([[TAKEN, TAKEN, STAYS, STAYS]], np.uint8)})
    for task, said, answer, name, value in (
        ("endpoint_localization", "1250, 0, 0", truth, "place score", 0.5),
        ("split_mask_generation", half, taken, "mean IoU of both parts", (1 / 2 + 2 / 3) / 2),
    ):
        results = _results(tmp_path, task=task, prediction=said, answer=answer)
        files = eval_results(results, dataclasses.replace(record, task=task), REPO, COMMIT, manifest | {"task": task})
        [entry] = parse_eval_result_entries(yaml.safe_load(files[f"{task}.yaml"]))
        assert entry.value == pytest.approx(value, abs=1e-4)
        assert entry.notes is not None and entry.notes.startswith(f"{name} as a share, 95% interval {value:.3f} to")


def test_results_become_entries_that_the_client_reads_back(manifest, record, tmp_path):
    manifest["species"]["mouse"]["source"]["simulated_errors"] = True
    fly, mouse = _results(tmp_path), _results(tmp_path, "mouse", "a" * 32)
    files = eval_results(pd.concat([mouse, fly]), record, REPO, COMMIT, manifest)
    assert list(files) == ["merge_action.yaml"]
    first, second = parse_eval_result_entries(yaml.safe_load(files["merge_action.yaml"]))
    truth = balanced_accuracy_score(fly["answer"] == "yes", (fly["prediction"].fillna("no") == "yes"))
    low, high = first.notes.split("interval ")[1].split(" over")[0].split(" to ")
    assert float(low) < truth < float(high)
    notes = (
        f"balanced accuracy as a share, 95% interval {low} to {high} over 12 groups, n=24; "
        "1 replies without an answer count as wrong; trained on fly"
    )
    assert first == EvalResultEntry(REPO, "fly", round(truth, 4), dataset_revision=COMMIT, notes=notes)
    assert second.task_id == "mouse" and second.notes == f"{notes}; the errors are simulated"
    without = eval_results(fly, record, REPO, None, manifest)["merge_action.yaml"]
    assert "revision" not in without and "date" not in without.replace("dataset", "")


def test_results_of_something_else_are_left_out(manifest, record, tmp_path):
    fly = _results(tmp_path)
    seen = dataclasses.replace(record.trained_on[0], partition="test")
    for results, trained in (
        (_results(tmp_path, fingerprint="b" * 32), record),
        (_results(tmp_path, model="grey"), record),
        (_results(tmp_path, model_revision="r0"), record),
        (_results(tmp_path, partition="validation"), record),
        (_results(tmp_path, task="split_action"), record),
        (_results(tmp_path, species="human"), record),
        (_results(tmp_path, condition="blank_images"), record),
        (fly.iloc[:20], record),
        (fly, dataclasses.replace(record, trained_on=(*record.trained_on, seen))),
    ):
        assert eval_results(results, trained, REPO, COMMIT, manifest) == {}
    manifest["species"]["fly"]["counts"]["test"] = {"no": 0, "yes": 12}
    one_class = fly[fly["answer"] == "yes"]
    assert eval_results(one_class, record, REPO, COMMIT, manifest) == {}


def test_a_dataset_that_does_not_fit_is_told(manifest, record, tmp_path):
    other = {**manifest, "task": "split_action"}
    with pytest.raises(
        ConnectomeBenchError, match="holds the task split_action, but probe was trained for merge_action"
    ):
        eval_results(_results(tmp_path), record, REPO, COMMIT, other)
    manifest["species"]["fly"].pop("counts")
    with pytest.raises(ConnectomeBenchError, match=r"not complete .*counts.*publish the dataset again"):
        eval_results(_results(tmp_path), record, REPO, COMMIT, manifest)
    manifest["species"]["fly"].pop("source")
    with pytest.raises(ConnectomeBenchError, match=r"not complete .*source.*build the species again"):
        eval_yaml(manifest, REPO)
    with pytest.raises(ConnectomeBenchError, match="no name of a species"):
        eval_yaml({**manifest, "species": {"../fly": entry(COUNTS)}}, REPO)
