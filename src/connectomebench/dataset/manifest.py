"""Read and write `manifest.json`, the record of a dataset with one entry per species."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import declare_from_manifest
from connectomebench.core.version import __version__
from connectomebench.dataset.integrity import FILES, file_hashes
from connectomebench.dataset.row_format import FORMAT_VERSION, entry_format, parse_format
from connectomebench.dataset.schema import shard_paths

FILE_NAME = "manifest.json"

# libraries that affect a sample
_LIBRARIES = (
    "connectomebench",
    "numpy",
    "scipy",
    "numba",
    "zmesh",
    "kimimaro",
    "connected-components-3d",
    "pillow",
    "pyarrow",
    "datasets",
    "octarine3d",
)


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Return the versions of the installed libraries; by default of all that affect a sample."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a dataset folder.

    Parameters
    ----------
    folder
        ``OUT/TASK``.

    Raises
    ------
    ConnectomeBenchError
        If there is none, it is damaged, or its format cannot be read.
    """
    path = folder / FILE_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        parse_format(manifest["format_version"], str(path))
        for entry in manifest["species"].values():
            entry_format(entry)
        if not isinstance(manifest["task"], str):
            raise TypeError("its task is no text")
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}; build the dataset first") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not a manifest ({error!r:.200}); delete it and build again") from error
    declare_from_manifest(manifest)
    return manifest


def entry_of(manifest: Mapping[str, Any], species: str, where: str) -> dict[str, Any] | None:
    """Return the entry of a species, with whole numbers of rows in every partition; None if there is none.

    Parameters
    ----------
    manifest
        From :func:`read_manifest`.
    species
        Species config.
    where
        Path or repository, for the message.

    Raises
    ------
    ConnectomeBenchError
        If the entry is damaged.
    """
    entry = manifest["species"].get(species)
    if entry is None:
        return None
    try:
        counts = [n for partition in PARTITIONS for n in entry["counts"][partition].values()]
        whole = isinstance(entry["config_fingerprint"], str) and all(type(n) is int and n >= 0 for n in counts)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ConnectomeBenchError(f"{where}: the entry of {species} is damaged; delete the file and build again")
    return entry


def is_built(folder: Path, species: str, config_fingerprint: str) -> bool:
    """Return whether a species of a dataset is complete.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    species
        Species config.
    config_fingerprint
        Of the configuration that is to be built.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds this species built from another configuration.
    """
    if not (folder / FILE_NAME).exists():
        return False
    entry = entry_of(read_manifest(folder), species, str(folder / FILE_NAME))
    if entry is None:
        return False
    if entry["config_fingerprint"] != config_fingerprint:
        raise ConnectomeBenchError(
            f"{folder} holds {species} built from another configuration; choose another --out or give --overwrite"
        )
    return all(_is_whole(folder / species, p, sum(entry["counts"][p].values())) for p in PARTITIONS)


def remove_other_build(folder: Path, species: str, config_fingerprint: str) -> None:
    """Remove the rows and the entry of a species that was built from another configuration; other species stay.

    Parameters
    ----------
    folder, species, config_fingerprint
        As for :func:`is_built`.
    """
    if not (folder / FILE_NAME).exists():
        return
    manifest = read_manifest(folder)
    entry = manifest["species"].get(species)
    if entry is not None and entry["config_fingerprint"] != config_fingerprint:
        del manifest["species"][species]
        write_json(folder / FILE_NAME, manifest)
        shutil.rmtree(folder / species, ignore_errors=True)


def _is_whole(folder: Path, partition: str, rows: int) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return sum(pq.read_metadata(path).num_rows for path in shard_paths(folder, partition)) == rows
    except (ConnectomeBenchError, OSError, pa.ArrowInvalid):
        return False


def add_species(folder: Path, task: str, species: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Write the entry of a species and keep all other entries.

    Written last: a species with an entry is complete. The SHA-256 of its Parquet files is added as ``files``.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    task, species
        What the entry is about.
    entry
        Plain values: ``format_version`` of its rows, ``config_fingerprint``, ``fingerprint``, ``counts`` (by partition
        and answer), ``source``, ``config``, ``candidates``, ``dropped`` (by step and reason), ``partition``, ``leaks``,
        ``versions``. Scores come later: ``baselines``, from :func:`connectomebench.cards.baselines.add_baselines`, and
        ``cues``, from :func:`connectomebench.cards.cues.add_cues`.

    Returns
    -------
    dict
        The whole manifest.

    Raises
    ------
    ConnectomeBenchError
        If the folder belongs to another task.
    """
    manifest: dict[str, Any] = {"task": task, "species": {}}
    if (folder / FILE_NAME).exists():
        manifest = read_manifest(folder)
        if manifest["task"] != task:
            raise ConnectomeBenchError(f"{folder} holds the task {manifest['task']}, not {task}; choose another --out")
    own = {**entry, FILES: file_hashes(folder / species)}
    species_entries = {**manifest["species"], species: own}
    manifest = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "task": task,
        "species": dict(sorted(species_entries.items())),
    }
    write_json(folder / FILE_NAME, manifest)
    return manifest
