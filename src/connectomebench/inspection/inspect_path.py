"""Find out what a path leads to, and describe it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.inspection import folders, products, volumes
from connectomebench.inspection.findings import Finding
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.precomputed_chunks import local_folder, without_zarr


def inspect_path(path: str, spec: VolumeSpec | None = None) -> list[Finding]:
    """Describe a volume, a folder of neurons or meshes, a dataset, results or a model.

    Parameters
    ----------
    path
        File, folder or address; an array in a container may be named as ``PATH:KEY``.
    spec
        What is known of a volume beside its path.

    Returns
    -------
    list of Finding
        One, or one for each array of a container and each dataset of a folder.

    Raises
    ------
    ConnectomeBenchError
        If there is nothing, or nothing that is known.
    """
    path = _local(path)
    given = spec or VolumeSpec(path)
    place, key = _place_and_key(path)
    if "://" in place:
        return [volumes.describe(volumes.look_at(replace(given, path=place, key=key or given.key)), path)]
    folder = Path(place)
    if not folder.exists():
        raise ConnectomeBenchError(f"there is no {path}; check the path")
    if folder.is_dir() and products.is_dataset(folder):
        return [products.describe_dataset(folder)]
    if folder.is_dir() and products.datasets_in(folder):
        return [products.describe_dataset(one) for one in products.datasets_in(folder)]
    if folder.is_dir() and products.is_model(folder):
        return [products.describe_model(folder)]
    if folder.is_dir() and products.models_in(folder):
        return [products.describe_model(one) for one in products.models_in(folder)]
    if folders.swc_files(folder):
        return [folders.describe_neurons(folder)]
    if folders.mesh_files(folder):
        return [folders.describe_meshes(folder)]
    if products.parquet_files(folder):
        return [products.describe_tables(folder)]
    key = key or given.key
    names = [key] if key else volumes.arrays_in(place) or [None]
    found = []
    for name in names:
        own = replace(given, path=place, key=name)
        shown = f"{place}:{name}" if name else place
        try:
            found.append(volumes.describe(volumes.look_at(own), shown))
        except ConnectomeBenchError as error:
            if len(names) == 1:
                raise
            found.append(Finding(shown, "an array that is no volume", {}, (str(error),)))
    return found


def inspect_pair(first: str, second: str, spec: VolumeSpec | None = None) -> list[Finding]:
    """Describe two segmentations of one place, and how well they agree.

    Parameters
    ----------
    first, second
        The automatic and the proofread one; see :func:`inspect_path`.
    spec
        What is known of both beside their paths.

    Raises
    ------
    ConnectomeBenchError
        If one cannot be opened as labels, or both cannot be compared.
    """
    looked = []
    findings = []
    for path in map(_local, (first, second)):
        place, key = _place_and_key(path)
        if "://" not in place and not Path(place).exists():
            raise ConnectomeBenchError(f"there is no {path}; check the path")
        one = volumes.look_at(replace(spec or VolumeSpec(place), path=place, key=key or (spec and spec.key)))
        looked.append(one)
        findings.append(replace(volumes.describe(one, path), usage=()))
    return [*findings, volumes.compare(looked[0], looked[1], (first, second))]


def _local(path: str) -> str:
    """Return the path behind ``file://``, ``zarr://`` and the like; other addresses as they are."""
    inner = without_zarr(path)
    folder = local_folder(inner)
    return str(folder) if folder is not None else inner if "://" not in inner else path


def _place_and_key(path: str) -> tuple[str, str | None]:
    """Divide ``PATH:KEY``, unless there is such a path."""
    if "://" in path or Path(path).exists():
        return path, None
    head, mark, key = path.rpartition(":")
    return (head, key) if mark and head and Path(head).exists() else (path, None)
