"""Meshes of a site, from labels and from the server's level-2 meshes, against the voxels of the fixture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cave_ground import VOXEL_NM, Ground
from numpy.typing import NDArray
from replay_server import ReplayServer
from scipy import ndimage
from scipy.spatial import KDTree
from trimesh.remesh import subdivide_to_size

from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.geometry import Box, Mesh
from connectomebench.core.site import Cut, Part, Site
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cut_sides import ServerCuts
from connectomebench.sources.cave.history import Operation
from connectomebench.sources.cave.site_meshes import level2_parts, voxel_parts
from connectomebench.sources.label_shapes import MeshConfig

EXTENT = 400.0
RULES = MeshConfig()
MERGE, SPLITS = 1, (15, 20, 30)


@pytest.fixture(scope="module")
def edits(archive: Archive) -> dict[int, Operation]:
    return {j.operation.operation_id: j.operation for j in archive.history.judged}


def shown(edit: Operation, ground: Ground) -> tuple[Site, list[NDArray[np.bool_]]]:
    """The site of an edit, and the voxels of each of its parts in the whole volume."""
    before, after = ground.segments(edit.before), ground.segments(edit.after)
    cut = None
    if edit.kind == "merge":
        parts = tuple(Part(s, r) for s, r in zip(edit.roots_before, ("base", "candidate"), strict=True))
        chosen = [before == np.uint64(s) for s in edit.roots_before]
    else:
        segment = edit.roots_before[0]
        parts = (Part(segment, "source"), Part(segment, "sink"))
        cut = Cut(edit.sources_nm, edit.sinks_nm, edit.place_nm, 900.0)
        ends = [ground.lookup(np.asarray(seeds, np.uint64), edit.after) for seeds in (edit.sources, edit.sinks)]
        chosen = [(before == np.uint64(segment)) & np.isin(after, end) for end in ends]
    ids = tuple(dict.fromkeys(p.segment_id for p in parts))
    site = Site("merge_action", edit.place_nm, EXTENT, parts, "yes", ids, (), "edit", cut=cut)
    return site, [rows[ground.rows] for rows in chosen]


def surface_points(mesh: Mesh) -> NDArray[np.float64]:
    """Points all over the faces, at most two voxels apart along their edges, and the centres of these pieces; nm."""
    vertices, faces = subdivide_to_size(mesh.vertices_nm.astype(np.float64), mesh.faces, max_edge=2 * VOXEL_NM)
    return np.concatenate([vertices, vertices[faces].mean(axis=1)])


def border_nm(mask: NDArray[np.bool_], ground: Ground, box: Box) -> NDArray[np.float64]:
    """Centres of the voxels of an object that touch something else or the end of the volume, inside a box; nm."""
    points = ground.centres_nm(mask & (ndimage.binary_erosion(mask) == 0))
    return points[box.contains(points)]


def sorted_faces(mesh: Mesh) -> NDArray[np.float32]:
    """Corners of all faces, in an order of their own; shape (n, 9)."""
    corners = mesh.vertices_nm[mesh.faces].reshape(-1, 9)
    return corners[np.lexsort(corners.T)]


def apart(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    return KDTree(others).query(points)[0]


@pytest.mark.parametrize("number", (MERGE, *SPLITS))
def test_surfaces_from_labels_lie_on_the_voxels_of_their_part(
    number: int, archive: Archive, cutting: ServerCuts, edits: dict[int, Operation], ground: Ground
) -> None:
    site, masks = shown(edits[number], ground)
    meshes = voxel_parts(site, archive, cutting, RULES)
    assert len(meshes) == 2
    inner, read = (Box.around(site.location_nm, EXTENT + 2 * m * VOXEL_NM) for m in (0, RULES.margin_vx + 1))
    for mesh, mask in zip(meshes, masks, strict=True):
        assert len(mesh.faces) > 50 and read.contains(mesh.vertices_nm).all()
        border, points = border_nm(mask, ground, read), surface_points(mesh)
        # half a voxel from centre to face, half of smoothing, and what simplification may move
        assert apart(points[inner.contains(points)], border).max() < 2.5 * VOXEL_NM
        assert apart(border[inner.contains(border)], points).max() < 5 * VOXEL_NM


@pytest.mark.parametrize("number", (MERGE, 15, 20))
def test_level2_meshes_and_surfaces_from_labels_show_the_same(
    number: int, archive: Archive, cutting: ServerCuts, edits: dict[int, Operation], ground: Ground
) -> None:
    """Segment by segment the surfaces agree; where the two sides of one meet, level-2 nodes are cut by planes."""
    site, masks = shown(edits[number], ground)
    inner, around = (Box.around(site.location_nm, EXTENT + margin) for margin in (0, 100))
    made = [level2_parts(site, archive, cutting), voxel_parts(site, archive, cutting, RULES)]
    level2, voxels = ([surface_points(mesh) for mesh in meshes] for meshes in made)
    if number in SPLITS:
        level2, voxels = [np.concatenate(level2)], [np.concatenate(voxels)]
        masks = [masks[0] | masks[1]]
    for a, b, mask in zip(level2, voxels, masks, strict=True):
        whole, a = a, a[inner.contains(a)]
        # the server leaves surfaces open at the end of the volume, and so are those of the sides where they meet
        border = ground.centres_nm(mask & (ndimage.binary_erosion(mask, border_value=1) == 0))
        assert apart(a, border[around.contains(border)]).max() < 2 * VOXEL_NM
        assert apart(a, b).max() < 2.5 * VOXEL_NM
        assert apart(border[inner.contains(border)], whole).max() < 2.5 * VOXEL_NM
        ends = [m(axis=0) for points in (a, border[inner.contains(border)]) for m in (points.min, points.max)]
        np.testing.assert_allclose(ends[:2], ends[2:], atol=2 * VOXEL_NM)


# splits whose sides a plane can part: made cells of one level-2 node may lie on both sides of any
@pytest.mark.parametrize("number", (20, 30))
def test_sides_of_level2_meshes_lie_on_the_voxels_of_their_side(
    number: int, archive: Archive, cutting: ServerCuts, edits: dict[int, Operation], ground: Ground
) -> None:
    """All but what planes through large nodes cut off; swapped seeds swap the meshes, from labels too."""
    site, masks = shown(edits[number], ground)
    inner, around = (Box.around(site.location_nm, EXTENT + margin) for margin in (0, 100))
    borders = [border_nm(mask, ground, around) for mask in masks]
    meshes = level2_parts(site, archive, cutting)
    for own, other, mesh in ((0, 1, meshes[0]), (1, 0, meshes[1])):
        points = surface_points(mesh)
        points = points[inner.contains(points)]
        right = apart(points, borders[own]) <= apart(points, borders[other]) + 1.5 * VOXEL_NM
        assert len(points) > 1000 and right.mean() > 0.8
    assert site.cut is not None
    cut = replace(site.cut, sources_nm=site.cut.sinks_nm, sinks_nm=site.cut.sources_nm)
    swapped = replace(site, cut=cut)
    for mesh, other in zip(meshes, level2_parts(swapped, archive, cutting)[::-1], strict=True):
        np.testing.assert_array_equal(sorted_faces(mesh), sorted_faces(other))
    # simplification depends on the number that a part gets
    voxels = [surface_points(mesh) for mesh in voxel_parts(site, archive, cutting, RULES)]
    others = [surface_points(mesh) for mesh in voxel_parts(swapped, archive, cutting, RULES)]
    for points, other in zip(voxels, others[::-1], strict=True):
        assert max(apart(points, other).max(), apart(other, points).max()) < 5 * VOXEL_NM


def test_nothing_is_shown_outside_the_volume(
    archive: Archive, cutting: ServerCuts, edits: dict[int, Operation], ground: Ground
) -> None:
    site, _ = shown(edits[MERGE], ground)
    x, y, z = site.location_nm
    away = replace(site, location_nm=(x + 10_000, y, z))
    assert all(mesh.is_empty for mesh in voxel_parts(away, archive, cutting, RULES))
    assert all(mesh.is_empty for mesh in level2_parts(away, archive, cutting))


@pytest.mark.parametrize("number", [MERGE, 20])
def test_meshes_are_fetched_once(
    number: int,
    archive: Archive,
    cutting: ServerCuts,
    edits: dict[int, Operation],
    ground: Ground,
    site_server: ReplayServer,
) -> None:
    site, _ = shown(edits[number], ground)
    first = level2_parts(site, archive, cutting)
    asked = site_server.requests
    again = level2_parts(site, archive, cutting)
    assert site_server.requests == asked
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.vertices_nm, b.vertices_nm)


def test_a_cut_that_is_not_made_any_more_cannot_be_shown(
    archive: Archive, cutting: ServerCuts, edits: dict[int, Operation], ground: Ground
) -> None:
    site, _ = shown(edits[20], ground)
    assert site.cut is not None
    touching = replace(site, cut=replace(site.cut, sources_nm=site.cut.sinks_nm))
    with pytest.raises(SiteUnavailable, match="seeds of both sides in one supervoxel"):
        level2_parts(touching, archive, cutting)
    with pytest.raises(SiteUnavailable, match="seeds of both sides in one supervoxel"):
        voxel_parts(touching, archive, cutting, RULES)
