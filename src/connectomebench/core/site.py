"""A labelled site: what is shown, the task, the answer, and the origin."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

Point = tuple[float, float, float]
Role = Literal["base", "candidate", "source", "sink"]
Origin = Literal["edit", "control", "simulated"]


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
        ``"yes"`` or ``"no"`` for the yes/no tasks.
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
        shown = {
            "task": self.task,
            "species": species,
            "source": source,
            "location_nm": [round(c, 3) for c in self.location_nm],
            "extent_nm": round(self.extent_nm, 3),
            "parts": [[str(p.segment_id), p.role] for p in self.parts],
            "cut": None if self.cut is None else asdict(self.cut),
        }
        text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
