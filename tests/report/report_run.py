"""A small dataset folder with results, as a build and an evaluation leave them behind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from connectomebench.core.files import write_json
from connectomebench.core.tasks import get_task
from connectomebench.evaluation.results import result_path, write_results

SPECIES = "fly"
FINGERPRINT = "0123456789abcdef0123456789abcdef"
SIZES = {"train": 60, "validation": 12, "test": 40}
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)
TASK_NAMES = ("merge_action", "endpoint_error_identification_with_em")


def png(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], em: bool, size: int = 96) -> bytes:
    """Draw neurites as thick lines, or noise with an outline where a slice is wanted."""
    if em:
        noise = rng.normal(150, 25, (size // 4, size // 4)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
        centre, radius = size / 2, size * rng.uniform(0.1, 0.25)
        box = (centre - radius, centre - radius * 0.8, centre + radius, centre + radius * 0.8)
        ImageDraw.Draw(picture).ellipse(box, outline=(86, 180, 233), width=3)
    else:
        picture = Image.new("RGB", (size, size), "white")
        draw = ImageDraw.Draw(picture)
        for colour in colours:
            steps = np.cumsum(rng.normal(0, size / 14, (12, 2)) + rng.normal(0, size / 20, 2), axis=0) + size / 2
            draw.line([tuple(p) for p in steps.tolist()], fill=colour, width=int(rng.integers(4, 12)), joint="curve")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def rows(task: str, partition: str, seed: int) -> list[dict[str, Any]]:
    """Rows of one partition in the columns that are stored; three samples a group."""
    rng = np.random.default_rng(seed)
    info = get_task(task)
    colours = (BLUE, ORANGE) if len(info.roles) == 2 else (BLUE,)
    result = []
    for i in range(SIZES[partition]):
        answer = info.labels[i % 2]
        segment = 2**60 + seed * 1000 + i // 3
        result.append(
            {
                "sample_id": f"{seed:04x}{i:012x}",
                "task": task,
                "species": SPECIES,
                "images": [{"bytes": png(rng, colours, v.startswith("em_")), "path": None} for v in info.views],
                "views": list(info.views),
                "question": info.question,
                "answer": answer,
                "label": info.labels.index(answer),
                "target_nm": [],
                "location_nm": rng.uniform(0, 9000, 3).tolist(),
                "extent_nm": 2000.0,
                "segment_ids": [segment],
                "body_ids": [segment],
                "group": f"segment-{segment}",
                "origin": "simulated",
                "edit_id": None,
                "edit_time": None,
                "source": "hemibrain-neurons",
                "source_version": "1",
            }
        )
    return result


def write_answers(folder: Path, task: str, model: str, samples: list[dict[str, Any]], skill: float, seed: int) -> None:
    """Write result records of a model that is right as often as `skill` says."""
    rng = np.random.default_rng(seed)
    records = []
    for sample in samples:
        towards = 1 if sample["answer"] == "yes" else -1
        right = rng.random() < skill
        probability = float(1 / (1 + np.exp(-towards * (1 if right else -1) * rng.uniform(0.2, 2.5))))
        records.append(
            {
                "sample_id": sample["sample_id"],
                "task": task,
                "species": SPECIES,
                "partition": "test",
                "model": model,
                "model_revision": "1",
                "dataset_fingerprint": FINGERPRINT,
                "code_version": "0.1.0",
                "question": sample["question"],
                "prediction": "yes" if probability >= 0.5 else "no",
                "probability": probability,
                "answer": sample["answer"],
                "group": sample["group"],
                "latency_s": 0.01,
            }
        )
    write_results(result_path(folder, model, task, SPECIES, "test"), records)


def manifest(task: str) -> dict[str, Any]:
    """Plain values as the build writes them."""
    source = {
        "name": "hemibrain-neurons",
        "version": "1",
        "simulated_errors": True,
        "simulated_em": True,
        "license": "cc-by-4.0",
        "citation": "Scheffer et al. (2020).",
    }
    return {
        "task": task,
        "species": {
            SPECIES: {
                "fingerprint": FINGERPRINT,
                "versions": {"numpy": "2.4.6", "zmesh": "1.15.0"},
                "source": source,
                "config": {"partition": {"group_by": "segment", "cube_nm": 20000.0}},
                "candidates": {"candidates": 312, "corrections": 90, "recall": 0.9, "precision": None},
                "dropped": {"labels": {"at the border of the data": 17, "never": 0}, "partition": {"<b>odd</b>": 3}},
                "partition": {"bodies": 5, "bodies_shared": 5},
                "leaks": {"segments": 0, "places": 0, "pictures": 0},
            }
        },
    }


def write_dataset(folder: Path, task: str, seed: int, datasets: Any) -> None:
    """Write the three partitions of a task as Parquet with the features of the stored row."""
    info = get_task(task)
    uint64s, point = datasets.List(datasets.Value("uint64")), datasets.List(datasets.Value("float64"))
    text = datasets.Value("string")
    features = datasets.Features(
        {name: text for name in ("sample_id", "task", "species", "question", "answer", "group", "origin", "edit_id")}
        | {"images": datasets.List(datasets.Image()), "views": datasets.List(text)}
        | {"label": datasets.ClassLabel(names=list(info.labels)), "target_nm": datasets.List(point)}
        | {"location_nm": point, "extent_nm": datasets.Value("float64"), "segment_ids": uint64s, "body_ids": uint64s}
        | {"edit_time": datasets.Value("timestamp[ms]"), "source": text, "source_version": text}
    )
    for offset, partition in enumerate(SIZES):
        path = folder / SPECIES / f"{partition}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows(task, partition, seed + offset), features=features).to_parquet(path)


def write_run(out: Path) -> Path:
    """Write two datasets, their manifests, and results of the probe and both baselines."""
    import datasets

    for number, task in enumerate(TASK_NAMES):
        write_dataset(out / task, task, 10 * number + 1, datasets)
        write_json(out / task / "manifest.json", manifest(task))
        test = rows(task, "test", 10 * number + 3)
        for model, skill in {"probe": 0.9, "trivial": 0.55, "grey": 0.5}.items():
            write_answers(out / "results", task, model, test, skill, seed=number)
    return out
