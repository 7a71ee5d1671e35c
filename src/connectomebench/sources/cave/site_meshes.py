"""Meshes of the parts of a site: level-2 meshes of the server, or surfaces made from labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.files import content_key
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.core.site import Site
from connectomebench.core.volume import voxel_box
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.bisection import Piece, split_sides
from connectomebench.sources.cave.cloud_volumes import relabel
from connectomebench.sources.cave.cut_sides import ServerCuts, sides_or_fail
from connectomebench.sources.cave.meshes import level2_meshes, segment_mesh
from connectomebench.sources.label_shapes import MeshConfig
from connectomebench.sources.part_meshes import paint_side, stored_meshes

_SIGN = {"source": 1, "sink": -1}


def voxel_parts(site: Site, archive: Archive, cutting: ServerCuts, rules: MeshConfig) -> list[Mesh]:
    """Make a surface of each part of a site from the labels in the cube shown.

    Parameters
    ----------
    site
        Site.
    archive, cutting
        The state at that time, and its cuts.
    rules
        Margin and smoothing.

    Raises
    ------
    SiteUnavailable
        If the data are unavailable.
    """
    context = archive.spec.open()
    layer = context.supervoxels
    lower, upper = voxel_box(layer, Box.around(site.location_nm, site.extent_nm), rules.margin_vx)
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        return [EMPTY_MESH] * len(site.parts)
    supervoxels = layer.read(lower, upper)
    painted = np.zeros(supervoxels.shape, np.uint8, order="F")
    for number, part in enumerate(site.parts, 1):
        if part.role in _SIGN:
            assert site.cut is not None, "a part with role source or sink needs a cut"
            pieces, _ = cutting.pieces(part.segment_id, site.cut.center_nm, site.cut.cutout_nm)
            sides = sides_or_fail(cutting, part.segment_id, site.cut)
            paint_side(painted, lower, pieces, sides, _SIGN[part.role], number)
        else:
            roots = relabel(supervoxels, archive.lookup(part.segment_id, site.location_nm))
            painted[roots == np.uint64(part.segment_id)] = number
    ends = np.stack([np.equal(lower, 0), np.equal(upper, layer.shape)], axis=1)
    corner = np.add(layer.offset_vx, lower).tolist()
    return stored_meshes(context.blobs, painted, len(site.parts), corner, layer.voxel_size_nm, ends, rules)


def level2_parts(site: Site, archive: Archive, cutting: ServerCuts) -> list[Mesh]:
    """Fetch the level-2 meshes of each part of a site that touch the cube shown.

    The sides of a cut share out the nodes of the segment as it was before; a node on both sides is bisected (see
    :func:`connectomebench.sources.cave.bisection.split_sides`).

    Parameters
    ----------
    site
        Site.
    archive, cutting
        The state at that time, and its cuts.

    Raises
    ------
    SiteUnavailable
        If the data are unavailable.
    """
    shown = Box.around(site.location_nm, site.extent_nm)
    both: dict[int, tuple[Mesh, Mesh]] = {}
    meshes = []
    for part in site.parts:
        segment = part.segment_id
        if part.role in _SIGN:
            if segment not in both:
                both[segment] = _both_sides(site, segment, shown, archive, cutting)
            meshes.append(segment_mesh([both[segment][0 if part.role == "source" else 1]], shown))
        else:
            nodes = np.unique(_nodes(segment, _supervoxels(segment, site, shown, archive), site, archive))
            meshes.append(segment_mesh(_fetched(nodes, archive).values(), shown))
    return meshes


def _supervoxels(segment: int, site: Site, shown: Box, archive: Archive) -> NDArray[np.uint64]:
    """Return the supervoxels of a segment in the cube shown; uint64, sorted."""
    layer = archive.spec.open().supervoxels
    ids = np.unique(layer.read(*voxel_box(layer, shown))).astype(np.uint64)
    ids = ids[ids != 0]
    return ids[archive.lookup(segment, site.location_nm)(ids) == np.uint64(segment)]


def _nodes(segment: int, supervoxels: NDArray[np.uint64], site: Site, archive: Archive) -> NDArray[np.uint64]:
    """Return the level-2 node of each supervoxel at the time at which the segment is shown."""
    context = archive.spec.open()
    when = archive.time_of(segment, site.location_nm)
    key = content_key("level-2 nodes 1", archive.spec.dataset, when.isoformat(), supervoxels)
    stored = context.blobs.get(key)
    if stored is None:
        stored = {"nodes": context.connection.graph.roots(supervoxels, when, level2=True)}
        context.blobs.put(key, **stored)
    return stored["nodes"]


def _fetched(nodes: NDArray[np.uint64], archive: Archive) -> Mapping[int, Mesh]:
    context = archive.spec.open()
    ids = nodes[nodes != 0].tolist()
    login = context.connection.login
    return level2_meshes(context.supervoxels.cloud, ids, context.blobs, context.connection.segmentation, login)


def _both_sides(site: Site, segment: int, shown: Box, archive: Archive, cutting: ServerCuts) -> tuple[Mesh, Mesh]:
    assert site.cut is not None, "a part with role source or sink needs a cut"
    pieces, supervoxels = cutting.pieces(segment, site.cut.center_nm, site.cut.cutout_nm)
    sides = sides_or_fail(cutting, segment, site.cut)
    seen = np.isin(supervoxels, _supervoxels(segment, site, shown, archive))
    centres, sides, supervoxels = pieces.graph.points_nm[seen], sides[seen], supervoxels[seen]
    nodes = _nodes(segment, supervoxels, site, archive)
    cloud = archive.spec.open().supervoxels.cloud
    found = {}
    for node, mesh in _fetched(np.unique(nodes), archive).items():
        own = nodes == np.uint64(node)
        on = [own & (sides == sign) for sign in (1, -1)]
        x, y, z = (int(c) for c in cloud.meta.decode_chunk_position(node))
        points = (centres[on[0]].astype(np.float64), centres[on[1]].astype(np.float64))
        found[node] = Piece(mesh, (x, y, z), (int(on[0].sum()), int(on[1].sum())), points)
    return split_sides(found)
