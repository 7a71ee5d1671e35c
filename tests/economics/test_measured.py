"""Seconds and tokens out of result records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.assumptions import defaults
from connectomebench.economics.measured import Measured, measure
from connectomebench.evaluation.result_records import result_path, write_results


def write(folder: Path, model: str, task: str, seconds: list[float | None], **more: Any) -> None:
    condition = more.pop("condition", "default")
    rows = [
        {
            "sample_id": f"s{i}", "task": task, "species": "fly", "partition": "test", "model": model,
            "condition": condition, "model_revision": "1", "dataset_fingerprint": "f", "code_version": "0",
            "question": "?", "prediction": "yes", "probability": 0.9, "answer": "yes", "group": f"g{i}",
            "latency_s": s, **more,
        }
        for i, s in enumerate(seconds)
    ]  # fmt: skip
    write_results(result_path(folder, model, task, "fly", "test", condition), rows)


def test_means_of_the_model_and_the_median_of_people(tmp_path: Path) -> None:
    write(tmp_path, "vlm", "merge_action", [1.0, 2.0, 6.0], prompt_tokens=900, tokens=50)
    write(tmp_path, "vlm", "split_action", [4.0, 4.0], prompt_tokens=600, tokens=100)
    write(tmp_path, "vlm", "segment_identity", [99.0, 99.0])
    write(tmp_path, "person-ada", "merge_action", [8.0, 9.0, 700.0])
    found = measure(Measured(tmp_path), defaults())
    assert (found.values.merge_s, found.values.split_s, found.values.person_s) == (3.0, 4.0, 9.0)
    assert found.values.prompt_tokens == pytest.approx(780) and found.values.generated_tokens == pytest.approx(70)
    assert found.origins["merge_s"].startswith("measured: mean of 3 answers of vlm on merge_action, 95% interval")
    assert found.origins["person_s"].startswith("measured: median of 3 answers of person-ada")
    assert found.origins["gpus"] == defaults().origins["gpus"]


def test_seconds_of_all_votes_are_divided_by_the_votes(tmp_path: Path) -> None:
    votes = {"votes": ["yes"] * 5, "tokens": 500, "prompt_tokens": 5000}
    write(tmp_path, "vlm", "merge_action", [10.0, 20.0], condition="votes5", **votes)
    found = measure(Measured(tmp_path, "vlm@votes5"), defaults()).values
    assert (found.merge_s, found.generated_tokens, found.prompt_tokens) == (3.0, 100, 1000)
    assert found.split_s == defaults().values.split_s  # not measured, so it stays


def test_the_first_model_of_a_cascade(tmp_path: Path) -> None:
    write(tmp_path, "vlm", "merge_action", [3.0, 3.0])
    write(tmp_path, "probe", "merge_action", [0.1, 0.3])
    found = measure(Measured(tmp_path, "vlm", "probe"), defaults())
    assert found.values.first_s == pytest.approx(0.2) and "of probe" in found.origins["first_s"]


def test_people_alone(tmp_path: Path) -> None:
    write(tmp_path, "person-ada", "merge_action", [8.0, 10.0])
    found = measure(Measured(tmp_path), defaults())
    assert found.values.person_s == 9 and found.values.merge_s == defaults().values.merge_s


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", "merge_action", [3.0])
    write(tmp_path, "two", "merge_action", [None])
    with pytest.raises(ConnectomeBenchError, match="models one, two; name one with --model"):
        measure(Measured(tmp_path), defaults())
    with pytest.raises(ConnectomeBenchError, match=r"unknown model in .*'three'"):
        measure(Measured(tmp_path, "three"), defaults())
    with pytest.raises(ConnectomeBenchError, match=r"two in .* hold no seconds for merge_action or split_action"):
        measure(Measured(tmp_path, "two"), defaults())
    with pytest.raises(ConnectomeBenchError, match="no model; evaluate one first"):
        measure(Measured(tmp_path, merge_task="x", split_task="y"), defaults())
