"""Stream or load rows of the public datasets, for training and evaluation."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key, write_json
from connectomebench.core.species import get_species
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.dataset.public import benchmark1, benchmark2
from connectomebench.dataset.public.dataset_names import check_partition, check_species, our_species
from connectomebench.dataset.public.pngs import MISSING_PICTURE
from connectomebench.dataset.public.repo_files import (
    PublicFiles,
    config_files,
    file_columns,
    find_files,
    is_public,
    partition_files,
    stream_files,
)
from connectomebench.dataset.public.unmapped import Unmapped
from connectomebench.dataset.rows import DataRecord

if TYPE_CHECKING:
    from connectomebench.dataset.rows import Rows

_log = logging.getLogger(__name__)

_SKIPPED = "skipped.json"
_WITHOUT_EM = {
    "edit": "an edit without slices of image data",
    "control": "a control without slices of image data",
}
_TASKS = {"connectomebench": benchmark1.TASKS, "connectomebench2": benchmark2.TASKS}


@dataclass(frozen=True)
class _Request:
    """Task, species and partition to read from which files."""

    found: PublicFiles
    task: str
    species: str
    partition: str
    em: bool = False
    geometry: bool = False


def recognise(name: str) -> Callable[..., Rows] | None:
    """Return :func:`load_public` for the name of a public dataset; None for any other name.

    Parameters
    ----------
    name
        ``ORG/NAME`` on the Hub, or a folder.
    """
    return partial(load_public, name) if is_public(name) else None


def stream_public(
    name: str,
    task: str,
    species: str,
    partition: str,
    revision: str | None = None,
    skipped: Counter[str] | None = None,
    *,
    em: bool = False,
    geometry: bool = False,
) -> Iterator[dict[str, Any]]:
    """Stream rows with the columns of :func:`connectomebench.dataset.schema.features`; read only needed columns.

    Parameters
    ----------
    name
        ``jeffbbrown2/ConnectomeBench2``, ``jeffbbrown2/ConnectomeBench``, or a folder with their Parquet files.
    task
        ``merge_action`` or ``merge_error_identification``; of the first benchmark also
        ``merge_action_multiple_choice`` and ``segment_classification``, of the second ``split_mask_generation``.
    species, partition
        Ours or theirs (``MICrONS``, ``val``). The first benchmark is one partition, our ``test``.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    skipped
        Counts the rows that are left out, by reason, while the rows are read.
    em
        Of ConnectomeBench2: add its three slices of image data to the pictures, and leave out rows without them. In
        its first release all controls have them and 23 to 38% of the edits: that a row has slices tells much of the
        answer, and the rows that are left hold the answers in other shares.
    geometry
        Of ConnectomeBench2: add the column ``geometry`` with the channels that the pictures were drawn of
        (:mod:`connectomebench.dataset.public.public_channels`).

    Raises
    ------
    ConnectomeBenchError
        If there is no such dataset, species, partition or task in it, or its files cannot be read.
    """
    request = _request(name, task, species, partition, revision, em=em, geometry=geometry)
    return _rows(request, Counter() if skipped is None else skipped)


def load_public(
    name: str,
    task: str,
    species: str,
    partition: str,
    revision: str | None = None,
    cache: Path | None = None,
    *,
    em: bool = False,
    geometry: bool = False,
) -> Rows:
    """Load one partition of one species of a public dataset.

    The rows are drawn once and kept in the cache. How many are left out, and why, is logged.

    Parameters
    ----------
    name, task, species, partition, revision, em, geometry
        As for :func:`stream_public`. What was loaded is pinned to the commit that the revision stood for.
    cache
        Folder for the rows; that of `datasets` by default.

    Raises
    ------
    ConnectomeBenchError
        As for :func:`stream_public`; also if no row can be used.
    """
    from datasets import Dataset, NamedSplit, config
    from datasets.exceptions import DatasetGenerationError

    from connectomebench.dataset.rows import Rows
    from connectomebench.dataset.schema import features

    request = _request(name, task, species, partition, revision, em=em, geometry=geometry)
    found = request.found
    key = content_key(
        __version__, found.form.name, found.state, request.task, request.species, request.partition, em, geometry
    )
    kept = Path(cache or config.HF_DATASETS_CACHE) / "public" / key
    try:
        rows = Dataset.from_generator(
            _all_rows,
            features=features(get_task(request.task), geometry=geometry),
            cache_dir=str(kept),
            gen_kwargs={"request": request, "skipped_path": kept / _SKIPPED},
            split=NamedSplit(request.partition),
            fingerprint=key,
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ConnectomeBenchError):
            raise error.__cause__ from None
        raise
    assert isinstance(rows, Dataset)
    skipped_path = kept / _SKIPPED
    skipped = json.loads(skipped_path.read_text(encoding="utf-8")) if skipped_path.exists() else {}
    _log_skipped(name, len(rows), skipped)
    if em:
        _log_em(rows["origin"], skipped)
    return Rows(rows, _record(request, rows["sample_id"], rows["answer"]))


def _request(
    name: str,
    task: str,
    species: str,
    partition: str,
    revision: str | None,
    *,
    em: bool = False,
    geometry: bool = False,
) -> _Request:
    get_task(task)
    request = _Request(
        find_files(name, revision), task, check_species(species), check_partition(partition), em, geometry
    )
    if em and request.found.form.name != "connectomebench2":
        raise ConnectomeBenchError(f"{name} has no slices of image data; leave em out")
    if geometry and request.found.form.name != "connectomebench2":
        raise ConnectomeBenchError(f"{name} has no geometry channels; leave geometry out")
    tasks = _TASKS[request.found.form.name]
    if task not in tasks:
        raise ConnectomeBenchError(
            f"{name} has no rows that {task} could be read from; it has rows of {' and '.join(tasks)}"
        )
    if request.found.form.name == "connectomebench" and request.partition != "test":
        raise ConnectomeBenchError(f"{name} is a benchmark without training rows; ask for the partition test")
    return request


def _rows(request: _Request, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield rows without duplicate ids."""
    seen: set[str] = set()
    read = _first_benchmark if request.found.form.name == "connectomebench" else _second_benchmark
    for row in read(request):
        if isinstance(row, Unmapped):
            skipped[str(row)] += 1
        elif row["sample_id"] in seen:
            skipped["it occurs twice"] += 1
        else:
            seen.add(row["sample_id"])
            yield row


