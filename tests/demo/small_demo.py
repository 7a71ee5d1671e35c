"""A small folder of datasets, result records and models, as the demo reads it."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from place_rows import partition_place_rows
from stored_rows import partition_rows, write_dataset
from swept_tubes import CENTER, EXTENT, crossing_tubes

from connectomebench.dataset.rows import DataRecord
from connectomebench.dataset.scene_shards import RowScenes, scenes_path, write_scenes
from connectomebench.evaluation.results import result_path, write_results
from connectomebench.models.model_record import ModelRecord, write_record
from connectomebench.rendering.colours import BLUE, ORANGE
from connectomebench.rendering.scene_file import write_scene

TASKS = ("merge_action", "endpoint_error_identification_with_em", "split_action", "split_mask_generation")
PLACES = ("endpoint_localization", "split_proposal")
REPLY = "<img src=x onerror=alert(1)> Because & so."
# P(yes) of the two models on the test rows, whose answers are no, yes, no, yes
PROBE = (0.1, 0.9, 0.2, 0.3)
TALKER = ("yes", "yes", "no", None)


def free_port() -> int:
    """Find a port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def evaluated_rows(task: str = "merge_action") -> list[dict[str, Any]]:
    return partition_rows(task)["test"]


def _records(model: str, fingerprint: str, answered: list[tuple[str | None, float | None, str | None]]) -> list[dict]:
    return [
        {
            "sample_id": row["sample_id"],
            "task": row["task"],
            "species": row["species"],
            "partition": "test",
            "model": model,
            "model_revision": "r1",
            "dataset_fingerprint": fingerprint,
            "code_version": "0",
            "question": row["question"],
            "prediction": prediction,
            "probability": probability,
            "answer": row["answer"],
            "group": row["group"],
            "reply": reply,
            "latency_s": 0.5,
        }
        for row, (prediction, probability, reply) in zip(evaluated_rows(), answered, strict=True)
    ]


def make_demo_folder(out: Path) -> Path:
    """Write small datasets, records of two models about one of them, and of one about other data."""
    for task in TASKS:
        write_dataset(out, task)
    for task in PLACES:
        write_dataset(out, task, rows=partition_place_rows(task))
    meshes = crossing_tubes()
    scene = write_scene(meshes, [("base", ""), ("candidate", "")], [BLUE, ORANGE], CENTER, EXTENT)
    names = [("body", "31"), ("body", "32"), ("hidden segment 1", "41"), ("hidden segment 2", "42")]
    truth = write_scene(
        [*meshes, *meshes],
        names,
        [BLUE, ORANGE, (140, 144, 152), (140, 144, 152)],
        CENTER,
        9000.0,
        "They are two neurons.",
    )
    scenes = [RowScenes(row["sample_id"], scene, truth) for row in evaluated_rows()]
    write_scenes(scenes_path(out / "merge_action", "fly", "test"), scenes)
    path = result_path(out / "results", "probe", "merge_action", "fly", "test")
    write_results(path, _records("probe", "f" * 32, [("yes" if p > 0.5 else "no", p, None) for p in PROBE]))
    path = result_path(out / "results", "organisation/talker-8b-instruct", "merge_action", "fly", "test")
    write_results(path, _records("organisation/talker-8b-instruct", "f" * 32, [(said, None, REPLY) for said in TALKER]))
    path = result_path(out / "results", "stale", "merge_action", "fly", "test")
    write_results(path, _records("stale", "e" * 32, [("no", 0.5, None)] * 4))
    seen = DataRecord("merge_action", "fly", "train", None, None, "f" * 32, {"no": 4, "yes": 4}, {})
    record = ModelRecord("probe", "probe", "r1", "merge_action", None, None, {}, (seen,), {})
    for model in (record, replace(record, name="other")):
        folder = out / "models" / model.name / "merge_action" / "fly"
        folder.mkdir(parents=True)
        write_record(folder, model)
    return out
