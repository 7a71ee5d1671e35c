"""Read per-sample answers of models: published files ``eval_*.json``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction.json_reading import parse
from connectomebench.reproduction.published_names import (
    groups,
    identify,
    model_name,
    plain_name,
    species_name,
    task_name,
)
from connectomebench.reproduction.published_records import PublishedSample, Run


@dataclass(frozen=True)
class _Prediction:
    """One published sample; ``None`` among the answers marks an unparsed reply."""

    sample_idx: int
    ground_truth: bool
    all_predictions: tuple[bool | None, ...]
    all_responses: tuple[str | None, ...]
    sample_id: Any = None
    image_paths: tuple[str, ...] | None = None
    confidence: float | None = None
    all_derived_answers: tuple[bool | None, ...] | None = None


@dataclass(frozen=True)
class _Evaluation:
    """One published file."""

    task_name: str
    model: str
    num_votes: int
    predictions: tuple[_Prediction, ...]
    split: str = "unstated"
    dataset_source: str = ""
    timestamp: str = ""
    num_samples: int | None = None
    accuracy: float | None = None
    majority_accuracy: float | None = None
    individual_accuracy: float | None = None
    total_individual_responses: int | None = None
    total_individual_correct: int | None = None
    derived_accuracy: float | None = None
    calibration: dict[str, Any] | None = None


_STATED = (
    "num_samples",
    "accuracy",
    "majority_accuracy",
    "individual_accuracy",
    "total_individual_responses",
    "total_individual_correct",
    "derived_accuracy",
)


def read_replies(data: bytes, file: str) -> Run:
    """Read one ``eval_*.json``.

    Parameters
    ----------
    data
        Content of the file.
    file
        Its path inside the folder, for messages and for the species it may name.

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged, holds no samples, fewer or more votes than stated, or a confidence outside [0, 1].
    """
    stored = parse(data, _Evaluation)
    if not stored.predictions:
        raise ConnectomeBenchError("holds no samples")
    if stored.num_samples not in (None, len(stored.predictions)):
        raise ConnectomeBenchError(f"says {stored.num_samples} samples and holds {len(stored.predictions)}")
    for number, entry in enumerate(stored.predictions):
        if not len(entry.all_predictions) == len(entry.all_responses) == stored.num_votes > 0:
            raise ConnectomeBenchError(f"sample {number} does not hold the {stored.num_votes} votes that the file says")
        if entry.confidence is not None and not 0 <= entry.confidence <= 1:
            raise ConnectomeBenchError(f"the confidence of sample {number} lies outside [0, 1]")
    known = [p.sample_id if isinstance(p.sample_id, dict) else {} for p in stored.predictions]
    names = [identify(k, p.image_paths, p.sample_idx) for k, p in zip(known, stored.predictions, strict=True)]
    model, revision = model_name(stored.model)
    stated = {name: float(value) for name in _STATED if (value := getattr(stored, name)) is not None}
    measured = {k: v for k, v in (stored.calibration or {}).items() if isinstance(v, int | float)}
    stated |= {f"calibration_{key}": float(value) for key, value in measured.items()}
    if wrong := next((key for key, value in stated.items() if not math.isfinite(value)), None):
        raise ConnectomeBenchError(f"{wrong} is not a finite number")
    return Run(
        file=file,
        model=model,
        revision=f"{revision} {stored.timestamp}".strip(),
        task=task_name(stored.task_name),
        species=species_name(stored.dataset_source, PurePosixPath(file).name),
        partition=plain_name(stored.split, "the partition"),
        source=stored.dataset_source,
        votes=stored.num_votes,
        states_confidence=any(p.confidence is not None for p in stored.predictions),
        samples=tuple(
            PublishedSample(
                name.sample_id,
                group,
                p.ground_truth,
                p.all_predictions,
                tuple(reply or "" for reply in p.all_responses),
                p.all_derived_answers or (),
                p.confidence,
            )
            for name, group, p in zip(names, groups(names), stored.predictions, strict=True)
        ),
        stated=stated,
    )
