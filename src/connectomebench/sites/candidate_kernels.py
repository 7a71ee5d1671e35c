"""Compiled walks along a skeleton: constriction of nodes and path length between them."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def constrictions(starts, neighbours, lengths, radii, reach):
    """Measure how much thinner each node is than the neurite on both sides of it.

    Parameters
    ----------
    starts, neighbours, lengths
        The skeleton as a table of neighbours (compressed sparse rows): int, int, float64 (nm).
    radii
        float64, shape (n,), nm.
    reach
        Length of the walk on each side, nm.

    Returns
    -------
    float64, shape (n,): 1 - radius / largest radius on the side where that is second largest; 0 at ends.
    """
    n = len(radii)
    found = np.zeros(n)
    seen = np.full(n, -1, np.int64)
    stack = np.empty(n, np.int64)
    walked = np.zeros(n)
    for node in range(n):
        first, last = starts[node], starts[node + 1]
        if last - first < 2:
            continue
        largest, second = 0.0, 0.0
        seen[node] = node
        for k in range(first, last):
            if seen[neighbours[k]] == node:
                continue  # two sides that meet again within reach
            thickest, top = 0.0, 1
            stack[0], walked[0] = neighbours[k], lengths[k]
            seen[neighbours[k]] = node
            while top > 0:
                top -= 1
                here, far = stack[top], walked[top]
                thickest = max(thickest, radii[here])
                for e in range(starts[here], starts[here + 1]):
                    there = neighbours[e]
                    if seen[there] != node and far + lengths[e] <= reach:
                        seen[there] = node
                        stack[top], walked[top] = there, far + lengths[e]
                        top += 1
            if thickest > largest:
                largest, second = thickest, largest
            elif thickest > second:
                second = thickest
        if second > 0:
            found[node] = max(0.0, 1 - radii[node] / second)
    return found


@njit(nogil=True, cache=True)
def detours(starts, neighbours, lengths, pairs, straight, longest):
    """Measure the ratio of path length along the skeleton to straight distance between two nodes.

    Parameters
    ----------
    starts, neighbours, lengths
        As for :func:`constrictions`.
    pairs
        int64, shape (m, 2), sorted: nodes.
    straight
        float64, shape (m,): distance of the two, nm.
    longest
        Upper limit of the ratio, also used for nodes that are not connected.

    Returns
    -------
    float64, shape (m,): ratio, at most ``longest``. On a skeleton with cycles it is that of the path found first.
    """
    n = len(starts) - 1
    found = np.full(len(pairs), longest)
    seen = np.full(n, -1, np.int64)
    stack = np.empty(n, np.int64)
    walked = np.zeros(n)
    for row in range(len(pairs)):
        limit = longest * straight[row]
        goal, top = pairs[row, 1], 1
        stack[0], walked[0] = pairs[row, 0], 0.0
        seen[pairs[row, 0]] = row
        while top > 0:
            top -= 1
            here, far = stack[top], walked[top]
            if here == goal:
                found[row] = far / max(straight[row], 1e-9)
                break
            for e in range(starts[here], starts[here + 1]):
                there = neighbours[e]
                if seen[there] != row and far + lengths[e] <= limit:
                    seen[there] = row
                    stack[top], walked[top] = there, far + lengths[e]
                    top += 1
    return found


@njit(nogil=True, cache=True)
def joined_sizes(first, second, sizes):
    """Join nodes edge by edge, and measure what each edge joins.

    Parameters
    ----------
    first, second
        int64, shape (m,): nodes of each edge, in the order in which they are joined.
    sizes
        int64, shape (n,): of the nodes.

    Returns
    -------
    int64, shape (m,): size of the smaller of the two parts that the edge joins; -1 where it joins a part to itself.
    """
    parent = np.arange(len(sizes))
    size = sizes.copy()
    found = np.full(len(first), -1, np.int64)
    for edge in range(len(first)):
        one, other = first[edge], second[edge]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        if one != other:
            found[edge] = min(size[one], size[other])
            if size[one] < size[other]:
                one, other = other, one
            parent[other] = one
            size[one] += size[other]
    return found
