"""What a dataset holds, how it was made, and what was left out: ``manifest.json``, one entry a species."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from connectomebench.errors import ConnectomeBenchError
from connectomebench.files import write_json

FORMAT_VERSION = "1.0"
_LIBRARIES = ("connectomebench", "datasets", "numpy", "pillow", "pyarrow", "kimimaro", "zmesh")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the content."""
    return {name: version(name) for name in _LIBRARIES}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a dataset folder.

    Raises
    ------
    ConnectomeBenchError
        If there is none, it is damaged, or a newer version of the package wrote it.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format_version"]
    except OSError as error:
        raise ConnectomeBenchError(f"no dataset in {folder} (no manifest.json); build it first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectomeBenchError(f"{path} is damaged; delete {folder} and build again") from error
    if str(found).split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise ConnectomeBenchError(
            f"{path} has format version {found}, this package reads {FORMAT_VERSION}; upgrade it"
        )
    return manifest


def is_built(folder: Path, species: str, config_fingerprint: str) -> bool:
    """Tell whether a dataset folder already holds a species, built with this configuration.

    Raises
    ------
    ConnectomeBenchError
        If it holds the species, built with another configuration.
    """
    if not (folder / "manifest.json").exists():
        return False
    entry = read_manifest(folder)["species"].get(species)
    if entry is None:
        return False
    if entry["config_fingerprint"] != config_fingerprint:
        raise ConnectomeBenchError(
            f"{folder}/{species} was built with another configuration; choose another --out or delete that folder"
        )
    return True


def add_species(folder: Path, task: str, species: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Write the entry of a species, leaving the other species as they are.

    Parameters
    ----------
    folder
        Dataset folder.
    task, species
        What was built.
    entry
        Plain values; must have ``config_fingerprint`` and ``fingerprint``.

    Returns
    -------
    dict
        The whole manifest.
    """
    others = read_manifest(folder)["species"] if (folder / "manifest.json").exists() else {}
    manifest = {
        "format_version": FORMAT_VERSION,
        "task": task,
        "species": dict(sorted((others | {species: entry}).items())),
    }
    write_json(folder / "manifest.json", manifest)
    return manifest
