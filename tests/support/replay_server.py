"""A local HTTP server that plays a recorded PyChunkedGraph server, for tests and benchmarks.

The fixture ``tests/fixtures/chunkedgraph`` holds what a real server answered (see its README). A request is answered

1. *verbatim*, where exactly this request was recorded;
2. *composed* from recorded facts, in the format of the recorded answers: operation details, change logs, lineage, roots
   and supervoxels at any time, for any ids (``replay_answers``, ``replay_graph``); level-2 nodes are derived;
3. verbatim from the same request at another time, where nothing can be composed;
4. with the recorded 404.

Volumes lie below ``/data/ws`` (supervoxels) and ``/data/em`` (image), made for the recorded graph or read from a
recording (``replay_volumes``); the info of the segmentation is the recorded one with ``data_dir`` pointing there.
With ``edits`` the server begins before the first operation and takes the recorded merges and splits, each verbatim: one
that was answered 200 moves the state to the time of its operation, and no request sees a later one.

Meshes are not part of the recording: who needs them gives files and manifests. Previews of cuts are verbatim only.

As a program: ``python tests/support/replay_server.py --port 0 --latency-ms 50`` prints the address and serves.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from replay_answers import API, INFO, TABLE, TIMES, Answer, Recording, Request, compose, error_answer, json_answer
from replay_graph import ReplayGraph, UnknownId
from replay_volumes import FIXTURE, layer_files

MANIFEST = f"/meshing/api/v1/table/{TABLE}/manifest/"
_KINDS = ("429", "500", "truncated")


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes
    ----------
    rate
        Share of answers that are replaced by a fault. Which ones follows from ``seed``, the request and how often it
        was sent before; nothing is random between runs.
    seed
        Another one gives other faults.
    kinds
        ``429`` (with Retry-After: 0), ``500``, ``truncated`` (the body ends early and the connection is closed).
    max_consecutive
        After so many faults in a row a request is answered.
    force
        Part of a path -> status that every such request gets, such as 401 or 404; or ``truncated``.
    """

    rate: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = _KINDS
    max_consecutive: int = 3
    force: Mapping[str, int | str] = field(default_factory=dict)


# all servers of a process answer from the same recording, which nothing changes
@cache
def _recording_of(folder: Path, name: str = "exchanges.jsonl.gz") -> Recording:
    return Recording(folder, name)


def _info_of(folder: Path) -> dict[str, Any]:
    info = _recording_of(folder).exact(Request("GET", INFO, (), b""))
    assert info is not None
    return json.loads(info.body)


@cache
def _graph_of(folder: Path) -> ReplayGraph:
    info = _info_of(folder)
    details = _recording_of(folder).details()
    return ReplayGraph(folder, details, info["scales"][0]["voxel_offset"], info["graph"]["chunk_size"])


