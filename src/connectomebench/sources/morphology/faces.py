"""Draw faces at which neurites end: flat or ragged, across or along the neurite, with or without a gap.

The same faces are drawn where a neurite is cut, where two neurites meet end to end or end to side, at natural ends, and
where a cut is proposed, so that the look of a face distinguishes none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.sources.morphology.tube_kernels import NO_FACE
from connectomebench.sources.morphology.tubes import cones_between, with_faces

LARGEST_OVERLAP_NM = 320.0  # half the length over which two ends lie side by side
FLAT_SHARE = 0.4
CLOSED_SHARE = 0.5  # of faces without a gap
ALONG_SHARE = 0.3  # of faces along the neurite, so that the two ends lie side by side
_STEP_NM = 60.0


@dataclass(frozen=True)
class Stretch:
    """Centre line of a neurite around a face: points at distances ``along_nm``, with radii; nm."""

    points_nm: NDArray[np.float64]
    radii_nm: NDArray[np.float64]
    along_nm: NDArray[np.float64]

    def at(self, along: NDArray[np.float64] | float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return points, shape (..., 3), and radii at distances along the stretch, nm."""
        points = np.stack([np.interp(along, self.along_nm, self.points_nm[:, k]) for k in range(3)], axis=-1)
        return points, np.asarray(np.interp(along, self.along_nm, self.radii_nm))

    def direction(self, along: float, reach_nm: float = 120.0) -> NDArray[np.float64]:
        """Return the unit vector along the stretch, shape (3,)."""
        before, after = self.at(np.array([along - reach_nm, along + reach_nm]))[0]
        return (after - before) / max(float(np.linalg.norm(after - before)), 1e-9)


@dataclass(frozen=True)
class Opening:
    """A stretch opened at a face: new ends of the two skeletons, and the tubes around them.

    Attributes
    ----------
    reach_nm
        Cable of the stretch that is replaced on either side of the face, nm.
    nodes_nm, radii_nm
        Per side (before, after the face), from the kept cable to the new end: shape (k, 3) and (k,).
    cones
        Per side, shape (m, 20); their chain is 0.
    body_cones
        The neurite itself through the face, shape (m, 20), not tapered.
    """

    reach_nm: float
    nodes_nm: tuple[NDArray[np.float64], NDArray[np.float64]]
    radii_nm: tuple[NDArray[np.float64], NDArray[np.float64]]
    cones: tuple[NDArray[np.float64], NDArray[np.float64]]
    body_cones: NDArray[np.float64]


@dataclass(frozen=True)
class FaceDraw:
    """Random numbers of one face.

    Attributes
    ----------
    along
        The face runs along the neurite rather than across.
    tilt
        0 to 1: how far it is tilted against its kind's mean.
    turn
        Angle around the neurite, rad.
    gap_nm
        Distance of the two sides, nm.
    amplitude_nm, wavelength_nm, salt
        Parameters of the surface noise.
    depth
        Per side, 0 to 1: how deep in the neurite the skeleton ends.
    """

    along: bool
    tilt: float
    turn: float
    gap_nm: float
    amplitude_nm: float
    wavelength_nm: float
    salt: int
    depth: tuple[float, float]


def draw_face(rng: np.random.Generator, max_gap_nm: float) -> FaceDraw:
    """Draw the random numbers of a face; always the same count."""
    kind, flat, closed, tilt, turn, gap, roughness, wave, first, second = rng.random(10)
    wavelength = 70.0 + 130.0 * wave
    return FaceDraw(
        kind < ALONG_SHARE,
        float(tilt),
        float(2 * np.pi * turn),
        0.0 if closed < CLOSED_SHARE else float(gap) * max_gap_nm,
        2.0 * float(roughness) if flat < FLAT_SHARE else (0.08 + 0.2 * float(roughness)) * wavelength,
        float(wavelength),
        int(rng.integers(1, 1 << 31)),
        (0.3 + 0.6 * float(first), 0.3 + 0.6 * float(second)),
    )


def face_row(
    place_nm: NDArray[np.floating], normal: NDArray[np.floating], draw: FaceDraw, least_gap_nm: float = 0.0
) -> NDArray[np.float64]:
    """Encode a face: point, normal, half the gap, amplitude, wavelength, salt; float64, shape (10,)."""
    tail = [max(draw.gap_nm, least_gap_nm) / 2, draw.amplitude_nm, draw.wavelength_nm, float(draw.salt)]
    return np.concatenate([np.asarray(place_nm, np.float64), normal, tail])


