"""Query a PyChunkedGraph server in batches: logs, operations, roots at a time, previews of cuts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import requests
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.site import Point
from connectomebench.sources.cave.cave_config import RequestConfig
from connectomebench.sources.cave.retries import BUSY, ServerAway

T = TypeVar("T")
# how often a batch is halved for a server that is busy: it may be too large a question, or too many of them
_HALVINGS_IF_BUSY = 2
# single ids that may fail before any answer: a server that answers nothing has another problem than one bad id
_HOPELESS = 8
# answers of the server where there is no cut: seeds in different roots, in one supervoxel, or not connected
_NO_CUT = (400, 500, 501)


@dataclass(frozen=True)
class Preview:
    """Sides of a cut that the server's multicut would make.

    Attributes
    ----------
    sources, sinks
        uint64, shape (n,): supervoxels on either side; those of no side are left out.
    """

    sources: NDArray[np.uint64]
    sinks: NDArray[np.uint64]


class Graph:
    """A ChunkedGraph, queried through caveclient.

    Every method may raise :class:`SiteUnavailable` where the server keeps failing, and
    :class:`ConnectomeBenchError` where it refuses the token.

    Parameters
    ----------
    client
        A ``caveclient.chunkedgraph.ChunkedGraphClient`` with retrying adapters mounted.
    rules
        Batch sizes.
    """

    def __init__(self, client: Any, rules: RequestConfig) -> None:
        self._client = client
        self._rules = rules
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        """The client, for :mod:`connectomebench.sources.cave.graph_edits`, which alone changes a graph."""
        return self._client

    def info(self) -> dict[str, Any]:
        """Return the segmentation info: scales, voxel sizes, chunk size."""
        return _call("the segmentation info", lambda: self._client.segmentation_info)

    def voxel_nm(self) -> tuple[float, float, float]:
        """Return the voxel size x, y, z of the points of the server, nm; read from its info, never assumed.

        Raises
        ------
        ConnectomeBenchError
            If the server does not state it.
        """
        scales = self.info().get("scales") or [{}]
        try:
            x, y, z = (float(v) for v in scales[0]["resolution"])
        except (KeyError, TypeError, ValueError):
            x = y = z = 0.0
        if min(x, y, z) <= 0:
            raise ConnectomeBenchError(
                f"{self._client.server_address} does not state the voxel size of {self._client.table_name}, and none "
                "is assumed; check `graph_table`, or ask those who run the server"
            )
        return x, y, z

    def segmentation_path(self) -> str:
        """Return the CloudVolume path of the graph (``graphene://``)."""
        return f"graphene://{self._client.server_address.rstrip('/')}/segmentation/table/{self._client.table_name}"

    def change_logs(
        self, roots: Iterable[int], *, filtered: bool = False
    ) -> tuple[dict[int, dict[str, list[Any]]], dict[int, str]]:
        """Read the tabular change log of many roots.

        One unknown id makes a whole request fail; the request is then halved until the id is alone.

        Parameters
        ----------
        roots
            Ids.
        filtered
            Leave out operations that do not affect the final state of a root, such as those on parts that were split
            off it later.

        Returns
        -------
        logs
            Root -> column -> values (``operation_id``, ``timestamp`` in ms, ``before_root_ids``, ``after_root_ids``,
            ``is_merge``); empty lists for a root without edits.
        failed
            Root -> why there is none.
        """
        logs: dict[int, dict[str, list[Any]]] = {}
        failed: dict[int, str] = {}
        batches = _chunks(sorted({int(r) for r in roots}), self._rules.roots_per_request)
        for batch, found in _halving(
            batches,
            lambda b: _call("a change log", lambda: self._client.get_tabular_change_log(b, filtered=filtered)),
        ):
            if isinstance(found, SiteUnavailable):
                failed[batch[0]] = str(found)
                continue
            for root in batch:
                table = found.get(root)
                if table is None:
                    failed[root] = "the server left it out of its answer"
                else:
                    logs[root] = {str(c): table[c].tolist() for c in table.columns}
        return logs, failed

    def operation_details(self, operations: Iterable[int]) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
        """Read the details of many operations; a request that fails is halved until the operation is alone.

        Returns
        -------
        details
            Operation -> its details; ids that the server does not know are absent.
        failed
            Operation -> why its details cannot be read.
        """
        details: dict[int, dict[str, Any]] = {}
        failed: dict[int, str] = {}
        batches = _chunks(sorted({int(o) for o in operations}), self._rules.operations_per_request)
        for batch, found in _halving(batches, self._details_of):
            if isinstance(found, SiteUnavailable):
                failed[batch[0]] = str(found)
            else:
                details |= found
        return details, failed

    def _details_of(self, batch: list[int]) -> dict[int, dict[str, Any]]:
        def ask() -> dict[int, dict[str, Any]]:
            found = self._client.get_operation_details(batch)
            return {int(k): v for k, v in found.items() if isinstance(v, dict)}

        return _call("operation details", ask)

    def roots(self, supervoxels: NDArray[np.uint64], when: datetime, *, level2: bool = False) -> NDArray[np.uint64]:
        """Return the root of each supervoxel at a time.

        Parameters
        ----------
        supervoxels
            uint64, shape (n,); 0 stays 0 and is not sent.
        when
            Time, UTC.
        level2
            Return the level-2 node instead of the root.

        Returns
        -------
        NDArray[np.uint64]
            Shape (n,); 0 where the server knows none.
        """
        found, failed = self.readable_roots(supervoxels, when, level2=level2)
        if failed:
            raise SiteUnavailable(next(iter(failed.values())))
        return found

    def readable_roots(
        self, supervoxels: NDArray[np.uint64], when: datetime, *, level2: bool = False
    ) -> tuple[NDArray[np.uint64], dict[int, str]]:
        """As :meth:`roots`, with 0 where a supervoxel fails by itself, and with supervoxel -> reason of these."""
        unique, inverse = np.unique(np.asarray(supervoxels, np.uint64), return_inverse=True)
        answer = np.zeros(len(unique), np.uint64)
        asked = np.flatnonzero(unique)
        step = self._rules.supervoxels_per_request
        failed: dict[int, str] = {}

        def ask(rows: NDArray[np.intp]) -> NDArray[np.uint64]:
            layer = 2 if level2 else None
            found = _call("roots", lambda: self._client.get_roots(unique[rows], timestamp=when, stop_layer=layer))
            if len(found) != len(rows):
                raise SiteUnavailable(f"{len(found)} roots for {len(rows)} supervoxels")
            return found

        for rows, found in _halving([asked[i : i + step] for i in range(0, len(asked), step)], ask):
            if isinstance(found, SiteUnavailable):
                failed[int(unique[rows[0]])] = str(found)
            else:
                answer[rows] = found
        return answer[inverse], failed

    def leaves(self, nodes: Sequence[int]) -> dict[int, NDArray[np.uint64]]:
        """Return the supervoxels of each node (a root of any time); uint64, empty where the server knows none."""
        found: dict[int, NDArray[np.uint64]] = {}

        def ask(batch: list[int]) -> dict[int, NDArray[np.uint64]]:
            answer = _call("supervoxels", lambda: self._client.get_leaves_many(batch))
            return _call("supervoxels", lambda: {int(k): np.asarray(v, np.uint64) for k, v in answer.items()})

        for _, answer in _halving(_chunks([int(n) for n in nodes], self._rules.roots_per_request), ask):
            if isinstance(answer, SiteUnavailable):
                raise answer
            found |= answer
        return {int(n): found.get(int(n), np.zeros(0, np.uint64)) for n in nodes}

    def level2_nodes(self, root: int) -> NDArray[np.uint64]:
        """Return the level-2 nodes of a root of any time; uint64, sorted, empty where the server knows none."""

        def ask() -> NDArray[np.uint64]:
            return np.unique(np.asarray(self._client.get_leaves(root, stop_layer=2)).astype(np.uint64))

        return _call("level-2 nodes", ask)

    def preview_split(
        self, segment: int, sources: Sequence[tuple[int, Point]], sinks: Sequence[tuple[int, Point]]
    ) -> Preview | None:
        """Preview the multicut between seeds in the present graph, without executing it.

        Parameters
        ----------
        segment
            Root of the seeds.
        sources, sinks
            Supervoxel and point in nm of each seed.

        Returns
        -------
        Preview or None
            None where the server finds no legal cut, or the seeds lie in different roots by now.
        """

        def ask() -> tuple[list[int], list[int], bool] | None:
            try:
                a, b, legal = self._client.preview_split(
                    [p for _, p in sources],
                    [p for _, p in sinks],
                    segment,
                    [s for s, _ in sources],
                    [s for s, _ in sinks],
                )
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code in _NO_CUT:
                    return None
                raise
            return a, b, legal

        found = _call("a preview of a cut", ask)
        if found is None:
            return None
        a, b, legal = found
        return Preview(np.asarray(a, np.uint64), np.asarray(b, np.uint64)) if legal else None

    def changed_roots(self, since: datetime, until: datetime) -> NDArray[np.uint64]:
        """Return roots made by an edit between two times and still current at the later one; uint64, sorted."""
        _, new = _call("changed roots", lambda: self._client.get_delta_roots(since, until))
        # the answer repeats roots and holds those that were replaced meanwhile
        roots = np.unique(np.asarray(new, np.uint64))
        return roots[self.are_latest(roots, until)] if len(roots) else roots

    def are_latest(self, roots: NDArray[np.uint64], until: datetime) -> NDArray[np.bool_]:
        """Return which roots are current at a time; bool, shape (n,)."""
        ids = np.asarray(roots, np.uint64)
        current = np.zeros(len(ids), np.bool_)
        step = self._rules.roots_per_request * 20

        def ask(rows: NDArray[np.intp]) -> NDArray[np.bool_]:
            batch = ids[rows].tolist()
            answer = np.asarray(
                _call("whether roots are current", lambda: self._client.is_latest_roots(batch, timestamp=until)),
                np.bool_,
            )
            if answer.shape != (len(batch),):
                raise SiteUnavailable(f"whether roots are current: {answer.size} answers for {len(batch)} roots")
            return answer

        rows = np.arange(len(ids))
        for some, answer in _halving([rows[i : i + step] for i in range(0, len(rows), step)], ask):
            if isinstance(answer, SiteUnavailable):
                raise answer
            current[some] = answer
        return current

    def latest_of(self, root: int, until: datetime) -> int | None:
        """Return the root with most supervoxels of a given root of any time; None if the server does not know it.

        caveclient's ``suggest_latest_roots`` compares nodes of a higher layer, which an edit replaces, so that it may
        name a root that is not current.
        """
        found = self.roots(self.leaves([root])[root], until)
        ids, counts = np.unique(found[found != 0], return_counts=True)
        return int(ids[np.argmax(counts)]) if len(ids) else None


def _chunks(values: list[int], size: int) -> list[list[int]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


Batch = TypeVar("Batch", list[int], NDArray[np.intp])


def _halving(batches: Sequence[Batch], ask: Callable[[Batch], T]) -> Iterator[tuple[Batch, T | SiteUnavailable]]:
    """Ask for each batch, and for both halves of one that fails: one bad id must not spoil the others.

    Yields
    ------
    batch, answer
        The answer is the reason where a single id fails by itself.

    Raises
    ------
    ServerAway
        If there is no connection, the server stays busy for smaller batches too, or nothing at all is answered.
    """
    waiting = [(batch, 0) for batch in reversed(batches)]
    answered = failed = 0
    while waiting:
        batch, halvings = waiting.pop()
        try:
            answer = ask(batch)
        except SiteUnavailable as error:
            if isinstance(error, ServerAway) and (not error.busy or halvings >= _HALVINGS_IF_BUSY or len(batch) == 1):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                waiting += [(batch[middle:], halvings + 1), (batch[:middle], halvings + 1)]
                continue
            failed += 1
            if failed >= _HOPELESS and not answered:
                raise ServerAway(str(error)) from None
            yield batch, error
        else:
            answered += 1
            yield batch, answer


def _call(what: str, ask: Callable[[], T]) -> T:
    """Call caveclient; turn its errors into a short reason (its own messages hold whole answers)."""
    from caveclient.base import AuthException

    try:
        return ask()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        reason = f"{what}: the server answered {status}"
        raise (ServerAway(reason, busy=True) if status in BUSY else SiteUnavailable(reason)) from None
    except requests.ConnectionError as error:
        raise ServerAway(f"{what}: {type(error).__name__}") from None
    except requests.RequestException as error:
        raise SiteUnavailable(f"{what}: {type(error).__name__}") from None
    except AuthException:
        raise ConnectomeBenchError(
            'the CAVE server asks for a login: get a token with python -c "from caveclient import CAVEclient; '
            "CAVEclient.setup_token('SERVER')\" with your server's address, and run again"
        ) from None
    except (json.JSONDecodeError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise SiteUnavailable(f"{what}: an answer that cannot be read ({type(error).__name__})") from None


def utc(text: str, where: str) -> datetime:
    """Parse an ISO 8601 time; UTC where it names no zone.

    Raises
    ------
    ConnectomeBenchError
        If it is not such a time; ``where`` names the setting.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConnectomeBenchError(f"{where}: {text!r} is not an ISO 8601 time such as 2024-06-01T00:00:00") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
