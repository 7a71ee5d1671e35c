"""Jobs for groups of roots or edits, run here or on another machine; each writes one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.files import atomic_path, content_key, write_json
from connectomebench.core.site import Point
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig
from connectomebench.sources.cave.cloud_volumes import CloudLayer
from connectomebench.sources.cave.connect import Connection, connect
from connectomebench.sources.cave.history import JudgedOperation, Operation, judge_operations, read_operations
from connectomebench.sources.cave.retries import RUN_AGAIN
from connectomebench.sources.cave.survey import Lookup, Survey, pack_surveys, supervoxels_around, survey, unpack_surveys
from connectomebench.sources.cave.tokens import volume_token


@dataclass(frozen=True)
class WorkerContext:
    """A dataset opened in this process: connection, labels and cache."""

    connection: Connection
    supervoxels: CloudLayer
    blobs: BlobCache


@dataclass(frozen=True)
class JobSpec:
    """Dataset and cache folder of a job.

    Attributes
    ----------
    config, species
        The dataset.
    cache
        Folder shared by all processes of a build.
    until
        Time of the final state, UTC.
    """

    config: CaveConfig
    species: str
    cache: Path
    until: datetime

    @property
    def dataset(self) -> list[str | None]:
        """Identity of the dataset, for cache keys."""
        c = self.config
        return [self.species, c.server, c.datastack, c.graph_table, c.segmentation, self.until.isoformat()]

    def open(self) -> WorkerContext:
        """Open the dataset, once in each process.

        Raises
        ------
        ConnectomeBenchError
            If it cannot be opened.
        """
        with _opening:
            try:
                return _open(content_key(asdict(self.config), str(self.cache)), self)
            except SiteUnavailable as error:
                raise ConnectomeBenchError(f"{error}; check the network; {RUN_AGAIN}") from None


_opening = Lock()


@lru_cache(maxsize=4)
def _open(key: str, spec: JobSpec) -> WorkerContext:
    species = get_species(spec.species)
    connection = connect(spec.config, species)
    # SQLite does not work on every network file system
    blobs = BlobCache(
        Path(os.environ.get("CONNECTOMEBENCH_CACHE") or spec.cache / "blobs"), int(spec.config.cache_gb * 1e9)
    )
    rules, requests = spec.config.survey, spec.config.requests
    layer = open_layer(connection, connection.segmentation, "labels", rules.label_voxel_nm, blobs, requests)
    return WorkerContext(connection, layer, blobs)


def open_layer(
    connection: Connection,
    path: str,
    kind: Literal["labels", "image"],
    voxel_nm: float,
    blobs: BlobCache,
    requests: RequestConfig,
) -> CloudLayer:
    """Open a volume of a dataset; see :class:`connectomebench.sources.cave.cloud_volumes.CloudLayer`."""
    token = volume_token(path, connection.login, connection.token)
    return CloudLayer(path, voxel_nm, kind, blobs, requests, connection.login, token)


@dataclass(frozen=True)
class HistoryJob:
    """Roots whose history is read in one job."""

    spec: JobSpec
    roots: tuple[int, ...]

    @property
    def path(self) -> Path:
        """File that the job writes."""
        key = content_key("history 2", self.spec.dataset, list(self.roots))
        return self.spec.cache / "history" / f"{key}.json"


@dataclass(frozen=True)
class History:
    """Operations of some roots with their outcomes, those left out and roots without a history, with the reason."""

    judged: tuple[JudgedOperation, ...]
    left_out: dict[int, str]
    failed: dict[int, str]


def read_history(job: HistoryJob) -> int:
    """Read and judge the operations of a group of roots, unless the file exists; return their number.

    Raises
    ------
    ConnectomeBenchError
        If the server gives no answers at present.
    """
    if not job.path.exists():
        graph, until = job.spec.open().connection.graph, job.spec.until
        try:
            operations, left_out, failed = read_operations(graph, job.roots, until)
            judged, undecided = judge_operations(graph, operations, until)
        except SiteUnavailable as error:
            raise ConnectomeBenchError(f"the edit history cannot be read: {error}; {RUN_AGAIN}") from None
        write_json(
            job.path,
            {
                "judged": [_plain(j) for j in judged],
                "left_out": {str(number): reason for number, reason in (left_out | undecided).items()},
                "failed": {str(root): reason for root, reason in failed.items()},
            },
        )
    return len(load_history(job.path).judged)


def load_history(path: Path) -> History:
    """Load the file of :func:`read_history`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return History(
        tuple(_judged(j) for j in data["judged"]),
        {int(number): reason for number, reason in data["left_out"].items()},
        {int(root): reason for root, reason in data["failed"].items()},
    )