def tilted(
    direction: NDArray[np.floating], angle: float, turn: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tilt a unit vector by an angle; return it and the perpendicular unit vector it was tilted towards."""
    direction = np.asarray(direction, np.float64)
    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    one = np.cross(direction, helper)
    one /= np.linalg.norm(one)
    across = np.cos(turn) * one + np.sin(turn) * np.cross(direction, one)
    return np.cos(angle) * direction + np.sin(angle) * across, across


def open_stretch(
    stretch: Stretch,
    at_nm: float,
    draw: FaceDraw,
    tapers: tuple[float, float] = (1.0, 1.0),
    taper_nm: float = 1.0,
    stub: bool = False,
) -> Opening | None:
    """Split a stretch at a face.

    Parameters
    ----------
    stretch
        Centre line; for a meeting, both neurites end to end.
    at_nm
        Position of the face along it, nm.
    draw
        The face.
    tapers, taper_nm
        Radius at the face over that of the neurite, per side, and the length over which it changes, nm.
    stub
        The stretch starts on the centre line of another neurite, or of the trunk: what lies before the face is a stub
        of that, without a skeleton of its own.

    Returns
    -------
    Opening or None
        None if there is no room.
    """
    radius = float(stretch.at(at_nm)[1])
    along = draw.along and not stub
    if along:
        overlap = min(LARGEST_OVERLAP_NM, radius * (2.2 + 1.6 * draw.tilt))
        angle = float(np.arctan2(overlap, radius))
    else:
        angle = (0.4 if stub else 0.6) * draw.tilt
        overlap = radius * float(np.tan(angle))
    reach = overlap + radius + draw.gap_nm / 2 + 80.0
    if at_nm + reach >= stretch.along_nm[-1] or (not stub and at_nm - reach <= 0):
        return None
    normal, across = tilted(stretch.direction(at_nm), angle, draw.turn)
    face = face_row(stretch.at(at_nm)[0], normal, draw)
    nodes, radii, cones = [], [], []
    for side, sign in enumerate((-1, 1)):
        start = at_nm + sign * reach
        depth = draw.depth[side] * radius * min(1.0, tapers[side])
        # beyond the place of a face along it a side is a wedge, too thin for a skeleton towards its edge
        end = (
            at_nm - sign * 0.5 * (1 - draw.depth[side]) * overlap if along else at_nm + sign * (draw.gap_nm / 2 + depth)
        )
        if stub and side == 0:
            nodes.append(np.zeros((0, 3)))
            radii.append(np.zeros(0))
            start = 0.0
        else:
            count = max(1, round(abs(end - start) / 110.0))
            places = np.linspace(start, end, count + 1)[1:]
            points, calibre = stretch.at(places)
            calibre = calibre * _taper(np.abs(places - at_nm), tapers[side], taper_nm)
            # share of the width that the other side takes: the skeleton runs in the middle of the rest
            share = np.clip((1 - sign * (places - at_nm) / overlap) / 2, 0, 1) if along else np.zeros(count)
            nodes.append(points + sign * (share * calibre)[:, None] * across)
            radii.append(calibre * (1 - share))
        beyond = at_nm - sign * (overlap + draw.amplitude_nm + 60.0)
        drawn = _cones(stretch, start, beyond, at_nm, tapers[side], taper_nm)
        cones.append(with_faces(drawn, face, -sign))
    body = _cones(stretch, 0.0 if stub else at_nm - reach, at_nm + reach, at_nm, 1.0, 1.0)
    return Opening(reach, (nodes[0], nodes[1]), (radii[0], radii[1]), (cones[0], cones[1]), body)


def _taper(distance_nm: NDArray[np.float64], taper: float, over_nm: float) -> NDArray[np.float64]:
    return 1 + (taper - 1) * np.clip(1 - distance_nm / over_nm, 0, 1)


def _cones(
    stretch: Stretch, start: float, end: float, at_nm: float, taper: float, taper_nm: float
) -> NDArray[np.float64]:
    """Return the tubes along the stretch between two positions, nm."""
    start, end = (float(np.clip(v, stretch.along_nm[0], stretch.along_nm[-1])) for v in (start, end))
    places = np.linspace(start, end, max(1, round(abs(end - start) / _STEP_NM)) + 1)
    points, radii = stretch.at(places)
    radii = radii * _taper(np.abs(places - at_nm), taper, taper_nm)
    return cones_between(points[:-1], points[1:], radii[:-1], radii[1:], np.zeros(len(places) - 1, np.int64))


def has_face(cones: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Check which tubes are cut off at a face; bool, shape (n,)."""
    from connectomebench.sources.morphology.tube_kernels import HALF_GAP

    return cones[:, HALF_GAP] != NO_FACE
