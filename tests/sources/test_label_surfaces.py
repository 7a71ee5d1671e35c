"""Surfaces of labels: smooth, in their place, one between two neighbours, and the same for either of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from connectomebench.sources.label_shapes import MeshConfig, mesh_labels
from connectomebench.sources.label_surfaces import GAP, REACH, find_net, label_surface, relax, settle_owners

GRID = np.indices((56, 56, 56)) + 0.5
ONE = np.ones(3)
STEPS = MeshConfig().smoothing


def blobs(seed: int, shape: tuple[int, int, int] = (20, 19, 18)) -> NDArray[np.uint8]:
    """Two rough, touching, branching labels and background."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=shape), 2) for _ in range(3)]
    return np.asfortranarray(np.argmax(fields, axis=0).astype(np.uint8))


def surface(labels: NDArray[np.bool_] | NDArray[np.uint8], steps: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    net = find_net(np.asfortranarray(labels.astype(np.uint8)))
    return label_surface(net, relax(net, steps), 1, ONE)


def face_normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def volume(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> float:
    a, b, c = (vertices[faces[:, i]] - vertices.mean(axis=0) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


SHAPES = {
    "a ball": ((GRID - 28) ** 2).sum(0) < 20**2,
    "a thin neurite": ((GRID[:2] - 28) ** 2).sum(0) < 2.5**2,
    "a gentle slope": GRID[2] < 28 + (GRID[0] - 28) / 8,
    "a slope": GRID[2] < 28 + (GRID[0] - 28) / 3 + (GRID[1] - 28) / 5,
}
NORMALS = {
    "a ball": lambda p: p - 28,
    "a thin neurite": lambda p: (p - 28) * (1, 1, 0),
    "a gentle slope": lambda p: np.broadcast_to((-1 / 8, 0, 1), p.shape),
    "a slope": lambda p: np.broadcast_to((-1 / 3, -1 / 5, 1), p.shape),
}


@pytest.mark.parametrize("name", SHAPES)
def test_steps_of_voxels_do_not_show(name: str) -> None:
    """Faces look where the true surface does: within 4 degrees in the mean, where voxels are over 10 degrees off."""

    def off(steps: int) -> float:
        vertices, faces = surface(SHAPES[name], steps)
        middle = vertices[faces].mean(axis=1)
        inner = (np.abs(middle - 28) < 20).all(axis=1)
        true = NORMALS[name](middle[inner])
        cosine = (face_normals(vertices, faces)[inner] * true).sum(axis=1) / np.linalg.norm(true, axis=1)
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())

    assert off(0) > 10
    assert off(STEPS) < 4


@pytest.mark.parametrize("name", ["a ball", "a thin neurite"])
def test_what_is_thin_keeps_its_size(name: str) -> None:
    voxels, smooth = (surface(SHAPES[name], steps) for steps in (0, STEPS))
    assert volume(*smooth) == pytest.approx(volume(*voxels), rel=0.05)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_no_vertex_is_farther_than_half_a_voxel_from_the_faces_of_voxels(seed: int) -> None:
    net = find_net(blobs(seed, (14, 13, 12)))
    points = relax(net, STEPS)
    corners = net.corners[net.quads]
    for label in (1, 2):
        own = (net.below == label) | (net.above == label)
        low, high = corners[own].min(axis=1), corners[own].max(axis=1)
        vertices, faces = label_surface(net, points, label, ONE)
        assert len(faces)
        for vertex in vertices:
            off = vertex - np.clip(vertex, low, high)  # to every face of a voxel of this label
            assert np.linalg.norm(off, axis=1).min() <= 0.5 + 1e-6


def alternate(labels: NDArray[np.uint8], place: NDArray[np.float64]) -> bool:
    """Whether two labels alternate around a corner at the end of the data, so that neither has a side of its own."""
    around = labels[tuple(slice(max(int(c) - 1, 0), int(c) + 1) for c in place)].squeeze()
    return around.shape == (2, 2) and around[0, 0] == around[1, 1] != around[0, 1] == around[1, 0]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
@example(9215)  # they alternate at a corner
def test_two_labels_that_touch_have_one_surface_between_them(seed: int) -> None:
    labels = blobs(seed)
    net = find_net(labels)
    points = relax(net, STEPS)
    (first, _), (second, _) = (label_surface(net, points, label, ONE, gap=0) for label in (1, 2))
    shared = np.unique(net.quads[(net.below > 0) & (net.above > 0)])
    assert len(shared)
    for vertices in (first, second):
        assert KDTree(vertices).query(points[shared])[0].max() == 0
    # drawn, each draws back from it by the gap
    (first, _), (second, _) = (label_surface(net, points, label, ONE) for label in (1, 2))
    for vertices in (first, second):
        assert KDTree(vertices).query(points[shared])[0].max() <= GAP + 1e-9
    # also where they touch over an edge of voxels alone
    for place in second[KDTree(first).query(second)[0] == 0]:
        assert alternate(labels, place)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_specks_go_by_the_same_rule_for_both(seed: int, dust: int) -> None:
    rng = np.random.default_rng(seed)
    labels = blobs(seed)
    noise = rng.random(labels.shape) < 0.02
    labels = np.where(noise, rng.integers(0, 3, labels.shape), labels).astype(np.uint8)
    swapped = np.array([0, 2, 1], np.uint8)
    settled = settle_owners(labels, dust)
    np.testing.assert_array_equal(settle_owners(swapped[labels], dust), swapped[settled])
    # nothing is added to the background's side of the surface but what was dust
    assert not ((labels == 0) & (settled > 0)).any()


def test_specks_and_dust_are_told_from_what_is_thin() -> None:
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[:, :, :12] = 1
    labels[5, 5, 11] = labels[9:11, 9, 11] = 2  # specks in the surface of 1
    labels[18, 18, 18:20] = 2  # dust
    labels[:, 14:16, 12:14] = 2  # a neurite of two voxels on it
    settled = settle_owners(np.asfortranarray(labels), 20)
    assert (settled[5, 5, 11], settled[9, 9, 11], settled[10, 9, 11]) == (1, 1, 1)
    assert not settled[18, 18, 18:20].any()
    np.testing.assert_array_equal(settled[:, 14:16, 12:14], labels[:, 14:16, 12:14])
    np.testing.assert_array_equal(settle_owners(np.asfortranarray(labels), 1)[18, 18, 18:20], 2)


def test_a_label_that_is_all_dust_keeps_its_largest_part() -> None:
    labels = np.zeros((12, 12, 12), np.uint8, order="F")
    labels[2, 2, 2] = labels[8, 8, 7:10] = 1
    assert np.argwhere(settle_owners(labels, 50)).tolist() == [[8, 8, 7], [8, 8, 8], [8, 8, 9]]


def test_meshes_of_large_voxels_are_in_their_place() -> None:
    """Voxels of 16 x 16 x 40 nm, as of a serial section volume: closed, and off by what a vertex may move at most.

    To either side: what corners lose by smoothing is given back around them, so that the faces of a small box bulge.
    """
    labels = np.zeros((20, 20, 12), np.uint8, order="F")
    labels[4:16, 5:15, 3:9] = 1
    (mesh,) = mesh_labels(labels, 1, (100, 0, -5), (16, 16, 40), np.zeros((3, 2), bool), MeshConfig())
    low, high = mesh.vertices_nm.min(axis=0), mesh.vertices_nm.max(axis=0)
    for axis, (start, end, edge) in enumerate(((104, 116, 16), (5, 15, 16), (-2, 4, 40))):
        assert abs(low[axis] - start * edge) <= REACH * edge + 1e-3
        assert abs(high[axis] - end * edge) <= REACH * edge + 1e-3