class ReplayServer:
    """The server; see :func:`replay_server`.

    Attributes
    ----------
    url
        ``http://127.0.0.1:PORT``.
    requests
        How many requests came in since the last reset.
    endpoints
        The same by endpoint (``roots_binary``, ``node/leaves``, ``data/ws``, ...).
    faulted
        How many answers were replaced, by kind.
    graph
        What is composed from.
    moment
        With ``edits``: no request sees a later state, seconds since 1970. None is the end of the recording.
    edits
        The merges and splits that came in, in order, those that were answered with a fault among them.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        latency_s: float,
        faults: Faults | None,
        verbatim: bool,
        mesh_files: Mapping[str, bytes] | None,
        manifests: Mapping[int, list[str]] | None,
        recording: Path | None,
        edits: bool,
    ) -> None:
        self._volumes = recording
        self._edits = _recording_of(folder, "edits.jsonl.gz") if edits else None
        self.edits: list[Request] = []
        self._verbatim = verbatim
        self._latency = latency_s
        self.faults = faults or Faults()
        self._recording = _recording_of(folder)
        self._info: dict[str, Any] = _info_of(folder)
        self.graph = _graph_of(folder)
        self.moment = self.graph.ingest_time if edits else None
        self._meshes = dict(mesh_files or {})
        if mesh_files is not None:
            self._info["mesh"] = "mesh"
        self._manifests = dict(manifests or {})
        self._lock = threading.Lock()
        self._attempts: Counter[bytes] = Counter()
        self._in_a_row: Counter[bytes] = Counter()
        self.requests = 0
        self.endpoints: Counter[str] = Counter()
        self.faulted: Counter[str] = Counter()
        self.http = _Http(("127.0.0.1", port), self)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._info["data_dir"] = f"precomputed://{self.url}/data/ws"

    def reset(self) -> None:
        """Set all counters to zero, those of attempts among them."""
        with self._lock:
            self.requests = 0
            for counter in (self.endpoints, self.faulted, self._attempts, self._in_a_row):
                counter.clear()

    # ------------------------------------------------------------------ answers

    def answer(self, request: Request) -> Answer:
        """Answer a request, without faults."""
        if request.path.startswith("/data/"):
            return self._file(request.path)
        if request.path == INFO:
            return json_answer(self._info)
        if request.path.startswith(MANIFEST):
            return self._manifest(request.path.removeprefix(MANIFEST))
        if self._edits is not None:
            if request.path in (f"{API}/merge", f"{API}/split"):
                return self._edit(request)
            request = self._until_now(request)
        exact = self._recording.exact(request)
        if exact is not None and (self._verbatim or request.path == f"{API}/graph/split_preview"):
            return exact
        try:
            found = compose(self.graph, request)
        except (UnknownId, KeyError, TypeError, ValueError) as error:
            return error_answer(500, str(error))
        return found or exact or self._recording.any_time(request) or self._recording.not_found()

    def _edit(self, request: Request) -> Answer:
        """Answer a recorded merge or split, and move the state to its operation if it was made."""
        assert self._edits is not None
        found = self._edits.exact(request)
        if found is None:
            return error_answer(501, "this edit was not recorded")
        if found.status == 200:
            operation = self.graph.operations.index(json.loads(found.body)["operation_id"])
            self.moment = float(self.graph.times[operation])
        return found

    def _until_now(self, request: Request) -> Request:
        """Let a request see no later state than the present one."""
        if self.moment is None:
            return request
        now = self.moment
        query = tuple((k, str(min(float(v), now)) if k in TIMES else v) for k, v in request.query)
        return replace(request, query=query)

    def _file(self, path: str) -> Answer:
        layer, _, name = path.removeprefix("/data/").partition("/")
        if layer == "ws" and name.startswith("mesh/"):  # CloudVolume looks for meshes below data_dir
            files = {f"mesh/{mesh}": data for mesh, data in self._meshes.items()}
        elif layer == "ws" or layer == "em":
            files = layer_files(layer, self._volumes)
        else:
            files = {}
        if f"{name}.gz" in files:
            return Answer(200, "application/octet-stream", files[f"{name}.gz"], "gzip")
        data = files.get(name)
        return (
            Answer(404, "text/plain", b"not found\n") if data is None else Answer(200, "application/octet-stream", data)
        )

    def _manifest(self, name: str) -> Answer:
        fragments = self._manifests.get(int(name.partition(":")[0]))
        return error_answer(404, "no mesh") if fragments is None else json_answer({"fragments": fragments})

    # ------------------------------------------------------------------ faults

    def count(self, request: Request) -> str | None:
        """Count a request, and tell which fault it meets: a status, ``truncated``, or None."""
        key = hashlib.sha256(repr(request).encode()).digest()
        faults = self.faults
        with self._lock:
            if request.path in (f"{API}/merge", f"{API}/split"):
                self.edits.append(request)
            self.requests += 1
            self.endpoints[endpoint_of(request.path)] += 1
            attempt = self._attempts[key]
            self._attempts[key] += 1
            fault = next((str(status) for part, status in faults.force.items() if part in request.path), None)
            if fault is None and self._in_a_row[key] < faults.max_consecutive:
                drawn = hashlib.sha256(f"{faults.seed}:{attempt}:".encode() + key).digest()
                if int.from_bytes(drawn[:8], "big") < faults.rate * 2**64:
                    fault = faults.kinds[drawn[8] % len(faults.kinds)]
            self._in_a_row[key] = 0 if fault is None else self._in_a_row[key] + 1
            if fault is not None:
                self.faulted[fault] += 1
        if self._latency:
            time.sleep(self._latency)
        return fault


def endpoint_of(path: str) -> str:
    """Name of the endpoint of a path, for the counters."""
    if path.startswith("/data/"):
        return "/".join(path.split("/")[1:3])
    if path.startswith(MANIFEST):
        return "manifest"
    parts = path.removeprefix(API).strip("/").split("/")
    return "/".join(p for p in parts if not p.isdigit())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], replay: ReplayServer) -> None:
        self.replay = replay
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        assert isinstance(self.server, _Http)
        replay = self.server.replay
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(self.path)
        method = "GET" if self.command == "HEAD" else self.command
        request = Request(method, parts.path, tuple(parse_qsl(parts.query, keep_blank_values=True)), body)
        fault = replay.count(request)
        if fault is None or fault == "truncated":
            self._send(replay.answer(request), cut=fault is not None)
        else:
            self._send(error_answer(int(fault), f"[{fault}]: on purpose"), retry_after=fault == "429")

    def _send(self, answer: Answer, cut: bool = False, retry_after: bool = False) -> None:
        body = answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        if answer.encoding:
            self.send_header("Content-Encoding", answer.encoding)
        if answer.warning:
            self.send_header("Warning", answer.warning)
        if retry_after:
            self.send_header("Retry-After", "0")
        # one byte too many is announced even where the body is empty
        self.send_header("Content-Length", str(len(body) + int(cut and not body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log: requests may hold a token."""


