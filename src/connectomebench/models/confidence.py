"""Stated confidence, which :func:`connectomebench.models.prompt.messages` asks for: parse it from the reply."""

from __future__ import annotations

import re

# every repetition has a bound, so that the time of a search is linear in the length of the reply
_CONFIDENCE_TAG = re.compile(r"<\s{0,9}/?\s{0,9}confidence\s{0,9}>", re.IGNORECASE)
_CONFIDENCE = re.compile(r"<confidence>\s{0,9}([01]|[01]?\.\d{1,12})\s{0,9}</confidence>", re.ASCII)


def parse_confidence(reply: str) -> float | None:
    """Parse the ``<confidence>...</confidence>`` of a reply.

    Parameters
    ----------
    reply
        Any text.

    Returns
    -------
    float or None
        In [0, 1]; None if there is no tag, several, or no valid number.
    """
    found = _CONFIDENCE.findall(reply)
    if len(found) != 1 or len(_CONFIDENCE_TAG.findall(reply)) != 2:
        return None
    value = float(found[0])
    return value if value <= 1 else None
