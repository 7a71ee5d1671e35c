"""Leak-proof train, validation and test partitions: assign cubes, then drop what conflicts across partitions.

The box that holds all data is divided into cubes, and a whole cube goes to one partition. Two sites of different
partitions then conflict where they share a segment (or a body), or where their views overlap; one side of
every conflict is dropped. Which cubes go where is searched for (:mod:`connectomebench.partition.search`), so that few
sites are lost and the answers of every task are in every partition. Or one half of the box is test, and only what lies
on the other side is searched for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, TaskLacking
from connectomebench.core.geometry import Box
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Site
from connectomebench.core.tasks import YES_NO, get_task
from connectomebench.partition.earlier_rows import EarlierRow, tied_to
from connectomebench.partition.overlaps import overlapping_views
from connectomebench.partition.search import Problem, best_assignment, conflicts

SHARED_SEGMENT = "shares a segment with another partition"
SHARED_BODY = "shares a body with another partition"
SHARED_PLACE = "its view overlaps a view of another partition"
TIED = "shares a segment, a body or a place with another partition of a task that was built before"
BOTH_HALVES = "one of its places lies in the half for test, and one in the other"
OVER_SIZE = "over the wanted size of the partition"

# a group that holds a larger share of its task's sites in a partition is broken up by cube
LARGEST_GROUP = 0.2


@dataclass(frozen=True)
class PartitionConfig:
    """Rules for dividing sites into partitions.

    Attributes
    ----------
    cube_nm
        Edge of the cubes, nm. 50 µm suits whole brains; a small volume needs several cubes along each axis.
    validation_fraction, test_fraction
        Wanted shares of each task's sites.
    max_validation, max_test
        Most sites a task has there: the published sizes.
    group_by
        ``segment``: no segment is on two sides. ``body``: nor is any proofread body.
    test_half
        ``+x``, ``-x``, ``+y`` ...: the half of the box that lies towards that side is test, all of it and nothing else;
        train and validation share the other half. None searches for the cubes of test too.
    seed
        Of the search; the same sites and rules always give the same result.
    """

    cube_nm: float = 50_000.0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    max_validation: int = 128
    max_test: int = 512
    group_by: Literal["segment", "body"] = "segment"
    test_half: Literal["-x", "+x", "-y", "+y", "-z", "+z"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.cube_nm > 0:
            raise ConnectomeBenchError(f"partition: cube_nm must be above 0, not {self.cube_nm}")
        if not (self.validation_fraction > 0 and self.test_fraction > 0):
            raise ConnectomeBenchError("partition: validation_fraction and test_fraction must be above 0")
        if not self.validation_fraction + self.test_fraction < 1:
            raise ConnectomeBenchError("partition: validation_fraction and test_fraction must add up to less than 1")
        if min(self.max_validation, self.max_test) < 1:
            raise ConnectomeBenchError("partition: max_validation and max_test must be at least 1")
        if self.group_by not in ("segment", "body"):
            raise ConnectomeBenchError(f"partition: group_by must be segment or body, not {self.group_by!r}")
        if self.test_half not in (None, *(sign + axis for axis in "xyz" for sign in "-+")):
            raise ConnectomeBenchError(f"partition: test_half must be like +x or -z, not {self.test_half!r}")


@dataclass(frozen=True)
class PartitionResult:
    """Partition, group or reason for dropping of each site, in input order.

    Attributes
    ----------
    partitions
        ``train``, ``validation`` or ``test``; None where the site was dropped.
    reasons
        Why it was dropped; None where it was kept.
    groups
        Name of the site's group, the unit of a bootstrap; None where it was dropped. Sites of a task and partition
        that are linked through shared segments or one correction, as the two ends of a cut are (with
        ``group_by="body"``, and where sites are of several segmentations of one volume, also through bodies), have one
        group, unless it would hold more than a fifth of them. Then it is broken up: by cube, as in a small volume where
        a few segments run through everything; by the smallest body of each site where sites are of several
        segmentations, since one place is then shown more than once.
    counts
        Kept sites by task, partition and answer.
    dropped
        Dropped sites by task and reason.
    cubes
        Number of cubes that hold a site.
    bodies, bodies_shared
        Bodies of the kept sites, and how many of them are in more than one partition.
    """

    partitions: tuple[str | None, ...]
    reasons: tuple[str | None, ...]
    groups: tuple[str | None, ...]
    counts: dict[str, dict[str, dict[str, int]]]
    dropped: dict[str, dict[str, int]]
    cubes: int
    bodies: int
    bodies_shared: int

    def summary(self) -> dict[str, int]:
        """Return the counts that hold for all tasks, as plain values for the manifest."""
        return {"cubes": self.cubes, "bodies": self.bodies, "bodies_shared": self.bodies_shared}


def partition_sites(
    sites: Sequence[Site], rules: PartitionConfig, bounds_nm: Box, earlier: Sequence[EarlierRow] = ()
) -> PartitionResult:
    """Divide the sites of all tasks of a build into partitions.

    Places and segments are assigned once for all tasks, so that what is in test for one task is not in train for
    another.

    Parameters
    ----------
    sites
        Sites of one or several tasks, all of one species.
    rules
        How to divide them.
    bounds_nm
        The box that holds all data, nm; the cubes start at its lower corner.
    earlier
        Rows of other tasks of the same places, which stay where they are.

    Returns
    -------
    PartitionResult
        Partition, group or reason of each site, with counts.

    Raises
    ------
    TaskLacking
        If a task that needs several answers has one only, or if no assignment was found that has those of a task in
        every partition.
    ConnectomeBenchError
        If there is no site.
    """
    if not sites:
        raise ConnectomeBenchError("no site to divide into train, validation and test; loosen the label rules")
    problem, class_names = _problem(sites, rules, bounds_nm)
    tied = tied_to(sites, earlier, rules.group_by)
    _hold(problem, tied)
    part, kept, over = best_assignment(problem, rules.seed)
    elsewhere = (tied.sum(axis=1) - tied[np.arange(len(part)), part]) > 0
    astride = _in_both_halves(sites, rules, bounds_nm)
    kept &= ~(elsewhere | astride)
    _check_complete(problem, class_names, part, kept, rules)
    given = {TIED: elsewhere, BOTH_HALVES: astride, OVER_SIZE: over}
    return _result(sites, rules, problem, part, kept, given)


def _hold(problem: Problem, tied: NDArray[np.bool_]) -> None:
    """Hold each cube with sites that are tied to a partition in the one that most of them are tied to."""
    single = tied.sum(axis=1) == 1
    votes = np.zeros((len(problem.cube_center), 3), np.int64)
    np.add.at(votes, problem.cube[single], tied[single])
    votes[~problem.allowed] = 0
    held = votes.any(axis=1)
    problem.allowed[held] = False
    problem.allowed[held, votes[held].argmax(axis=1)] = True


def check_divisible(sites: Sequence[Site], rules: PartitionConfig, bounds_nm: Box) -> None:
    """Check what :func:`partition_sites` needs of a pool, before any choice among its sites.

    Only what is certain is an error: that part of the pool cannot be divided if its cubes are too few.

    Parameters
    ----------
    sites, rules, bounds_nm
        As for :func:`partition_sites`.

    Raises
    ------
    TaskLacking
        If a task that needs several answers has one only, or one lies in too few cubes for three partitions.
    ConnectomeBenchError
        If the views of the cases alone overlap too much.
    """
    location_nm = np.array([s.location_nm for s in sites], np.float64).reshape(-1, 3)
    cube, _, allowed = _cubes(location_nm, rules, bounds_nm)
    site_class, class_names = _classes(sites)
    for (task, answer), members in _needed(class_names).items():
        own = allowed[np.unique(cube[np.isin(site_class, members)])]
        # a cube goes to one partition; with a half for test the other half needs two
        if len(own) < 3 or not own[:, 2].any() or own[:, 0].sum() < 2:
            what = "its sites" + _with_answer(answer)
            raise TaskLacking(
                task,
                f"{what} lie in {len(own)} cubes of {rules.cube_nm:g} nm, too few for train, validation and test; use "
                "a smaller cube_nm or more sites",
            )
    cases = [i for i, site in enumerate(sites) if site.is_case and site.places]
    if cases:
        extent_nm = np.array([sites[i].extent_nm for i in cases], np.float64)
        overlapping_views(location_nm[cases], extent_nm, np.unique(cube[cases], return_inverse=True)[1])


def _cubes(
    location_nm: NDArray[np.float64], rules: PartitionConfig, bounds_nm: Box
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the cube of each site, (n,), the index of each cube along x, y, z, (k, 3), and its partitions, (k, 3)."""
    index = np.floor((location_nm - np.array(bounds_nm.lower_nm)) / rules.cube_nm).astype(np.int64)
    held_out = in_test_half(location_nm, rules.test_half, bounds_nm)
    # a cube that the middle of the box runs through is two
    keys, cube = np.unique(np.column_stack([index, held_out.astype(np.int64)]), axis=0, return_inverse=True)
    allowed = np.ones((len(keys), 3), bool)
    if rules.test_half is not None:
        allowed[:, 2] = keys[:, 3] == 1
        allowed[:, :2] = ~allowed[:, 2:]
    return cube.ravel(), keys[:, :3], allowed