@contextmanager
def replay_server(
    folder: Path = FIXTURE,
    *,
    port: int = 0,
    latency_s: float = 0.0,
    faults: Faults | None = None,
    verbatim: bool = True,
    mesh_files: Mapping[str, bytes] | None = None,
    manifests: Mapping[int, list[str]] | None = None,
    recording: Path | None = None,
    edits: bool = False,
) -> Iterator[ReplayServer]:
    """Serve the fixture on 127.0.0.1 until the block ends.

    Parameters
    ----------
    folder
        The fixture.
    port
        0 takes a free one.
    latency_s
        Wait before each answer, seconds; requests do not wait for each other.
    faults
        What goes wrong; nothing by default.
    verbatim
        False composes all it can, to test that against what was recorded.
    mesh_files
        Path below the folder of meshes -> bytes; the info then names that folder.
    manifests
        Root -> names of the fragments of its mesh.
    recording
        Folder of the recording whose volumes are served; None serves made ones.
    edits
        Take merges and splits; see the module.
    """
    server = ReplayServer(folder, port, latency_s, faults, verbatim, mesh_files, manifests, recording, edits)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Play the recorded PyChunkedGraph server.")
    parser.add_argument("--fixture", type=Path, default=FIXTURE, help="folder of the fixture")
    parser.add_argument("--recording", type=Path, help="folder of the recording: serve its volumes, not made ones")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before each answer")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of answers replaced by a fault")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    arguments = parser.parse_args()
    faults = Faults(rate=arguments.fault_rate, seed=arguments.seed)
    layer_files("ws", arguments.recording)  # before the address is printed, so that the first client need not wait
    with replay_server(
        arguments.fixture,
        port=arguments.port,
        latency_s=arguments.latency_ms / 1000,
        faults=faults,
        recording=arguments.recording,
    ) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