def _second_benchmark(request: _Request) -> Iterator[dict[str, Any] | Unmapped]:
    found = request.found
    files = partition_files(found, request.partition)
    present = file_columns(found, files[0])
    missing = sorted(found.form.columns - present)
    if missing:
        raise ConnectomeBenchError(
            f"{files[0]} of {found.repo or found.root} lacks the columns {', '.join(missing)}; "
            "it is of a release that this version does not know"
        )
    try:
        columns = benchmark2.needed_columns(request.task, present, em=request.em)
    except Unmapped as reason:
        raise ConnectomeBenchError(f"{files[0]} of {found.repo or found.root}: {reason}; leave em out") from None
    first = benchmark2.is_first_release(present)
    for raw in stream_files(found, files, columns):
        species = our_species(str(raw["species"]))
        if species is None:
            yield Unmapped("its species is not known")
        elif species == request.species:
            try:
                yield benchmark2.map_row(
                    raw,
                    request.task,
                    species,
                    request.partition,
                    found.source,
                    first=first,
                    em=request.em,
                    geometry=request.geometry,
                )
            except Unmapped as reason:
                missing_em = request.em and str(reason) == MISSING_PICTURE
                yield Unmapped(_WITHOUT_EM[_origin(raw)]) if missing_em else reason


def _origin(raw: Mapping[str, Any]) -> str:
    return "edit" if str(raw["sample_type"]).endswith("_edit") else "control"


def _first_benchmark(request: _Request) -> Iterator[dict[str, Any] | Unmapped]:
    found = request.found
    for files in config_files(found, request.species).values():
        columns = file_columns(found, files[0])
        if request.task not in benchmark1.tasks_of(columns):
            continue
        for raw in stream_files(found, files, benchmark1.needed_columns(columns)):
            if raw.get("species") is not None and our_species(str(raw["species"])) != request.species:
                yield Unmapped("it is of another species than its config")
                continue
            try:
                yield from benchmark1.map_row(raw, request.task, request.species, found.source)
            except Unmapped as reason:
                yield reason


def _all_rows(request: _Request, skipped_path: Path) -> Iterator[dict[str, Any]]:
    """Yield rows, then write the counts of skipped ones."""
    skipped: Counter[str] = Counter()
    number = 0
    for number, row in enumerate(_rows(request, skipped), 1):  # noqa: B007
        # the writer of `datasets` takes ids above 2^63 from arrays alone
        yield row | {name: np.array(row[name], np.uint64) for name in ("segment_ids", "body_ids", "choices")}
    if not number:
        reasons = "; ".join(f"{n} left out: {reason}" for reason, n in skipped.most_common(3))
        raise ConnectomeBenchError(
            f"{request.found.repo or request.found.root} has no rows of {request.species} for {request.task} in "
            f"{request.partition}; {reasons or 'choose another species'}"
        )
    write_json(skipped_path, dict(skipped.most_common()))


def _log_skipped(name: str, n_rows: int, skipped: Mapping[str, int]) -> None:
    reasons = "; ".join(f"{n} left out: {reason}" for reason, n in skipped.items())
    _log.info("%s: %d rows%s", name, n_rows, f"; {reasons}" if reasons else "")


def _log_em(origins: list[str], skipped: Mapping[str, int]) -> None:
    """Name the leak of image data that only some rows have."""
    kept = Counter(origins)
    shares = {o: kept[o] / max(1, kept[o] + skipped.get(reason, 0)) for o, reason in _WITHOUT_EM.items()}
    _log.warning(
        "slices of image data: %.0f%% of the edits and %.0f%% of the controls have them; only those are kept. Whether "
        "a row has them tells much of its answer, so do not compare scores with those of all rows",
        100 * shares["edit"],
        100 * shares["control"],
    )


def _record(request: _Request, ids: list[str], answers: list[str]) -> DataRecord:
    found, species = request.found, get_species(request.species)
    source, version = found.source
    return DataRecord(
        task=request.task,
        species=request.species,
        partition=request.partition,
        repo=found.repo,
        revision=found.commit,
        # with slices of image data the same rows are other pictures
        fingerprint=content_key(sorted(zip(ids, answers, strict=True)), *(["em"] if request.em else [])),
        rows=dict(sorted(Counter(answers).items())),
        source={
            "name": source,
            "version": version,
            "license": species.license,
            "citation": f"{found.form.citation} {species.citation}",
            "simulated_errors": False,
            "simulated_em": False,
        },
    )
