"""Find publishable folders and the repository of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.manifest import FILE_NAME as MANIFEST
from connectomebench.dataset.manifest import read_manifest
from connectomebench.hub.remote import RepoType
from connectomebench.hub.results_plan import RESULTS_NAME, result_files
from connectomebench.hub.space_plan import read_settings
from connectomebench.models.model_record import FILE_NAME as RECORD
from connectomebench.models.model_record import read_record

Kind = Literal["dataset", "model", "results", "space"]
# models lie in OUT/MODEL/TASK/SPECIES
_MODEL_DEPTH = 4


@dataclass(frozen=True)
class Target:
    """A folder to publish.

    Attributes
    ----------
    kind
        What it holds.
    folder
        Where it is.
    repo_id
        Where it goes.
    """

    kind: Kind
    folder: Path
    repo_id: str

    @property
    def repo_type(self) -> RepoType:
        """Type of its repository; result records go to a dataset repository."""
        return "dataset" if self.kind == "results" else self.kind


def find_targets(folder: Path, repo: str | None, org: str | None) -> list[Target]:
    """Find the folders to publish and the repository of each.

    Parameters
    ----------
    folder
        A dataset (``OUT/TASK``), a model, result records (``OUT/results``), a metric or a Space; or a folder with
        several of one kind.
    repo
        ``ORG/NAME``, for a single folder.
    org
        Owner of repositories named after their content (datasets: task; models: name, task, species; result records:
        ``results``; others: folder); used where ``repo`` is None.

    Raises
    ------
    ConnectomeBenchError
        If there is nothing to publish, or several folders for one ``repo``.
    """
    if not folder.is_dir():
        raise ConnectomeBenchError(f"there is no folder {folder}")
    kind = _kind(folder)
    found: list[tuple[Kind, Path]] = [(kind, folder)] if kind else _inside(folder)
    if not found:
        raise ConnectomeBenchError(_no_targets_message(folder))
    if repo is None:
        targets = [Target(kind, path, f"{org}/{_NAMES[kind](path)}") for kind, path in found]
        _check_unique_repos(targets)
        return targets
    if not kind:
        names = ", ".join(str(path.relative_to(folder)) for _, path in found[:4]) + (", ..." if found[4:] else "")
        raise ConnectomeBenchError(
            f"{folder} holds {found[0][0]}s in folders ({names}); name one of those or give --org"
        )
    return [Target(kind, folder, repo)]


def _kind(folder: Path) -> Kind | None:
    if (folder / MANIFEST).is_file():
        return "dataset"
    if (folder / RECORD).is_file():
        return "model"
    if read_settings(folder) is not None:
        return "space"
    return "results" if result_files(folder) else None


def _inside(folder: Path) -> list[tuple[Kind, Path]]:
    """Return the publishable subfolders of the first kind found; models may be nested deeper."""
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    kinds = {path: _kind(path) for path in below}
    ordered: tuple[Kind, ...] = ("dataset", "space")
    for kind in ordered:
        if any(its == kind for its in kinds.values()):
            return [(kind, path) for path, its in kinds.items() if its == kind]
    depths = ["/".join(["*"] * depth) for depth in range(1, _MODEL_DEPTH + 1)]
    return [("model", path.parent) for depth in depths for path in sorted(folder.glob(f"{depth}/{RECORD}"))]


def _model_name(folder: Path) -> str:
    record = read_record(folder)
    # the names of all tasks would be too long for a repository
    return "-".join([record.name, *(record.tasks if len(record.tasks) == 1 else ()), *record.species])


_NAMES: dict[Kind, Callable[[Path], str]] = {
    "dataset": lambda path: read_manifest(path)["task"],
    "model": _model_name,
    "results": lambda path: RESULTS_NAME,
    "space": lambda path: path.resolve().name,
}


def _check_unique_repos(targets: list[Target]) -> None:
    seen: dict[str, Path] = {}
    for target in targets:
        if target.repo_id in seen:
            raise ConnectomeBenchError(
                f"{seen[target.repo_id]} and {target.folder} would both go to {target.repo_id}; give each a --repo"
            )
        seen[target.repo_id] = target.folder


# what foreign models have, and ours too
_FOREIGN = {"*.skops": "a probe", "adapter_config.json": "an adapter", "config.json": "a model"}


def _no_targets_message(folder: Path) -> str:
    for pattern, kind in _FOREIGN.items():
        if list(folder.glob(pattern)):
            return f"{folder} holds {kind} without {RECORD}, which our training scripts write; train it so"
    return (
        f"{folder} holds nothing to publish; name a dataset ({MANIFEST}), a model ({RECORD}), result records "
        "(MODEL/TASK/SPECIES/PARTITION.parquet), or a metric or Space (README.md with `sdk`)"
    )
