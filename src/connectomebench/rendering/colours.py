"""Define every colour of the images and how shading turns it into pixels.

Blue and orange are those of the palette of Okabe and Ito (Color Universal Design, 2008): they stay apart under the
common forms of colour blindness and in grey.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.site import Role

RGB = tuple[int, int, int]

BLUE: RGB = (0, 114, 178)
ORANGE: RGB = (230, 159, 0)

ROLE_COLOURS: dict[Role, RGB] = {"base": BLUE, "candidate": ORANGE, "source": BLUE, "sink": ORANGE}
BACKGROUND: RGB = (255, 255, 255)

# A lighter blue (sky blue of the same palette) than the meshes': it must be visible on dark membranes.
EM_OUTLINE: RGB = (86, 180, 233)
SLICE_COLOURS: dict[Role, RGB] = {"base": EM_OUTLINE, "candidate": ORANGE, "source": EM_OUTLINE, "sink": ORANGE}
# Where there are no data: two warm greys as a hatch, so that it is not mistaken for black or white tissue.
EM_OUTSIDE: tuple[RGB, RGB] = ((186, 180, 172), (208, 203, 196))

# Lambert shading under one distant light fixed to the camera. Ambient and diffuse add up to 1: a surface that faces the
# light has exactly the colour of its role.
AMBIENT = 0.22
DIFFUSE = 0.78
# Towards the light in the camera's frame (right, down, towards the viewer). From the upper left, since people (and
# images people take) assume light from there; exactly along the line of sight everything looks flat.
LIGHT_DIRECTION: tuple[float, float, float] = (-0.4, -0.5, 1.0)

# A surface seen from inside, where the cube shown cuts an object open, is drawn as the cut: even, without shading, its
# colour mixed with this much white. So it looks like a section, neither like a hole nor like the outside.
CUT_WHITE = 0.35


def light_direction() -> NDArray[np.float64]:
    """Return the unit vector towards the light in the camera's frame (right, down, towards the viewer); shape (3,)."""
    light = np.array(LIGHT_DIRECTION)
    return light / np.linalg.norm(light)


def srgb_to_linear(colour: RGB) -> NDArray[np.float64]:
    """Convert sRGB bytes to linear light between 0 and 1 (IEC 61966-2-1); shape (3,)."""
    s = np.array(colour) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert linear light between 0 and 1 to sRGB bytes (IEC 61966-2-1); same shape."""
    light = np.clip(light, 0, 1)
    s = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(s * 255).astype(np.uint8)


def shade_table(colour: RGB, levels: int) -> NDArray[np.uint8]:
    """Return the pixel values of a surface from unlit to fully lit.

    Parameters
    ----------
    colour
        Colour of the surface, sRGB bytes.
    levels
        Number of steps of the cosine between normal and light, from 0 to 1.

    Returns
    -------
    uint8, shape (levels, 3)
        sRGB bytes.
    """
    cosine = np.linspace(0, 1, levels)
    return linear_to_srgb((AMBIENT + DIFFUSE * cosine)[:, None] * srgb_to_linear(colour))


def cut_colour(colour: RGB) -> RGB:
    """Return the colour of an object where the cube shown cuts it open, sRGB bytes."""
    red, green, blue = (round(c + CUT_WHITE * (255 - c)) for c in colour)
    return red, green, blue
