"""A built dataset folder, as far as it may be published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.errors import ConnectomeBenchError
from connectomebench.hub.layout import check_species_name
from connectomebench.manifest import FILE_NAME, is_built, read_manifest
from connectomebench.partition import PARTITIONS
from connectomebench.records import shard_paths
from connectomebench.species import get_species
from connectomebench.tasks import get_task

# files that only things of another kind have; a probe has a config.json too
_OTHER_KINDS = {
    "*.skops": "a probe",
    "adapter_config.json": "an adapter",
    "config.json": "a model",
    "app.py": "a metric or a Space",
}


@dataclass(frozen=True)
class LocalDataset:
    """A complete dataset folder.

    Attributes
    ----------
    folder
        ``OUT/TASK``.
    manifest
        Its manifest.
    files
        Path in the repository -> file, of rows and lists of what was skipped; card and manifest are made anew.
    """

    folder: Path
    manifest: dict[str, Any]
    files: dict[str, Path]


def dataset_folders(folder: Path, repo: str | None, org: str | None) -> list[tuple[Path, str]]:
    """Find the datasets to publish, and the repository of each.

    Parameters
    ----------
    folder
        ``OUT/TASK``, or ``OUT`` with several of them.
    repo
        ``ORG/NAME``, for one dataset.
    org
        Owner of repositories named after the tasks; used where ``repo`` is None.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset, or there are several for one ``repo``.
    """
    found = [folder] if (folder / FILE_NAME).is_file() else sorted(p.parent for p in folder.glob(f"*/{FILE_NAME}"))
    if not found:
        raise ConnectomeBenchError(_no_dataset(folder))
    if repo is None:
        return [(path, f"{org}/{read_manifest(path)['task']}") for path in found]
    if len(found) > 1 or found[0] != folder:
        names = ", ".join(path.name for path in found)
        raise ConnectomeBenchError(f"{folder} holds datasets in folders ({names}); name one of those, or give --org")
    return [(folder, repo)]


def _no_dataset(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    for pattern, kind in _OTHER_KINDS.items():
        if list(folder.glob(pattern)):
            return f"{folder} holds {kind}, which cannot be published yet; datasets can"
    return f"{folder} holds no dataset; name a folder with a {FILE_NAME}, as `connectomebench build` writes it"


def read_dataset(folder: Path) -> LocalDataset:
    """Read a dataset folder and list what belongs to it; all else in the folder is left alone.

    Parameters
    ----------
    folder
        ``OUT/TASK``.

    Raises
    ------
    ConnectomeBenchError
        If a species is unknown or incomplete.
    """
    manifest = read_manifest(folder)
    get_task(manifest["task"])
    files: dict[str, Path] = {}
    for species, entry in manifest["species"].items():
        check_species_name(species, str(folder / FILE_NAME))
        get_species(species)
        if not is_built(folder, species, entry["config_fingerprint"]):
            raise ConnectomeBenchError(f"{folder / species} is not complete; build it again")
        paths = [path for partition in PARTITIONS for path in shard_paths(folder / species, partition)]
        files |= {f"{species}/{path.name}": path for path in paths}
        skipped = folder / f"{species}-skipped.jsonl"
        if skipped.is_file():
            files[skipped.name] = skipped
    if not files:
        raise ConnectomeBenchError(f"{folder} holds no species; build one first")
    return LocalDataset(folder, manifest, files)
