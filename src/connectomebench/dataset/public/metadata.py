"""Read the column `metadata` of ConnectomeBench2: untrusted JSON, every value used is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectomebench.dataset.public.unmapped import Unmapped

MAX_CHARACTERS = 65_536
_MAX_IDS = 1000
_MAX_NM = 1e10
# the year 2100
_MAX_SECONDS = 4_102_444_800
_ID_LISTS = ("root_ids", "before_root_ids", "after_root_ids")
_IDS = (
    "latest_root_id",
    "base_root",
    "adjacent_root",
    "root_id",
    "pre_pt_root_id",
    "post_pt_root_id",
    "segment1_id",
    "segment2_id",
)
_NEURON = ("latest_root_id", "base_root", "root_id", "pre_pt_root_id")
_PAIRS = (("base_root", "adjacent_root"), ("pre_pt_root_id", "post_pt_root_id"), ("segment1_id", "segment2_id"))


@dataclass(frozen=True)
class SampleMetadata:
    """Metadata of a sample; missing values are empty or None.

    Attributes
    ----------
    operation
        Name of the edit.
    time
        When it was made, UTC without a zone, as our rows hold it; where that is missing, the time that the shapes are
        of (``cutout_timestamp``), just before a split.
    center_nm
        Centre of the views (x, y, z), nm: ``render_center_nm``, else ``interface_point_nm``.
    half_extent_nm
        ``view_extent_nm``: half the edge of a view, nm (the authors' camera shows twice as much).
    ids
        Segment ids by name, of those that are known here.
    lists
        The same for lists of ids.
    """

    operation: str | None
    time: datetime | None
    center_nm: tuple[float, ...]
    half_extent_nm: float | None
    ids: Mapping[str, int]
    lists: Mapping[str, tuple[int, ...]]

    @property
    def neuron(self) -> int | None:
        """Id of the neuron that groups rows: the newest root given, else the first before the edit.

        Order of the keys: ``latest_root_id``, ``base_root``, ``root_id``, ``pre_pt_root_id``, ``before_root_ids``.
        """
        known = [self.ids[name] for name in _NEURON if name in self.ids]
        return next(iter([*known, *self.lists.get("before_root_ids", ()), *self.lists.get("root_ids", ())]), None)

    @property
    def pair(self) -> tuple[int, ...]:
        """Ids of the two segments of a proposed merge, base first; empty if unknown."""
        for name in ("root_ids", "before_root_ids"):
            if len(self.lists.get(name, ())) == 2:
                return self.lists[name]
        return next(
            ((self.ids[a], self.ids[b]) for a, b in _PAIRS if a in self.ids and b in self.ids),
            (),
        )

    @property
    def pieces(self) -> tuple[int, ...]:
        """Ids of the pieces of a split: those after it, else the pair before and after it, else the newest root."""
        for name in ("after_root_ids", "root_ids"):
            if len(self.lists.get(name, ())) > 1:
                return self.lists[name]
        for a, b in _PAIRS:
            if a in self.ids and b in self.ids:
                return (self.ids[a], self.ids[b])
        return self.newest

    @property
    def newest(self) -> tuple[int, ...]:
        """Id of the newest root; empty if unknown."""
        return (self.ids["latest_root_id"],) if "latest_root_id" in self.ids else ()

    @property
    def single(self) -> tuple[int, ...]:
        """Id of the one segment shown, before any split; empty if unknown."""
        before = self.lists.get("before_root_ids", ())
        if len(before) == 1:
            return before
        for name in ("base_root", "root_id"):
            if name in self.ids:
                return (self.ids[name],)
        return self.lists.get("root_ids", ())[:1]


def read_metadata(text: str | None) -> SampleMetadata:
    """Read the metadata of a sample.

    Parameters
    ----------
    text
        A JSON object; None where a row has none. Keys that are not known are ignored.

    Raises
    ------
    Unmapped
        If it is too long, no JSON object, or a value that is used is of the wrong kind or out of range.
    """
    if text is None:
        return SampleMetadata(None, None, (), None, {}, {})
    if len(text) > MAX_CHARACTERS:
        raise Unmapped(f"metadata are longer than {MAX_CHARACTERS} characters")
    try:
        raw = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Unmapped("metadata are no JSON") from error
    if not isinstance(raw, dict):
        raise Unmapped("metadata are no JSON object")
    try:
        return SampleMetadata(
            operation=_operation(raw.get("operation_id")),
            time=_time(raw.get("timestamp")) or _time(raw.get("cutout_timestamp")),
            center_nm=_point(raw.get("render_center_nm")) or _point(raw.get("interface_point_nm")),
            half_extent_nm=_length(raw.get("view_extent_nm")),
            ids={name: _id(raw[name]) for name in _IDS if raw.get(name) is not None},
            lists={name: _id_list(raw[name]) for name in _ID_LISTS if raw.get(name) is not None},
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise Unmapped("metadata hold a value of the wrong kind or out of range") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _id(value: Any) -> int:
    """Read an id: 64 bits without sign, a number or its digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**64:
        raise ValueError("no id")
    return value


def _id_list(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_IDS:
        raise ValueError("no list of ids")
    return tuple(_id(item) for item in value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):  # what is not finite is out of every range
        raise TypeError("no number")
    return float(value)


def _point(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("no point")
    point = tuple(_number(c) for c in value)
    if max(map(abs, point)) > _MAX_NM:
        raise ValueError("far away")
    return point


def _length(value: Any) -> float | None:
    if value is None:
        return None
    length = _number(value)
    if not 0 < length <= _MAX_NM:
        raise ValueError("no length")
    return length


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    else:
        seconds = _number(value)
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError("no time")
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _operation(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not 0 < len(text) <= 64 or not text.isprintable():
        raise ValueError("no name of an operation")
    return text
