"""A small run of tasks that ask for a place and for masks, as the quickstart leaves it behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mask_rows import row as mask_row
from report_run import BLUE, FINGERPRINT, SPECIES, manifest, png

from connectomebench.core.files import write_json
from connectomebench.core.places import PlaceAnswer, list_nodes, write_places
from connectomebench.core.task_explanations import MASK_RULES, NODE_RULES
from connectomebench.core.tasks import get_task
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.schema import features
from connectomebench.evaluation.results import result_path, write_results
from connectomebench.evaluation.true_answers import true_answers
from connectomebench.models.mask_baselines import MaskBaseline
from connectomebench.models.place_baselines import PlaceBaseline

PLACES, MASKS = "endpoint_localization", "split_mask_generation"
SIZES = {"train": 4, "validation": 2, "test": 8}


def place_row(number: int) -> dict[str, Any]:
    """A row with four nodes; the second is nearest to the true place."""
    rng = np.random.default_rng(number)
    task = get_task(PLACES)
    nodes = [tuple(node) for node in rng.uniform(-900, 900, (4, 3)).round().tolist()]
    true = tuple(np.add(nodes[1], 20.0).tolist())
    return {
        "sample_id": f"{number:016x}",
        "task": PLACES,
        "species": SPECIES,
        "images": [{"bytes": png(rng, (BLUE,), em=False), "path": None} for _ in task.views],
        "views": list(task.views),
        "question": f"{task.question}\n{list_nodes(nodes, (0.0, 0.0, 0.0))}",
        "answer": write_places(PlaceAnswer((true,))),
        "label": None,
        "target_nm": [list(true)],
        "choices": [],
        "target_images": [],
        "location_nm": [0.0, 0.0, 0.0],
        "extent_nm": 2000.0,
        "second_place": [],
        "segment_ids": [number],
        "body_ids": [number],
        "group": f"segment-{number // 2}",
        "origin": "simulated",
        "edit_id": None,
        "edit_time": None,
        "source": "hemibrain-neurons",
        "source_version": "1",
    }


def _answers(rows: list[dict[str, Any]], model: str) -> list[str | None]:
    """Answers of a rule, or of a model that is right in every row but one."""
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    if model in NODE_RULES:
        return [answer.prediction for answer in PlaceBaseline(model).predict(batch)]
    if model in MASK_RULES:
        return [answer.prediction for answer in MaskBaseline(model).predict(batch)]
    return [None, *([row["answer"] for row in rows[1:]] if rows[0]["task"] == PLACES else true_answers(batch)[1:])]


def write_scored_run(out: Path) -> Path:
    """Write both datasets, their manifests, and results of a model and two rules."""
    import datasets

    for task, make, models in (
        (PLACES, place_row, ("probe", *NODE_RULES)),
        (MASKS, mask_row, ("mask_unet", *MASK_RULES)),
    ):
        start = 0
        for partition, size in SIZES.items():
            rows = [make(number) | {"origin": "simulated"} for number in range(start, start + size)]
            start += size
            path = out / task / SPECIES / f"{partition}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_list(rows, features=features(get_task(task))).to_parquet(path)
        write_json(out / task / "manifest.json", {"format_version": FORMAT_VERSION, **manifest(task)})
        truth = true_answers({name: [row[name] for row in rows] for name in rows[0]})
        for model in models:
            records = [
                {name: row[name] for name in ("sample_id", "task", "species", "question", "group")}
                | {"partition": "test", "model": model, "model_revision": "1", "dataset_fingerprint": FINGERPRINT}
                | {"code_version": "0.1.0", "prediction": prediction, "answer": answer, "latency_s": 0.01}
                for row, prediction, answer in zip(rows, _answers(rows, model), truth, strict=True)
            ]
            write_results(result_path(out / "results", model, task, SPECIES, "test"), records)
    return out
