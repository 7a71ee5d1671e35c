"""Addresses of Neuroglancer states, and which volumes that viewer can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

VIEWER = "https://neuroglancer-demo.appspot.com/#!"

NM: dict[str, list[Any]] = {axis: [1e-9, "m"] for axis in "xyz"}
"""Dimensions of a state whose positions are in nm, whatever the voxel size."""

# no user, no question: an address with a key in it is for those alone who have the key
_PUBLIC = re.compile(r"(?:precomputed://)?((?:gs|s3|https)://[^\s?#@]+)", re.ASCII)


def public_source(path: str) -> str | None:
    """Return a path of a precomputed volume as Neuroglancer names it; None where a browser elsewhere cannot read it.

    Parameters
    ----------
    path
        CloudVolume path: ``precomputed://`` or none before ``gs://``, ``s3://`` or ``https://``.

    Examples
    --------
    >>> from connectomebench.core.neuroglancer import public_source
    >>> public_source("gs://bucket/em")
    'precomputed://gs://bucket/em'
    >>> public_source("precomputed://file:///data/em") is None
    True
    """
    found = _PUBLIC.fullmatch(path)
    return None if found is None else f"precomputed://{found[1]}"


def state_link(state: Mapping[str, Any]) -> str:
    """Return the address of a state; see https://neuroglancer-docs.web.app/json/api/index.html."""
    return VIEWER + quote(json.dumps(state, separators=(",", ":")))
