"""Read per-sample outputs of image networks: confidence, prediction and label of every row."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction.checkpoints import parse_checkpoint
from connectomebench.reproduction.json_reading import parse
from connectomebench.reproduction.published_names import species_name, task_in
from connectomebench.reproduction.published_records import PublishedSample, Run

_STATED = ("ece", "mce", "brier_score")


@dataclass(frozen=True)
class _Outputs:
    """The outputs of one checkpoint; 1 stands for yes. Confidences are those of the prediction."""

    confidences: tuple[float, ...]
    predictions: tuple[int | bool, ...]
    labels: tuple[int | bool, ...]
    checkpoint_path: str = ""
    task_name: str | None = None
    model_name: str = ""
    dataset_path: str | None = None
    accuracy: float | None = None
    metrics: dict[str, Any] | None = None


def read_network_outputs(data: bytes, file: str, left_out: list[str]) -> list[Run]:
    """Read a file of outputs: one checkpoint, or a mapping of several.

    Samples are only numbered in such files, so that each is a group of its own; numbers of two checkpoints mean the
    same rows where task and labels are equal.

    Parameters
    ----------
    data, file
        Content, and path inside the folder.
    left_out
        Takes one line for every checkpoint that cannot be used.

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged.
    """
    content = parse(data, dict[str, Any])
    entries = {"": content} if "confidences" in content else content
    runs = []
    for key, entry in entries.items():
        try:
            runs.append(_run(key, entry, file))
        except ConnectomeBenchError as error:
            left_out.append(f"{key[:80]}: {error}")
    return runs


def _run(key: str, entry: Any, file: str) -> Run:
    stored = parse(json.dumps(entry).encode(), _Outputs)
    n = len(stored.labels)
    if not n or not len(stored.confidences) == len(stored.predictions) == n:
        raise ConnectomeBenchError("holds no rows, or not as many confidences and predictions as labels")
    if not {*stored.labels, *stored.predictions} <= {0, 1}:
        raise ConnectomeBenchError("a label or prediction is neither 0 (no) nor 1 (yes)")
    if not all(0 <= c <= 1 for c in stored.confidences):
        raise ConnectomeBenchError("a confidence lies outside [0, 1]")
    checkpoint = parse_checkpoint(stored.checkpoint_path or key, stored.model_name)
    stated = {"accuracy": stored.accuracy} if stored.accuracy is not None else {}
    stated |= {k: v for k in _STATED if isinstance(v := (stored.metrics or {}).get(k), int | float)}
    if any(not math.isfinite(value) for value in stated.values()):
        raise ConnectomeBenchError("a stated number is not finite")
    rows = zip(stored.labels, stored.predictions, stored.confidences, strict=True)
    samples = tuple(
        PublishedSample(f"number-{number}", f"sample-number-{number}", bool(label), (bool(answer),), confidence=value)
        for number, (label, answer, value) in enumerate(rows)
    )
    return Run(
        file=file,
        model=checkpoint.method,
        revision=checkpoint.name,
        task=task_in(stored.task_name, checkpoint.name),
        species=species_name(stored.dataset_path or "", checkpoint.name),
        partition="test" if "_test" in checkpoint.name else "unstated",
        source=stored.dataset_path or "",
        votes=1,
        states_confidence=False,
        samples=samples,
        stated={key: float(value) for key, value in stated.items()},
        is_network=True,
    )
