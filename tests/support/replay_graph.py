"""Answers of a PyChunkedGraph server, composed from the recorded facts of the fixture.

Facts are the recorded details of all operations, and which supervoxel belonged to which root after each of them. The
rules are those of PyChunkedGraph 2.21 (``graph/segmenthistory.py``, ``graph/lineage.py``); the tests compare what is
composed here with what the real server answered.

Level-2 nodes are *derived*: one node for the supervoxels that a root has in a chunk, but for the few whose supervoxels
were recorded. Their ids have the layout of the server (8 bits layer, 3 times 10 bits chunk, counter; the counter of a
derived one starts at 1,000,000) and stay the same as long as the node has the same supervoxels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DERIVED_COUNTER = 1_000_000
# when the server closed the log of an operation was not recorded; what was recorded fits half a second later
_LOG_DELAY_S = 0.5
_LAYER_SHIFT, _CHUNK_SHIFTS = 56, (46, 36, 26)  # layers 1 and 2

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class UnknownId(Exception):
    """An id for which the server answers 500; the text is the server's message."""


class ReplayGraph:
    """The graph of the fixture at any time.

    Times are seconds since 1970, UTC. A state at a time holds the operations done at or before it.

    Parameters
    ----------
    folder
        The fixture ``tests/fixtures/chunkedgraph``.
    details
        Operation id -> recorded answer of ``operation_details``.
    voxel_offset, chunk
        First voxel of the volume and edges of a chunk, voxels.
    """

    def __init__(
        self, folder: Path, details: Mapping[int, dict[str, Any]], voxel_offset: list[int], chunk: list[int]
    ) -> None:
        from datetime import datetime

        told = json.loads((folder / "operations.json").read_text(encoding="utf-8"))
        self.details = details
        self.users: dict[str, list[str]] = told["users"]
        self.ingest_time = datetime.fromisoformat(told["ingest_timestamp"]).timestamp()
        self._recorded_nodes = {int(k): np.asarray(v, np.uint64) for k, v in told["level2_recorded"].items()}
        self._offset, self._chunk = np.asarray(voxel_offset), np.asarray(chunk)
        with np.load(folder / "truth.npz") as truth:
            self.supervoxels: NDArray[np.uint64] = truth["supervoxel_id"]
            self.operations: list[int] = truth["operation_ids"].tolist()
            self.times: NDArray[np.float64] = truth["operation_times"]
            self.chunks = truth["chunk_xyz"].astype(np.int64)
            # row 0 is the state before the first operation, row i the one after the i-th
            self.roots = np.tile(truth["initial_root"], (len(self.operations) + 1, 1))
            for step, supervoxel, root in zip(
                truth["change_operation"], truth["change_supervoxel"], truth["change_root"], strict=True
            ):
                self.roots[step:, supervoxel] = root
        self._old: dict[int, list[int]] = {o["operation_id"]: o["old_root_ids"] for o in told["operations"]}
        self.born: dict[int, int] = {}  # root -> row of its first state
        for row, roots in enumerate(self.roots):
            for root in np.unique(roots).tolist():
                self.born.setdefault(root, row)
        self.former: dict[int, list[int]] = {}  # root -> what it was made from
        self.next: dict[int, list[int]] = {}  # root -> what replaced it
        self.replaced_by: dict[int, int] = {}  # root -> operation that replaced it
        for operation in self.operations:
            for new in self.details[operation]["roots"]:
                self.former[new] = self._old[operation]
            for old in self._old[operation]:
                self.next[old] = self.details[operation]["roots"]
                self.replaced_by[old] = operation

    def row(self, time: float | None) -> int:
        """State at a time: -1 before the graph was made, else the number of operations done; None means now."""
        if time is None:
            return len(self.operations)
        # the server rounds to milliseconds
        return -1 if time < self.ingest_time else int(np.searchsorted(self.times, time + 5e-4, side="right"))

    def made_at(self, root: int) -> float:
        """Time at which a root was made, as the server states it."""
        row = self.born[root]
        # the server cuts the time of ingest to milliseconds
        return int(self.ingest_time * 1000) / 1000 if row == 0 else float(self.times[row - 1])

    # ------------------------------------------------------------------ level 2

    @cached_property
    def nodes(self) -> NDArray[np.uint64]:
        """Level-2 node of each supervoxel in each state; uint64, shape of ``roots``."""
        where = {int(s): i for i, s in enumerate(self.supervoxels)}
        recorded = [(node, np.asarray([where[int(s)] for s in ids])) for node, ids in self._recorded_nodes.items()]
        out = np.zeros_like(self.roots)
        names: dict[tuple[int, bytes], int] = {}
        used: dict[int, int] = {}
        chunk_id = np.left_shift(self.chunks, _CHUNK_SHIFTS).sum(axis=1) + (2 << _LAYER_SHIFT)
        for row, roots in enumerate(self.roots):
            left = np.ones(len(roots), bool)
            for node, members in recorded:
                if len(np.unique(roots[members])) == 1:
                    out[row, members] = node
                    left[members] = False
            rest = np.flatnonzero(left)
            order = rest[np.lexsort((rest, roots[rest], chunk_id[rest]))]
            new_root, new_chunk = (v[order][1:] != v[order][:-1] for v in (roots, chunk_id))
            starts = 1 + np.flatnonzero(new_root | new_chunk)
            for members in np.split(order, starts):
                chunk = int(chunk_id[members[0]])
                key = chunk, members.tobytes()
                if key not in names:
                    used[chunk] = used.get(chunk, _DERIVED_COUNTER - 1) + 1
                    names[key] = chunk + used[chunk]
                out[row, members] = names[key]
        return out

    @cached_property
    def _node_members(self) -> dict[int, NDArray[np.intp]]:
        found: dict[int, NDArray[np.intp]] = {}
        for nodes in self.nodes:
            order = np.argsort(nodes, kind="stable")
            ids, starts = np.unique(nodes[order], return_index=True)
            for node, members in zip(ids.tolist(), np.split(order, starts[1:]), strict=True):
                found.setdefault(node, members)
        return found

    # ------------------------------------------------------------------ roots and leaves

    def roots_of(self, ids: NDArray[np.uint64], time: float | None, stop_layer: int = 4) -> NDArray[np.uint64]:
        """Root (or level-2 node) of supervoxels, level-2 nodes or roots at a time; 0 for unknown supervoxels.

        A node that was replaced before the time keeps its last root; before the graph was made, an id stays as it is.
        """
        row = self.row(time)
        if row < 0:
            return ids.copy()
        table = self.nodes if stop_layer == 2 else self.roots
        at = np.minimum(np.searchsorted(self.supervoxels, ids), len(self.supervoxels) - 1)
        found = np.where(self.supervoxels[at] == ids, table[row, at], np.uint64(0))
        for i in np.flatnonzero(ids >> np.uint64(_LAYER_SHIFT) != 1):
            found[i] = self._root_of_node(int(ids[i]), row, stop_layer)
        return found

    def _root_of_node(self, node: int, row: int, stop_layer: int) -> int:
        if node in self.born:
            return node
        if node >> _LAYER_SHIFT != 2 or node not in self._node_members:
            return 0
        if stop_layer == 2:
            return node
        first = self._node_members[node][0]
        rows = np.flatnonzero(self.nodes[:, first] == node)
        if rows[0] > row:
            return node
        return int(self.roots[rows[rows <= row][-1], first])

    def leaves(self, node: int, box: Box | None, stop_layer: int = 1) -> list[int]:
        """Supervoxels (or level-2 nodes) of a root or level-2 node, sorted; those of chunks that a box touches.

        Parameters
        ----------
        node
            An unknown one has no leaves.
        box
            First and last voxel (exclusive) along x, y, z, absolute.
        stop_layer
            1 or 2.
        """
        if node in self.born:
            row = self.born[node]
            members = np.flatnonzero(self.roots[row] == np.uint64(node))
        elif node >> _LAYER_SHIFT == 2 and node in self._node_members:
            members = self._node_members[node]
            row = int(np.flatnonzero(self.nodes[:, members[0]] == np.uint64(node))[0])
        else:
            return []
        if box is not None:
            low, high = np.asarray(box).T - self._offset
            first, last = low // self._chunk, -(-high // self._chunk)
            inside = (self.chunks[members] >= first) & (self.chunks[members] < last)
            members = members[inside.all(axis=1)]
        found = self.nodes[row, members] if stop_layer == 2 else self.supervoxels[members]
        return np.unique(found).tolist()

    # ------------------------------------------------------------------ history

    def is_latest(self, ids: Iterable[int], time: float | None) -> list[bool]:
        """Tell which ids are roots of the state at a time. As on the server, a level-2 node that exists is."""
        current = set(self.roots[max(self.row(time), 0)].tolist())
        return [i in current or (i >> _LAYER_SHIFT == 2 and i in self._node_members) for i in ids]

    def root_times(self, ids: list[int], latest: bool, time: float | None) -> list[float]:
        """Time at which each root was made; with ``latest`` the one at which it was replaced, or ``time``.

        A list without any known root has no times.

        Raises
        ------
        UnknownId
            If known and unknown ids are mixed.
        """
        if not any(i in self.born for i in ids):
            return []
        self._must_be_roots(ids)
        if not latest:
            return [self.made_at(i) for i in ids]
        moment = {operation: float(t) for operation, t in zip(self.operations, self.times, strict=True)}
        return [moment[self.replaced_by[i]] if i in self.replaced_by else float(time or 0) for i in ids]

    def _must_be_roots(self, ids: Iterable[int]) -> None:
        for i in ids:
            if i not in self.born:
                raise UnknownId(str(i) if i >> _LAYER_SHIFT == 4 else f"{i} is no root")

    def delta(self, past: float, future: float | None) -> dict[str, list[int]]:
        """Roots replaced and roots made by the operations whose log was closed after one time and up to another.

        As on the server, replaced roots repeat where an operation made several.
        """
        done = self.times + _LOG_DELAY_S
        inside = (done > past) & (done <= (np.inf if future is None else future))
        new = [r for o in np.asarray(self.operations)[inside].tolist() for r in self.details[o]["roots"]]
        return {"new_roots": new, "old_roots": [old for root in new for old in self.former[root]]}

    def lineage(self, roots: list[int], past: float | None, future: float | None) -> tuple[list[int], list[list[int]]]:
        """Ancestors and descendants of roots.

        Returns
        -------
        nodes
            Ids, in the order in which they are reached.
        links
            Pairs of an id and one that replaced it.

        Raises
        ------
        UnknownId
            If one is no root.
        """
        self._must_be_roots(roots)
        nodes: dict[int, dict[int, None]] = {}
        past_ids, future_ids = list(dict.fromkeys(roots)), list(dict.fromkeys(roots))
        while past_ids or future_ids:
            next_past: list[int] = []
            for k in past_ids:
                nodes.setdefault(k, {})
                if k in self.former and (past is None or self.made_at(k) >= past):
                    for old in self.former[k]:
                        nodes.setdefault(old, {})[k] = None
                    next_past += self.former[k]
            next_future: list[int] = []
            for k in future_ids:
                nodes.setdefault(k, {})
                if k in self.next and (future is None or self.made_at(k) <= future):
                    for new in self.next[k]:
                        nodes[k][new] = None
                        nodes.setdefault(new, {})
                    next_future += self.next[k]
            past_ids, future_ids = list(dict.fromkeys(next_past)), list(dict.fromkeys(next_future))
        return list(nodes), [[k, new] for k, after in nodes.items() for new in after]

    def change_logs(self, roots: list[int], filtered: bool) -> dict[str, str]:
        """Tabular change logs: root -> table as JSON text, columns of rows by index.

        Raises
        ------
        UnknownId
            If one is no root; the whole request fails.
        """
        nodes, links = self.lineage(roots, None, 0.0)  # ancestors only
        made_from: dict[int, list[int]] = {}
        replaced: dict[int, list[int]] = {}
        for old, new in links:
            made_from.setdefault(new, []).append(old)
            replaced.setdefault(old, []).append(new)
        before: dict[int, list[int]] = {}
        for node in nodes:
            if node in self.replaced_by:
                before.setdefault(self.replaced_by[node], []).append(node)
        tables = {
            root: [
                self._log_row(operation, root, before[operation], replaced)
                for operation in sorted({self.replaced_by[a] for a in _ancestors(root, made_from)})
            ]
            for root in roots
        }
        # names of users are added to all tables of a request, or to none
        users = self.users if any(tables.values()) else None
        return {str(root): _table_text(rows, filtered, users) for root, rows in tables.items()}

    def _log_row(self, operation: int, root: int, before: list[int], replaced: dict[int, list[int]]) -> dict[str, Any]:
        detail = self.details[operation]
        merge = "added_edges" in detail
        if "sink_ids" in detail:
            seeds = [*detail["sink_ids"], *detail["source_ids"]]
        else:
            seeds = np.ravel(detail["added_edges" if merge else "removed_edges"]).tolist()
        ids = np.asarray(seeds, np.uint64)
        original, current = (self.roots_of(ids, t) for t in (float(self.times[0]) - 1, self.made_at(root)))
        inside = current == np.uint64(root)
        return {
            "operation_id": operation,
            "timestamp": round(float(self.times[self.operations.index(operation)]) * 1000),
            "user_id": detail["user"],
            "before_root_ids": before,
            "after_root_ids": replaced[before[0]],
            "is_merge": merge,
            "in_neuron": bool(inside.all() if merge else inside.any()),
            "is_relevant": len(np.unique(original if merge else current)) != 1,
        }


_COLUMNS = ("operation_id", "timestamp", "user_id", "before_root_ids", "after_root_ids", "is_merge")


def _table_text(rows: list[dict[str, Any]], filtered: bool, users: Mapping[str, list[str]] | None) -> str:
    """Write a table as pandas does; rows that are left out leave a gap in the index."""
    kept = {str(i): r for i, r in enumerate(rows) if not filtered or (r["in_neuron"] and r["is_relevant"])}
    columns = _COLUMNS if filtered else (*_COLUMNS, "in_neuron", "is_relevant")
    table: dict[str, Any] = {name: {i: r[name] for i, r in kept.items()} for name in columns}
    if users is not None:
        table["user_name"] = {i: users[r["user_id"]][0] for i, r in kept.items()}
        table["user_affiliation"] = {i: users[r["user_id"]][1] for i, r in kept.items()}
    return json.dumps(table, separators=(",", ":"))


def _ancestors(root: int, made_from: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for old in made_from.get(waiting.pop(), []):
            if old not in found:
                found.add(old)
                waiting.append(old)
    return found
