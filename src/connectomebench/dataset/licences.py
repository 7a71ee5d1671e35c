"""Combine licences."""

from __future__ import annotations

from collections.abc import Collection

OTHER = "other"


def strictest(licences: Collection[str]) -> str:
    """Return the strictest of several licences.

    Creative Commons licences are compared by what they forbid: "nc" (no commercial use) weighs more than "nd" (no
    changes), "nd" more than "sa" (share alike); later versions win among equals. See
    https://creativecommons.org/share-your-work/cclicenses/.

    Parameters
    ----------
    licences
        Names as the Hub has them (https://huggingface.co/docs/hub/repositories-licenses); at least one.

    Returns
    -------
    str
        One of ``licences``; ``"other"`` where there are several and not all are Creative Commons ones, so that only a
        reader can compare them.
    """
    names = sorted(set(licences))
    if len(names) > 1 and not all(name.startswith(("cc-by-", "cc0-")) for name in names):
        return OTHER
    return max(names, key=_forbids)


def _forbids(licence: str) -> tuple[bool, bool, bool, bool, str]:
    parts = licence.split("-")
    return "nc" in parts, "nd" in parts, "sa" in parts, "by" in parts, parts[-1]
