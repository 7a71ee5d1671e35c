"""A segment as a whole: where it is, and which cells it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from connectomebench.core.geometry import Box

CellKind = Literal["neuron", "other", "unknown"]


@dataclass(frozen=True)
class WholeSegment:
    """What is known of a whole segment.

    Attributes
    ----------
    segment
        Its id.
    bodies
        Bodies of the truth that it is known to hold.
    box
        Its bounding box, nm.
    kinds
        Kind of each cell whose nucleus or cell body lies inside; empty where there is none.
    kind
        What the segment is a part of, where it holds no cell body.
    nucleus_nm
        Edges of the bounding box of its one nucleus (x, y, z), nm; None where they are unknown or there are several.
    checked
        People proofread the segment, so that it is no more and no less than a cell.
    """

    segment: int
    bodies: tuple[int, ...]
    box: Box
    kinds: tuple[CellKind, ...]
    kind: CellKind = "unknown"
    nucleus_nm: tuple[float, float, float] | None = None
    checked: bool = False

    @property
    def edges_nm(self) -> tuple[float, float, float]:
        """Edges of the bounding box along x, y, z, nm."""
        x, y, z = (high - low for low, high in zip(self.box.lower_nm, self.box.upper_nm, strict=True))
        return x, y, z


@dataclass(frozen=True)
class WholeSegments:
    """Whole segments of a source, by ascending id, and how many are left out for which reason."""

    found: tuple[WholeSegment, ...]
    dropped: Counter[str] = field(default_factory=Counter)
