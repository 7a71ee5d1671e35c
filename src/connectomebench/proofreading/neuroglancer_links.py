"""Links and a state for Neuroglancer: the proofread segmentation, the image where it is public, and edits as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectomebench.core.neuroglancer import NM, public_source, state_link
from connectomebench.proofreading.edit_log import Edit
from connectomebench.proofreading.place import Place


def state(place: Place, url: str, edits: Sequence[Edit], segments: Sequence[int] = ()) -> dict[str, Any]:
    """Make a viewer state; see https://neuroglancer-docs.web.app/json/api/index.html.

    Parameters
    ----------
    place
        Gives the image.
    url
        Where the output folder is served, for example ``http://127.0.0.1:8000``.
    edits
        Drawn as an annotation layer, a line from source to sink each; the view is centred on the first.
    segments
        Objects to show in 3D; without any, cross sections show all.
    """
    volumes = place.config.source.volumes
    image = volumes.image.path if volumes is not None and volumes.image is not None else ""
    layers: list[dict[str, Any]] = []
    if (source := public_source(image)) is not None:
        layers.append({"type": "image", "name": "image data", "source": source})
    layers.append(
        {
            "type": "segmentation",
            "name": "proofread",
            "source": f"precomputed://{url.rstrip('/')}/segmentation",
            "segments": [str(one) for one in segments],
        }
    )
    layers.append(
        {
            "type": "annotation",
            "name": "edits",
            "source": {"url": "local://annotations", "transform": {"outputDimensions": NM}},
            "annotations": [
                {
                    "type": "line",
                    "id": edit.edit_id,
                    "pointA": list(edit.source_points_nm[0]),
                    "pointB": list(edit.sink_points_nm[0]),
                    "description": f"{edit.operation}, confidence {edit.confidence:.3f}, value {edit.value:.2g} bits",
                }
                for edit in edits
            ],
        }
    )
    lower, upper = place.box.lower_nm, place.box.upper_nm
    middle = [(a + b) / 2 for a, b in zip(lower, upper, strict=True)]
    return {
        "dimensions": NM,
        "position": list(edits[0].location_nm) if edits else middle,
        "crossSectionScale": place.config.sites.extent_nm[1] / 500,
        "layers": layers,
        "layout": "4panel",
    }


def link(place: Place, url: str, edit: Edit, segments: Sequence[int] = ()) -> str:
    """Return a link to the place of one edit."""
    return state_link(state(place, url, [edit], segments))
