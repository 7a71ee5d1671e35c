"""What a second quickstart leaves as it is, and how tasks come to the workers."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectomebench import quickstart as module
from connectomebench.build.config import load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.task_explanations import COMPARED_MODELS
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.evaluation.results import result_path

TASK = "merge_action"


def test_a_task_is_learnt_when_all_records_are_of_its_rows_and_scores_stand_in_its_manifest(
    built: Path, tmp_path: Path
) -> None:
    folder = tmp_path / TASK
    assert not module._is_learnt(TASK, "fly", tmp_path)  # no dataset
    folder.mkdir()
    manifest = read_manifest(built / TASK)
    entry = manifest["species"]["fly"]

    def write_manifest() -> None:
        (folder / FILE_NAME).write_text(json.dumps(manifest), encoding="utf-8")

    def write_records(name: str, fingerprint: str) -> None:
        path = result_path(tmp_path / "results", name, TASK, "fly", "test")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"dataset_fingerprint": [fingerprint]}), path)

    write_manifest()
    for name in COMPARED_MODELS["exact"]:
        assert not module._is_learnt(TASK, "fly", tmp_path)
        write_records(name, entry["fingerprint"])
    assert not module._is_learnt(TASK, "fly", tmp_path)  # scores are missing
    entry |= {"baselines": [], "cues": []}
    write_manifest()
    assert module._is_learnt(TASK, "fly", tmp_path)
    assert not module._is_learnt(TASK, "mouse", tmp_path)
    write_records("probe", "of other rows")
    assert not module._is_learnt(TASK, "fly", tmp_path)


def test_each_dataset_goes_to_a_worker_masks_first_and_an_error_of_one_stops_the_run(
    built: Path, small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    config = load_config(small_config)
    sent: list[tuple[dict[str, str], float]] = []
    problem: list[ConnectomeBenchError] = []

    @contextmanager
    def record(function: str, workers: int, threads: int, prepare: str) -> Any:
        assert (function, prepare) == ("connectomebench.quickstart:learn", "connectomebench.quickstart:prepare")
        assert (workers, threads) == (2, 3)

        def submit(arguments: dict[str, str], rank: float) -> Future[None]:
            sent.append((arguments, rank))
            future: Future[None] = Future()
            if problem:
                future.set_exception(problem[0])
            else:
                future.set_result(None)
            return future

        yield submit

    def build_with_masks(*arguments: Any, written: Any) -> dict[str, Path]:
        folders = build_datasets(*arguments, written=written)
        masks = {"split_mask_generation": out / "split_mask_generation"}  # a task that the small build lacks
        written(*next(iter(masks.items())))
        return folders | masks

    monkeypatch.setattr(module, "open_workers", record)
    monkeypatch.setattr(module, "build_datasets", build_with_masks)
    folders = module._build_and_learn(config, out, small_config.parent, 2, 3)
    assert [arguments for arguments, _ in sent] == [
        {"task": task, "folder": str(folder), "species": "fly", "out": str(out)} for task, folder in folders.items()
    ]
    first = min(sent, key=lambda call: call[1])
    assert first[0]["task"] == "split_mask_generation"
    assert len({rank for _, rank in sent}) == 2
    problem.append(ConnectomeBenchError("lost"))
    with pytest.raises(ConnectomeBenchError, match=r"^lost$"):
        module._build_and_learn(config, out, small_config.parent, 2, 3)
