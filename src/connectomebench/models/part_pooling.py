"""Pool the tokens of an image by the parts that its colours show.

The mean over a whole image says little about two small segments in its middle. Each part has a hue of its own, in
rendered views and in tinted slices alike, so where a part lies can be read from the picture; nothing else is needed.
On a slice with one outlined segment the blue part is its outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError

VECTORS = 4
"""Vectors of an image: the blue part, the orange part, where they meet, and how far the first two differ."""

# red minus blue: tints of slices reach 36, shaded surfaces far more, and the warm grey of missing data stays at 14
_HUE = 24
# how far from both parts a pixel may lie to count as between them, in edges of the image
_REACH = 0.04


def part_masks_of(image: Image.Image) -> NDArray[np.bool_]:
    """Find the parts of an image.

    Parameters
    ----------
    image
        RGB: a rendered view or a slice.

    Returns
    -------
    bool, shape (3, rows, columns)
        Blue, orange, and what lies within 4% of the image's edge of both.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> pixels = np.full((50, 50, 3), 255, np.uint8)
    >>> pixels[:, :20], pixels[:, 22:40] = (0, 114, 178), (230, 159, 0)
    >>> part_masks_of(Image.fromarray(pixels))[:, 25, 15:27].sum(axis=1).tolist()
    [5, 5, 6]
    """
    from scipy.ndimage import maximum_filter

    pixels = np.asarray(image.convert("RGB"), np.int16)
    hue = pixels[..., 0] - pixels[..., 2]
    blue, orange = hue < -_HUE, hue > _HUE
    side = 2 * max(1, round(_REACH * max(hue.shape))) + 1
    by_blue, by_orange = (np.asarray(maximum_filter(part, side), np.bool_) for part in (blue, orange))
    return np.stack([blue, orange, by_blue & by_orange])


def pool_parts(tokens: NDArray[np.float32], images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Reduce the tokens of each image to a vector for each part.

    Parameters
    ----------
    tokens
        Shape (images, tokens, dim): patches of a square grid, row by row, without a class token.
    images
        What was encoded.

    Returns
    -------
    float32, shape (images, 4 x dim)
        Means over the blue part, the orange part and what lies between them, then the absolute difference of the first
        two. Of a part that is not to be seen, the mean over the whole image.

    Raises
    ------
    ConnectomeBenchError
        If the tokens are not those of a square grid.
    """
    count = tokens.shape[1]
    edge = math.isqrt(count)
    if edge * edge != count:
        raise ConnectomeBenchError(f"{count} tokens are no square grid; choose pooling mean or max")
    vectors = np.empty((len(images), VECTORS, tokens.shape[2]), np.float32)
    for own, image, vector in zip(tokens, images, vectors, strict=True):
        for number, mask in enumerate(part_masks_of(image)):
            # the share of each patch that the part covers
            cells = Image.fromarray(mask.astype(np.float32)).resize((edge, edge), Image.Resampling.BOX)
            weights = np.asarray(cells).ravel()
            covered = float(weights.sum())
            vector[number] = weights @ own / covered if covered > 0 else own.mean(axis=0)
        vector[3] = np.abs(vector[0] - vector[1])
    return vectors.reshape(len(images), -1)
