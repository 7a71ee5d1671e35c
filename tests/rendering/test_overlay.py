"""Centre mark and scale bar: where they are, how long, and never on the picture itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from connectomebench.rendering.overlay import draw_overlay, has_overlay, overlay_svg, scale_bar


@given(st.floats(1, 1e6))
def test_bars_are_round_and_fit(extent_nm: float) -> None:
    bar = scale_bar(extent_nm)
    assert 0.12 < bar.share <= 0.35
    assert bar.length_nm == pytest.approx(bar.share * extent_nm)
    assert float(f"{bar.length_nm:.1e}"[0]) in (1, 2, 5)
    number, unit = bar.text.split()
    assert float(number) * {"nm": 1, "µm": 1000}[unit] == pytest.approx(bar.length_nm)


def test_a_view_without_width_is_refused_and_has_no_overlay() -> None:
    for extent in (0.0, -5.0, float("nan"), float("inf")):
        assert not has_overlay("front", extent)
        with pytest.raises(ValueError, match="nm wide"):
            scale_bar(extent)
    assert not has_overlay("front", None) and not has_overlay("first", 500.0)
    assert has_overlay("em_xz", 500.0)


def test_the_bar_is_as_long_as_it_says_and_the_middle_is_marked_and_free() -> None:
    picture = Image.new("RGB", (400, 400), (0, 114, 178))
    marked = np.asarray(draw_overlay(picture, 1000.0))
    assert (np.asarray(picture) == (0, 114, 178)).all()  # the picture itself is as it was
    ink = (marked < 60).all(axis=2)
    bar_row = np.flatnonzero(ink.sum(axis=1) > 60)
    assert len(bar_row) and np.ptp(np.flatnonzero(ink[bar_row[0]])) == pytest.approx(0.2 * 400, abs=2)  # 200 nm
    assert not ink[190:210, 190:210].any()
    assert ink[200, 175:190].any() and ink[175:190, 200].any()


def test_the_overlay_of_a_page_has_the_same_bar() -> None:
    svg = overlay_svg(2500.0)
    assert ">500 nm</text>" in svg and "M76 96L96 96" in svg


def test_the_unit_of_a_scale_bar_is_drawn_with_a_letter_and_not_with_a_box() -> None:
    """A font draws one and the same box for all letters that it lacks."""
    from connectomebench.rendering.overlay import _font

    letter, missing = (bytes(_font(12).getmask(text)) for text in ("µ", "\U0010ffff"))
    assert letter != missing
