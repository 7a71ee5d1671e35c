"""Requests to the replayed PyChunkedGraph server and their answers: as recorded, or composed by endpoint."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from replay_graph import Box, ReplayGraph, UnknownId

TABLE = "fib_medulla_ts2"
API = f"/segmentation/api/v1/table/{TABLE}"
INFO = f"/segmentation/table/{TABLE}/info"

TIMES = frozenset({"timestamp", "timestamp_future", "end_timestamp"})


@dataclass(frozen=True)
class Request:
    """A request as far as the answer depends on it."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes

    def param(self, name: str) -> str | None:
        """Value of a query parameter."""
        return dict(self.query).get(name)

    def time(self, name: str = "timestamp") -> float | None:
        """Value of a time in the query, seconds."""
        text = self.param(name)
        return None if text is None else float(text)


@dataclass(frozen=True)
class Answer:
    """Status, content type and body of an answer; ``encoding`` and ``warning`` are headers of its own."""

    status: int
    kind: str
    body: bytes
    encoding: str | None = None
    warning: str | None = None


def json_answer(value: Any, status: int = 200) -> Answer:
    """Write a value as the server does."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True) + "\n"
    return Answer(status, "application/json", text.encode())


def error_answer(status: int, message: str) -> Answer:
    """Write an error as the server does, without a traceback."""
    return json_answer({"code": status, "duration": 1.0, "message": message}, status)


class Recording:
    """The recorded exchanges of the fixture."""

    def __init__(self, folder: Path, name: str = "exchanges.jsonl.gz") -> None:
        self._exact: dict[Any, Answer] = {}
        self._any_time: dict[Any, Answer] = {}
        self.requests: list[tuple[Request, Answer]] = []
        with gzip.open(folder / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                query = tuple((k, v) for k, v in told["query"])
                request = Request(told["method"], told["path"], query, _stored(told["body"]))
                answer = Answer(told["status"], told["type"], _stored(told["answer"]))
                self.requests.append((request, answer))
                # where a request was sent twice, the later answer is about the final state
                self._exact[request_key(request)] = answer
                self._any_time[request_key(request, TIMES)] = answer

    def exact(self, request: Request) -> Answer | None:
        """Find the answer to exactly this request."""
        return self._exact.get(request_key(request))

    def any_time(self, request: Request) -> Answer | None:
        """Find the answer to this request at another time."""
        return self._any_time.get(request_key(request, TIMES))

    def details(self) -> dict[int, dict[str, Any]]:
        """Return the recorded details of all operations."""
        found: dict[int, dict[str, Any]] = {}
        for request, answer in self.requests:
            if request.path == f"{API}/operation_details" and answer.status == 200:
                found |= {int(k): v for k, v in json.loads(answer.body).items()}
        return found

    def not_found(self) -> Answer:
        """Answer to an address that does not exist."""
        return next(a for r, a in self.requests if r.path == f"{API}/nothing_here")


def _stored(part: dict[str, str]) -> bytes:
    return base64.b64decode(part["base64"]) if "base64" in part else part["text"].encode()


def request_key(request: Request, without: frozenset[str] = frozenset()) -> tuple[Any, ...]:
    """Give what two requests must share to count as the same."""
    query = frozenset((k, v) for k, v in request.query if k not in without)
    return request.method, request.path, query, request.body


def _numbers(request: Request, name: str) -> list[int]:
    return [int(i) for i in json.loads(request.body)[name]]


def _box(request: Request) -> Box | None:
    text = request.param("bounds")
    if text is None:
        return None
    spans = [[int(v) for v in span.split("-")] for span in text.split("_")]
    if [len(s) for s in spans] != [2, 2, 2]:
        raise ValueError(f"bounds {text} are no box")
    (a, b), (c, d), (e, f) = spans
    return (a, b), (c, d), (e, f)


def _layer(request: Request, usual: int) -> int:
    return int(request.param("stop_layer") or usual)


def _operation_details(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    wanted = json.loads(request.param("operation_ids") or "")
    return json_answer({int(o): graph.details[o] for o in wanted if o in graph.details})


def _change_logs(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    filtered = (request.param("filtered") or "True").lower() in ("true", "1")
    return json_answer(graph.change_logs(_numbers(request, "root_ids"), filtered))


def _roots_binary(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    ids = np.frombuffer(request.body, np.uint64)
    found = graph.roots_of(ids, request.time(), _layer(request, 4))
    return Answer(200, "text/html; charset=utf-8", found.tobytes())


def _root(graph: ReplayGraph, request: Request, ids: list[int]) -> Answer:
    found = graph.roots_of(np.asarray(ids, np.uint64), request.time(), _layer(request, 4))
    if not found[0] or (graph.row(request.time()) < 0):
        raise UnknownId(f"Cannot find root id {ids[0]}, 4, {request.param('timestamp')}")
    return json_answer({"root_id": int(found[0])})


def _leaves(graph: ReplayGraph, request: Request, ids: list[int]) -> Answer | None:
    layer = _layer(request, 1)
    return json_answer({"leaf_ids": graph.leaves(ids[0], _box(request), layer)}) if layer in (1, 2) else None


def _leaves_many(graph: ReplayGraph, request: Request, _: list[int]) -> Answer | None:
    layer = _layer(request, 1)
    if layer not in (1, 2):
        return None
    box = _box(request)
    # here, and not where one node is asked, the server takes a supervoxel for its own leaf
    return json_answer(
        {str(n): [n] if n >> 56 == 1 else graph.leaves(n, box, layer) for n in _numbers(request, "node_ids")}
    )


def _children(graph: ReplayGraph, _: Request, ids: list[int]) -> Answer | None:
    if ids[0] in graph.born or ids[0] >> 56 == 3:
        return None
    return json_answer({"children_ids": graph.leaves(ids[0], None)})


def _is_latest(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    return json_answer({"is_latest": graph.is_latest(_numbers(request, "node_ids"), request.time())})


def _root_timestamps(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    latest = (request.param("latest") or "False").lower() == "true"
    return json_answer({"timestamp": graph.root_times(_numbers(request, "node_ids"), latest, request.time())})


def _delta_roots(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    past = request.time("timestamp_past")
    if past is None:
        return error_answer(400, "[400]: Timestamp parameter timestamp_past is mandatory")
    return json_answer(graph.delta(past, request.time("timestamp_future")))


def _lineage(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    past, future = (request.time(f"timestamp_{side}") for side in ("past", "future"))
    nodes, links = graph.lineage(_numbers(request, "root_ids"), past, future)
    told = []
    for node in nodes:
        replaced = {"operation_id": graph.replaced_by[node]} if node in graph.replaced_by else {}
        told.append({"id": node, "timestamp": graph.made_at(node), **replaced})
    pairs = [{"source": a, "target": b} for a, b in links]
    return json_answer({"directed": True, "graph": {}, "links": pairs, "multigraph": False, "nodes": told})


def _preview(graph: ReplayGraph, request: Request, _: list[int]) -> Answer:
    """Refuse a preview that was not recorded; as the server does where the seeds lie in different roots."""
    told = json.loads(request.body)
    seeds = np.asarray([p[0] for side in ("sources", "sinks") for p in told[side]], np.uint64)
    if len(np.unique(graph.roots_of(seeds, None))) > 1:
        return error_answer(400, "[400]: Supervoxels must belong to the same object.")
    return error_answer(501, "this preview was not recorded, and cuts are not composed")


_Compose = Callable[[ReplayGraph, Request, list[int]], Answer | None]
_COMPOSED: dict[tuple[str, str], _Compose] = {
    ("GET", "operation_details"): _operation_details,
    ("GET", "tabular_change_log_many"): _change_logs,
    ("POST", "roots_binary"): _roots_binary,
    ("GET", "node/root"): _root,
    ("GET", "node/leaves"): _leaves,
    ("POST", "node/leaves_many"): _leaves_many,
    ("GET", "node/children"): _children,
    ("POST", "is_latest_roots"): _is_latest,
    ("POST", "root_timestamps"): _root_timestamps,
    ("GET", "delta_roots"): _delta_roots,
    ("POST", "lineage_graph_multiple"): _lineage,
    ("POST", "graph/split_preview"): _preview,
}


def compose(graph: ReplayGraph, request: Request) -> Answer | None:
    """Compose the answer to a request; None where that is not done.

    Raises
    ------
    UnknownId, KeyError, TypeError, ValueError
        Where the server answers 500.
    """
    if not request.path.startswith(API) or request.param("int64_as_str"):
        return None
    parts = request.path.removeprefix(API).strip("/").split("/")
    name = "/".join(p for p in parts if not p.isdigit())
    endpoint = _COMPOSED.get((request.method, name))
    return None if endpoint is None else endpoint(graph, request, [int(p) for p in parts if p.isdigit()])
