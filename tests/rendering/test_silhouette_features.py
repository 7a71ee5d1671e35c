"""Pieces and holes of silhouettes, against scipy's labels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from connectomebench.rendering.colours import BLUE, ORANGE
from connectomebench.rendering.silhouette_features import (
    SILHOUETTE_NAMES,
    count_pieces,
    matched_features,
    silhouette_features,
    unbroken,
)

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@settings(deadline=None)  # the first call compiles
@given(mask=masks, least=st.integers(0, 6), at_frame=st.booleans())
def test_counts_the_pieces_that_scipy_finds(mask: NDArray[np.bool_], least: int, at_frame: bool) -> None:
    labels, n = label(mask)  # type: ignore[misc]
    framed = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    expected = sum((labels == k).sum() >= least and (at_frame or k not in framed) for k in range(1, n + 1))
    assert count_pieces(mask, least, at_frame) == expected


def test_a_ring_is_one_piece_with_one_hole() -> None:
    rows, columns = np.indices((256, 256)) - 127.5
    radius = np.hypot(rows, columns)
    picture = np.full((256, 256, 3), 255, np.uint8)
    picture[(radius > 40) & (radius < 80)] = BLUE
    found = dict(zip(SILHOUETTE_NAMES, silhouette_features(Image.fromarray(picture)), strict=True))
    assert (found["blue_pieces"], found["blue_holes"], found["orange_pieces"]) == (1, 1, 0)
    assert abs(found["blue_area"] - np.pi * (80**2 - 40**2) / 256**2) < 0.01
    assert found["blue_within_0.1"] == 0


def test_colours_in_one_piece_in_every_view_are_told_from_those_that_are_hidden_in_part() -> None:
    """Two views each: blue is whole, and orange in the second row runs behind it."""

    def view(*orange: slice) -> Image.Image:
        picture = np.full((64, 64, 3), 255, np.uint8)
        picture[:, 24:40] = BLUE
        for columns in orange:
            picture[28:36, columns] = ORANGE
        return Image.fromarray(picture)

    whole, crossed = view(slice(40, 64)), view(slice(0, 24), slice(40, 64))
    rows = [matched_features({"front": whole, "side": other}) for other in (whole, crossed)]
    assert unbroken(np.stack(rows), 2).tolist() == [[True, True], [True, False]]
    # a colour that no row has says nothing
    assert unbroken(matched_features({"front": view(), "side": view()})[None], 2).tolist() == [[True]]
