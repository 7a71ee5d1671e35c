"""Reliability diagrams: marks, whiskers and bars stand where the numbers say."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from connectomebench.cards.calibration_plot import draw_reliability
from connectomebench.evaluation.calibration import reliability_bins, wilson_interval

# odd numbers of two-thousandths: none lies on an edge of 10 or 15 bins
shares = st.integers(0, 999).map(lambda i: (2 * i + 1) / 2000)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(shares, st.integers(0, 1)), min_size=1, max_size=60), st.sampled_from([10, 15]))
def test_a_mark_a_whisker_and_a_bar_for_each_filled_bin(answers: list[tuple[float, int]], n_bins: int) -> None:
    stated, truth = np.array([p for p, _ in answers]), np.array([t for _, t in answers])
    upper, lower = draw_reliability(Figure(figsize=(4, 5)), reliability_bins(stated, truth, n_bins), 0.1)
    # once more from the answers
    place = np.minimum((stated * n_bins).astype(int), n_bins - 1)
    bins = [place == i for i in range(n_bins) if (place == i).any()]
    (marks,) = (c for c in upper.collections if isinstance(c, PathCollection))
    (whiskers,) = (c for c in upper.collections if isinstance(c, LineCollection))
    np.testing.assert_allclose(
        np.asarray(marks.get_offsets()), [(stated[b].mean(), truth[b].mean()) for b in bins], atol=1e-12
    )
    intervals = [wilson_interval(int(truth[b].sum()), int(b.sum())) for b in bins]
    segments: Any = whiskers.get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], intervals, atol=1e-12)
    np.testing.assert_allclose([s[:, 0] for s in segments], [[stated[b].mean()] * 2 for b in bins], atol=1e-12)
    bars: Any = lower.patches
    assert [bar.get_height() for bar in bars] == [b.sum() for b in bins]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centres, [(place[b][0] + 0.5) / n_bins for b in bins], atol=1e-12)
    sizes = np.asarray(marks.get_sizes())
    assert (np.argsort(sizes, kind="stable") == np.argsort([b.sum() for b in bins], kind="stable")).all()
    assert [text.get_text() for text in lower.texts] == [str(b.sum()) for b in bins]


def test_thousands_are_written_short() -> None:
    _, lower = draw_reliability(Figure(figsize=(4, 5)), reliability_bins(np.full(1250, 0.5), np.ones(1250, int)), 0.1)
    assert [text.get_text() for text in lower.texts] == ["1.2k"]
