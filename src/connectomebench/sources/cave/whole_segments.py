"""Whole segments of a CAVE dataset: which cells they hold by its tables, where they lie, and their meshes.

Nuclei are followed from their supervoxel to the root at the final state: a root with one nucleus, with several, or
(of the proofread ones) with none. Segments of before an edit are known by their own supervoxels, whatever the time:
none of them is the supervoxel of a nucleus.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import SiteUnavailable, TaskLacking
from connectomebench.core.files import content_key
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.core.species import get_species
from connectomebench.core.whole_segment import CellKind, WholeSegment, WholeSegments
from connectomebench.sources.cave.archive import Archive, answers_needed
from connectomebench.sources.cave.cloud_volumes import distinct
from connectomebench.sources.cave.jobs import WorkerContext
from connectomebench.sources.cave.meshes import join_meshes, level2_meshes
from connectomebench.sources.cave.retries import ServerAway
from connectomebench.sources.cave.tables import CellTypes, Nuclei, read_cell_types, read_nuclei
from connectomebench.sources.label_shapes import MeshConfig, int_point, mesh_labels
from connectomebench.sources.thinned_mesh import thin_mesh

TASK = "segment_classification"
_NODES_AT_ONCE = 500
_CELLS = 1024  # of the grid on which a whole mesh is thinned, along its longest edge
_MOST_VOXELS = 1 << 28  # of a volume that is read as a whole

TOO_LARGE = "segment with more level-2 nodes than source.cave.tables.max_nodes"
NO_MESH = "segment without a mesh"
UNREADABLE = "mesh cannot be read"
BEYOND = "segments beyond source.cave.tables.most"


@dataclass(frozen=True)
class _Candidate:
    """A segment before it is known where it lies."""

    segment: int
    bodies: tuple[int, ...]
    kinds: tuple[CellKind, ...]
    kind: CellKind
    nucleus_nm: tuple[float, float, float] | None
    checked: bool


def find_whole_segments(archive: Archive) -> WholeSegments:
    """Find whole segments and what they hold.

    Parameters
    ----------
    archive
        Dataset, proofread roots and history.

    Raises
    ------
    TaskLacking
        If the dataset has no table of nuclei.
    ConnectomeBenchError
        If a table cannot be read, or the server gives no answers.
    """
    config, context = archive.spec.config.tables, archive.spec.open()
    species, materialize = get_species(archive.spec.species), context.connection.materialize
    table = config.nuclei or species.nucleus_table
    if table is None:
        raise TaskLacking(TASK, f"{species.name} has no table of nuclei; name one with source.cave.tables.nuclei")
    if materialize is None:
        raise TaskLacking(TASK, "a graph alone (source.cave.graph_table) has no tables of nuclei; set the datastack")
    nuclei = read_nuclei(materialize, table)
    named = config.cell_types or species.cell_type_table
    types = CellTypes({}, {}) if named in (None, "none") else read_cell_types(materialize, str(named))
    dropped: Counter[str] = Counter()
    with answers_needed("the segments of nuclei"):
        candidates = _final_roots(archive, nuclei, types) + _fragments(archive, nuclei)
    found: dict[int, WholeSegment] = {}
    for candidate in _most_of_each(candidates, config.most, dropped):
        try:
            mesh = whole_mesh(candidate.segment, archive)
        except ServerAway:
            raise
        except SiteUnavailable as error:
            dropped[TOO_LARGE if str(error) == TOO_LARGE else UNREADABLE] += 1
            continue
        if mesh.is_empty:
            dropped[NO_MESH] += 1
            continue
        low, high = mesh.vertices_nm.min(axis=0).tolist(), mesh.vertices_nm.max(axis=0).tolist()
        c = candidate
        box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        found[c.segment] = WholeSegment(c.segment, c.bodies, box, c.kinds, c.kind, c.nucleus_nm, c.checked)
    return WholeSegments(tuple(found[s] for s in sorted(found)), dropped)


def _final_roots(archive: Archive, nuclei: Nuclei, types: CellTypes) -> list[_Candidate]:
    """Return the roots of the final state that hold a nucleus, and the proofread ones without."""
    graph, until = archive.spec.open().connection.graph, archive.spec.until
    roots = graph.roots(nuclei.supervoxels, until)
    typed = np.array(sorted(types.of_supervoxel), np.uint64)
    typed_roots = graph.roots(typed, until).tolist() if len(typed) else []
    kind_of_root: dict[int, CellKind] = {
        root: types.of_supervoxel[supervoxel] for supervoxel, root in zip(typed.tolist(), typed_roots, strict=True)
    }
    proofread = {int(root) for root in archive.roots.ids}
    rows_of: dict[int, list[int]] = {}
    for row, root in enumerate(roots.tolist()):
        if root:
            rows_of.setdefault(root, []).append(row)
    candidates = []
    for root in sorted(rows_of.keys() | proofread):
        rows = rows_of.get(root, [])
        presumed: CellKind = kind_of_root.get(root, "neuron" if root in proofread else "unknown")
        kinds: tuple[CellKind, ...] = tuple(types.of_nucleus.get(int(nuclei.ids[row]), presumed) for row in rows)
        size = None
        if len(rows) == 1 and np.isfinite(nuclei.edges_nm[rows[0]]).all():
            x, y, z = nuclei.edges_nm[rows[0]].tolist()
            size = (x, y, z)
        candidates.append(_Candidate(root, (root,), kinds, presumed, size, root in proofread))
    return candidates


def _fragments(archive: Archive, nuclei: Nuclei) -> list[_Candidate]:
    """Return segments of before an edit that are parts of one proofread body, and hold no nucleus."""
    corrections = archive.corrections
    final = {int(root) for root in archive.roots.ids}
    parts = sorted(s for s, body in corrections.body_of.items() if corrections.is_complete(body) and s not in final)
    chosen = _by_hash(parts)[: archive.spec.config.tables.most]
    leaves = archive.spec.open().connection.graph.leaves(chosen)
    return [
        _Candidate(s, (corrections.body_of[s],), (), "neuron", None, False)
        for s in chosen
        if len(leaves[s]) and not np.isin(leaves[s], nuclei.supervoxels).any()
    ]


def _most_of_each(candidates: Sequence[_Candidate], most: int, dropped: Counter[str]) -> list[_Candidate]:
    """Take a number of each kind of segment, which ones by a hash of their ids."""
    groups: dict[Any, list[_Candidate]] = {}
    for one in candidates:
        group = ("other",) if set(one.kinds) == {"other"} else (min(len(one.kinds), 2), "unknown" in one.kinds)
        groups.setdefault(group, []).append(one)
    taken = []
    for group in sorted(groups, key=repr):
        by_id = {one.segment: one for one in groups[group]}
        order = _by_hash(sorted(by_id))
        dropped[BEYOND] += max(0, len(order) - most)
        taken += [by_id[segment] for segment in order[:most]]
    dropped += Counter()  # keeps what is above 0
    return taken


def _by_hash(segments: Sequence[int]) -> list[int]:
    return sorted(segments, key=lambda s: hashlib.sha256(str(s).encode()).digest())


def whole_mesh(segment: int, archive: Archive) -> Mesh:
    """Return the mesh of a whole segment, thinned to what a view of all of it can show.

    Parameters
    ----------
    segment
        Root of any time.
    archive
        Dataset.

    Raises
    ------
    SiteUnavailable
        If it has too many level-2 nodes, or the data are unavailable.
    """
    context, config = archive.spec.open(), archive.spec.config
    key = content_key("whole mesh 1", archive.spec.dataset, config.meshes, segment)
    stored = context.blobs.get(key)
    if stored is None:
        made = _level2_mesh if config.meshes == "level2" else _voxel_mesh
        mesh = made(segment, archive, context)
        stored = {"vertices": mesh.vertices_nm, "faces": mesh.faces}
        context.blobs.put(key, **stored)
    return Mesh(stored["vertices"], stored["faces"])


def _level2_mesh(segment: int, archive: Archive, context: WorkerContext) -> Mesh:
    nodes = context.connection.graph.level2_nodes(segment)
    if len(nodes) > archive.spec.config.tables.max_nodes:
        raise SiteUnavailable(TOO_LARGE)
    cloud, layer = context.supervoxels.cloud, context.supervoxels
    if not len(nodes):
        return EMPTY_MESH
    lower_nm, upper_nm = _chunk_box(nodes, context)
    longest = float((upper_nm - lower_nm).max())
    cell_nm = max(longest / _CELLS, min(layer.voxel_size_nm))
    thinned = []
    for start in range(0, len(nodes), _NODES_AT_ONCE):
        some = nodes[start : start + _NODES_AT_ONCE].tolist()
        meshes = level2_meshes(cloud, some, context.blobs, context.connection.segmentation, context.connection.login)
        thinned.append(thin_mesh(join_meshes(meshes.values()), cell_nm))
    return thin_mesh(join_meshes(thinned), cell_nm)


def _chunk_box(nodes: NDArray[np.uint64], context: WorkerContext) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the box of the chunks that level-2 nodes lie in: lower and upper corner, nm."""
    graph, cloud = context.connection.graph, context.supervoxels.cloud
    chunks = np.array([cloud.meta.decode_chunk_position(node) for node in nodes.tolist()], np.float64).reshape(-1, 3)
    info = graph.info()
    voxel_nm = np.asarray(graph.voxel_nm())
    first_nm = np.asarray(info["scales"][0].get("voxel_offset", (0, 0, 0)), np.float64) * voxel_nm
    chunk_nm = np.asarray(info["graph"]["chunk_size"], np.float64) * voxel_nm
    return first_nm + chunks.min(axis=0) * chunk_nm, first_nm + (chunks.max(axis=0) + 1) * chunk_nm


