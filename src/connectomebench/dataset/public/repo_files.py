"""Find and stream the Parquet files of a public dataset, in a folder or on the Hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.hub_errors import hub_errors
from connectomebench.dataset.manifest import FILE_NAME
from connectomebench.dataset.public.dataset_names import (
    FORMS,
    DatasetLayout,
    our_partition,
    our_species,
    published_form,
)

_CARD = "README.md"
_MAX_CARD_BYTES = 1_000_000
# `train/train-00000.parquet`, not the extract `metadata/train.parquet` and not `demo.parquet`
_SHARD = re.compile(r"(?:^|/)([a-z]+)-\d+(?:-of-\d+)?\.parquet$")


@dataclass(frozen=True)
class PublicFiles:
    """Files of a public dataset.

    Attributes
    ----------
    form
        Which of the two.
    repo, commit
        Where they come from; None for a folder.
    root
        What stands before the names of ``files``: a folder or an address of the Hub.
    files
        Parquet files, relative.
    state
        Changes whenever the files do: the commit, or a hash of names, sizes and times of change.
    """

    form: DatasetLayout
    repo: str | None
    commit: str | None
    root: str
    files: tuple[str, ...]
    state: str

    @property
    def source(self) -> tuple[str, str]:
        """Source and version of the rows."""
        return self.form.repo, self.commit or f"files {self.state[:16]}"


def is_public(name: str) -> bool:
    """Return whether a name or a folder is one of the two public datasets.

    Parameters
    ----------
    name
        ``ORG/NAME`` on the Hub, or a folder.
    """
    folder = Path(name)
    return _form_of_folder(folder) is not None if folder.is_dir() else published_form(name) is not None


def _form_of_folder(folder: Path) -> DatasetLayout | None:
    if (folder / FILE_NAME).exists():
        return None
    first = next(iter(sorted(folder.rglob("*.parquet"))), None)
    if first is None:
        return None
    try:
        columns = _columns(str(first))
    except (OSError, ValueError):
        return None
    # an extract without pictures beside the shards shares its first columns with them
    return next((form for form in FORMS.values() if form.columns - {"metadata", "geometry"} <= columns), None)


def find_files(name: str, revision: str | None = None) -> PublicFiles:
    """List the Parquet files of a public dataset.

    Parameters
    ----------
    name
        ``ORG/NAME`` on the Hub, or a folder.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.

    Raises
    ------
    ConnectomeBenchError
        If it is none of the two datasets, or the Hub cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        form = _form_of_folder(folder)
        if form is None:
            raise ConnectomeBenchError(f"{name} holds no Parquet files of ConnectomeBench or ConnectomeBench2")
        if revision is not None:
            raise ConnectomeBenchError(f"{name} is a folder, which has no revisions; leave the revision out")
        found = sorted(folder.rglob("*.parquet"))
        state = content_key(*([str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in found))
        return PublicFiles(form, None, None, name, tuple(p.relative_to(folder).as_posix() for p in found), state)
    form = published_form(name)
    if form is None:
        raise ConnectomeBenchError(f"{name} is neither a folder nor {' nor '.join(f.repo for f in FORMS.values())}")
    from huggingface_hub import HfApi

    with hub_errors(form.repo):
        info = HfApi(library_name="connectomebench").dataset_info(form.repo, revision=revision)
    assert info.sha is not None
    files = tuple(sorted(s.rfilename for s in info.siblings or [] if s.rfilename.endswith(".parquet")))
    return PublicFiles(form, form.repo, info.sha, f"hf://datasets/{form.repo}@{info.sha}", files, info.sha)


def partition_files(found: PublicFiles, partition: str) -> list[str]:
    """Return the shards of a partition of ConnectomeBench2.

    Raises
    ------
    ConnectomeBenchError
        If there is none.
    """
    files = [f for f in found.files if (m := _SHARD.search(f)) and our_partition(m[1]) == partition]
    if not files:
        raise ConnectomeBenchError(
            f"{found.repo or found.root} has no file like {partition}/{partition}-00000.parquet; "
            "choose another partition, or get its files again"
        )
    return files


def config_files(found: PublicFiles, species: str) -> dict[str, list[str]]:
    """Return the files of each config of a species of the first benchmark, as its card assigns them.

    Names in the card only select among the files that are there; they are never opened as paths.

    Parameters
    ----------
    found
        The files.
    species
        Ours; the part of a config's name before the comma stands for it (``MICrONS, Split Error Correction``).

    Raises
    ------
    ConnectomeBenchError
        If the card is missing or cannot be read, or has no config of this species.
    """
    name = found.repo or found.root
    configs: dict[str, list[str]] = {}
    for config in _card_configs(found):
        title = str(config.get("config_name", ""))
        if our_species(title.split(",")[0]) != species:
            continue
        patterns = _patterns(config)
        files = [f for f in found.files if any(fnmatchcase(f, pattern) for pattern in patterns)]
        if files:
            configs[title] = files
    if not configs:
        raise ConnectomeBenchError(f"the card of {name} has no config of {species} with Parquet files")
    return configs


def _card_configs(found: PublicFiles) -> list[Mapping[str, Any]]:
    import yaml

    name = found.repo or found.root
    try:
        if found.repo is None:
            path = Path(found.root) / _CARD
        else:
            from huggingface_hub import hf_hub_download

            with hub_errors(found.repo):
                path = Path(hf_hub_download(found.repo, _CARD, repo_type="dataset", revision=found.commit))
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ValueError("too large")
        parts = re.split(r"^---[ \t]*$", path.read_text(encoding="utf-8"), maxsplit=2, flags=re.MULTILINE)
        configs = yaml.safe_load(parts[1])["configs"]
        return [config for config in configs if isinstance(config, dict)]
    except FileNotFoundError:
        raise ConnectomeBenchError(f"{name} has no {_CARD}, which names its configs; get it too") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, yaml.YAMLError) as error:
        raise ConnectomeBenchError(f"the {_CARD} of {name} names no configs that can be read") from error


