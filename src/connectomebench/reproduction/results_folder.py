"""Read a folder of published results and list what was read or skipped."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction import aggregates, people, replies
from connectomebench.reproduction.aggregates import Cell, SweepPoint, TrainCount
from connectomebench.reproduction.json_reading import read_bytes
from connectomebench.reproduction.published_records import Run

Part = Run | Cell | SweepPoint | TrainCount
Reader = Callable[[bytes, str, list[str]], Sequence[Part]]


def _read_all(read: Callable[[bytes, str], Sequence[Part]]) -> Reader:
    """Wrap a reader that reads a file completely or fails."""
    return lambda data, file, left_out: read(data, file)


READERS: tuple[tuple[str, Reader], ...] = (
    ("eval_*.json", _read_all(lambda data, file: [replies.read_replies(data, file)])),
    ("human_eval_*.json", _read_all(people.read_sitting)),
    ("data_sweep_*.json", _read_all(aggregates.read_sweep)),
    ("linear_probe_cross_species_results.json", aggregates.read_probe_table),
    ("linear_probe_*samples.json", aggregates.read_fit),
    ("resnet_results.json", aggregates.read_method_table),
    ("resnet_cross_species_results.json", aggregates.read_species_table),
    ("calibration_cross_species_results.json", aggregates.read_calibration_table),
    ("resnet_train_samples.json", _read_all(aggregates.read_train_counts)),
    ("model_metadata.json", _read_all(aggregates.read_train_counts)),
)
"""Names of files and who reads them; the first name that fits counts."""


@dataclass(frozen=True)
class ResultFile:
    """One file of the folder.

    Attributes
    ----------
    name
        Path inside the folder.
    sha256
        Hex digest; empty where the file could not be read.
    state
        What was read of it, or why nothing was.
    used
        False where nothing was read.
    """

    name: str
    sha256: str
    state: str
    used: bool


@dataclass(frozen=True)
class Published:
    """All content that was read.

    Attributes
    ----------
    runs
        Answers to single samples, of models and of people; every combination of model, task, species, partition and
        condition occurs once.
    cells, sweeps, counts
        Totals and means.
    files
        Every JSON file of the folder, sorted by name.
    """

    runs: tuple[Run, ...] = ()
    cells: tuple[Cell, ...] = ()
    sweeps: tuple[SweepPoint, ...] = ()
    counts: tuple[TrainCount, ...] = ()
    files: tuple[ResultFile, ...] = field(default=())


def read_published(folder: Path) -> Published:
    """Read a folder of published results.

    A damaged or unknown file, or a link out of the folder, is skipped with its reason.

    Raises
    ------
    ConnectomeBenchError
        If there is no such folder, or nothing in it can be read as published results.
    """
    if not folder.is_dir():
        raise ConnectomeBenchError(f"there is no folder {folder}; give the folder that holds the published results")
    parts: list[Part] = []
    files = []
    for path in sorted(p for p in folder.rglob("*.json") if not p.is_dir()):
        file, found = _read(path, folder)
        parts += found
        files.append(file)
    if not parts:
        raise ConnectomeBenchError(f"{folder} holds no published results (eval_*.json and others, see the docs)")
    return Published(
        runs=_unique_runs([part for part in parts if isinstance(part, Run)]),
        cells=tuple(part for part in parts if isinstance(part, Cell)),
        sweeps=tuple(part for part in parts if isinstance(part, SweepPoint)),
        counts=tuple(part for part in parts if isinstance(part, TrainCount)),
        files=tuple(files),
    )


def _read(path: Path, folder: Path) -> tuple[ResultFile, Sequence[Part]]:
    name = path.relative_to(folder).as_posix()
    digest = ""
    left_out: list[str] = []
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ConnectomeBenchError("a link that leads out of the folder")
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        reader = next((read for pattern, read in READERS if fnmatch.fnmatchcase(path.name, pattern)), None)
        if reader is None:
            raise ConnectomeBenchError("no known name of a file of results")
        found = reader(data, name, left_out)
        _check_unique(found)
    except ConnectomeBenchError as error:
        return ResultFile(name, digest, f"left out: {error}", used=False), ()
    state = "; left out: ".join([_summary(found), *left_out])
    return ResultFile(name, digest, state, used=bool(found)), found


def _check_unique(found: Sequence[Part]) -> None:
    for part in found:
        if isinstance(part, Run) and len({s.sample_id for s in part.samples}) < len(part.samples):
            raise ConnectomeBenchError("names a sample twice")


def _summary(found: Sequence[Part]) -> str:
    runs = [part for part in found if isinstance(part, Run)]
    if runs:
        people_ = f" by {len(runs)} people" if len(runs) > 1 else ""
        return f"{len(runs[0].samples)} samples, {runs[0].votes} answer{'s' if runs[0].votes > 1 else ''} each{people_}"
    kinds = {Cell: "groups of totals", SweepPoint: "points of a sweep", TrainCount: "numbers of training samples"}
    return f"{len(found)} {kinds[type(found[0])]}" if found else "nothing in it"


def _unique_runs(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Mark test samples in all files, and give every run a unique name.

    A file marked ``all`` holds test samples where every one of them occurs in a file of the same task marked
    ``test``. Of runs that would share one file of records, later ones (by name of their file) get ``-2`` and so on
    behind their model.
    """
    tested: dict[str, set[str]] = {}
    for run in runs:
        if run.partition == "test" and not _has_only_numbers(run):
            tested.setdefault(run.task, set()).update(s.sample_id for s in run.samples)
    placed: dict[tuple[str, ...], int] = {}
    result = []
    for run in runs:
        if run.partition == "all" and {s.sample_id for s in run.samples} <= tested.get(run.task, set()):
            run = replace(run, partition="test")
        key = (run.model, run.task, run.species, run.partition, run.main_condition)
        placed[key] = placed.get(key, 0) + 1
        result.append(run if placed[key] == 1 else replace(run, model=f"{run.model}-{placed[key]}"))
    return tuple(result)


def _has_only_numbers(run: Run) -> bool:
    """Return whether samples are identified only by their number in the file."""
    return all(s.sample_id.startswith("number-") for s in run.samples)
