"""Thinned meshes: near the given surface, with few vertices, the same whatever the pieces."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from connectomebench.core.geometry import EMPTY_MESH, Mesh
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels
from connectomebench.sources.thinned_mesh import thin_mesh


@cache
def ball() -> Mesh:
    grid = np.indices((40, 40, 40)).astype(float) - 19.5
    labels = (np.sqrt((grid**2).sum(axis=0)) < 15).astype(np.uint8)
    return mesh_labels(labels, 1, (0, 0, 0), (10.0,) * 3, np.zeros((3, 2), bool), MeshConfig())[0]


@settings(deadline=None, max_examples=20)
@given(st.floats(5, 120))
def test_no_vertex_moves_by_more_than_a_cell(cell_nm: float) -> None:
    mesh = ball()
    thin = thin_mesh(mesh, cell_nm)
    assert len(thin.vertices_nm) <= len(mesh.vertices_nm)
    to_given = KDTree(mesh.vertices_nm).query(thin.vertices_nm)[0]
    assert to_given.max() <= cell_nm * 3**0.5
    assert (thin.faces != np.roll(thin.faces, 1, axis=1)).all()
    assert len(np.unique(np.sort(thin.faces, axis=1), axis=0)) >= len(thin.faces) / 2


def test_a_ball_keeps_its_volume_and_its_outside() -> None:
    def volume(mesh: Mesh) -> float:
        a, b, c = mesh.vertices_nm[mesh.faces.T].astype(np.float64)
        return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6)

    mesh = ball()
    thin = thin_mesh(mesh, 40.0)
    assert len(thin.faces) < 0.3 * len(mesh.faces)
    assert 0.9 < volume(thin) / volume(mesh) < 1.05


def test_nothing_stays_nothing() -> None:
    assert thin_mesh(EMPTY_MESH, 10.0).is_empty
    assert thin_mesh(ball(), 1e6).is_empty  # all in one cell
