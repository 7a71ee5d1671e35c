"""Draw a mask over the picture it belongs to, for people; never into stored pictures, which models see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.part_masks import TAKEN
from connectomebench.rendering.colours import RGB

TAKEN_COLOUR: RGB = (213, 94, 0)
"""Vermilion of the palette of Okabe and Ito: far from the blue of segments, also to colour-blind eyes."""
_STRENGTH = 0.9


def draw_mask(picture: Image.Image, mask: NDArray[np.uint8]) -> Image.Image:
    """Tint the part that is taken away; its shading stays visible.

    Parameters
    ----------
    picture
        View of the segment.
    mask
        Its mask, uint8; of the size of the picture, or resized to it.

    Returns
    -------
    Image.Image
        RGB, as large as the picture.
    """
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    if mask.shape != pixels.shape[:2]:
        mask = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    taken = mask == TAKEN
    # as bright as the surface was: blue at its brightest reaches 178 in its blue channel
    light = pixels[taken].max(axis=1, keepdims=True) / 150
    tinted = np.clip(light, 0.2, 1.2) * np.array(TAKEN_COLOUR, np.float32)
    pixels[taken] = (1 - _STRENGTH) * pixels[taken] + _STRENGTH * tinted
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
