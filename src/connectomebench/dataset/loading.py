"""Load the rows of one partition from a folder or a repository, with a record of their origin."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import hub_errors
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.parquet_errors import parquet_errors
from connectomebench.dataset.rows import DataRecord, Rows
from connectomebench.dataset.schema import shard_paths

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
) -> Rows:
    """Load one partition of one species.

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

    Raises
    ------
    ConnectomeBenchError
        If there is no such dataset, species or partition, or the Hub cannot be reached.

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
    from datasets import load_dataset

    from connectomebench.dataset.public.load_public import recognise

    load_public = recognise(name)
    if load_public is not None:
        if task is None:
            raise ConnectomeBenchError(f"{name} holds rows of several tasks; name one (--task)")
        return load_public(task, species, partition, revision, cache)
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
        fingerprint, source, partitions = entry["fingerprint"], entry["source"], list(entry["counts"])
    except (KeyError, TypeError):
        raise ConnectomeBenchError(f"{name}: {FILE_NAME} is damaged (entry of {species}); make it again") from None
    if partition not in partitions:
        raise ConnectomeBenchError(f"{name} has no partition {partition!r}; choose {', '.join(partitions)}")
    options: dict[str, Any] = {"split": partition, "revision": commit, "cache_dir": str(cache) if cache else None}
    if local:
        rows = _load_folder(folder, species, partition, options)
    else:
        with hub_errors(name), _rows_errors(name):
            rows = load_dataset(name, species, **options)
    rows = cast("Dataset", rows)
    data = DataRecord(
        task=manifest["task"],
        species=species,
        partition=partition,
        repo=None if local else name,
        revision=commit,
        fingerprint=fingerprint,
        rows=dict(sorted(Counter(rows["answer"]).items())),
        source=source,
    )
    return Rows(rows, data)


def _point_to_tasks(folder: Path) -> None:
    """Raise for the output folder of a build: it holds a dataset a task, one of which is meant."""
    tasks = sorted(path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))
    if tasks:
        raise ConnectomeBenchError(f"{folder} holds several datasets; give {folder}/TASK: {', '.join(tasks)}")


def _load_folder(folder: Path, species: str, partition: str, options: dict[str, Any]) -> Any:
    """Load a partition of a folder.

    `datasets` reads a path as a pattern: ``run[1]`` would not be found, and ``run*`` would be several folders.
    """
    from datasets import load_dataset

    with parquet_errors(sorted((folder / species).glob("*.parquet"))):
        if not glob.has_magic(str(folder.resolve())):
            return load_dataset(str(folder), species, **options)
        files = [glob.escape(str(path.resolve())) for path in shard_paths(folder / species, partition)]
        return load_dataset("parquet", data_files={partition: files}, split=partition, cache_dir=options["cache_dir"])


@contextmanager
def _rows_errors(name: str) -> Iterator[None]:
    """Convert the error of a file on the Hub that cannot be decoded; a lost connection keeps its own error."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except DatasetsError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError) and not isinstance(error, OSError) and type(cause) is not OSError:
            raise cause from error
        if isinstance(error, OSError):
            raise
        reason = (str(cause or error).strip().splitlines() or ["no message"])[0]
        raise ConnectomeBenchError(
            f"{name}: its rows cannot be read ({reason[:200]}); a file there is damaged, so it must be published again"
        ) from error


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