def _patterns(config: Mapping[str, Any]) -> list[str]:
    """List the patterns of the only split of a config, `train`; all patterns where splits have no names."""
    entries = config.get("data_files")
    patterns: list[str] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        paths = entry.get("path") if isinstance(entry, dict) and entry.get("split", "train") == "train" else entry
        patterns += [p for p in (paths if isinstance(paths, list) else [paths]) if isinstance(p, str)]
    start = config.get("data_dir")
    folder = PurePosixPath(start) if isinstance(start, str) else PurePosixPath()
    return [(folder / pattern).as_posix() for pattern in patterns]


def file_columns(found: PublicFiles, file: str) -> frozenset[str]:
    """Return the column names of a file from its footer.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be read.
    """
    with _errors(found):
        return _columns(f"{found.root}/{file}")


def _columns(address: str) -> frozenset[str]:
    import fsspec
    import pyarrow.parquet as pq

    with fsspec.open(address, "rb") as stream:
        return frozenset(pq.read_schema(stream).names)


def stream_files(found: PublicFiles, files: Sequence[str], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Stream the rows of files, one row group in memory at a time; images stay encoded.

    Parameters
    ----------
    found, files
        Which files, in order.
    columns
        Columns to read; nothing else is fetched.

    Raises
    ------
    ConnectomeBenchError
        If a file cannot be read, or lacks one of the columns.
    """
    from datasets import IterableDataset, load_dataset

    start = glob.escape(found.root) if found.repo is None else found.root
    for file in files:
        address = f"{start}/{glob.escape(file)}"
        with _errors(found):
            # one file at a time: the Hub is asked about a file only once its turn has come
            rows = load_dataset(
                "parquet", data_files={"rows": address}, split="rows", streaming=True, columns=list(columns)
            )
            assert isinstance(rows, IterableDataset)
            yield from rows.decode(False)


@contextmanager
def _errors(found: PublicFiles) -> Iterator[None]:
    """Convert read errors of the Hub or the disk into one line."""
    if found.repo is not None:
        with hub_errors(found.repo):
            yield
        return
    try:
        yield
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise ConnectomeBenchError(
            f"{found.root}: a Parquet file cannot be read ({reason[:200]}); get its files again"
        ) from error
