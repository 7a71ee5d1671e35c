"""Say in words what the leak check found in the written files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectomebench.core.partitions import PARTITIONS

HASH_BITS = 64
MOST_LISTED = 8
"""Pairs of look-alike pictures in a manifest, the closest first."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,80}/[a-z0-9_]{1,20}")


@dataclass(frozen=True)
class LookAlike:
    """Two pictures of different partitions that hardly differ, although their places share nothing.

    Attributes
    ----------
    first, second
        ``SAMPLE_ID/VIEW``.
    first_partition, second_partition
        Where they are.
    bits
        Bits of 64 in which their difference hashes differ.
    correlation
        Of their 16 x 16 px thumbnails, at most 1.
    """

    first: str
    second: str
    first_partition: str
    second_partition: str
    bits: int
    correlation: float

    @property
    def distance(self) -> str:
        """The distance of the two in words."""
        return f"hashes {self.bits} of {HASH_BITS} bits apart, thumbnails correlated by {self.correlation:.3f}"


def read_look_alikes(entry: Mapping[str, Any]) -> tuple[LookAlike, ...]:
    """Read ``look_alikes`` of a manifest entry; it may come from the Hub, so every value is checked.

    Raises
    ------
    ValueError
        If a value is none that a build writes.
    """
    found = []
    for one in entry.get("look_alikes", []):
        pair = LookAlike(**{name: one[name] for name in LookAlike.__dataclass_fields__})
        names = (pair.first, pair.second)
        parts = {pair.first_partition, pair.second_partition}
        numbers = isinstance(pair.bits, int) and isinstance(pair.correlation, int | float)
        if not numbers or not all(_NAME.fullmatch(str(name)) for name in names) or not parts <= set(PARTITIONS):
            raise ValueError("an entry of `look_alikes` names no pictures")
        found.append(pair)
    return tuple(found)


def shared_text(leaks: Mapping[str, Any]) -> str:
    """Count what two partitions share, without pictures: ``0 segments, 0 places``."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in leaks.items() if name != "pictures")


def look_alike_text(leaks: Mapping[str, Any], pairs: Sequence[LookAlike]) -> str:
    """Describe the look-alike pictures in one sentence; without the closest pair where it is not known."""
    count = int(leaks.get("pictures", 0))
    if not count:
        return "No picture of one partition looks like one of another."
    text = (
        f"{count} pair{'s' if count > 1 else ''} of look-alike pictures: no leak, since their places share no segment "
        "and no piece of space; simple shapes can look the same."
    )
    if pairs:
        one = pairs[0]
        second = f"{one.second} ({one.second_partition})"
        text += f" The closest: {one.first} ({one.first_partition}) and {second}, {one.distance}."
    return text
