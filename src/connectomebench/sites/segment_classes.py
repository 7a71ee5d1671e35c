"""Label whole segments: one cell body, several, processes alone, a nucleus, or no neuron.

Labels come from what a source knows of cell bodies and nuclei
(:class:`connectomebench.core.whole_segment.WholeSegment`), never from the shape that is drawn. Segments that no rule is
sure of are left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from connectomebench.core.errors import TaskLacking
from connectomebench.core.site import Origin, Part, Site
from connectomebench.core.source import Source
from connectomebench.core.tasks import get_task
from connectomebench.core.whole_segment import WholeSegment
from connectomebench.sites.labels import LabelledSites, SiteConfig

TASK = "segment_classification"
MARGIN = 1.05  # edge of the view over the longest edge of the bounding box
NUCLEUS_ALONE = 1.3  # up to this many times the nucleus along every axis, a segment is nothing but that nucleus
WITH_PROCESSES = 4.0  # from this many times the nucleus along one axis on, a segment has processes

LEAST = 10  # segments of a class that there is anything to learn from
MOST_TO_SECOND = 8  # segments of the most frequent class for each of the second: more would not be kept

TOO_MANY = "one class far more often than all others"
UNSURE_SIZE = "a cell body with hardly any processes"
UNSURE_KIND = "cell of unknown type"
MIXED = "cell bodies of neurons and of other cells"
UNSURE_PIECE = "piece of an unknown cell"
TOO_SMALL = "segment smaller than the smallest view"


def classify(whole: WholeSegment) -> tuple[str | None, str]:
    """Return the class of a segment.

    Parameters
    ----------
    whole
        What is known of it.

    Returns
    -------
    letter, reason
        One of ``a`` to ``e``; or None, and why no rule is sure.

    Examples
    --------
    >>> from connectomebench.core.geometry import Box
    >>> box = Box((0, 0, 0), (50_000, 40_000, 30_000))
    >>> classify(WholeSegment(1, (1,), box, ("neuron",), nucleus_nm=(6000, 6000, 6000)))
    ('a', '')
    >>> classify(WholeSegment(2, (1,), box, (), kind="neuron"))
    ('c', '')
    """
    kinds = set(whole.kinds)
    if kinds == {"other"} or (not kinds and whole.kind == "other"):
        return "e", ""
    if not kinds:
        return ("c", "") if whole.kind == "neuron" else (None, UNSURE_PIECE)
    if len(whole.kinds) == 1:
        return _one_nucleus(whole)
    if kinds == {"neuron"}:
        return "b", ""
    return None, MIXED if "unknown" not in kinds else UNSURE_KIND


def _one_nucleus(whole: WholeSegment) -> tuple[str | None, str]:
    """Tell a nucleus alone from a neuron by the size of both; a proofread neuron needs no size of its nucleus."""
    if whole.nucleus_nm is None:
        sure = whole.checked and whole.kinds == ("neuron",)
        return ("a", "") if sure else (None, UNSURE_SIZE)
    times = np.divide(whole.edges_nm, np.maximum(whole.nucleus_nm, 1.0))
    if times.max() <= NUCLEUS_ALONE:
        return "d", ""
    if whole.kinds != ("neuron",):
        return None, UNSURE_KIND
    return ("a", "") if times.max() >= WITH_PROCESSES else (None, UNSURE_SIZE)


def classification_sites(source: Source, rules: SiteConfig) -> LabelledSites:
    """Make a site of every whole segment that a rule is sure of.

    Parameters
    ----------
    source
        Knows its whole segments.
    rules
        Segments smaller than the smallest view are left out.

    Returns
    -------
    LabelledSites
        By class, then by id. No class has more than ``MOST_TO_SECOND`` times as many as the second most frequent one.

    Raises
    ------
    TaskLacking
        If the source knows nothing of cell bodies, or fewer than two classes have ``LEAST`` segments.
    """
    known = source.whole_segments()
    dropped: Counter[str] = Counter(known.dropped)
    origin: Origin = "simulated" if source.info.simulated_errors else "control"
    sites: list[tuple[str, Site]] = []
    for whole in known.found:
        if max(whole.edges_nm) < rules.extent_nm[0]:
            dropped[TOO_SMALL] += 1
            continue
        letter, reason = classify(whole)
        if letter is None:
            dropped[reason] += 1
        else:
            sites.append((letter, _site(whole, letter, origin)))
    classes: dict[str, list[Site]] = {}
    for letter, site in sites:
        classes.setdefault(letter, []).append(site)
    by_size = sorted(classes, key=lambda letter: -len(classes[letter]))
    if len([letter for letter in by_size if len(classes[letter]) >= LEAST]) < 2:
        counts = ", ".join(f"{len(classes[letter])} {letter}" for letter in sorted(classes)) or "none at all"
        raise TaskLacking(
            TASK, f"two classes with {LEAST} segments each are needed, and there are {counts}; use more data"
        )
    most = MOST_TO_SECOND * len(classes[by_size[1]])
    for letter in by_size:
        dropped[TOO_MANY] += max(0, len(classes[letter]) - most)
    kept = [site for letter in sorted(classes) for site in _some(classes[letter], most)]
    return LabelledSites(kept, +dropped)


def _some(sites: list[Site], most: int) -> list[Site]:
    """Return at most so many sites, chosen by a hash of their segments."""
    key = {id(site): hashlib.sha256(str(site.segment_ids[0]).encode()).digest() for site in sites}
    chosen = {id(site) for site in sorted(sites, key=lambda site: key[id(site)])[:most]}
    return [site for site in sites if id(site) in chosen]


def _site(whole: WholeSegment, letter: str, origin: Origin) -> Site:
    x, y, z = ((a + b) / 2 for a, b in zip(whole.box.lower_nm, whole.box.upper_nm, strict=True))
    edges = whole.edges_nm
    return Site(
        task=TASK,
        location_nm=(x, y, z),
        extent_nm=round(MARGIN * max(edges), 1),
        parts=(Part(whole.segment, "base"),),
        answer=letter,
        segment_ids=(whole.segment,),
        body_ids=whole.bodies,
        origin=origin,
        covariates={f"log_edge_{axis}": float(np.log(max(edge, 1.0))) for axis, edge in zip("xyz", edges, strict=True)},
        question=question_of(edges),
    )


def question_of(edges_nm: tuple[float, float, float]) -> str:
    """Return the question about a segment, with its bounding box in whole nm.

    Examples
    --------
    >>> "measures 1000 x 2000 x 3000 nm" in question_of((1000.0, 2000.0, 3000.0))
    True
    """
    x, y, z = (round(edge) for edge in edges_nm)
    asked = get_task(TASK).question
    before, what, after = asked.partition("What is it?")
    if not what:
        raise ValueError(f"the question of {TASK} does not ask what the segment is: {asked}")
    return f"{before}Its bounding box measures {x} x {y} x {z} nm along x, y and z. {what}{after}"
