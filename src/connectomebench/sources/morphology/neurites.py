"""Make smooth, evenly sampled neurites from published skeletons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from connectomebench.core.geometry import Skeleton


def chains(edges: NDArray[np.integer], n_nodes: int) -> list[NDArray[np.int64]]:
    """Split a forest into its unbranched stretches.

    Parameters
    ----------
    edges
        Integers, shape (n_edges, 2).
    n_nodes
        Number of nodes.

    Returns
    -------
    list of int64 arrays
        Each runs from an end or branch point to the next one, both included.
    """
    ends = np.concatenate([edges[:, 0], edges[:, 1]])
    others = np.concatenate([edges[:, 1], edges[:, 0]])[np.argsort(ends, kind="stable")].tolist()
    degree = np.bincount(ends, minlength=n_nodes)
    start = np.concatenate([[0], np.cumsum(degree)]).tolist()
    degree = degree.tolist()
    found = []
    for first in range(n_nodes):
        if degree[first] == 2:
            continue
        for k in range(start[first], start[first + 1]):
            before, here = first, others[k]
            chain = [first, here]
            while degree[here] == 2:
                a, b = others[start[here]], others[start[here] + 1]
                before, here = here, (b if a == before else a)
                chain.append(here)
            if first < here:  # each stretch is visited from both sides
                found.append(np.array(chain))
    return found


def prune_hidden_twigs(skeleton: Skeleton) -> Skeleton:
    """Remove twigs that end inside the tube they grow from.

    Skeletons have short twigs where a neurite is thick (mostly in the soma). Their ends are invisible from outside.
    """
    nodes, edges, radii = skeleton.nodes_nm, skeleton.edges, skeleton.radii_nm
    while True:
        degree = np.bincount(edges.ravel(), minlength=len(nodes))
        hidden = np.zeros(len(nodes), bool)
        for chain in chains(edges, len(nodes)):
            for tip_first in (chain, chain[::-1]):
                tip, fork = tip_first[0], tip_first[-1]
                if degree[tip] == 1 and degree[fork] > 2:
                    reach = np.linalg.norm(nodes[tip] - nodes[fork]) + radii[tip]
                    if reach < 1.25 * radii[fork] + 50:
                        hidden[tip_first[:-1]] = True
        if not hidden.any():
            return Skeleton(nodes, edges, radii)
        nodes, edges, radii = _keep(nodes, edges, radii, ~hidden)


def _keep(
    nodes: NDArray[np.float32], edges: NDArray[np.int32], radii: NDArray[np.float32], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    number = np.cumsum(keep) - 1
    return nodes[keep], number[edges[keep[edges].all(axis=1)]].astype(np.int32), radii[keep]


def resample(skeleton: Skeleton, step_nm: float) -> Skeleton:
    """Resample each unbranched stretch at even distances.

    Parameters
    ----------
    skeleton
        A forest.
    step_nm
        Target distance of nodes, nm; stretches are divided evenly, ends and branch points stay.

    Returns
    -------
    Skeleton
        Nodes of stretches are contiguous and the first nodes are the ends and branch points.
    """
    degree = skeleton.degrees()
    fixed = np.flatnonzero((degree != 2) & (degree > 0))
    number = np.full(len(degree), -1)
    number[fixed] = np.arange(len(fixed))
    values = np.concatenate([skeleton.nodes_nm, skeleton.radii_nm[:, None]], axis=1).astype(np.float64)
    rows, edges, count = [values[fixed]], [np.zeros((0, 2), np.int64)], len(fixed)
    for chain in chains(skeleton.edges, len(degree)):
        along = values[chain]
        at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(along[:, :3], axis=0), axis=1))])
        pieces = max(1, round(at[-1] / step_nm))
        inner = np.linspace(0, at[-1], pieces + 1)[1:-1]
        rows.append(np.stack([np.interp(inner, at, along[:, k]) for k in range(4)], axis=1))
        ids = np.concatenate([[number[chain[0]]], count + np.arange(len(inner)), [number[chain[-1]]]])
        edges.append(np.stack([ids[:-1], ids[1:]], axis=1))
        count += len(inner)
    table = np.concatenate(rows)
    return Skeleton(
        table[:, :3].astype(np.float32), np.concatenate(edges).astype(np.int32), table[:, 3].astype(np.float32)
    )


def smooth(skeleton: Skeleton, rounds: int, min_radius_nm: float) -> Skeleton:
    """Smooth the lattice steps of a skeleton and its radii.

    Parameters
    ----------
    skeleton
        Evenly sampled.
    rounds
        Number of averaging steps; each moves a node halfway to the mean of its neighbours.
    min_radius_nm
        Radii are raised to this, nm.

    Returns
    -------
    Skeleton
        Ends and branch points unchanged; radii smoothed everywhere.
    """
    n = len(skeleton.nodes_nm)
    ends = np.concatenate([skeleton.edges, skeleton.edges[:, ::-1]])
    degree = np.maximum(skeleton.degrees(), 1)
    mean = csr_array((1.0 / degree[ends[:, 0]], (ends[:, 0], ends[:, 1])), shape=(n, n))
    moves = (skeleton.degrees() == 2)[:, None]
    nodes = skeleton.nodes_nm.astype(np.float64)
    radii = np.maximum(skeleton.radii_nm.astype(np.float64), min_radius_nm)
    for _ in range(rounds):
        nodes = np.where(moves, (nodes + mean @ nodes) / 2, nodes)
        radii = (radii + mean @ radii) / 2
    return Skeleton(nodes.astype(np.float32), skeleton.edges, radii.astype(np.float32))
