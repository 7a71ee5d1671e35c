"""Read published files that hold only totals and means."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import SPECIES
from connectomebench.reproduction.json_reading import parse, parse_collection
from connectomebench.reproduction.published_names import UNNAMED_SPECIES, task_name

_SHARES = (
    "accuracy",
    "balanced_accuracy",
    "individual_accuracy",
    "majority_accuracy",
    "ece",
    "mce",
    "brier_score",
    "cross_validated",
)
_METHODS = {
    "small_model": "resnet_small",
    "frozen_model": "resnet_frozen",
    "fully_finetuned_model": "resnet_finetuned",
    "small": "resnet_small",
    "frozen": "resnet_frozen",
    "finetuned": "resnet_finetuned",
    "vlm": "vlm",
    "vlm_derived": "vlm_derived",
    "linear_probe": "linear_probe",
}


@dataclass(frozen=True)
class Cell:
    """Metrics of one method on one task and species in one file.

    Attributes
    ----------
    file
        Path inside the folder.
    method
        ``linear_probe``, ``resnet_small``, ``resnet_frozen``, ``resnet_finetuned``, ``vlm`` or ``vlm_derived``.
    task, species
        Our names.
    values
        Numbers by the names of the file.
    """

    file: str
    method: str
    task: str
    species: str
    values: Mapping[str, float]

    @property
    def n(self) -> int | None:
        """Number of test samples, if stated."""
        value = self.values.get("total", self.values.get("test_samples"))
        return None if value is None else int(value)


@dataclass(frozen=True)
class SweepPoint:
    """A probe trained repeatedly on the same number of samples, tested on the same rows.

    Attributes
    ----------
    file, task
        Where it comes from.
    train_samples
        Rows of each training.
    n
        Rows tested.
    balanced_accuracy, accuracy, ece
        One value a repeat; balanced accuracy is the mean of the shares of both answers found.
    """

    file: str
    task: str
    train_samples: int
    n: int
    balanced_accuracy: tuple[float, ...]
    accuracy: tuple[float, ...]
    ece: tuple[float, ...]


@dataclass(frozen=True)
class TrainCount:
    """Number of training and test samples of a task in a file; None if not stated.

    ``method`` is a ResNet of `Cell`, or empty where the number is that of all training samples of the task.
    """

    file: str
    task: str
    method: str
    train_samples: int
    test_samples: int | None


@dataclass(frozen=True)
class _Repeat:
    n_train: int
    test_accuracy: float
    test_tpr: float
    test_tnr: float
    test_ece: float


@dataclass(frozen=True)
class _Sweep:
    task: str
    test_samples: int
    all_repeat_results: tuple[_Repeat, ...]


@dataclass(frozen=True)
class _Fit:
    task: str
    train_samples: int
    val_samples: int
    val_accuracy: float
    val_tpr: float
    val_tnr: float
    cross_validation: dict[str, Any] | None = None


def read_method_table(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``resnet_results.json``: task -> variant -> numbers, all of mouse.

    Parameters
    ----------
    data, file
        Content, and path inside the folder.
    left_out
        Takes one line for every entry that cannot be used.
    """
    return _cells(
        file,
        left_out,
        (
            (variant, task.removesuffix("_resnet"), UNNAMED_SPECIES, values)
            for task, variants in parse(data, dict[str, dict[str, Any]]).items()
            for variant, values in variants.items()
        ),
    )


