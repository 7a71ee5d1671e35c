"""3D views in the page: a place that `page.js` fills with the viewer of this package when it comes into the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from connectomebench.demo.app_data import AppData
from connectomebench.rendering.scene_file import read_text

BEFORE, AFTER = "Turn it in 3D", "The truth in 3D"
BEFORE_TITLE = "What the pictures show. Drag to turn, wheel or pinch to zoom."


def scene_html(scene: bytes, title: str, slices: Mapping[str, str] | None = None) -> Markup:
    """Return the place of a 3D view that holds its scene, so that no address tells which sample it is.

    Parameters
    ----------
    scene
        A scene file (:mod:`connectomebench.rendering.scene_file`).
    title
        What it shows.
    slices
        Name (``em_xy`` ...) -> data URI of slices of image data through its middle, to switch on.
    """
    return Markup(
        '<figure class="cb-3d" data-scene="{}" data-planes="{}"><div></div><figcaption>{}</figcaption></figure>'
    ).format(base64.b64encode(scene).decode("ascii"), json.dumps(dict(slices or {})), title)


def sample_scene(content: AppData, row: dict[str, Any], *, truth: bool) -> Markup:
    """Return the 3D view of a sample: what its pictures show, or what is really there; empty where it has none.

    Parameters
    ----------
    content
        Data of the demo.
    row
        Small columns of the sample.
    truth
        Show the truth, which only those may see who have answered.
    """
    found = content.scenes.get(row["sample_id"], "truth" if truth else "scene")
    if found is None:
        return Markup("")
    title = f"{read_text(found)} A wider cube; each neuron has a colour of its own.".strip() if truth else BEFORE_TITLE
    return scene_html(found, title)