def _classes(sites: Sequence[Site]) -> tuple[NDArray[np.int64], list[tuple[str, str]]]:
    """Return the class of each site, (n,), and the classes: (task, class of answers)."""
    keys = [(s.task, s.answer_class) for s in sites]
    class_names = sorted(set(keys))
    for task in sorted({name for name, _ in class_names}):
        answers = [answer for name, answer in class_names if name == task]
        if len(answers) < 2 and answers[0]:
            needed = "both answers are" if get_task(task).labels == YES_NO else "another one is"
            raise TaskLacking(task, f"all sites have the answer {answers[0]!r}; {needed} needed")
    number = {name: i for i, name in enumerate(class_names)}
    return np.array([number[k] for k in keys], np.int64), class_names


def _needed(class_names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """Return what every partition must hold of each task: (task, class) -> indices of classes of which one will do.

    Of a task whose answers are as frequent as they are in nature, such as rare kinds of cells, some sites; of the
    others each class.
    """
    needed: dict[tuple[str, str], list[int]] = {}
    for i, (task, answer) in enumerate(class_names):
        needed.setdefault((task, "" if get_task(task).balance == "classes" else answer), []).append(i)
    return needed


def _with_answer(answer: str) -> str:
    return f" with the answer {answer!r}" if answer else ""


def _problem(sites: Sequence[Site], rules: PartitionConfig, bounds_nm: Box) -> tuple[Problem, list[tuple[str, str]]]:
    location_nm = np.array([s.location_nm for s in sites], np.float64)
    cube, cubes, allowed = _cubes(location_nm, rules, bounds_nm)
    site_class, class_names = _classes(sites)
    totals = np.bincount(site_class, minlength=len(class_names)).astype(np.float64)
    tasks = {name for name, _ in class_names}
    task_totals = {name: sum(t for (n, _), t in zip(class_names, totals, strict=True) if n == name) for name in tasks}
    wanted = np.zeros((len(class_names), 3))
    caps = np.full((len(class_names), 3), np.inf)
    for i, (task, _) in enumerate(class_names):
        share = totals[i] / task_totals[task]
        wanted[i, 1] = min(rules.max_validation, rules.validation_fraction * task_totals[task]) * share
        wanted[i, 2] = min(rules.max_test, rules.test_fraction * task_totals[task]) * share
        wanted[i, 0] = totals[i] - wanted[i, 1] - wanted[i, 2]
        caps[i, 1:] = np.maximum(1, np.floor(np.array([rules.max_validation, rules.max_test]) * share + 1e-9))

    ids, owners = _shared_ids(sites, rules.group_by)
    pairs = _overlapping_places(sites, cube)
    problem = Problem(
        cube=cube,
        cube_center=cubes.astype(np.float64),
        site_class=site_class,
        wanted=wanted,
        caps=caps,
        id_index=ids,
        id_site=owners,
        pairs=pairs,
        allowed=allowed,
    )
    return problem, class_names


def _overlapping_places(sites: Sequence[Site], cube: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of sites of different cubes that show one place; int64, shape (m, 2), sorted."""
    places = [(i, *place) for i, site in enumerate(sites) for place in site.places]
    if not places:
        return np.zeros((2, 0), np.int64).T
    owner = np.array([i for i, _, _ in places], np.int64)
    location_nm = np.array([location for _, location, _ in places], np.float64)
    pairs = overlapping_views(location_nm, np.array([extent for _, _, extent in places], np.float64), cube[owner])
    owners = np.sort(owner[pairs], axis=1)
    left, right = np.unique(owners[owners[:, 0] != owners[:, 1]], axis=0).T
    return np.ascontiguousarray(np.stack([left, right])).T


def in_test_half(location_nm: NDArray[np.float64], test_half: str | None, bounds_nm: Box) -> NDArray[np.bool_]:
    """Tell which places lie in the half that is test; none without one.

    Parameters
    ----------
    location_nm
        float64, shape (n, 3): x, y, z, nm.
    test_half
        See :class:`PartitionConfig`.
    bounds_nm
        The box, nm.
    """
    if test_half is None:
        return np.zeros(len(location_nm), bool)
    axis = "xyz".index(test_half[1])
    beyond = location_nm[:, axis] >= (bounds_nm.lower_nm[axis] + bounds_nm.upper_nm[axis]) / 2
    return beyond if test_half[0] == "+" else ~beyond


def _in_both_halves(sites: Sequence[Site], rules: PartitionConfig, bounds_nm: Box) -> NDArray[np.bool_]:
    """Tell which sites have a place in the half that is test and one outside of it; bool, shape (n,)."""
    second = np.array([s.location_nm if s.second is None else s.second.location_nm for s in sites], np.float64)
    first = np.array([s.location_nm for s in sites], np.float64)
    return in_test_half(first, rules.test_half, bounds_nm) != in_test_half(second, rules.test_half, bounds_nm)


def _shared_ids(
    sites: Sequence[Site], group_by: str, *, edits: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the (id, site) pairs: index of each segment (and body, and correction), and the site that it belongs to."""
    number: dict[tuple[str, tuple[str, int | str] | int], int] = {}
    seen = {
        (number.setdefault(key, len(number)), i)
        for i, site in enumerate(sites)
        for key in itertools.chain(
            (("segment", s) for s in site.segment_keys),
            (("body", b) for b in site.body_ids) if group_by == "body" else (),
            (("edit", (site.segmentation or "", site.edit_id)),) if edits and site.edit_id is not None else (),
        )
    }
    table = np.array(sorted(seen), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _check_complete(
    problem: Problem,
    class_names: list[tuple[str, str]],
    part: NDArray[np.int64],
    kept: NDArray[np.bool_],
    rules: PartitionConfig,
) -> None:
    counts = problem.counts(part, kept)
    for (task, answer), members in _needed(class_names).items():
        for name, count in zip(PARTITIONS, counts[members].sum(axis=0), strict=True):
            if count == 0:
                what = "no site" + _with_answer(answer)
                raise TaskLacking(
                    task,
                    f"{what} is left for {name} ({len(problem.cube_center)} cubes of {rules.cube_nm:g} nm hold sites); "
                    "use a smaller cube_nm, a smaller extent, more sites or another seed",
                )


def _result(
    sites: Sequence[Site],
    rules: PartitionConfig,
    problem: Problem,
    part: NDArray[np.int64],
    kept: NDArray[np.bool_],
    given: Mapping[str, NDArray[np.bool_]],
) -> PartitionResult:
    """Put the result together; ``given`` holds reasons for dropping, the first that holds for a site is its own."""
    by_id, _ = conflicts(problem, part, kept)
    shared = SHARED_BODY if rules.group_by == "body" else SHARED_SEGMENT
    reasons: list[str | None] = [None] * len(sites)
    for i in np.flatnonzero(~kept).tolist():
        own = (reason for reason, dropped in given.items() if dropped[i])
        reasons[i] = next(own, shared if by_id[i] else SHARED_PLACE)
    partitions = [PARTITIONS[p] if k else None for p, k in zip(part.tolist(), kept.tolist(), strict=True)]

    counts: dict[str, dict[str, dict[str, int]]] = {}
    dropped: dict[str, dict[str, int]] = {}
    named = [get_task(s.task).counted_as(s.answer) for s in sites]
    tally = Counter((s.task, p, a) for s, p, a in zip(sites, partitions, named, strict=True) if p is not None)
    for task in sorted({s.task for s in sites}):
        answers = sorted({a for s, a in zip(sites, named, strict=True) if s.task == task})
        counts[task] = {p: {a: tally[task, p, a] for a in answers} for p in PARTITIONS}
        lost = Counter(r for s, r in zip(sites, reasons, strict=True) if r is not None and s.task == task)
        dropped[task] = dict(sorted(lost.items()))

    sides: dict[int, set[str]] = {}
    for site, name in zip(sites, partitions, strict=True):
        if name is not None:
            for body in site.body_ids:
                sides.setdefault(body, set()).add(name)
    return PartitionResult(
        partitions=tuple(partitions),
        reasons=tuple(reasons),
        groups=tuple(_groups(sites, partitions, rules.group_by, problem.cube_center[problem.cube])),
        counts=counts,
        dropped=dropped,
        cubes=len(problem.cube_center),
        bodies=len(sides),
        bodies_shared=sum(len(s) > 1 for s in sides.values()),
    )


def _groups(
    sites: Sequence[Site], partitions: Sequence[str | None], group_by: str, cube: NDArray[np.float64]
) -> list[str | None]:
    """Name the connected components of the kept sites of each task and partition by their smallest segment or body."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    family = any(site.segmentation is not None for site in sites)
    groups: list[str | None] = [None] * len(sites)
    together: dict[tuple[str, str], list[int]] = {}
    for i, name in enumerate(partitions):
        if name is not None:
            together.setdefault((sites[i].task, name), []).append(i)
    for own in together.values():
        ids, owners = _shared_ids([sites[i] for i in own], "body" if family else group_by, edits=True)
        size = len(own) + (int(ids.max()) + 1 if len(ids) else 0)
        graph = coo_matrix((np.ones(len(ids), np.int8), (owners, ids + len(own))), shape=(size, size))
        components: dict[int, list[int]] = {}
        for i, c in zip(own, connected_components(graph, directed=False)[1].tolist(), strict=False):
            components.setdefault(c, []).append(i)
        for members in components.values():
            too_large = len(members) > LARGEST_GROUP * len(own)
            if family:
                # ids of segments mean nothing across segmentations, and a cube boundary would part copies of a place
                first = min(b for i in members for b in sites[i].body_ids)
                for i in members:
                    groups[i] = f"body-{min(sites[i].body_ids) if too_large else first}"
                continue
            name = f"segment-{min((s for i in members for s in sites[i].segment_ids), default=0)}"
            first_at_edit: dict[str, int] = {}
            for i in members:
                # all sites of one correction stay together
                edit_id = sites[i].edit_id
                first = i if edit_id is None else first_at_edit.setdefault(edit_id, i)
                x, y, z = (int(c) for c in cube[first])
                groups[i] = f"{name}/cube-{x}-{y}-{z}" if too_large else name
    return groups