def read_species_table(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``resnet_cross_species_results.json``: task -> species -> variant -> numbers."""
    return _cells(
        file,
        left_out,
        (
            (variant, task, species, values)
            for task, species, variants in _by_task_and_species(data)
            for variant, values in variants.items()
        ),
    )


def read_probe_table(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``linear_probe_cross_species_results.json``: task -> species -> numbers."""
    entries = (("linear_probe", task, species, values) for task, species, values in _by_task_and_species(data))
    return _cells(file, left_out, entries)


def read_calibration_table(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``calibration_cross_species_results.json``: task -> species -> variant -> numbers.

    The numbers that stand directly under a species are those of the fine-tuned ResNet-50: where an accuracy is
    beside them, :mod:`.differences` compares it with that of the other files.
    """
    entries: list[tuple[str, str, str, Any]] = []
    for task, species, content in _by_task_and_species(data):
        entries += [(name, task, species, value) for name, value in content.items() if isinstance(value, dict)]
        own = {name: value for name, value in content.items() if not isinstance(value, dict)}
        entries += [("finetuned", task, species, own)] if own else []
    return _cells(file, left_out, entries)


def read_sweep(data: bytes, file: str) -> list[SweepPoint]:
    """Read ``data_sweep_*.json``: one point per number of training samples, over all repeats."""
    stored = parse(data, _Sweep)
    task = task_name(stored.task)
    repeats: dict[int, list[_Repeat]] = {}
    for repeat in stored.all_repeat_results:
        _check_shares({name: getattr(repeat, name) for name in ("test_accuracy", "test_tpr", "test_tnr", "test_ece")})
        repeats.setdefault(repeat.n_train, []).append(repeat)
    if not repeats or min(repeats) < 1:
        raise ConnectomeBenchError("holds no repeats, or one without training samples")
    return [
        SweepPoint(
            file=file,
            task=task,
            train_samples=count,
            n=stored.test_samples,
            balanced_accuracy=tuple((r.test_tpr + r.test_tnr) / 2 for r in found),
            accuracy=tuple(r.test_accuracy for r in found),
            ece=tuple(r.test_ece for r in found),
        )
        for count, found in sorted(repeats.items())
    ]


def read_fit(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``linear_probe_*samples.json``: one probe, tested on the held-out validation rows."""
    stored = parse(data, _Fit)
    values = {
        "accuracy": stored.val_accuracy,
        "balanced_accuracy": (stored.val_tpr + stored.val_tnr) / 2,
        "total": stored.val_samples,
        "train_samples": stored.train_samples,
    }
    folds = stored.cross_validation or {}
    if {"cv_tpr_mean", "cv_tnr_mean"} <= set(folds):
        values["cross_validated"] = (folds["cv_tpr_mean"] + folds["cv_tnr_mean"]) / 2
    return _cells(file, left_out, [("linear_probe", stored.task, UNNAMED_SPECIES, values)])


@dataclass(frozen=True)
class _Transfer:
    """A probe trained on one species and tested on another."""

    task: str
    species: str
    test_samples: int
    test_accuracy: float
    test_balanced_accuracy: float
    train_species: str | None = None
    train_samples: int | None = None
    ece: float | None = None
    mce: float | None = None
    brier_score: float | None = None


def read_transfer(data: bytes, file: str, left_out: list[str]) -> list[Cell]:
    """Read ``cross_species_summary.json`` or one of its entries: a probe of mouse, tested on another species."""
    content = parse_collection(data)
    entries = []
    single = isinstance(content, dict) and "test_accuracy" in content
    for entry in [content] if single else list(content.values() if isinstance(content, dict) else content):
        stored = parse(json.dumps(entry).encode(), _Transfer)
        values: dict[str, Any] = {
            "accuracy": stored.test_accuracy,
            "balanced_accuracy": stored.test_balanced_accuracy,
            "test_samples": stored.test_samples,
            **{k: v for k in ("ece", "mce", "brier_score") if (v := getattr(stored, k)) is not None},
        }
        if stored.train_samples is not None:
            values["fitted_samples"] = stored.train_samples
        entries.append(("linear_probe", stored.task, stored.species, values))
    return _cells(file, left_out, entries)


def read_train_counts(data: bytes, file: str) -> list[TrainCount]:
    """Read ``resnet_train_samples.json`` or ``model_metadata.json``."""
    content = parse(data, dict[str, Any])
    counts = _counts(file, "", content.get("train_samples", content))
    for variant, config in parse_items(content.get("resnet_configs", {})):
        if variant in _METHODS:
            counts += _counts(file, _METHODS[variant], dict(parse_items(config)).get("train_samples", {}))
    return counts


def _counts(file: str, method: str, stored: Any) -> list[TrainCount]:
    counts: list[TrainCount] = []
    for task, value in parse_items(stored):
        entry = value if isinstance(value, dict) else {"train_samples": value}
        train, test = entry.get("train_samples"), entry.get("test_samples")
        if not isinstance(train, int) or train < 1 or not isinstance(test, int | None):
            raise ConnectomeBenchError(f"the numbers of samples of {task[:60]!r} are not whole numbers above zero")
        counts.append(TrainCount(file, task_name(task), method, train, test))
    return counts


def parse_items(value: Any) -> list[tuple[str, Any]]:
    """Return the items of a mapping; raise if it is none."""
    if not isinstance(value, dict):
        raise ConnectomeBenchError("damaged or of another shape: a mapping of tasks is expected")
    return list(value.items())


def _by_task_and_species(data: bytes) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Iterate over task -> species -> mapping, skipping empty entries."""
    for task, by_species in parse(data, dict[str, dict[str, dict[str, Any]]]).items():
        for species, content in by_species.items():
            if content:
                yield task, species, content


def _cells(file: str, left_out: list[str], entries: Iterable[tuple[str, str, str, Any]]) -> list[Cell]:
    """Build cells from (variant, task, species, numbers); unusable entries go to ``left_out``."""
    cells = []
    for variant, task, species, values in entries:
        try:
            cells.append(_cell(file, variant, task, species, values))
        except ConnectomeBenchError as error:
            left_out.append(f"{task[:60]}, {species[:60]}, {variant[:60]}: {error}")
    return cells


def _cell(file: str, variant: str, task: str, species: str, values: Any) -> Cell:
    if variant not in _METHODS:
        raise ConnectomeBenchError("unknown method")
    if species not in SPECIES:
        raise ConnectomeBenchError("unknown species")
    numbers = {}
    for name, value in parse_items(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ConnectomeBenchError(f"{name[:60]} is not a number of at least zero")
        numbers[name] = float(value)
    _check_shares({name: value for name, value in numbers.items() if name in _SHARES})
    return Cell(file, _METHODS[variant], task_name(task), species, numbers)


def _check_shares(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConnectomeBenchError(f"{name} is {value:g}, outside [0, 1]")
