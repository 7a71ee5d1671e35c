"""Result records of models that are right as often as one says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectomebench.evaluation.results import DEFAULT, KEYS, result_path, write_results


def records(model: str = "probe", rows: int = 40, skill: float = 0.8, seed: int = 0, **changes):
    """Rows of one result file; truth and groups do not depend on the model."""
    truth = np.random.default_rng(99).integers(0, 2, rows)
    generator = np.random.default_rng(seed)
    said = np.where(generator.random(rows) < skill, truth, 1 - truth)
    probability = np.where(said == 1, 0.5 + generator.random(rows) / 2, generator.random(rows) / 2)
    names = np.array(["no", "yes"])
    return [
        {
            "sample_id": f"s{i:03d}",
            "task": "merge_action",
            "species": "fly",
            "partition": "test",
            "model": model,
            "model_revision": "abc",
            "dataset_fingerprint": "f00d",
            "code_version": "0.1.0",
            "question": "Should these two segments be merged?",
            "prediction": str(names[said[i]]),
            "probability": float(probability[i]),
            "answer": str(names[truth[i]]),
            "group": f"body{i // 2}",
            "latency_s": 0.01,
            **changes,
        }
        for i in range(rows)
    ]


def write(folder: Path, rows) -> Path:
    """Write rows of one model, place and condition where they belong."""
    first = {"condition": DEFAULT} | rows[0]
    return write_results(result_path(folder, *(first[key] for key in KEYS)), rows)
