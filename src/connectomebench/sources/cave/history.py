"""Edit history: operations, and which of them are corrections.

A merge is a correction if both its sides are one segment in the final state, a split if they are two. So operations
that were undone or reversed later are not corrections, whatever reversed them, nor are those that changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.ids import exact_id
from connectomebench.core.site import Point
from connectomebench.sources.cave.graph import Graph

Outcome = Literal["correction", "inverted"]

UNREADABLE_DETAILS = "details that cannot be read"
UNREADABLE_ROOTS = "final roots that cannot be read"


@dataclass(frozen=True)
class Operation:
    """An edit by a person that changed the graph.

    Attributes
    ----------
    operation_id
        Of the server.
    kind
        ``merge`` or ``split``.
    time
        When it was done, UTC.
    roots_before, roots_after
        Segments that it replaced, and segments that it made.
    sources_nm, sinks_nm
        Points set by the proofreader on either side, nm.
    sources, sinks
        The supervoxels under them.
    undone
        Reversed by an undo that was not itself undone.
    """

    operation_id: int
    kind: Literal["merge", "split"]
    time: datetime
    roots_before: tuple[int, ...]
    roots_after: tuple[int, ...]
    sources_nm: tuple[Point, ...]
    sinks_nm: tuple[Point, ...]
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    undone: bool

    @property
    def edit_id(self) -> str:
        """Name of the correction in rows and manifest."""
        return f"operation-{self.operation_id}"

    @property
    def place_nm(self) -> Point:
        """Middle between the mean source and the mean sink (x, y, z), nm."""
        middles = (np.mean(self.sources_nm, axis=0) + np.mean(self.sinks_nm, axis=0)) / 2
        x, y, z = (float(c) for c in middles)
        return x, y, z

    @property
    def before(self) -> datetime:
        """Last time before the operation, UTC; the server counts in milliseconds."""
        return self.time - timedelta(milliseconds=1)

    @property
    def after(self) -> datetime:
        """First time after the operation, UTC."""
        return self.time + timedelta(milliseconds=1)


@dataclass(frozen=True)
class JudgedOperation:
    """An operation and its outcome in the final state.

    Attributes
    ----------
    operation
        The edit.
    outcome
        ``correction``: it stands in the final state. ``inverted``: it was reversed since (a merge that was undone or
        split again, a split that was merged again).
    bodies
        Final roots of the source and of the sink side; the same one twice where they are one.
    """

    operation: Operation
    outcome: Outcome
    bodies: tuple[int, int]


def read_operations(
    graph: Graph, roots: Iterable[int], until: datetime
) -> tuple[list[Operation], dict[int, str], dict[int, str]]:
    """Read the operations in the history of final roots.

    Parameters
    ----------
    graph
        The server.
    roots
        Final roots.
    until
        Later operations are left out, UTC.

    Returns
    -------
    operations
        Sorted by id, each once.
    left_out
        Operation -> why it is not an edit: refused by the server, undo or redo of another one, without points, without
        an effect, details that cannot be read.
    failed
        Root -> why its history cannot be read.
    """
    logs, failed = graph.change_logs(roots)
    entries: dict[int, dict[str, Any]] = {}
    for columns in logs.values():
        for row, operation in enumerate(columns.get("operation_id", [])):
            if operation == operation:  # a row without a number is NaN
                entries[int(operation)] = {name: values[row] for name, values in columns.items()}
    voxel = np.asarray(graph.voxel_nm())
    details, unread = graph.operation_details(entries)
    undone = _undone(details)
    left_out: dict[int, str] = dict.fromkeys(unread, UNREADABLE_DETAILS)
    operations = []
    for number in sorted(entries.keys() - unread.keys()):
        try:
            made = _operation(number, entries[number], details.get(number), voxel, number in undone)
        except (KeyError, TypeError, ValueError, OverflowError):
            made = UNREADABLE_DETAILS
        if isinstance(made, str):
            left_out[number] = made
        elif made.time > until:
            left_out[number] = "after the final state"
        else:
            operations.append(made)
    return operations, left_out, failed


def _undone(details: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """Return the operations that are undone in the end, applying undos and redos in order.

    An undo of an undo is a redo and vice versa, so each is followed to the edit that it is about.
    """
    about: dict[int, int] = {}
    takes_back: dict[int, bool] = {}
    undone: set[int] = set()
    for number in sorted(details):
        detail = details[number]
        if detail.get("operation_status", 0) != 0:
            continue
        undo = detail.get("undo_operation_id")
        target = undo if undo is not None else detail.get("redo_operation_id")
        if target is None:
            continue
        target = int(target)
        # an undo reverses what its target did to the operation, a redo repeats it
        takes_back[number] = takes_back.get(target, False) != (undo is not None)
        about[number] = about.get(target, target)
        (undone.add if takes_back[number] else undone.discard)(about[number])
    return undone


def _operation(
    number: int,
    entry: Mapping[str, Any],
    detail: Mapping[str, Any] | None,
    voxel_nm: NDArray[np.float64],
    undone: bool,
) -> Operation | str:
    """Make an operation from log and details; or return the reason why it is not an edit."""
    if detail is None:
        return "no details on the server"
    if detail.get("operation_status", 0) != 0:
        return "refused by the server"
    if "undo_operation_id" in detail or "redo_operation_id" in detail:
        return "undo or redo of another operation"
    before, after = _ids(entry.get("before_root_ids")), _ids(detail.get("roots"))
    merge = bool(entry["is_merge"])
    sources_nm, sinks_nm = (_points(detail.get(key), voxel_nm) for key in ("source_coords", "sink_coords"))
    if not sources_nm or not sinks_nm:
        return "without points"
    if merge:
        edges = detail.get("added_edges") or []
        sources, sinks = (tuple(exact_id(edge[side]) for edge in edges) for side in (0, 1))
    else:
        sources, sinks = _ids(detail.get("source_ids")), _ids(detail.get("sink_ids"))
    if not sources or not sinks:
        return "without supervoxels"
    # a split that separated nothing still makes one new root
    if (merge and len(before) < 2) or (not merge and len(after) < 2):
        return "without an effect"
    time = datetime.fromtimestamp(int(entry["timestamp"]) / 1000, UTC)
    return Operation(
        number, "merge" if merge else "split", time, before, after, sources_nm, sinks_nm, sources, sinks, undone
    )


def _ids(values: Any) -> tuple[int, ...]:
    return tuple(exact_id(v) for v in values or ())


def _points(voxels: Any, voxel_nm: NDArray[np.float64]) -> tuple[Point, ...]:
    """Return centres of voxels, nm: operations state whole voxels."""
    if not voxels:
        return ()
    centres = (np.asarray(voxels, np.float64).reshape(-1, 3) + 0.5) * voxel_nm
    return tuple((float(x), float(y), float(z)) for x, y, z in centres)


def judge_operations(
    graph: Graph, operations: list[Operation], until: datetime
) -> tuple[list[JudgedOperation], dict[int, str]]:
    """Compare each operation with the final state.

    The final roots of all supervoxels that operations touched are read in few, large requests. This is the set
    difference of supervoxels between the ancestors and the final roots, taken at the place of the edit: a merge stands
    where the partner's supervoxels are among those gained, a split where they are among those lost.

    Parameters
    ----------
    graph
        The server.
    operations
        What :func:`read_operations` found.
    until
        Time of the final state, UTC.

    Returns
    -------
    judged
        In the order of ``operations``.
    left_out
        Operation -> why it is not judged: a side that is gone, in several final roots itself, or cannot be read.
    """
    touched = [np.asarray((*o.sources, *o.sinks), np.uint64) for o in operations]
    every = np.concatenate(touched) if touched else np.zeros(0, np.uint64)
    final, failed = graph.readable_roots(every, until)
    judged: list[JudgedOperation] = []
    left_out: dict[int, str] = {}
    start = 0
    for operation, ids in zip(operations, touched, strict=True):
        found = final[start : start + len(ids)]
        start += len(ids)
        outcome = UNREADABLE_ROOTS if not failed.keys().isdisjoint(ids.tolist()) else _outcome(operation, found)
        if isinstance(outcome, str):
            left_out[operation.operation_id] = outcome
        else:
            judged.append(outcome)
    return judged, left_out


def _outcome(operation: Operation, final: NDArray[np.uint64]) -> JudgedOperation | str:
    sides = final[: len(operation.sources)], final[len(operation.sources) :]
    if not final.all():
        return "a supervoxel without a final root"
    bodies = []
    for side in sides:
        # seeds of one side may lie in several final roots; the side is what most of them belong to
        ids, counts = np.unique(side, return_counts=True)
        if 2 * counts.max() <= counts.sum() and len(ids) > 1:
            return "a side in several final roots"
        bodies.append(int(ids[np.argmax(counts)]))
    joined = bodies[0] == bodies[1]
    stands = joined if operation.kind == "merge" else not joined
    if stands and operation.undone:
        return "undone, and done again by another operation"
    return JudgedOperation(operation, "correction" if stands else "inverted", (bodies[0], bodies[1]))


@dataclass(frozen=True)
class RootDifference:
    """Supervoxels that a final root gained and lost since an earlier time.

    Attributes
    ----------
    root
        The final root.
    base
        The ancestor that makes up most of it.
    gained
        Other ancestor -> supervoxels of it that are part of the root now; uint64, sorted.
    lost
        Final root -> supervoxels of ``base`` that belong to it now; uint64, sorted.
    """

    root: int
    base: int
    gained: dict[int, NDArray[np.uint64]]
    lost: dict[int, NDArray[np.uint64]]


def differences(graph: Graph, roots: list[int], since: datetime, until: datetime) -> list[RootDifference]:
    """Compare final roots with their ancestors, supervoxel by supervoxel.

    The net effect of all edits between two times: a gained set is a merge with its partner root, a
    lost one a split. Used to check the operations. It reads every supervoxel of the neurons.

    Parameters
    ----------
    graph
        The server.
    roots
        Roots that are current at ``until``.
    since, until
        Times, UTC.

    Raises
    ------
    SiteUnavailable
        If the server does not know a root.
    """
    leaves = graph.leaves(roots)
    before = _roots_of_all(graph, leaves, since)
    bases = {}
    for root in roots:
        ids, counts = np.unique(before[root], return_counts=True)
        if not len(ids):
            raise SiteUnavailable(f"root {root} has no supervoxels")
        bases[root] = int(ids[np.argmax(counts)])
    ancestors = graph.leaves(sorted(set(bases.values())))
    now = _roots_of_all(graph, ancestors, until)
    found = []
    for root in roots:
        base = bases[root]
        gained = {int(a): np.sort(leaves[root][before[root] == a]) for a in np.unique(before[root]) if int(a) != base}
        ends = now[base]
        lost = {int(b): np.sort(ancestors[base][ends == b]) for b in np.unique(ends) if int(b) not in (root, 0)}
        found.append(RootDifference(root, base, gained, lost))
    return found


def _roots_of_all(
    graph: Graph, supervoxels: Mapping[int, NDArray[np.uint64]], when: datetime
) -> dict[int, NDArray[np.uint64]]:
    """Return the roots of the supervoxels of several nodes, read together."""
    parts = list(supervoxels.values())
    found = graph.roots(np.concatenate(parts) if parts else np.zeros(0, np.uint64), when)
    ends = np.cumsum([len(part) for part in parts])
    return dict(zip(supervoxels, np.split(found, ends[:-1]), strict=True)) if parts else {}
