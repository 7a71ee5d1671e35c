"""Run a model on a partition and keep one record a row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from connectomebench import __version__
from connectomebench.evaluation.results import write_results
from connectomebench.models.base import Model

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 32


def evaluate_model(model: Model, dataset: Dataset, partition: str, fingerprint: str, path: Path) -> Path:
    """Ask a model about every row of a partition and write the result records.

    Parameters
    ----------
    model
        Any of our models.
    dataset
        Rows as stored, one task and species.
    partition
        Name of the partition the rows come from.
    fingerprint
        Of the dataset, from its manifest.
    path
        Parquet file to write; written whole or not at all.

    Returns
    -------
    Path
        ``path``.
    """
    return write_results(path, _records(model, dataset, partition, fingerprint))


def _records(model: Model, dataset: Dataset, partition: str, fingerprint: str) -> Iterator[dict[str, Any]]:
    with tqdm(total=len(dataset), desc=f"evaluate {model.name}", unit="row", leave=False, delay=1) as bar:
        for start in range(0, len(dataset), BATCH_ROWS):
            batch = dataset[start : start + BATCH_ROWS]
            rows = len(batch["sample_id"])
            began = time.perf_counter()
            answers = model.predict(batch)
            seconds = (time.perf_counter() - began) / rows
            for i, answer in enumerate(answers):
                yield {
                    "sample_id": batch["sample_id"][i],
                    "task": batch["task"][i],
                    "species": batch["species"][i],
                    "partition": partition,
                    "model": model.name,
                    "model_revision": model.revision,
                    "dataset_fingerprint": fingerprint,
                    "code_version": __version__,
                    "question": batch["question"][i],
                    "prediction": answer.prediction,
                    "probability": answer.probabilities.get("yes"),
                    "answer": batch["answer"][i],
                    "group": batch["group"][i],
                    "latency_s": seconds,
                }
            bar.update(rows)
