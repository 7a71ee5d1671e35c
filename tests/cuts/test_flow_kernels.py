"""The kernel against scipy: the same flow gets through, and the same pieces are reached."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

from connectomebench.cuts.flow_kernels import part_by_flow


def by_scipy(
    n: int, edges: NDArray[np.int32], capacities: NDArray[np.int64], sources: list[int], sinks: list[int]
) -> NDArray[np.int8]:
    """Maximum flow between one node before all sources and one behind all sinks, and what is left of the graph."""
    a, b = edges.T
    endless = np.full(len(sources) + len(sinks), capacities.sum() + 1)
    rows = np.concatenate([a, b, np.full(len(sources), n), sinks])
    columns = np.concatenate([b, a, sources, np.full(len(sinks), n + 1)])
    data = np.concatenate([capacities, capacities, endless]).astype(np.int32)
    network = coo_array((data, (rows, columns)), shape=(n + 2, n + 2)).tocsr()
    network.indices, network.indptr = network.indices.astype(np.int32), network.indptr.astype(np.int32)
    residual = (network - maximum_flow(network, n, n + 1).flow).tocsr()
    residual.eliminate_zeros()
    reached = np.zeros(n + 2, np.bool_)
    reached[breadth_first_order(residual, n, return_predecessors=False)] = True
    kept = reached[a] == reached[b]
    links = coo_array((np.ones(kept.sum()), (a[kept], b[kept])), shape=(n, n))
    piece = connected_components(links, directed=False)[1]
    return np.where(np.isin(piece, piece[sources]), 1, -np.isin(piece, piece[sinks]).astype(int)).astype(np.int8)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_graph_is_parted_as_scipy_does(data: st.DataObject) -> None:
    """Several seeds, edges given twice, pieces that hang on nothing, and capacities that tie."""
    n = data.draw(st.integers(2, 24))
    order = data.draw(st.permutations(range(n)))
    first = data.draw(st.integers(1, n - 1))
    sources, sinks = order[:first][:3], order[first:][: data.draw(st.integers(1, 3))]
    node = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(node, node).filter(lambda pair: pair[0] != pair[1]), max_size=4 * n))
    most = data.draw(st.sampled_from([2, 10_000]))
    sizes = data.draw(st.lists(st.integers(1, most), min_size=len(pairs), max_size=len(pairs)))
    edges, capacities = np.asarray(pairs, np.int32).reshape(-1, 2), np.asarray(sizes, np.int64)
    found = part_by_flow(n, edges, capacities, np.asarray(sources), np.asarray(sinks))
    np.testing.assert_array_equal(found, by_scipy(n, edges, capacities, sources, sinks))


def test_flow_is_sent_back_where_a_first_way_was_wrong() -> None:
    # the short way 0-1-2-3 must give way to 0-1-4-3 and 0-5-2-3
    edges = np.array([[0, 1], [1, 2], [2, 3], [0, 5], [5, 2], [1, 4], [4, 3]], np.int32)
    side = part_by_flow(6, edges, np.array([1, 1, 1, 1, 1, 1, 9], np.int64), np.array([0]), np.array([3]))
    assert side.tolist() == [1, -1, -1, -1, -1, -1]
