from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from connectomebench.core.part_masks import (
    NOTHING,
    STAYS,
    TAKEN,
    decode_masks,
    encode_masks,
    mask_png,
    read_mask,
    stored_masks,
)

masks = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 127, 255]))


@given(st.dictionaries(st.sampled_from(["front", "side", "top"]), masks, min_size=1))
def test_text_and_files_give_the_same_masks_back(rows):
    found = decode_masks(encode_masks(rows))
    assert list(found) == list(rows)
    for view, mask in rows.items():
        np.testing.assert_array_equal(found[view], mask)
        np.testing.assert_array_equal(read_mask({"bytes": mask_png(mask)}), mask)
        np.testing.assert_array_equal(read_mask(Image.fromarray(mask)), mask)


def test_values_say_what_a_pixel_is():
    assert (NOTHING, STAYS, TAKEN) == (0, 127, 255)


def grey(value: int, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (4, 4), value).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("front", "VIEW=PNG"),
        ("", "VIEW=PNG"),
        ("front=AAAA", "no PNG file"),
        ("front=%%%", "base64"),
        (f"front={base64.b64encode(grey(99)).decode()}", "other values"),
        (f"front={base64.b64encode(grey(0, 'RGB')).decode()}", "no grey picture"),
        ("front=AAAA;" * 2 + "front=AAAA", "no PNG file"),
        ("x" * 9_000_000, "too long"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        decode_masks(text)


def test_a_row_without_masks_says_so():
    with pytest.raises(ValueError, match="no target_images"):
        stored_masks(["front"], [])
