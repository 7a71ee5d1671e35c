"""Read a built dataset folder for publishing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import get_species
from connectomebench.core.tasks import get_task
from connectomebench.dataset.integrity import check_partition
from connectomebench.dataset.manifest import FILE_NAME, is_built, read_manifest
from connectomebench.dataset.parquet_errors import check_readable
from connectomebench.dataset.repo_layout import check_species_name, extra_files, scene_files


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
        Path in the repository -> file, for rows, scenes, pictures and skip lists; all other files are generated.
    """

    folder: Path
    manifest: dict[str, Any]
    files: dict[str, Path]


def _refuse_links(folder: Path, files: Iterable[Path]) -> None:
    """Raise if a file, or a folder that it lies in, is a link: what it leads to may be anything of this machine."""
    for file in files:
        below = [file, *(parent for parent in file.parents if parent != folder and folder in parent.parents)]
        if any(path.is_symlink() for path in below):
            raise ConnectomeBenchError(f"{file} is a link, which is not published; put the file itself there")


def read_dataset(folder: Path) -> LocalDataset:
    """Read a dataset folder and list the files to publish.

    Parameters
    ----------
    folder
        ``OUT/TASK``.

    Raises
    ------
    ConnectomeBenchError
        If a species is unknown or incomplete, or a file is a link or not the one that the manifest describes.
    """
    manifest = read_manifest(folder)
    get_task(manifest["task"])
    files: dict[str, Path] = {}
    for species, entry in manifest["species"].items():
        check_species_name(species, str(folder / FILE_NAME))
        get_species(species)
        if not is_built(folder, species, entry["config_fingerprint"]):
            check_readable(sorted((folder / species).glob("*.parquet")))
            raise ConnectomeBenchError(f"{folder / species} is not complete; build it again")
        paths = [path for p in PARTITIONS for path in check_partition(folder / species, p, entry)[0]]
        files |= {f"{species}/{path.name}": path for path in paths}
        files |= {name: folder / name for name in scene_files(folder, species)}
        beside = [folder / name for name in extra_files(species)]
        files |= {path.name: path for path in beside if path.is_file()}
    _refuse_links(folder, files.values())
    if not files:
        raise ConnectomeBenchError(f"{folder} holds no species; build one first")
    return LocalDataset(folder, manifest, files)
