"""What containers say about axes, voxel size and offset of their arrays, and whether it contradicts what is stated.

Only statements with a meaning are read: OME-Zarr's multiscales, attributes of CREMI, funlib, ilastik and N5 exports,
and ImageJ's or OME's description of a TIFF file. Resolutions that are a mere default (all ones) say nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError

_UNITS_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "angstrom": 0.1,
    "å": 0.1,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
UNNAMED = "?"  # an axis whose name the container does not say
AFFINITY_CHANNELS_NEEDED = "an affinity map has three, one an axis: save those of the nearest voxels alone"
_GUESSED_UNITS_NM = (1.0, 1e3, 1e6)
_SAME = 1e-3  # relative difference of two voxel sizes that is rounding
_CLOSE_VX = 1.0  # offsets closer than this are rounding, or the half voxel of a downsampled level


@dataclass(frozen=True)
class Placement:
    """What a container says about one array.

    Attributes
    ----------
    names
        Name of each stored axis; None where it does not say.
    size
        Edge of a voxel along each stored axis, in ``unit_nm``; NaN where unknown. None where it says nothing.
    translation
        Position of the first voxel along each stored axis, in ``unit_nm``; None where it says nothing.
    unit_nm
        Length of the unit of each stored axis, nm; None where it is not stated.
    where
        Where this is written, for messages.
    """

    names: tuple[str, ...] | None = None
    size: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None
    unit_nm: tuple[float, ...] | None = None
    where: str = ""

    def voxel_size_nm(self, order: Sequence[int]) -> tuple[float, float, float] | None:
        """Return the voxel size along x, y, z, whose stored axes are ``order``; None where it is not known."""
        if self.size is None or len(self.size) <= max(order):
            return None
        units = self.unit_nm or (1.0,) * len(self.size)
        x, y, z = (self.size[axis] * units[axis] for axis in order)
        return None if any(math.isnan(v) for v in (x, y, z)) else (x, y, z)


NOTHING = Placement()


def length_nm(unit: Any) -> float | None:
    """Return the length of a named unit, nm; None for anything that is no length."""
    return _UNITS_NM.get(str(unit).strip().lower()) if unit else None


def axis_order(
    axes: str, stored: tuple[int, ...], placement: Placement, name: str, path: str | Path, channels: int = 1
) -> list[int]:
    """Find the stored axes of x, y and z.

    Parameters
    ----------
    axes
        As stated: x, y, z and any further letters in the order of the stored axes. Axes of length 1 that are not x, y
        or z may be left out.
    stored
        Shape as stored.
    placement
        What the container says; names of axes help to find those that were left out.
    name, path
        Of the volume, in messages.
    channels
        Length of axis ``c``, which must then be named where it is more than 1.

    Returns
    -------
    list of int
        For x, y, z, and c where there are several channels: the axis of the array.

    Raises
    ------
    ConnectomeBenchError
        If ``axes`` does not fit the shape or contradicts the container, or an axis that is not x, y or z has another
        length.
    """
    kept = _kept_axes(axes, stored, placement, name, path)
    letters = dict(zip(axes, kept, strict=True))
    for letter, axis in letters.items():
        if letter == "c" and channels > 1:
            if stored[axis] != channels:
                found = f"{stored[axis]} channel{'s' * (stored[axis] != 1)}"
                raise ConnectomeBenchError(f"{name}: {path} has {found}; {AFFINITY_CHANNELS_NEEDED}")
        elif letter not in "xyz":
            _one_entry(letter, stored[axis], name, path)
    named = placement.names
    if named is not None and len(named) == len(stored):
        for letter in "xyz":
            if letter in named and named.index(letter) != letters[letter] and _is_spatial(named):
                raise ConnectomeBenchError(
                    f"{name}: axes {axes!r} contradicts {''.join(named)!r} in {placement.where}; state "
                    f"`axes: {''.join(n for n in named if len(n) == 1)}`"
                )
    return [letters[letter] for letter in ("xyzc" if channels > 1 else "xyz")]


def _is_spatial(names: Sequence[str]) -> bool:
    return set("xyz") <= set(names)


def _kept_axes(
    axes: str, stored: tuple[int, ...], placement: Placement, name: str, path: str | Path
) -> tuple[int, ...]:
    """Return the stored axes that ``axes`` names, in order."""
    surplus = len(stored) - len(axes)
    if surplus == 0:
        return tuple(range(len(stored)))
    if surplus < 0:
        raise ConnectomeBenchError(f"{name}: {path} has shape {stored}, which axes {axes!r} do not describe")
    if placement.names is not None and len(placement.names) == len(stored):
        kept = tuple(i for i, n in enumerate(placement.names) if n in axes or n.startswith(UNNAMED))
        if len(kept) == len(axes):
            for i, letter in enumerate(placement.names):
                if i not in kept:
                    _one_entry(letter, stored[i], name, path)
            return kept
    short = [i for i, n in enumerate(stored) if n == 1]
    ways: dict[tuple[int, ...], tuple[int, ...]] = {}
    for dropped in itertools.combinations(short, surplus):
        kept = tuple(i for i in range(len(stored)) if i not in dropped)
        ways.setdefault(tuple(stored[i] for i in kept), kept)
    if len(ways) == 1:
        return next(iter(ways.values()))
    count = {4: "four", 5: "five", 6: "six"}.get(len(stored), str(len(stored)))
    if stored[-1] in (3, 4) and not short:
        raise ConnectomeBenchError(
            f"{name}: {path} has {count} axes, shape {stored}: it has {stored[-1]} channels, one is needed; save "
            "one of them"
        )
    raise ConnectomeBenchError(
        f"{name}: {path} has {count} axes, shape {stored}; say which one is the channel with a c in `axes`, and name "
        "other axes of length 1 with any other letter"
    )


def _one_entry(letter: str, length: int, name: str, path: str | Path) -> None:
    if length != 1:
        what = f"{length} channels" if letter in ("c", "s") else f"{length} entries along its axis {letter!r}"
        raise ConnectomeBenchError(f"{name}: {path} has {what}; one is needed: save one of them")


def check_contradiction(
    placement: Placement,
    order: Sequence[int],
    voxel_nm: tuple[float, float, float],
    offset_vx: Sequence[int],
    name: str,
    path: str | Path,
) -> None:
    """Check voxel size and offset, as stated, against what the container says.

    Parameters
    ----------
    placement
        What the container says.
    order
        For x, y, z: the axis of the array.
    voxel_nm, offset_vx
        As stated, x, y, z.
    name, path
        Of the volume, in messages.

    Raises
    ------
    ConnectomeBenchError
        If they differ by more than rounding.
    """
    stored = placement.voxel_size_nm(order)
    sizes = placement.size and [placement.size[a] if a < len(placement.size) else math.nan for a in order]
    if sizes and placement.unit_nm is None:
        if all(math.isnan(s) or s == 1 for s in sizes):
            return
        ways = [sizes]
        if placement.names is None and placement.size is not None and len(placement.size) == 3:
            ways.append([placement.size[2 - a] for a in order])  # some tools write x first, whatever the array's order
        candidates = [[s * unit for s in way] for way in ways for unit in _GUESSED_UNITS_NM]
    elif sizes:
        candidates = [[s * (placement.unit_nm or ())[a] for s, a in zip(sizes, order, strict=True)]]
    else:
        candidates = []
    if candidates and not any(_same_sizes(c, voxel_nm) for c in candidates):
        raise ConnectomeBenchError(
            f"{name}: voxel_size_nm {list(voxel_nm)} contradicts {_shown(stored or candidates[0])} (x, y, z) in "
            f"{placement.where} of {path}; state that, or mend the file if it is wrong"
        )
    if placement.translation is None or not any(placement.translation[axis] for axis in order):
        return
    units = placement.unit_nm or (1.0,) * len(placement.translation)
    at = [placement.translation[a] * units[a] / v for a, v in zip(order, voxel_nm, strict=True)]
    as_voxels = [placement.translation[a] for a in order]  # some tools write voxels
    ways = [at] if placement.unit_nm is not None else [at, [p * 1e3 for p in at], as_voxels]
    if not any(all(abs(p - o) < _CLOSE_VX for p, o in zip(way, offset_vx, strict=True)) for way in ways):
        raise ConnectomeBenchError(
            f"{name}: offset_vx {list(offset_vx)} contradicts {[round(p) for p in at]} (x, y, z) in {placement.where} "
            f"of {path}; state that, or mend the file if it is wrong"
        )


def _same_sizes(stored: Sequence[float], stated: Sequence[float]) -> bool:
    return all(math.isnan(a) or abs(a - b) <= _SAME * b for a, b in zip(stored, stated, strict=True))


def _shown(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(v) else round(v, 6) for v in values]


def ome_zarr_placement(attributes: Mapping[str, Any], level: str, ndim: int) -> Placement | None:
    """Read OME-Zarr metadata (versions 0.1 to 0.5) of one level.

    Parameters
    ----------
    attributes
        Attributes of the group that lists the levels.
    level
        Path of the array inside that group.
    ndim
        Its number of axes.

    Returns
    -------
    Placement or None
        None where the group does not list this array, or what it says cannot be understood.
    """
    ome = attributes.get("ome", attributes)
    scales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    for scale in scales if isinstance(scales, list) else []:
        try:
            levels = [d["path"].strip("/") for d in scale["datasets"]]
            if level.strip("/") not in levels:
                continue
            axes = [a if isinstance(a, Mapping) else {"name": a} for a in scale.get("axes", ())]
            names = tuple(str(a["name"]).lower() for a in axes)
            if len(names) != ndim:
                return None
            entry = scale["datasets"][levels.index(level.strip("/"))]
            size, shift = np.ones(ndim), np.zeros(ndim)
            given = False
            for transforms in (entry.get("coordinateTransformations"), scale.get("coordinateTransformations")):
                for step in transforms or ():
                    if step["type"] == "scale":
                        factor = np.array([float(v) for v in step["scale"]])
                        size, shift, given = size * factor, shift * factor, True
                    elif step["type"] == "translation":
                        shift = shift + np.array([float(v) for v in step["translation"]])
            units = [length_nm(a.get("unit")) for a in axes]
            known = all(u is not None for u, n in zip(units, names, strict=True) if n in "xyz")
            given = given and (known or not _is_relative(scale["datasets"][0]))
            return Placement(
                names,
                tuple(size.tolist()) if given else None,
                tuple(shift.tolist()) if shift.any() else None,
                tuple(u or 1.0 for u in units) if known and names else None,
                "the OME-Zarr metadata",
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
    return None


def _is_relative(first_level: Mapping[str, Any]) -> bool:
    """Return whether scales without a unit are factors of downsampling: the first level has ones alone."""
    steps = first_level.get("coordinateTransformations") or ()
    return all(float(v) == 1 for step in steps if step["type"] == "scale" for v in step["scale"])


def attribute_placement(attributes: Mapping[str, Any], ndim: int, where: str) -> Placement | None:
    """Read attributes that tools of the field write beside an array, in the order of its axes.

    Parameters
    ----------
    attributes
        Of the array or of a group that holds it: ``resolution`` and ``offset`` (CREMI, funlib), ``voxel_size``,
        ``element_size_um`` (ilastik), ``pixelResolution`` (N5).
    ndim
        Number of axes of the array.
    where
        Name of the place in messages.

    Returns
    -------
    Placement or None
        None where there are none.
    """
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, Mapping):
        size, unit = _numbers(pixel.get("dimensions"), ndim), length_nm(pixel.get("unit"))
        if size is not None:  # N5 writes x first, whatever the order of the array here
            return Placement(None, size[::-1], None, None if unit is None else (unit,) * ndim, where)
    for key, unit in (("element_size_um", 1e3), ("resolution", None), ("voxel_size", None)):
        size = _numbers(attributes.get(key), ndim)
        if size is not None:
            units = attributes.get("units")
            stated = [length_nm(u) for u in units] if isinstance(units, list | tuple) and len(units) == ndim else [unit]
            lengths = None if None in stated else tuple(float(u) for u in stated if u is not None)
            if lengths is not None and len(lengths) == 1:
                lengths *= ndim
            return Placement(None, size, _numbers(attributes.get("offset"), ndim), lengths, f"`{key}` {where}".strip())
    return None


def _numbers(values: Any, ndim: int) -> tuple[float, ...] | None:
    """Return one positive or zero number for each axis; three numbers stand for the last three of more axes."""
    try:
        found = tuple(float(v) for v in np.asarray(values).ravel())
    except (TypeError, ValueError):
        return None
    if len(found) == 3 and ndim > 3:
        found = (math.nan,) * (ndim - 3) + found
    return found if len(found) == ndim and not any(math.isinf(v) for v in found) and found else None
