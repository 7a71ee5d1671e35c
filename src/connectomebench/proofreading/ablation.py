"""Which step loses how much: the run again with the oracle in place of one step at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.site import Point
from connectomebench.proofreading.block_candidates import Found
from connectomebench.proofreading.blocks import Block
from connectomebench.proofreading.contact_partners import Touching
from connectomebench.proofreading.cut_search import find_branches
from connectomebench.proofreading.deciders import AblatedDecider, Decider, OracleDecider
from connectomebench.proofreading.finder import BlockFinder, FoundPlaces
from connectomebench.proofreading.loop import LoopConfig, run_loop
from connectomebench.proofreading.place import Place, block_source
from connectomebench.proofreading.proposals import Candidate, Proposal, make_candidates, make_merges
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, SplitPlan, Supervoxels
from connectomebench.proofreading.truth_table import TruthTable
from connectomebench.sites.candidates import Candidates

STEPS = ("candidates", "identification", "correction", "application")


class TruthFinder:
    """Finds the places where the truth says that the current objects are wrong, and no others.

    Partners and cuts are proposed as by the inner finder: only where to look comes from the truth.

    Parameters
    ----------
    place
        With truth.
    inner
        Searches cuts between branches.
    """

    def __init__(self, place: Place, inner: BlockFinder) -> None:
        self.place = place
        self._inner = inner

    def find(  # noqa: D102
        self,
        graph: SegmentationGraph,
        end_task: str,
        operations: Sequence[str],
        changed: set[int] | None,
        dropped: Counter[str],
    ) -> FoundPlaces:
        state = self.place.store(graph.objects)
        source = self.place.blind(graph.objects, state)
        wrong = self.place.against_truth(graph.objects).corrections()
        least = self.place.config.sites.min_segment_voxels
        large = np.array([one for one in graph.ids() if graph.voxels(one) >= least], np.uint64)
        pairs: list[tuple[int, int, Point]] = []
        for one in wrong.merges if "merge" in operations else ():
            own, partner = sorted(one.segments, key=lambda o: (graph.voxels(o), o))
            counts = changed is None or bool(changed & set(one.segments))
            if counts and graph.voxels(own) >= least:
                pairs.append((own, partner, one.location_nm))
        spots: list[tuple[int, Point]] = []
        for split in wrong.splits if "split" in operations else ():
            if graph.voxels(split.segment) >= least and (changed is None or split.segment in changed):
                spots.append((split.segment, split.location_nm))
        proposals = self._merges(pairs, graph, state.key, large, end_task)
        if len(proposals) < len(pairs):
            dropped["truth: no contact near the place"] += len(pairs) - len(proposals)
        found_spots = _candidates(spots, "branch")
        at_spots = make_candidates(found_spots, "merge_error_identification", self.place)
        branches = {one.key: self._branches(one, graph, state.key) for one in at_spots}
        distinct = {one.key: one for one in at_spots}
        return FoundPlaces(source, state, tuple(proposals), tuple(distinct.values()), branches)

    def cuts(  # noqa: D102
        self, places: FoundPlaces, spots: Sequence[Candidate], graph: SegmentationGraph, dropped: Counter[str]
    ) -> list[list[Proposal]]:
        return self._inner.cuts(places, spots, graph, dropped)

    def _branches(self, spot: Candidate, graph: SegmentationGraph, key: str) -> tuple[NDArray[np.float32], ...]:
        config, block = self.place.config, self._block_of(spot.site.location_nm)
        source = block_source(self.place.volumes, self.place.pieces, graph.objects, key, block)
        for _, skeleton in source.skeletons([spot.site.segment_ids[0]]):
            away = np.linalg.norm(skeleton.nodes_nm - np.asarray(spot.site.location_nm), axis=1)
            calibre = float(skeleton.radii_nm[int(np.argmin(away))])
            return tuple(find_branches(skeleton, spot.site.location_nm, calibre, config.candidates, config.proposals))
        return ()

    def _merges(
        self,
        pairs: Sequence[tuple[int, int, Point]],
        graph: SegmentationGraph,
        key: str,
        large: NDArray[np.uint64],
        end_task: str,
    ) -> list[Proposal]:
        """Propose to merge the pairs, as at an end of the smaller object right there."""
        place, config = self.place, self.place.config
        volumes = config.source.volumes
        assert volumes is not None
        by_block: dict[int, list[tuple[int, int, Point]]] = {}
        for pair in pairs:
            by_block.setdefault(self._block_of(pair[2]).index, []).append(pair)
        made: list[Proposal] = []
        for index, some in sorted(by_block.items()):
            block = place.spec.grid.block(index)
            source = block_source(place.volumes, place.pieces, graph.objects, key, block)
            touching = Touching(source, volumes.corrections, large, None)
            gray = place.volumes.blind_source().gray_in(block.outer_lower, block.outer_upper)
            ends = _candidates([(own, at) for own, _, at in some], "end")
            found = touching.find(ends, config.candidates.radius_nm, gray, None)
            wanted = tuple(one for one in found if one.partner == some[one.end][1])
            made += make_merges(Found(ends, ends, wanted), make_candidates(ends, end_task, place), graph, place)
        return made

    def _block_of(self, at_nm: Point) -> Block:
        grid = self.place.spec.grid
        at = np.floor(np.asarray(at_nm) / self.place.voxel_size_nm).astype(np.int64) - self.place.offset_vx
        number = np.clip(at // grid.edge, 0, np.subtract(grid.counts, 1))
        return grid.block(int(np.ravel_multi_index(tuple(number), grid.counts)))


def _candidates(found: Sequence[tuple[int, Point]], kind: str) -> Candidates:
    n = len(found)
    return Candidates(
        np.array([segment for segment, _ in found], np.uint64),
        np.array([at for _, at in found], np.float32).reshape(n, 3),
        np.zeros(n, np.float32),
        np.full(n, kind),
        np.ones(n, np.float32),
    )


class ExactGraph(SegmentationGraph):
    """A graph whose splits follow the truth instead of the minimum cut.

    The side of the sinks is every supervoxel of the body that most of the sinks belong to; where both sides have the
    same body, the minimum cut stays.

    Parameters
    ----------
    supervoxels, trusted, anchors
        See :class:`connectomebench.proofreading.segmentation_graph.SegmentationGraph`.
    body
        int64, shape (supervoxels,): the body that each belongs to, -1 for none.
    """

    def __init__(
        self,
        supervoxels: Supervoxels,
        body: NDArray[np.int64],
        trusted: Iterable[int] = (),
        anchors: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(supervoxels, trusted, anchors)
        self._body = body

    def _applied(self, plan: SplitPlan, sources: list[int], sinks: list[int]) -> SplitPlan:
        mine, theirs = (self._most(np.asarray(seeds, np.int64)) for seeds in (sources, sinks))
        rows = np.sort(np.concatenate([plan.source_rows, plan.sink_rows]))
        other = self._body[rows] == theirs
        if mine == theirs or -1 in (mine, theirs) or other.all() or not other.any():
            return plan
        return SplitPlan(rows[~other], rows[other], plan.cut_edges, plan.area)

    def _most(self, seeds: NDArray[np.int64]) -> int:
        bodies, counts = np.unique(self._body[seeds], return_counts=True)
        return int(bodies[int(np.argmax(counts))])


def ablate(
    place: Place,
    finder: BlockFinder,
    decider: Decider,
    rules: LoopConfig,
    table: TruthTable,
    trusted: Sequence[int],
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Any]]:
    """Run the loop with the oracle in place of one step at a time.

    Parameters
    ----------
    place, finder, decider, rules, trusted
        As in the run.
    table
        The truth.
    report
        Told of each step before it is replaced.

    Returns
    -------
    dict
        Step -> ``vi_split``, ``vi_merge`` (bits) and ``edits`` after the run. ``candidates``: exactly the places that
        are wrong. ``identification``: places go on to correction if one of their corrections is right.
        ``correction``: the right one among the proposals is accepted, or none. ``application``: splits follow the truth
        instead of the minimum cut. The oracle judges by the rule of :class:`.deciders.OracleDecider`.
    """
    oracle = OracleDecider(table, decider.end_task)
    made: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        report(f"ablation: {step} by the oracle")
        graph: SegmentationGraph = SegmentationGraph(place.supervoxels, trusted, place.anchors)
        if step == "application":
            graph = ExactGraph(place.supervoxels, table.majority(), trusted, place.anchors)
        where = TruthFinder(place, finder) if step == "candidates" else finder
        own = rules
        if step == "correction":
            # the oracle is sure: what passed identification is applied if it is right
            least = max(0.99 * rules.min_identification, 1e-6)
            own = replace(rules, min_confidence=least, calibration=None)
        result = run_loop(where, graph, AblatedDecider(decider, oracle, step), own)
        split, merge = table.variation(graph.objects)
        made[step] = {
            "vi_split": split,
            "vi_merge": merge,
            "edits": sum(len(one.applied) for one in result.rounds),
            "stopped": result.stopped,
        }
    return made