def _plain(judged: JudgedOperation) -> dict[str, Any]:
    plain = asdict(judged)
    plain["operation"]["time"] = judged.operation.time.isoformat()
    return plain


def _judged(data: dict[str, Any]) -> JudgedOperation:
    o = data["operation"]
    operation = Operation(
        operation_id=o["operation_id"],
        kind=o["kind"],
        time=datetime.fromisoformat(o["time"]).astimezone(UTC),
        roots_before=tuple(o["roots_before"]),
        roots_after=tuple(o["roots_after"]),
        sources_nm=_points(o["sources_nm"]),
        sinks_nm=_points(o["sinks_nm"]),
        sources=tuple(o["sources"]),
        sinks=tuple(o["sinks"]),
        undone=o["undone"],
    )
    return JudgedOperation(operation, data["outcome"], (data["bodies"][0], data["bodies"][1]))


def _points(values: list[list[float]]) -> tuple[Point, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in values)


@dataclass(frozen=True)
class SurveyJob:
    """Neighbouring edits that are surveyed in one job."""

    spec: JobSpec
    judged: tuple[JudgedOperation, ...]

    @property
    def path(self) -> Path:
        """File that the job writes."""
        rules = [asdict(self.spec.config.survey), asdict(self.spec.config.skeleton)]
        ids = [j.operation.operation_id for j in self.judged]
        key = content_key("survey 2", self.spec.dataset, ids, rules)
        return self.spec.cache / "surveys" / f"{key}.npz"


@dataclass(frozen=True)
class SurveyGroup:
    """Surveys of a group of edits; edits without a survey and edits with unavailable data, with the reason."""

    surveys: list[Survey]
    without: dict[int, str]
    failed: dict[int, str]


def make_surveys(job: SurveyJob) -> tuple[int, int]:
    """Survey a group of edits, unless the file exists; return the number of edits and of failures."""
    if job.path.exists():
        stored = load_surveys(job.path)
        return len(job.judged), len(stored.failed)
    context = job.spec.open()
    config = job.spec.config
    roots = _lookup(job, context)
    surveys, without, failed = [], {}, {}
    for judged in job.judged:
        number = judged.operation.operation_id
        try:
            made = survey(judged, context.supervoxels, roots, job.spec.until, config.survey, config.skeleton)
        except SiteUnavailable as error:
            failed[number] = str(error)
            continue
        if isinstance(made, str):
            without[number] = made
        else:
            surveys.append(made)
    arrays = pack_surveys(surveys) | {
        "without": np.array(json.dumps(without)),
        "failed": np.array(json.dumps(failed)),
    }
    with atomic_path(job.path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return len(job.judged), len(failed)


def _lookup(job: SurveyJob, context: WorkerContext) -> Lookup:
    """Read the final roots of all edits of a job in one request; the time before is different for each edit."""
    graph, until = context.connection.graph, job.spec.until
    try:
        around = [supervoxels_around(j, context.supervoxels, job.spec.config.survey) for j in job.judged]
        ids = np.unique(np.concatenate(around))
        final = graph.roots(ids, until)
    except SiteUnavailable:  # then each edit asks by itself, and fails by itself
        return graph.roots

    def roots(supervoxels: NDArray[np.uint64], when: datetime) -> NDArray[np.uint64]:
        if when != until:
            return graph.roots(supervoxels, when)
        return final[np.searchsorted(ids, supervoxels)]

    return roots


def load_surveys(path: Path) -> SurveyGroup:
    """Load the file of :func:`make_surveys`."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    without, failed = (
        {int(number): reason for number, reason in json.loads(str(arrays.pop(name))).items()}
        for name in ("without", "failed")
    )
    return SurveyGroup(unpack_surveys(arrays), without, failed)