def _voxel_mesh(segment: int, archive: Archive, context: WorkerContext) -> Mesh:
    """Make a surface from the labels: of volumes that can be read as a whole."""
    layer, graph = context.supervoxels, context.connection.graph
    nodes = graph.level2_nodes(segment)
    if not len(nodes):
        return EMPTY_MESH
    voxel, offset = np.asarray(layer.voxel_size_nm), np.asarray(layer.offset_vx)
    first_nm, last_nm = _chunk_box(nodes, context)
    low = np.clip(np.floor(first_nm / voxel).astype(np.int64) - offset, 0, layer.shape)
    high = np.clip(np.ceil(last_nm / voxel).astype(np.int64) - offset, 0, layer.shape)
    if int(np.prod(high - low)) > _MOST_VOXELS:
        raise SiteUnavailable("so large a segment needs source.cave.meshes: level2")
    leaves = graph.leaves([segment])[segment]
    ids, codes = distinct(layer.read(int_point(low), int_point(high)))
    painted = np.isin(ids, leaves).astype(np.uint8)[codes]
    if not painted.any():
        return EMPTY_MESH
    spans = [np.flatnonzero(painted.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    margin = 2
    lower = [max(int(s[0]) - margin, 0) for s in spans]
    upper = [min(int(s[-1]) + 1 + margin, n) for s, n in zip(spans, painted.shape, strict=True)]
    # a layer of background closes the surface; where the volume ends it is capped
    crop = np.pad(painted[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))], 1)
    start = low + lower - 1
    ends: NDArray[np.bool_] = np.zeros((3, 2), np.bool_)
    corner = (offset + start).tolist()
    rules: MeshConfig = archive.spec.config.mesh
    return mesh_labels(np.asfortranarray(crop), 1, corner, layer.voxel_size_nm, ends, rules)[0]
