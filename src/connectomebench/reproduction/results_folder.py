"""Read a folder of published results and list what was read or skipped."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction import aggregates, checkpoints, network_outputs, people, replies
from connectomebench.reproduction.aggregates import Cell, SweepPoint, TrainCount
from connectomebench.reproduction.checkpoints import CheckpointScore, name_trainings, parse_checkpoint
from connectomebench.reproduction.json_reading import parse_collection, read_bytes
from connectomebench.reproduction.published_records import Run

Part = Run | Cell | SweepPoint | TrainCount | CheckpointScore
Reader = Callable[[bytes, str, list[str]], Sequence[Part]]


def _read_all(read: Callable[[bytes, str], Sequence[Part]]) -> Reader:
    """Wrap a reader that reads a file completely or fails."""
    return lambda data, file, left_out: read(data, file)


READERS: tuple[tuple[str, Reader], ...] = (
    ("eval_*.json", _read_all(lambda data, file: [replies.read_replies(data, file)])),
    ("human_eval_*.json", _read_all(people.read_sitting)),
    ("data_sweep_*.json", _read_all(aggregates.read_sweep)),
    ("linear_probe_cross_species_results*.json", aggregates.read_probe_table),
    ("linear_probe_*samples.json", aggregates.read_fit),
    ("resnet_results*.json", aggregates.read_method_table),
    ("resnet_cross_species_results*.json", aggregates.read_species_table),
    ("calibration_cross_species_results*.json", aggregates.read_calibration_table),
    ("resnet_train_samples.json", _read_all(aggregates.read_train_counts)),
    ("model_metadata.json", _read_all(aggregates.read_train_counts)),
)
"""Names of files and who reads them; the first name that fits counts."""

CONTENTS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset({"task_name", "predictions", "num_votes"}), READERS[0][1]),
    (frozenset({"task_name", "responses"}), READERS[1][1]),
    (frozenset({"task", "all_repeat_results"}), READERS[2][1]),
    (frozenset({"checkpoint", "balanced_accuracy", "total"}), _read_all(checkpoints.read_checkpoint_score)),
    (frozenset({"confidences", "predictions", "labels"}), network_outputs.read_network_outputs),
    (frozenset({"task", "species", "test_balanced_accuracy"}), aggregates.read_transfer),
    (frozenset({"task", "val_tpr", "val_tnr"}), aggregates.read_fit),
)
"""Fields of a file, or of all its entries, and who reads it; for files of other names, the first that fits counts."""


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
    checkpoints
        Accuracies of single networks.
    files
        Every JSON file of the folder, sorted by name.
    programs
        Whether the folder holds programs (Python files or notebooks).
    """

    runs: tuple[Run, ...] = ()
    cells: tuple[Cell, ...] = ()
    sweeps: tuple[SweepPoint, ...] = ()
    counts: tuple[TrainCount, ...] = ()
    checkpoints: tuple[CheckpointScore, ...] = ()
    files: tuple[ResultFile, ...] = field(default=())
    programs: bool = False


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
    cells = tuple(part for part in parts if isinstance(part, Cell))
    scores = [part for part in parts if isinstance(part, CheckpointScore)]
    scores = [replace(s, checkpoint=name_trainings(s.checkpoint, s.task, cells, scores)) for s in scores]
    runs = [_with_training(part, cells, scores) for part in parts if isinstance(part, Run)]
    return Published(
        runs=_unique_runs(runs),
        cells=cells,
        checkpoints=tuple(scores),
        programs=any(next(folder.rglob(pattern), None) is not None for pattern in ("*.py", "*.ipynb")),
        sweeps=tuple(part for part in parts if isinstance(part, SweepPoint)),
        counts=tuple(part for part in parts if isinstance(part, TrainCount)),
        files=tuple(files),
    )


def _with_training(run: Run, cells: Sequence[Cell], scores: Sequence[CheckpointScore]) -> Run:
    """Name a network after its training where the totals show it."""
    if not run.is_network:
        return run
    checkpoint = parse_checkpoint(run.revision)
    return (
        run if checkpoint.training else replace(run, model=name_trainings(checkpoint, run.task, cells, scores).method)
    )


def _reader_of(name: str, data: bytes) -> Reader | None:
    """Return who reads a file, by its name or else by its fields."""
    if named := next((read for pattern, read in READERS if fnmatch.fnmatchcase(name, pattern)), None):
        return named
    content = parse_collection(data)
    entries = content if isinstance(content, list) else list(content.values())
    fields = [set(e) if isinstance(e, dict) else set() for e in entries]
    shared = set.intersection(*fields) if fields else set()
    own = set(content) if isinstance(content, dict) else set()
    return next((read for wanted, read in CONTENTS if wanted <= own or wanted <= shared), None)


def _read(path: Path, folder: Path) -> tuple[ResultFile, Sequence[Part]]:
    name = path.relative_to(folder).as_posix()
    digest = ""
    left_out: list[str] = []
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ConnectomeBenchError("a link that leads out of the folder")
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        reader = _reader_of(path.name, data)
        if reader is None:
            raise ConnectomeBenchError("neither its name nor its fields are those of a file of results")
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
        if runs[0].is_network:
            samples = sum(len(run.samples) for run in runs)
            return f"outputs of {len(runs)} network{'s' if len(runs) > 1 else ''} for {samples} samples"
        people_ = f" by {len(runs)} people" if len(runs) > 1 else ""
        return f"{len(runs[0].samples)} samples, {runs[0].votes} answer{'s' if runs[0].votes > 1 else ''} each{people_}"
    kinds = {
        Cell: "groups of totals",
        SweepPoint: "points of a sweep",
        TrainCount: "numbers of training samples",
        CheckpointScore: "accuracy of a checkpoint",
    }
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
