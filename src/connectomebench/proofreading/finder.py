"""Find candidates and corrections on the current objects, block by block on any runner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.site import Point
from connectomebench.execution.runner import Runner, SerialRunner
from connectomebench.proofreading.block_candidates import Found, SearchJob, search_block
from connectomebench.proofreading.cut_search import CutJob, FoundCut, Spot, search_cuts
from connectomebench.proofreading.place import Place, PlaceState
from connectomebench.proofreading.proposals import (
    Candidate,
    Proposal,
    make_candidates,
    make_merges,
    make_split,
)
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.sources.volumes.volume_source import VolumeSource

_SPOTS_A_JOB = 16


@dataclass(frozen=True)
class FoundPlaces:
    """Candidates on the objects of a moment.

    Attributes
    ----------
    source
        Over these objects, without truth.
    state
        The objects, as workers find them.
    merges
        Proposals to merge, several an end and one a contact.
    spots
        Places of possible merge errors.
    branches
        Seeds of the branches at each spot, by :func:`connectomebench.proofreading.proposals.site_key`.
    """

    source: VolumeSource
    state: PlaceState
    merges: tuple[Proposal, ...]
    spots: tuple[Candidate, ...]
    branches: dict[str, tuple[Any, ...]] = field(default_factory=dict)


class Finder(Protocol):
    """Finds places and corrections; the default is :class:`BlockFinder`."""

    def find(
        self,
        graph: SegmentationGraph,
        end_task: str,
        operations: Sequence[str],
        changed: set[int] | None,
        dropped: Counter[str],
    ) -> FoundPlaces:
        """Find candidates; where ``changed`` is given, only those that concern one of these objects."""
        ...

    def cuts(
        self, places: FoundPlaces, spots: Sequence[Candidate], graph: SegmentationGraph, dropped: Counter[str]
    ) -> list[list[Proposal]]:
        """Propose cuts at each of some spots."""
        ...


def _one_contact_a_pair(merges: Sequence[Proposal]) -> list[Proposal]:
    """Keep the largest contact of each two objects: blocks on either side of a face may each find one."""
    largest: dict[tuple[int, ...], Proposal] = {}
    for one in merges:
        if one.candidate.kind == "contact":
            known = largest.setdefault(one.site.segment_ids, one)
            if one.contact > known.contact:
                largest[one.site.segment_ids] = one
    return [one for one in merges if one.candidate.kind != "contact" or largest[one.site.segment_ids] is one]


class BlockFinder:
    """Finds candidates from shapes alone; see :mod:`connectomebench.proofreading.block_candidates`.

    Parameters
    ----------
    place
        The data; their truth is never read.
    runner
        Runs the work on blocks; None: one after the other in this thread.
    max_density
        Most ends, most contacts, and most places of merge errors, in a cube of 1 µm; None sets no limit.
    contacts
        Whether every two objects that touch are candidates too.
    """

    def __init__(
        self, place: Place, runner: Runner | None = None, max_density: float | None = None, contacts: bool = False
    ) -> None:
        self.place = place
        self.runner: Runner = runner or SerialRunner()
        self.max_density = max_density
        self.contacts = contacts
        # every loop over one segmentation begins with the same objects: these are searched once
        self._first: tuple[tuple[str, str, tuple[str, ...]], FoundPlaces, Counter[str]] | None = None
        self._first_cuts: dict[str, tuple[list[Proposal], Counter[str]]] = {}

    def find(  # noqa: D102
        self,
        graph: SegmentationGraph,
        end_task: str,
        operations: Sequence[str],
        changed: set[int] | None,
        dropped: Counter[str],
    ) -> FoundPlaces:
        state = self.place.store(graph.objects)
        asked = (state.key, end_task, tuple(operations))
        if changed is None and self._first is not None and self._first[0] == asked:
            dropped.update(self._first[2])
            return self._first[1]
        left_out: Counter[str] = Counter()
        source = self.place.blind(graph.objects, state)
        least = self.place.config.sites.min_segment_voxels
        large = np.array([one for one in graph.ids() if graph.voxels(one) >= least], np.uint64)
        threads = None if self.runner.in_process else 1
        jobs = [
            SearchJob(
                state,
                block,
                near,
                None if changed is None else frozenset(changed.intersection(near.tolist())),
                "merge" in operations,
                "split" in operations,
                self.max_density,
                threads,
                self.contacts,
            )
            for block, near in self._near(graph, large, self._blocks(graph, changed))
        ]
        merges: list[Proposal] = []
        spots: dict[str, Candidate] = {}
        branches: dict[str, tuple[Any, ...]] = {}
        for found in self._in_order(search_block, jobs, "candidates"):
            assert isinstance(found, Found)
            left_out.update(found.dropped)
            merges += make_merges(found, make_candidates(found.ends, end_task, self.place), graph, self.place)
            own = make_candidates(found.spots, "merge_error_identification", self.place)
            for spot, seeds in zip(own, found.branches, strict=True):
                spots[spot.key] = spot
                branches[spot.key] = seeds
        merges = _one_contact_a_pair(merges)
        places = FoundPlaces(source, state, tuple(merges), tuple(spots.values()), branches)
        if changed is None:
            if self._first is None or self._first[0][0] != state.key:
                self._first_cuts = {}
            self._first = (asked, places, left_out)
        dropped.update(left_out)
        return places

    def cuts(  # noqa: D102
        self, places: FoundPlaces, spots: Sequence[Candidate], graph: SegmentationGraph, dropped: Counter[str]
    ) -> list[list[Proposal]]:
        keys = [one.key for one in spots]
        kept = self._first_cuts if self._first is not None and self._first[1].state == places.state else {}
        missing = [i for i, key in enumerate(keys) if key not in kept]
        searched = self.search(places.state, [(spots[i], places.branches[keys[i]]) for i in missing])
        # while workers search the next ones
        for number, (cuts, reasons) in searched:
            i = missing[number]
            tried = [make_split(spots[i], cut, graph, self.place) for cut in cuts]
            reasons.update(one for one in tried if isinstance(one, str))
            kept[keys[i]] = [one for one in tried if isinstance(one, Proposal)], reasons
        made = []
        for spot, key in zip(spots, keys, strict=True):
            proposals, reasons = kept[key]
            dropped.update(reasons)
            # another finder may have come to the same place in another way
            made.append([one if one.candidate is spot else replace(one, candidate=spot) for one in proposals])
        return made

    def search(
        self, state: PlaceState, spots: Sequence[tuple[Candidate, tuple[Any, ...]]]
    ) -> Iterator[tuple[int, tuple[list[FoundCut], Counter[str]]]]:
        """Search cuts between branches at places, in jobs of neighbours; yield the number of a place, and its cuts."""
        order = sorted(range(len(spots)), key=lambda i: (self._block_of(spots[i][0].site.location_nm), i))
        jobs, groups = [], []
        for start in range(0, len(order), _SPOTS_A_JOB):
            group = order[start : start + _SPOTS_A_JOB]
            groups.append(group)
            own = tuple(
                Spot(c.key, c.site.segment_ids[0], c.site.location_nm, seeds) for c, seeds in (spots[i] for i in group)
            )
            jobs.append(CutJob(state, own))
        for group, answers in zip(groups, self._in_order(search_cuts, jobs, "cuts"), strict=True):
            yield from zip(group, answers, strict=True)

    def _block_of(self, at: Point) -> int:
        grid = self.place.spec.grid
        place = np.floor(np.asarray(at) / self.place.voxel_size_nm).astype(np.int64) - self.place.offset_vx
        place = np.clip(place // grid.edge, 0, np.subtract(grid.counts, 1))
        return int(np.ravel_multi_index(tuple(place), grid.counts))

    def _near(
        self, graph: SegmentationGraph, large: NDArray[np.uint64], blocks: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Yield blocks, each with those objects that reach into it or its halo: a job need not carry all of a place."""
        grid, starts = self.place.spec.grid, self.place.pieces.starts
        held: dict[int, NDArray[np.uint64]] = {}
        for block in blocks:
            box = grid.block(block)
            touched = grid.touching(box.outer_lower, box.outer_upper)
            for one in touched:
                if one not in held:
                    held[one] = np.intersect1d(graph.objects[starts[one] : starts[one + 1]], large)
            yield block, np.unique(np.concatenate([held[one] for one in touched]))

    def _blocks(self, graph: SegmentationGraph, changed: set[int] | None) -> list[int]:
        """Return the blocks to search: those of changed objects, and their neighbours."""
        grid = self.place.spec.grid
        if changed is None:
            return list(range(len(grid)))
        rows = np.concatenate([graph.rows(one) for one in sorted(changed)])
        return grid.around(np.unique(np.searchsorted(self.place.pieces.starts, rows, side="right") - 1))

    def _in_order(self, work: Callable[[Any], Any], jobs: Sequence[Any], label: str) -> Iterator[Any]:
        """Run jobs, and yield their results in the order of the jobs."""
        waiting: dict[int, Any] = {}
        following = 0
        with tqdm(total=len(jobs), desc=label, unit="job", leave=False, delay=1) as bar:
            for i, found in self.runner.run(work, jobs, label):
                bar.update()
                waiting[i] = found
                while following in waiting:
                    yield waiting.pop(following)
                    following += 1
