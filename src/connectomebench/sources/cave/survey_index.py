"""Index of all surveys of a build by segment and location; surveys are read from disk when needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.errors import SiteUnavailable
from connectomebench.core.site import Point
from connectomebench.sources.cave.jobs import SurveyGroup, load_surveys
from connectomebench.sources.cave.survey import Survey

_FILES_IN_MEMORY = 16


@dataclass(frozen=True)
class State:
    """A time at which a segment is shown: just before the edit of a survey, or the final state."""

    survey: Survey
    final: bool

    def root_of(self, supervoxels: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the roots of supervoxels (uint64) in this state; 0 outside the survey."""
        roots = self.survey.final if self.final else self.survey.before
        at = np.minimum(np.searchsorted(self.survey.supervoxels, supervoxels), len(roots) - 1)
        return np.where(self.survey.supervoxels[at] == supervoxels, roots[at], np.uint64(0))


class SurveyIndex:
    """Index of surveys on disk.

    Parameters
    ----------
    paths
        Files of :func:`connectomebench.sources.cave.jobs.make_surveys`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._load = lru_cache(maxsize=_FILES_IN_MEMORY)(load_surveys)
        where: list[tuple[int, int]] = []
        self._light: list[Survey] = []
        operations: list[int] = []
        centers: list[Point] = []
        self._of_segment: dict[int, list[int]] = defaultdict(list)
        self._own: dict[int, int] = {}
        self.without: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        for number, found in enumerate(map(load_surveys, self._paths)):
            self.without |= found.without
            self.failed |= found.failed
            for row_in_file, survey in enumerate(found.surveys):
                row = len(where)
                where.append((number, row_in_file))
                self._light.append(survey.light())
                operations.append(survey.operation_id)
                centers.append(survey.center_nm)
                for segment in survey.segments.tolist():
                    self._of_segment[segment].append(row)
                for segment in survey.sides:
                    self._own.setdefault(segment, row)
        self._where = where
        self._row_of = {operation: row for row, operation in enumerate(operations)}
        self.centers_nm = np.asarray(centers, np.float64).reshape(-1, 3)
        self._tree = KDTree(self.centers_nm) if centers else None

    def __len__(self) -> int:
        return len(self._where)

    def light(self) -> list[Survey]:
        """Return all surveys without supervoxels and skeletons, which are read when needed."""
        return self._light

    def files(self) -> Iterator[tuple[Path, SurveyGroup]]:
        """Yield each file with its content."""
        for path in self._paths:
            yield path, load_surveys(path)

    def of_operation(self, operation: int) -> Survey | None:
        """Return the survey of an edit, or None."""
        row = self._row_of.get(operation)
        return None if row is None else self._read(row)

    def of_segment(self, segment: int) -> Survey | None:
        """Return the survey at the segment's own edit, else the first one that knows it."""
        row = self._row_of_segment(segment)
        return None if row is None else self._read(row)

    def center_of(self, segment: int) -> NDArray[np.float64] | None:
        """Middle of the cube that :meth:`of_segment` is about: float64, shape (3,), nm; None where there is none."""
        row = self._row_of_segment(segment)
        return None if row is None else self.centers_nm[row]

    def _row_of_segment(self, segment: int) -> int | None:
        rows = [self._own[segment]] if segment in self._own else self._of_segment.get(segment, [])
        return rows[0] if rows else None

    def state(self, segment: int, place_nm: Point, beside: Sequence[int] = ()) -> State:
        """Find a time at which a segment existed, with a survey of the location.

        A segment of a survey is shown just before the edit of that survey; any other one is a final segment, shown in
        the nearest survey. Surveys that hold the segments ``beside`` too come first.

        Raises
        ------
        SiteUnavailable
            If there is no survey.
        """
        rows = self._of_segment.get(segment, [])
        rows = [row for row in rows if all(row in self._of_segment.get(other, []) for other in beside)] or rows
        if rows:
            distance = np.abs(self.centers_nm[rows] - np.asarray(place_nm)).max(axis=1)
            return State(self._read(rows[int(np.argmin(distance))]), final=False)
        if self._tree is None:
            raise SiteUnavailable("the place was not surveyed")
        return State(self._read(int(self._tree.query(place_nm, p=np.inf)[1])), final=True)

    def _read(self, row: int) -> Survey:
        number, row_in_file = self._where[row]
        return self._load(self._paths[number]).surveys[row_in_file]
