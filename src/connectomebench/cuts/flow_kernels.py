"""Kernel of the minimum cut: the graphs are small and many, so that a sparse matrix for each would cost more."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def part_by_flow(
    n: int,
    edges: NDArray[np.int32],
    capacities: NDArray[np.int64],
    sources: NDArray[np.int64],
    sinks: NDArray[np.int64],
) -> NDArray[np.int8]:
    """Part an undirected graph by the minimum cut that lies nearest to the sources (Dinic's algorithm).

    Parameters
    ----------
    n
        Number of nodes.
    edges
        Shape (m, 2).
    capacities
        Shape (m,): above 0.
    sources, sinks
        Nodes; none is both.

    Returns
    -------
    NDArray[np.int8]
        Shape (n,): +1 connected to a source after the cut, -1 to a sink, 0 to neither.
    """
    m = len(edges)
    # edge e is the arcs 2e (from its first node) and 2e + 1 (back); residual capacity moves between the two
    head = np.empty(2 * m, np.int64)
    residual = np.empty(2 * m, np.int64)
    first = np.zeros(n + 1, np.int64)  # where the arcs of each node begin in `arcs`
    for e in range(m):
        head[2 * e], head[2 * e + 1] = edges[e, 1], edges[e, 0]
        residual[2 * e] = residual[2 * e + 1] = capacities[e]
        first[edges[e, 0] + 1] += 1
        first[edges[e, 1] + 1] += 1
    # plain loops: numba compiles cumsum, where and an assignment to many nodes at once for longer than all of this
    for node in range(n):
        first[node + 1] += first[node]
    arcs = np.empty(2 * m, np.int64)
    free = first[:-1].copy()
    for arc in range(2 * m):
        node = head[arc ^ 1]
        arcs[free[node]] = arc
        free[node] += 1

    is_sink = np.zeros(n, np.bool_)
    for sink in sinks:
        is_sink[sink] = True
    level = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)
    path = np.empty(n, np.int64)
    while _levels(first, arcs, head, residual, sources, is_sink, level, queue):
        following = first[:-1].copy()
        for source in sources:
            _augment(source, first, arcs, head, residual, is_sink, level, following, path)

    # without a way to a sink left, the levels are those of the nodes that sources reach
    side = np.zeros(n, np.int8)
    for node in range(n):
        side[node] = level[node] >= 0
    size = 0
    for sink in sinks:
        if side[sink] == 0:
            side[sink] = -1
            queue[size] = sink
            size += 1
    at = 0
    while at < size:
        for k in range(first[queue[at]], first[queue[at] + 1]):
            node = head[arcs[k]]
            if side[node] == 0:
                side[node] = -1
                queue[size] = node
                size += 1
        at += 1
    return side


@njit(nogil=True, cache=True)
def _levels(
    first: NDArray[np.int64],
    arcs: NDArray[np.int64],
    head: NDArray[np.int64],
    residual: NDArray[np.int64],
    sources: NDArray[np.int64],
    is_sink: NDArray[np.bool_],
    level: NDArray[np.int64],
    queue: NDArray[np.int64],
) -> bool:
    """Write the distance of each node from the sources in the residual graph, -1 for none; return if a sink has one."""
    level[:] = -1
    size = 0
    for source in sources:
        if level[source] < 0:
            level[source] = 0
            queue[size] = source
            size += 1
    reached = False
    at = 0
    while at < size:
        node = queue[at]
        at += 1
        for k in range(first[node], first[node + 1]):
            other = head[arcs[k]]
            if residual[arcs[k]] > 0 and level[other] < 0:
                level[other] = level[node] + 1
                if is_sink[other]:
                    reached = True
                queue[size] = other
                size += 1
    return reached


@njit(nogil=True, cache=True)
def _augment(
    source: int,
    first: NDArray[np.int64],
    arcs: NDArray[np.int64],
    head: NDArray[np.int64],
    residual: NDArray[np.int64],
    is_sink: NDArray[np.bool_],
    level: NDArray[np.int64],
    following: NDArray[np.int64],
    path: NDArray[np.int64],
) -> None:
    """Send flow from one source to sinks, one level a step, until none gets through; ``following`` skips dead arcs."""
    node, length = source, 0
    while True:
        if is_sink[node]:
            narrowest = residual[path[0]]
            for k in range(1, length):
                narrowest = min(narrowest, residual[path[k]])
            back = length
            for k in range(length - 1, -1, -1):
                residual[path[k]] -= narrowest
                residual[path[k] ^ 1] += narrowest
                if residual[path[k]] == 0:
                    back = k  # go on from the first arc that is full
            node, length = head[path[back] ^ 1], back
            continue
        onward = -1
        while following[node] < first[node + 1]:
            arc = arcs[following[node]]
            if residual[arc] > 0 and level[head[arc]] == level[node] + 1:
                onward = arc
                break
            following[node] += 1
        if onward >= 0:
            path[length] = onward
            length += 1
            node = head[onward]
        elif length == 0:
            return
        else:
            length -= 1
            node = head[path[length] ^ 1]
            following[node] += 1
