"""Stated confidence: request it in the prompt and parse it from the reply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

CONFIDENCE_FORMAT = (
    "Before the answer, tell how likely it is right, from 0 (surely wrong) to 1 (surely right), "
    "as <confidence>0.8</confidence>."
)
_CONFIDENCE_TAG = re.compile(r"<\s*/?\s*confidence\s*>", re.IGNORECASE)
_CONFIDENCE = re.compile(r"<confidence>\s*([01]|[01]?\.\d{1,12})\s*</confidence>", re.ASCII)


def ask_confidence(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Append the request for a stated confidence to the last turn.

    Parameters
    ----------
    turns
        From :func:`connectomebench.models.prompt.messages`; not modified.
    """
    *before, last = (dict(turn) for turn in turns)
    return [*before, last | {"content": [*last["content"], {"type": "text", "text": f" {CONFIDENCE_FORMAT}"}]}]


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
