"""A labelled site: what is shown, the task, the answer, and the origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.tasks import get_task

Point = tuple[float, float, float]
Role = Literal["base", "candidate", "source", "sink"]
Origin = Literal["edit", "control", "simulated"]


def as_point(values: Sequence[float] | NDArray[np.floating]) -> Point:
    """Return three numbers as a point of plain floats.

    Raises
    ------
    ValueError
        If they are not three.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench.core.site import as_point
    >>> as_point(np.array([1, 2.5, 3], np.float32))
    (1.0, 2.5, 3.0)
    """
    x, y, z = (float(value) for value in values)
    return x, y, z


@dataclass(frozen=True)
class Cut:
    """A proposed cut of one segment.

    Attributes
    ----------
    sources_nm, sinks_nm
        Seed points of its two sides (x, y, z), nm.
    center_nm, cutout_nm
        Centre and edge of the cube in which the cut is computed, nm: ``Source.cut_graph(segment, center_nm,
        cutout_nm)`` gives the pieces that the seeds stand for.
    """

    sources_nm: tuple[Point, ...]
    sinks_nm: tuple[Point, ...]
    center_nm: Point
    cutout_nm: float


@dataclass(frozen=True)
class Part:
    """One object in the image: a segment, or (role source or sink) one side of a cut of it."""

    segment_id: int
    role: Role


@dataclass(frozen=True)
class SecondPlace:
    """A second place that a sample shows beside the first.

    Attributes
    ----------
    segment_id
        The segment shown there.
    location_nm, extent_nm
        Centre (x, y, z) and edge of the view, nm.
    direction
        Which way the camera looks (x, y, z), of length 1.
    """

    segment_id: int
    location_nm: Point
    extent_nm: float
    direction: Point


@dataclass(frozen=True)
class Site:
    """A labelled location, before it is rendered.

    Attributes
    ----------
    task
        Name of a task in :mod:`connectomebench.core.tasks`.
    location_nm
        Centre of all views (x, y, z), nm. Never chosen with knowledge a proofreader lacks.
    extent_nm
        Edge of the square (cube) shown, nm.
    parts
        What is drawn, in drawing order; the first is the base segment.
    answer
        One of the task's labels, or text for a place.
    segment_ids, body_ids
        Ids before the correction, and the proofread bodies they belong to (unsigned 64-bit).
    origin
        ``edit`` (a real correction), ``control`` (real, nothing to correct) or ``simulated``.
    edit_id
        Name of the correction, None for controls.
    cut
        The proposed cut, for the split tasks.
    covariates
        Numbers a trivial model could use (sizes, distance); controls are matched on them.
    segmentation
        Name of the segmentation that the segments are of, where the source has several of one volume; else None.
    hard_negative
        A control that a person took for a correction, which was taken back: it is chosen before other controls.
    target_cut
        The right split, where the answer is the masks of its two sides. It is not shown and no part of the sample id.
    target_nm
        The right places, where the answer is one (x, y, z), nm.
    choices
        Candidates to choose from, in the order of their letters; each is a part as well.
    question
        What is asked, where it is not the same for all samples of the task; else None.
    nodes_nm
        Places that are drawn with a number, counted from 1 (x, y, z), nm.
    second
        The second place, where a sample shows two.
    """

    task: str
    location_nm: Point
    extent_nm: float
    parts: tuple[Part, ...]
    answer: str
    segment_ids: tuple[int, ...]
    body_ids: tuple[int, ...]
    origin: Origin
    edit_id: str | None = None
    cut: Cut | None = None
    covariates: dict[str, float] = field(default_factory=dict, compare=False)
    segmentation: str | None = None
    hard_negative: bool = False
    target_cut: Cut | None = None
    target_nm: tuple[Point, ...] = ()
    choices: tuple[int, ...] = ()
    question: str | None = None
    nodes_nm: tuple[Point, ...] = ()
    second: SecondPlace | None = None

    @property
    def is_case(self) -> bool:
        """Whether something is there to be found; see :meth:`connectomebench.core.tasks.Task.is_case`."""
        return get_task(self.task).is_case(self.answer)

    @property
    def answer_class(self) -> str:
        """Class that is balanced; see :meth:`connectomebench.core.tasks.Task.class_of`."""
        return get_task(self.task).class_of(self.answer)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return get_task(self.task).views_of(len(self.choices))

    @property
    def asked(self) -> str:
        """The question in full."""
        return self.question or get_task(self.task).ask(len(self.choices))

    @property
    def places(self) -> tuple[tuple[Point, float], ...]:
        """Centre and edge of each cube that is shown, nm; none where a segment is shown whole, wherever it is."""
        if get_task(self.task).whole:
            return ()
        first = (self.location_nm, self.extent_nm)
        return (first,) if self.second is None else (first, (self.second.location_nm, self.second.extent_nm))

    @property
    def segment_keys(self) -> tuple[tuple[str, int], ...]:
        """Segments with the name of their segmentation: ids of two segmentations have nothing to do with each other."""
        return tuple((self.segmentation or "", segment) for segment in self.segment_ids)

    def sample_id(self, species: str, source: str) -> str:
        """Return a stable id of the sample: 16 hex digits that depend on what is shown, never on the answer.

        Parameters
        ----------
        species, source
            Species config and source name with version.
        """
        shown: dict[str, Any] = {
            "task": self.task,
            "species": species,
            "source": source,
            "location_nm": [round(c, 3) for c in self.location_nm],
            "extent_nm": round(self.extent_nm, 3),
            "parts": [[str(p.segment_id), p.role] for p in self.parts],
            "cut": None if self.cut is None else asdict(self.cut),
        }
        # only where there is one, so that ids of samples without stay as they are
        if self.nodes_nm:
            shown["nodes_nm"] = [[round(c, 3) for c in node] for node in self.nodes_nm]
        if self.second is not None:
            shown["second"] = asdict(self.second) | {"segment_id": str(self.second.segment_id)}
        text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
