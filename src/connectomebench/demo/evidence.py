"""Draw what a model looked at over a place's pictures: LayerCAM of one layer, for each answer."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.sample_pictures import pictures_html

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from connectomebench.models.base import Model

_log = logging.getLogger(__name__)

_CAUTION = (
    "The more magenta, the more evidence for the answer. A map shows where the model looked, not that it was right to "
    "look there; how far such maps can be believed is measured in the report."
)


def can_explain(model: Model, row: Mapping[str, Any]) -> bool:
    """Return whether a model's evidence for its answer to a row can be drawn here, and grad-cam is installed."""
    from connectomebench.models.open_network import open_network

    if find_spec("pytorch_grad_cam") is None:
        return False
    try:
        return bool(open_network(model, row).layers)
    except ConnectomeBenchError as error:
        _log.info("%s is not explained: %s", model.name, error)
        return False


def evidence(model: Model, row: Mapping[str, Any], images: Sequence[Image.Image]) -> dict[str, NDArray[np.float32]]:
    """Return the evidence of a model for each answer.

    Parameters
    ----------
    model
        For which :func:`can_explain` is true.
    row
        What is asked: ``task``, ``question`` and ``views``.
    images
        RGB, in the order of the views.

    Returns
    -------
    dict
        Answer -> LayerCAM of the last layer but one, shape (pictures, rows, columns): the last one of a network whose
        features are averaged hardly tells places apart.
    """
    from connectomebench.evaluation.attribution import explain_row
    from connectomebench.models.open_network import open_network

    network = open_network(model, row)
    layer = list(network.layers)[-2:][0]
    found = explain_row(network, images, network.classes, ("layercam",), [layer])
    return {answer: found.maps["layercam", layer, answer] for answer in network.classes}


def evidence_html(
    name: str,
    maps: Mapping[str, NDArray[np.float32]],
    views: Sequence[str],
    images: Sequence[Image.Image],
    extent_nm: float | None = None,
    *,
    opened: bool = False,
) -> Markup:
    """Show the evidence for each answer over the pictures, each slice below the view of its plane.

    Parameters
    ----------
    name
        Of the model.
    maps
        From :func:`evidence`.
    views, images
        Names of the views and the pictures.
    extent_nm
        Edge of the views, nm, for their marks and scale bars; None for none.
    opened
        Unfold it.
    """
    from connectomebench.evaluation.attribution_pictures import overlay

    parts = []
    for answer, own in maps.items():
        drawn = [_png(overlay(image, one, float(own.max()))) for image, one in zip(images, own, strict=True)]
        shown = pictures_html(list(views), drawn, extent_nm)
        parts.append(Markup("<h3>Evidence for “{}”</h3>{}").format(answer, shown))
    return Markup(
        '<details class="cb-evidence"{}><summary>What {} looks at</summary><p class="cb-soft">{}</p>{}</details>'
    ).format(Markup(" open") if opened else "", name, _CAUTION, Markup("").join(parts))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
