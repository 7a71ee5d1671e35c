"""The two sides of a cut: nodes of one side stay whole, nodes of both are cut by a plane between their neighbours."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from chunk_meshes import CHUNK, OFFSET, VOXEL_NM, Chunk, Node, draco, level2_nodes, node_id
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from connectomebench.core.geometry import EMPTY_MESH, Mesh
from connectomebench.sources.cave.bisection import Piece, bisect, split_sides
from connectomebench.sources.cave.meshes import join_meshes


def area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices_nm[mesh.faces].astype(float), 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def volume(mesh: Mesh, origin: np.ndarray) -> float:
    """Seen from a point of the cut's plane the missing cap adds nothing, so this is the volume of the closed part."""
    a, b, c = np.moveaxis(mesh.vertices_nm[mesh.faces] - origin, 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def box_mesh(lower: tuple[float, float, float], upper: tuple[float, float, float], open_ends: bool = False) -> Mesh:
    """A closed box, or a tube along x that is open at both ends."""
    ends = np.array([lower, upper], np.float32)
    vertices = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    quads = [(0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)] + [(0, 1, 3, 2), (4, 6, 7, 5)] * (not open_ends)
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return Mesh(vertices.astype(np.float32), np.array(faces, np.int32))


def blob(seed: int) -> Mesh:
    """A closed surface of marching cubes with several parts and holes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((16, 16, 16), bool)
    mask[2:14, 2:14, 2:14] = rng.random((12, 12, 12)) < 0.6
    return join_meshes([node.mesh for node in level2_nodes(mask).values()])


BLOBS = [blob(seed) for seed in range(4)]
DIRECTION = st.tuples(*[st.integers(-4, 4)] * 3).filter(any)


@given(
    which=st.integers(0, 3),
    at=st.tuples(*[st.floats(0, 16) | st.integers(0, 32).map(lambda i: i / 2)] * 3),
    normal=DIRECTION,
)
@settings(max_examples=100, deadline=None)
@example(which=0, at=(8.5, 8.0, 8.0), normal=(1, 0, 0))  # through vertices, edges and faces
@example(which=0, at=(8.0, 8.0, 8.0), normal=(1, 1, 1))
def test_halves_make_up_the_whole_and_stay_on_their_side(
    which: int, at: tuple[float, float, float], normal: tuple[int, int, int]
) -> None:
    mesh = BLOBS[which]
    point = (np.array(at) + OFFSET) * VOXEL_NM
    direction = np.array(normal, float)
    front, back = bisect(mesh, point, direction)
    unit = direction / np.linalg.norm(direction)
    rounding = 0.005  # of float32 at 26,000 nm
    assert ((front.vertices_nm - point) @ unit >= -rounding).all()
    assert ((back.vertices_nm - point) @ unit <= rounding).all()
    assert area(front) + area(back) == pytest.approx(area(mesh), rel=1e-4)
    whole = volume(mesh, point)
    assert volume(front, point) + volume(back, point) == pytest.approx(whole, rel=1e-4)
    assert volume(front, point) >= -1e-4 * whole and volume(back, point) >= -1e-4 * whole
    other_back, other_front = bisect(mesh, point, -direction)
    for a, b in ((front, other_front), (back, other_back)):
        np.testing.assert_array_equal(a.vertices_nm, b.vertices_nm)
        np.testing.assert_array_equal(a.faces, b.faces)


@given(share=st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_a_box_is_cut_at_the_right_place(share: float) -> None:
    mesh = box_mesh((1000, 2000, 3000), (1100, 2200, 3400))
    point = np.array([1000 + 100 * share, 2100, 3100])
    front, back = bisect(mesh, point, np.array([3.0, 0, 0]))
    assert volume(front, point) == pytest.approx((1 - share) * 8e6, rel=1e-3)
    assert volume(back, point) == pytest.approx(share * 8e6, rel=1e-3)


def test_the_cut_is_one_open_line_and_everything_else_stays_closed() -> None:
    mesh = box_mesh((0, 0, 0), (100, 100, 100))
    point, normal = np.array([50.0, 50, 50]), np.array([1.0, 2, 3])
    for half in bisect(mesh, point, normal):
        starts, ends = half.faces.ravel(), np.roll(half.faces, -1, axis=1).ravel()
        edges = set(zip(starts.tolist(), ends.tolist(), strict=True))
        open_edges = [(a, b) for a, b in edges if (b, a) not in edges]
        assert len(edges) == len(starts)
        on_plane = np.abs((half.vertices_nm - point) @ normal) < 1e-3
        assert open_edges and all(on_plane[a] and on_plane[b] for a, b in open_edges)
        assert sorted(a for a, _ in open_edges) == sorted(b for _, b in open_edges)


def test_a_face_in_the_plane_goes_with_the_volume_it_bounds() -> None:
    mesh = box_mesh((0, 0, 0), (100, 100, 100))
    front, back = bisect(mesh, np.array([0.0, 0, 0]), np.array([1.0, 0, 0]))
    assert back.is_empty and len(front.faces) == 12
    front, back = bisect(mesh, np.array([100.0, 0, 0]), np.array([1.0, 0, 0]))
    assert front.is_empty and len(back.faces) == 12


def crossing_tubes() -> tuple[np.ndarray, np.ndarray]:
    """Two tubes along x that touch in the middle one of three chunks, where both are bent towards the other."""
    x, y, z = np.meshgrid(np.arange(48), np.arange(32), np.arange(16), indexing="ij")
    bend = 1.5 * np.exp(-(((x - 24) / 4) ** 2))
    first, second = np.hypot(y - 4 - bend, z - 8) < 2.6, np.hypot(y - 11 + bend, z - 8) < 2.6
    inside = (x > 2) & (x < 45)
    return first & inside, second & inside


def pieces_of(sides: tuple[np.ndarray, np.ndarray], points: bool) -> dict[int, Piece]:
    pieces = {}
    for i, node in level2_nodes(sides[0] | sides[1]).items():
        inside = [node.voxels & side for side in sides]
        own = [(np.argwhere(mask)[::7] + OFFSET) * VOXEL_NM for mask in inside]
        counts = (int(inside[0].sum()), int(inside[1].sum()))
        pieces[i] = Piece(node.mesh, node.chunk, counts)
        if points:
            pieces[i] = replace(pieces[i], points_nm=(own[0], own[1]))
    return pieces


def corners(mesh: Mesh) -> set[bytes]:
    return {face.tobytes() for face in mesh.vertices_nm[mesh.faces] + np.float32(0)}


def decoded(piece: Piece) -> Mesh:
    from cloudvolume import Mesh as StoredMesh

    stored = StoredMesh.from_draco(draco(piece.mesh, piece.chunk))
    return Mesh(stored.vertices, stored.faces.astype(np.int32))


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("points", [False, True])
def test_merged_neurites_come_apart(points: bool, rounded: bool) -> None:
    sides = crossing_tubes()
    pieces = pieces_of(sides, points)
    if rounded:
        pieces = {i: replace(piece, mesh=decoded(piece)) for i, piece in pieces.items()}
    mixed = [i for i, piece in pieces.items() if min(piece.counts) > 0]
    assert [pieces[i].chunk for i in mixed] == [(1, 0, 0)] and len(pieces) == 5
    halves = split_sides(pieces)
    for side, mask, half in zip((0, 1), sides, halves, strict=True):
        pure = [p.mesh for p in pieces.values() if p.counts[side] > 0 and p.counts[1 - side] == 0]
        assert len(pure) == 2
        for mesh in pure:
            assert corners(join_meshes([mesh])) <= corners(half)
        distance, _ = KDTree((np.argwhere(mask) + OFFSET) * VOXEL_NM).query(half.vertices_nm)
        assert np.mean(distance <= VOXEL_NM * (1.3 if rounded else 1)) > 0.97
    total = area(join_meshes([piece.mesh for piece in pieces.values()]))
    assert area(halves[0]) + area(halves[1]) == pytest.approx(total, rel=1e-4)


def same(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices_nm, b.vertices_nm) and np.array_equal(a.faces, b.faces)


@cache
def scattered_nodes(seed: int) -> dict[int, Node]:
    mask = np.zeros((48, 32, 16), bool)
    kept = np.random.default_rng(seed).random((11, 7, 3)) < 0.5
    mask[2:46, 2:30, 2:14] = np.kron(kept, np.ones((4, 4, 4), bool))
    return level2_nodes(mask)


@given(seed=st.integers(0, 5), points=st.booleans(), data=st.data())
@settings(max_examples=20, deadline=None)
def test_swapping_sides_swaps_meshes_and_no_area_is_lost(seed: int, points: bool, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    pieces = {}
    for i, node in scattered_nodes(seed).items():
        counts = data.draw(st.sampled_from([(3, 0), (0, 2), (1, 2), (2, 1), (2, 2), (0, 0)]))
        own = rng.permutation(node.mesh.vertices_nm)[:6].astype(float).reshape(2, 3, 3)
        pieces[i] = (
            Piece(node.mesh, node.chunk, counts, (own[0], own[1])) if points else Piece(node.mesh, node.chunk, counts)
        )
    assume(any(min(piece.counts) > 0 for piece in pieces.values()))
    source, sink = split_sides(pieces)
    swapped = {i: replace(p, counts=p.counts[::-1], points_nm=p.points_nm[::-1]) for i, p in pieces.items()}
    other_sink, other_source = split_sides(swapped)
    assert same(source, other_source) and same(sink, other_sink)
    reordered = split_sides({i: pieces[i] for i in reversed(pieces)})
    assert area(source) + area(sink) == pytest.approx(area(reordered[0]) + area(reordered[1]), rel=1e-4, abs=1e-3)
    assert area(source) == pytest.approx(area(reordered[0]), rel=1e-4, abs=1e-3)
    used = [p.mesh for p in pieces.values() if any(p.counts)]
    lost = sum(area(p.mesh) for p in pieces.values() if p.counts == (2, 2))  # a tie may go to neither
    assert area(join_meshes(used)) - lost - 1 <= area(source) + area(sink) <= area(join_meshes(used)) * (1 + 1e-4) + 1
    if points:
        assert area(source) + area(sink) == pytest.approx(area(join_meshes(used)), rel=1e-4, abs=1e-3)


LENGTH = CHUNK * VOXEL_NM


def link(k: int, counts: tuple[int, int], y: float = 0.0, chunk_y: int = 0, number: int = 1) -> tuple[int, Piece]:
    """A tube that fills chunk ``k`` along x and is open at both ends."""
    mesh = box_mesh((k * LENGTH, y, 0), ((k + 1) * LENGTH, y + 40, 40), open_ends=True)
    chunk: Chunk = (k, chunk_y, 0)
    return node_id(chunk, number), Piece(mesh, chunk, counts)


def span(mesh: Mesh) -> tuple[float, float]:
    return float(mesh.vertices_nm[:, 0].min()), float(mesh.vertices_nm[:, 0].max())


def test_a_node_between_two_sides_is_cut_in_its_middle_whatever_its_points() -> None:
    i, piece = link(1, (2, 3))
    own = (np.array([[1.7 * LENGTH, 20, 20]]), np.array([[1.9 * LENGTH, 20, 20]]))
    for between in (piece, replace(piece, points_nm=own)):
        source, sink = split_sides(dict([link(0, (5, 0)), (i, between), link(2, (0, 5))]))
        assert span(source) == (0, 1.5 * LENGTH)
        assert span(sink) == (1.5 * LENGTH, 3 * LENGTH)


def test_points_stand_in_where_a_side_ends_in_the_node() -> None:
    i, piece = link(1, (2, 3))
    ends = np.array([[1.25 * LENGTH, 20, 20], [1.125 * LENGTH, 20, 20]])
    for own in ((ends, np.zeros((0, 3))), (ends, np.array([[1.99 * LENGTH, 20, 20]]))):
        pieces = dict([(i, replace(piece, points_nm=own)), link(2, (0, 5))])
        source, sink = split_sides(pieces)
        # between (1.25 L, 20, 20) and the corners of the seam at (2 L, 0 or 40, 0 or 40)
        assert span(source)[0] == LENGTH and span(sink)[1] == 3 * LENGTH
        assert span(source)[1] == pytest.approx(span(sink)[0], abs=60)
        assert 1.5 * LENGTH < span(source)[1] < 1.8 * LENGTH


def test_a_node_without_neighbours_is_cut_between_its_points() -> None:
    i, piece = link(1, (1, 1))
    own = (np.array([[1.2 * LENGTH, 20, 20]]), np.array([[1.4 * LENGTH, 20, 20]]))
    source, sink = split_sides({i: replace(piece, points_nm=own)})
    assert span(source) == pytest.approx((LENGTH, 1.3 * LENGTH))
    assert span(sink) == pytest.approx((1.3 * LENGTH, 2 * LENGTH))


def test_without_any_hint_the_larger_side_takes_the_node_and_the_next_one_is_cut() -> None:
    pieces = dict([link(0, (5, 0)), link(1, (9, 1)), link(2, (2, 3)), link(3, (0, 5))])
    source, sink = split_sides(pieces)
    assert span(source) == (0, 2.5 * LENGTH)
    assert span(sink) == (2.5 * LENGTH, 4 * LENGTH)


def test_a_node_that_both_sides_claim_alike_goes_to_neither() -> None:
    source, sink = split_sides(dict([link(0, (5, 0)), link(1, (2, 2))]))
    assert span(source) == (0, LENGTH) and sink.is_empty


def test_halves_are_neighbours_of_nodes_further_in() -> None:
    """Two tubes along x run side by side through three nodes that hold both; only the first has pure neighbours."""
    pieces = {}
    for number, (y, counts) in enumerate(((0.0, (5, 0)), (60.0, (0, 5))), 1):
        i, piece = link(0, counts, y, number=number)
        pieces[i] = piece
    for k in (1, 2, 3):
        both = join_meshes([link(k, (1, 1), y)[1].mesh for y in (0.0, 60.0)])
        pieces[node_id((k, 0, 0), 1)] = Piece(both, (k, 0, 0), (4, 4))
    source, sink = split_sides(pieces)
    assert span(source) == span(sink) == (0, 4 * LENGTH)
    assert source.vertices_nm[:, 1].max() == 40 and sink.vertices_nm[:, 1].min() == 60


def test_a_node_of_the_same_chunk_is_no_neighbour() -> None:
    i, piece = link(1, (2, 3))
    touching = Piece(box_mesh((1.9 * LENGTH, 0, 0), (2 * LENGTH, 40, 40)), (1, 0, 0), (7, 0))
    pieces = dict([link(0, (5, 0)), (i, piece), link(2, (0, 5)), (node_id((1, 0, 0), 2), touching)])
    source, sink = split_sides(pieces)
    assert span(sink) == (1.5 * LENGTH, 3 * LENGTH)
    assert corners(touching.mesh) <= corners(source)


def test_vertices_that_both_sides_share_are_no_hint() -> None:
    i, piece = link(1, (2, 3))
    left, right = link(0, (5, 0))[1], link(2, (0, 5))
    also = Piece(left.mesh, left.chunk, (0, 5))
    pieces = dict([link(0, (5, 0)), (node_id((0, 0, 0), 2), also), (i, piece), right])
    source, sink = split_sides(pieces)
    assert span(source) == (0, LENGTH) and span(sink) == (0, 3 * LENGTH)


def test_nodes_on_neither_side_and_without_faces_are_left_out() -> None:
    _, piece = link(1, (0, 0))
    empty = replace(piece, mesh=EMPTY_MESH, counts=(1, 1))
    source, sink = split_sides({1: piece, 2: empty, 3: replace(empty, counts=(1, 0))})
    assert source.is_empty and sink.is_empty
    assert all(mesh.is_empty for mesh in split_sides({}))
