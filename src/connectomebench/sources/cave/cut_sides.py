"""Pieces of a segment, and the side of a cut of each: from the edit made, or from a preview by the server."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Box
from connectomebench.core.site import Cut, Point
from connectomebench.core.volume import voxel_box
from connectomebench.cuts.min_cut import NEITHER, SINK_SIDE, SOURCE_SIDE
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cloud_volumes import relabel
from connectomebench.sources.cave.graph import Preview
from connectomebench.sources.cave.history import Operation
from connectomebench.sources.label_shapes import int_point
from connectomebench.sources.supervoxels import EMPTY_GRAPH, PieceConfig, Pieces, piece_graph, pieces_of_supervoxels

_PLAIN = PieceConfig(brightness_exponent=0.0)


class ServerCuts:
    """Cuts segments of a dataset by the server's own multicut.

    A past multicut is known from the segments that the edit made. A present one is a preview by the server, which
    gives none for a past segment.

    Parameters
    ----------
    archive
        History and surveys.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._context = archive.spec.open()
        splits = [j.operation for j in archive.history.judged if j.operation.kind == "split"]
        self._made = {(o.sources_nm, o.sinks_nm): o for o in splits}
        self._pieces = lru_cache(maxsize=8)(self._make_pieces)

    def pieces(self, segment: int, center_nm: Point, cutout_nm: float) -> tuple[Pieces, NDArray[np.uint64]]:
        """Break a segment into the connected parts of its supervoxels.

        Returns
        -------
        pieces
            Voxels and graph.
        supervoxels
            uint64, shape (n_pieces,): the supervoxel of each piece.
        """
        return self._pieces(segment, center_nm, float(cutout_nm))

    def _make_pieces(self, segment: int, center_nm: Point, cutout_nm: float) -> tuple[Pieces, NDArray[np.uint64]]:
        layer, archive = self._context.supervoxels, self._archive
        lower, upper = voxel_box(layer, Box.around(center_nm, cutout_nm))
        labels = layer.read(lower, upper).astype(np.uint64, copy=False)
        mask = relabel(labels, archive.lookup(segment, center_nm)) == np.uint64(segment)
        if not mask.any():
            return Pieces(np.zeros((0, 0, 0), np.uint32), lower, EMPTY_GRAPH), np.zeros(0, np.uint64)
        spans = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
        crop = tuple(slice(s[0], s[-1] + 1) for s in spans)
        lower = int_point(np.add(lower, [s[0] for s in spans]))
        mask, labels = mask[crop], labels[crop]
        numbered = pieces_of_supervoxels(mask, labels)
        first = np.unique(numbered, return_index=True)
        own = labels.ravel()[first[1][first[0] > 0]]
        bodies = relabel(np.where(mask, labels, np.uint64(0)), self._final)
        corner = np.add(layer.offset_vx, lower).tolist()
        graph = piece_graph(numbered, bodies, None, corner, list(layer.voxel_size_nm), _PLAIN)
        return Pieces(numbered, lower, graph), own

    def _final(self, supervoxels: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return self._context.connection.graph.roots(supervoxels, self._archive.spec.until)

    def sides(self, segment: int, cut: Cut) -> NDArray[np.int8] | str:
        """Return the side of every piece of ``pieces(segment, cut.center_nm, cut.cutout_nm)``.

        Returns
        -------
        NDArray[np.int8] or str
            +1 source, -1 sink, 0 neither; or the reason why the server makes no such cut.
        """
        pieces, supervoxels = self.pieces(segment, cut.center_nm, cut.cutout_nm)
        for a, b, sign in ((cut.sources_nm, cut.sinks_nm, 1), (cut.sinks_nm, cut.sources_nm, -1)):
            made = self._made.get((a, b))
            if made is not None and segment in made.roots_before:
                return np.int8(sign) * self._as_made(made, supervoxels)
        tree = KDTree(pieces.graph.points_nm)
        seeds = [supervoxels[tree.query(np.asarray(points))[1]] for points in (cut.sources_nm, cut.sinks_nm)]
        if np.isin(seeds[0], seeds[1]).any():
            return "seeds of both sides in one supervoxel"
        preview = self._previewed(segment, cut, seeds)
        if preview is None:
            return "the server makes no cut between these seeds"
        sides = np.full(len(supervoxels), NEITHER)
        sides[np.isin(supervoxels, preview.sinks)] = SINK_SIDE
        sides[np.isin(supervoxels, preview.sources)] = SOURCE_SIDE
        return sides

    def _as_made(self, operation: Operation, supervoxels: NDArray[np.uint64]) -> NDArray[np.int8]:
        """Return sides from the segments that an edit made."""
        seeds = np.asarray((*operation.sources, *operation.sinks), np.uint64)
        key = content_key("cut 1", self._archive.spec.dataset, operation.operation_id, supervoxels)
        stored = self._context.blobs.get(key)
        if stored is None:
            roots = self._context.connection.graph.roots(np.concatenate([seeds, supervoxels]), operation.after)
            stored = {"roots": roots}
            self._context.blobs.put(key, roots=roots)
        of_seeds, of_pieces = stored["roots"][: len(seeds)], stored["roots"][len(seeds) :]
        sides = np.full(len(supervoxels), NEITHER)
        sides[np.isin(of_pieces, of_seeds[len(operation.sources) :])] = SINK_SIDE
        sides[np.isin(of_pieces, of_seeds[: len(operation.sources)])] = SOURCE_SIDE
        return sides

    def _previewed(self, segment: int, cut: Cut, seeds: list[NDArray[np.uint64]]) -> Preview | None:
        """Request a preview once; workers that render the cut read the answer from the folder of the build."""
        from connectomebench.core.files import ArrayCache

        store = ArrayCache(self._archive.spec.cache / "previews")
        key = content_key("preview 1", self._archive.spec.dataset, segment, [*cut.sources_nm], [*cut.sinks_nm])
        stored = store.get(key)
        if stored is None:
            found = self._context.connection.graph.preview_split(
                segment,
                list(zip(seeds[0].tolist(), cut.sources_nm, strict=True)),
                list(zip(seeds[1].tolist(), cut.sinks_nm, strict=True)),
            )
            none = np.zeros(0, np.uint64)
            stored = {"sources": found.sources if found else none, "sinks": found.sinks if found else none}
            store.put(key, **stored)
        if not len(stored["sources"]) or not len(stored["sinks"]):
            return None
        return Preview(stored["sources"], stored["sinks"])


def sides_or_fail(cutting: ServerCuts, segment: int, cut: Cut) -> NDArray[np.int8]:
    """Return the sides of a cut that was proposed before.

    Raises
    ------
    SiteUnavailable
        If the server does not make it any more.
    """
    sides = cutting.sides(segment, cut)
    if isinstance(sides, str):
        raise SiteUnavailable(sides)
    return sides
