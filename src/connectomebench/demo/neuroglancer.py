"""Link to a place in Neuroglancer, if its image data are public."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from connectomebench.core.species import SPECIES

_VIEWER = "https://neuroglancer-demo.appspot.com/#!"
_PUBLIC = ("precomputed://", "gs://")


def neuroglancer_link(row: Mapping[str, Any]) -> str | None:
    """Return a link to the place of a row; None if the data are not public or not real.

    Only rows built from the public datastack of their species have one: others name the same species, but their
    coordinates mean another volume. Segments are shown where they can be read without signing in. State of the viewer:
    https://neuroglancer-docs.web.app/json/api/index.html.

    Parameters
    ----------
    row
        A stored row, of which ``species``, ``source``, ``origin``, ``location_nm``, ``extent_nm`` and ``segment_ids``
        are read.
    """
    species = SPECIES.get(row["species"])
    real = species is not None and species.datastack is not None and row["source"] == species.datastack
    if species is None or not real or row["origin"] == "simulated" or not species.em.startswith(_PUBLIC):
        return None
    layers: list[dict[str, Any]] = [{"type": "image", "name": "image data", "source": _source(species.em)}]
    if species.segmentation.startswith(_PUBLIC):
        ids = [str(segment) for segment in row["segment_ids"]]
        source = _source(species.segmentation)
        layers.append({"type": "segmentation", "name": "segments", "source": source, "segments": ids})
    state = {
        # positions are then in nm, whatever the voxel size
        "dimensions": {axis: [1e-9, "m"] for axis in "xyz"},
        "position": list(row["location_nm"]),
        # nm per screen pixel: the edge of a view on 500 pixels
        "crossSectionScale": float(row["extent_nm"]) / 500,
        "layers": layers,
        "layout": "4panel" if len(layers) > 1 else "xy",
    }
    return _VIEWER + quote(json.dumps(state, separators=(",", ":")))


def link_html(row: Mapping[str, Any]) -> Markup:
    """Return the link of :func:`neuroglancer_link` as a paragraph; nothing where there is none."""
    link = neuroglancer_link(row)
    if link is None:
        return Markup("")
    return Markup(
        '<p><a href="{}" target="_blank" rel="noopener noreferrer">Open this place in Neuroglancer</a></p>'
    ).format(link)


def _source(path: str) -> str:
    return path if path.startswith("precomputed://") else f"precomputed://{path}"
