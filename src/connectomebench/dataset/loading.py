"""Load the rows of one partition from a folder or a repository, with a record of their origin."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import hub_errors
from connectomebench.core.tasks import get_task
from connectomebench.dataset.integrity import FILES, check_partition
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.parquet_errors import parquet_errors
from connectomebench.dataset.repo_layout import check_species_name
from connectomebench.dataset.rows import DataRecord, Rows
from connectomebench.dataset.schema import GEOMETRY

if TYPE_CHECKING:
    from datasets import Dataset


def load_rows(
    name: str,
    species: str,
    partition: str,
    revision: str | None = None,
    cache: Path | None = None,
    *,
    task: str | None = None,
    geometry: bool = False,
) -> Rows:
    """Load one partition of one species.

    The rows are those of the manifest: the files are compared with the hashes in it, and the cache on disk is keyed by
    their content, so that neither a copied card nor a replaced file gives the rows of another folder.

    Parameters
    ----------
    name
        Dataset folder (``OUT/TASK``), or ``ORG/NAME`` on the Hub; also one of the public datasets that
        :mod:`connectomebench.dataset.public` reads.
    species
        Config.
    partition
        ``train``, ``validation`` or ``test``.
    revision
        Branch, tag or commit on the Hub; None takes ``main``. What was loaded is pinned to the commit it stood for.
    cache
        Folder for the cache of `datasets`; its own by default.
    task
        Which task to ask of a public dataset that holds several; our own hold one.
    geometry
        The rows must have geometry channels: ours as they were built, those of ConnectomeBench2 converted.

    Raises
    ------
    ConnectomeBenchError
        If there is no such dataset, species or partition, the partition has no rows, or no geometry channels where they
        are asked for, its files are not those of its manifest, or the Hub cannot be reached.

    Examples
    --------
    >>> from connectomebench import load_rows
    >>> rows = load_rows("quickstart-out/merge_action", "fly", "test")
    >>> rows.data.task, sorted(rows.data.rows)
    ('merge_action', ['no', 'yes'])
    >>> len(rows.dataset) == sum(rows.data.rows.values())
    True
    >>> len(rows.dataset[0]["images"])
    3
    """
    from connectomebench.dataset.public.load_public import recognise

    load_public = recognise(name)
    if load_public is not None:
        if task is None:
            raise ConnectomeBenchError(f"{name} holds rows of several tasks; name one (--task)")
        return load_public(task, species, partition, revision, cache, geometry=geometry)
    folder = Path(name)
    local = folder.is_dir()
    if local and revision is not None:
        raise ConnectomeBenchError(f"{name} is a folder, which has no revisions; leave the revision out")
    if not local and (name.startswith((".", "/")) or name.count("/") != 1):
        raise ConnectomeBenchError(f"there is no dataset folder {name}; build it first, or name ORG/NAME on the Hub")
    if local and not (folder / FILE_NAME).exists():
        _point_to_tasks(folder)
    commit = None if local else resolve_dataset(name, revision)
    manifest = read_manifest(folder) if commit is None else fetch_manifest(name, commit)
    if task is not None and task != manifest["task"]:
        raise ConnectomeBenchError(f"{name} holds the task {manifest['task']}, not {task}; name another dataset")
    entry = manifest["species"].get(species)
    if entry is None:
        known = ", ".join(manifest["species"])
        raise ConnectomeBenchError(f"{name} holds no species {species!r}; it has {known}")
    try:
        source, partitions = entry["source"], list(entry["counts"])
        fingerprint, rows_there = entry["fingerprint"], {p: sum(n.values()) for p, n in entry["counts"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ConnectomeBenchError(f"{name}: {FILE_NAME} is damaged (entry of {species}); make it again") from None
    if partition not in partitions:
        raise ConnectomeBenchError(f"{name} has no partition {partition!r}; choose {', '.join(partitions)}")
    check_species_name(species, name)
    if not rows_there[partition]:
        raise ConnectomeBenchError(f"{name}: {partition} of {species} has no rows; build it with more data")
    if commit is None:
        rows = _read_rows(folder / species, partition, entry, cache)
    else:
        fetched = _fetch_rows(name, commit, species, partition, entry)
        with _published(name):
            rows = _read_rows(fetched, partition, entry, cache)
    if geometry and GEOMETRY not in rows.column_names:
        raise ConnectomeBenchError(
            f"the rows of {name} ({species}) have no geometry channels; build with `views: {{geometry: true}}`"
        )
    data = DataRecord(
        task=manifest["task"],
        species=species,
        partition=partition,
        repo=None if local else name,
        revision=commit,
        fingerprint=fingerprint,
        rows=dict(sorted(Counter(map(get_task(manifest["task"]).counted_as, rows["answer"])).items())),
        source={**source, "places_nm": _places_nm(rows)},
    )
    return Rows(rows, data)


def _point_to_tasks(folder: Path) -> None:
    """Raise for the output folder of a build: it holds a dataset a task, one of which is meant."""
    tasks = sorted(path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))
    if tasks:
        raise ConnectomeBenchError(f"{folder} holds several datasets; give {folder}/TASK: {', '.join(tasks)}")


def _places_nm(rows: Dataset) -> list[list[float]]:
    """Return the box of everything that rows show: lower and upper corner (x, y, z), nm; empty without rows."""
    import numpy as np

    if not len(rows):
        return []
    centres = np.asarray(rows["location_nm"], np.float64).reshape(-1, 3)
    halves = np.asarray(rows["extent_nm"], np.float64)[:, None] / 2
    if "second_place" in rows.column_names:
        second = np.array([place for place in rows["second_place"] if place], np.float64).reshape(-1, 4)
        centres, halves = np.vstack([centres, second[:, :3]]), np.vstack([halves, second[:, 3:] / 2])
    return [(centres - halves).min(axis=0).tolist(), (centres + halves).max(axis=0).tolist()]


def _read_rows(folder: Path, partition: str, entry: Mapping[str, Any], cache: Path | None) -> Dataset:
    """Read the files of a partition, through a cache whose name is their content."""
    import datasets
    from datasets.config import HF_DATASETS_CACHE

    from connectomebench.dataset.stored_picture import decode_once

    paths, key = check_partition(folder, partition, entry)
    root = cache or Path(HF_DATASETS_CACHE)
    with parquet_errors(paths):
        rows = datasets.Dataset.from_parquet(
            # `datasets` reads a path as a pattern: ``run[1]`` would not be found, and ``run*`` would be several
            [glob.escape(str(path.resolve())) for path in paths],
            split=datasets.NamedSplit(partition),
            cache_dir=str(root / "connectomebench" / key),
        )
    return decode_once(cast("Dataset", rows))


@contextmanager
def _published(repo: str) -> Iterator[None]:
    """Say of a file of the Hub that is damaged, or not that of its manifest, who can mend it."""
    try:
        yield
    except ConnectomeBenchError as error:
        raise ConnectomeBenchError(
            f"{repo}: its rows cannot be read ({error}); if a second try does not help, they must be published again"
        ) from error


def _fetch_rows(repo: str, commit: str, species: str, partition: str, entry: Mapping[str, Any]) -> Path:
    """Fetch the files of a partition from the Hub; all of the species where the manifest names no files."""
    from huggingface_hub import snapshot_download

    pattern = f"{species}/{partition}-*.parquet" if FILES in entry else f"{species}/*.parquet"
    with hub_errors(repo):
        folder = snapshot_download(
            repo, repo_type="dataset", revision=commit, allow_patterns=[pattern], library_name="connectomebench"
        )
    return Path(folder) / species


def resolve_dataset(repo: str, revision: str | None) -> str:
    """Return the commit that a revision of a dataset repository points to now.

    Parameters
    ----------
    repo
        ``ORG/NAME``.
    revision
        Branch, tag or commit; None takes ``main``.

    Raises
    ------
    ConnectomeBenchError
        If there is no such repository or revision, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(repo):
        commit = HfApi(library_name="connectomebench").dataset_info(repo, revision=revision).sha
    assert commit is not None
    return commit


def fetch_manifest(repo: str, commit: str) -> dict[str, Any]:
    """Fetch the manifest of a dataset repository.

    Raises
    ------
    ConnectomeBenchError
        If there is none, it is damaged, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with hub_errors(repo):
        try:
            path = hf_hub_download(repo, FILE_NAME, repo_type="dataset", revision=commit)
        except EntryNotFoundError:
            raise ConnectomeBenchError(
                f"{repo} has no {FILE_NAME}, so it is not a dataset of this package; read it with `datasets` alone"
            ) from None
    return read_manifest(Path(path).parent)
