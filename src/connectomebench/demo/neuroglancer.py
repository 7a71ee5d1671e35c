"""Link to a place in Neuroglancer, if its image data are public."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from connectomebench.core.neuroglancer import NM, public_source, state_link
from connectomebench.core.species import SPECIES
from connectomebench.demo.stored_samples import Collection


def neuroglancer_link(row: Mapping[str, Any], collection: Collection) -> str | None:
    """Return a link to the place of a row; None if the data are not public or not real.

    Two kinds of rows have one: those built from the public datastack of their species, and those built from volumes of
    which the configuration names precomputed ones at ``https://``, ``gs://`` or ``s3://``. Coordinates of other sources
    mean other volumes. Segments are shown where they can be read without signing in, and are those of the source rather
    than simulated ones.

    Parameters
    ----------
    row
        A stored row, of which ``species``, ``source``, ``origin``, ``location_nm``, ``extent_nm`` and ``segment_ids``
        are read.
    collection
        Of the row.
    """
    image, segmentation = _of_volumes(row, collection) or _of_species(row)
    if image is None and segmentation is None:
        return None
    layers: list[dict[str, Any]] = []
    if image is not None:
        layers.append({"type": "image", "name": "image data", "source": image})
    if segmentation is not None:
        ids = [str(segment) for segment in row["segment_ids"]]
        layers.append({"type": "segmentation", "name": "segments", "source": segmentation, "segments": ids})
    return state_link(
        {
            "dimensions": NM,
            "position": list(row["location_nm"]),
            # nm per screen pixel: the edge of a view on 500 pixels
            "crossSectionScale": float(row["extent_nm"]) / 500,
            "layers": layers,
            "layout": "xy" if segmentation is None else "4panel",
        }
    )


def link_html(row: Mapping[str, Any], collection: Collection) -> Markup:
    """Return the link of :func:`neuroglancer_link` as a paragraph; nothing where there is none."""
    link = neuroglancer_link(row, collection)
    if link is None:
        return Markup("")
    return Markup(
        '<p><a href="{}" target="_blank" rel="noopener noreferrer">Open this place in Neuroglancer</a></p>'
    ).format(link)


def _of_species(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return image data and segments of the public datastack of a species, where the row is of it."""
    species = SPECIES.get(row["species"])
    if species is None or species.datastack is None or row["source"] != species.datastack:
        return None, None
    if row["origin"] == "simulated" or (image := public_source(species.em)) is None:
        return None, None
    return image, public_source(species.segmentation)


def _of_volumes(row: Mapping[str, Any], collection: Collection) -> tuple[str | None, str | None] | None:
    """Return image data and segments of the volumes that a row was built from; None where it was built otherwise."""
    volumes = collection.volumes
    automatic = volumes.get("automatic")
    if automatic is None:
        return None
    labels = automatic
    if not isinstance(automatic.get("path"), str):
        # several segmentations, whose rows have the source NAME/SEGMENTATION
        labels = {f"{volumes.get('name')}/{key}": spec for key, spec in automatic.items()}.get(row["source"])
    simulated = volumes.get("simulated") is not None or row["origin"] == "simulated"
    return _source(volumes.get("image")), None if simulated else _source(labels)


def _source(spec: Mapping[str, Any] | None) -> str | None:
    return None if spec is None else public_source(str(spec.get("path", "")))
