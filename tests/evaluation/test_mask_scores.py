from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import NOTHING, STAYS, TAKEN, encode_masks
from connectomebench.evaluation.mask_scores import (
    MASK_METRICS,
    mean_scores,
    mean_statistic,
    score_masks,
    score_texts,
)

shapes = (6, 7)
truths = st.lists(arrays(np.uint8, shapes, elements=st.sampled_from([NOTHING, STAYS, TAKEN])), min_size=3, max_size=3)
guesses = st.lists(arrays(np.uint8, shapes, elements=st.sampled_from([0, 127, 255])), min_size=3, max_size=3)
VIEWS = ("front", "side", "top")


def row(masks):
    return dict(zip(VIEWS, masks, strict=True))


def both_parts(masks):
    return all((np.stack(masks) == value).any() for value in (STAYS, TAKEN))


def overlap(a, b):
    union = len(a | b)
    return len(a & b) / union if union else float("nan")


def by_hand(guess, truth):
    """Every score again, with sets of pixels."""
    views = []
    for g, t in zip(guess, truth, strict=True):
        pixels = [(r, c) for r in range(shapes[0]) for c in range(shapes[1]) if t[r, c] != NOTHING]
        truly = [{p for p in pixels if t[p] == TAKEN}, {p for p in pixels if t[p] == STAYS}]
        said = [{p for p in pixels if g[p] >= 128}, {p for p in pixels if g[p] < 128}]
        views.append((truly, said))

    def named(n, k, chosen):
        return overlap(
            {(v, p) for v in chosen for p in views[v][1][k ^ n]}, {(v, p) for v in chosen for p in views[v][0][k]}
        )

    means = [np.mean([named(n, k, range(3)) for k in (0, 1)]) for n in (0, 1)]
    taken, stays = (sum(len(t[k]) for t, _ in views) for k in (0, 1))
    naming = 1 if min(taken, stays) >= 0.4 * (taken + stays) and means[1] > means[0] else 0
    free = [
        max(np.nanmean([named(n, k, [v]) for k in (0, 1)]) for n in (0, 1))
        for v in range(3)
        if views[v][0][0] | views[v][0][1]
    ]
    iou = named(naming, 0, range(3))
    return {
        "miou": max(means),
        "miou_per_view": np.mean(free),
        "iou": iou,
        "dice": 2 * iou / (1 + iou),
        **{f"iou_{view}": named(naming, 0, [v]) for v, view in enumerate(VIEWS)},
    }


@given(guesses, truths)
def test_scores_agree_with_sets_of_pixels(guess, truth):
    assume(both_parts(truth))
    found = score_masks(row(guess), row(truth)).as_dict()
    for name, value in by_hand(guess, truth).items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


@given(truths)
def test_the_truth_scores_one_and_so_does_the_other_naming(truth):
    assume(both_parts(truth))
    named = score_masks(row(truth), row(truth)).as_dict()
    assert all(value == 1 for value in named.values() if not np.isnan(value))
    swapped = [
        np.where(mask == TAKEN, STAYS, np.where(mask == STAYS, TAKEN, NOTHING)).astype(np.uint8) for mask in truth
    ]
    found = score_masks(row(swapped), row(truth))
    assert found.miou == found.miou_per_view == 1
    taken, stays = (int((np.stack(truth) == value).sum()) for value in (TAKEN, STAYS))
    assert found.iou == (1 if min(taken, stays) >= 0.4 * (taken + stays) else 0)


@given(truths)
def test_one_part_for_all_scores_half_of_a_share_at_most(truth):
    assume(both_parts(truth))
    for value in (NOTHING, TAKEN):
        everything = [np.full(shapes, value, np.uint8)] * 3
        assert score_masks(row(everything), row(truth)).miou <= 0.5 + 1e-9


def test_no_answer_scores_nothing():
    truth = {"front": np.array([[STAYS, TAKEN]], np.uint8), "side": np.array([[STAYS, STAYS]], np.uint8)}
    found = score_masks(None, truth)
    assert (found.miou, found.iou, found.dice, found.views) == (0, 0, 0, {"front": 0})
    text = encode_masks(truth)
    [one, none] = score_texts([text, None], [text, text])
    assert (one.miou, none.miou) == (1, 0)
    assert mean_scores([one, none])["miou"] == 0.5
    assert list(mean_scores([one])) == list(MASK_METRICS)
    assert np.isnan(mean_scores([one])["iou_top"])


@pytest.mark.parametrize(
    ("guess", "truth", "message"),
    [
        ({}, {"front": [[127, 255]]}, "no mask of the front view"),
        ({"front": [[0]]}, {"front": [[127, 255]]}, "is 1 x 1 pixels and the true one 2 x 1"),
        ({"front": [[0, 0]]}, {"front": [[127, 127]]}, "only one part"),
    ],
)
def test_masks_that_do_not_fit_are_named(guess, truth, message):
    as_masks = [{view: np.array(mask, np.uint8) for view, mask in one.items()} for one in (guess, truth)]
    with pytest.raises(ConnectomeBenchError, match=message):
        score_masks(*as_masks)
    with pytest.raises(ConnectomeBenchError, match="row 0"):
        score_texts(["front=AAAA"], ["front=AAAA"])


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=9))
def test_means_leave_out_what_is_undefined(values):
    weights = np.arange(1, len(values) + 1, dtype=np.float64)
    found = mean_statistic(np.array(values))(weights[None])[0]
    known = [(v, w) for v, w in zip(values, weights, strict=True) if not np.isnan(v)]
    expected = sum(v * w for v, w in known) / sum(w for _, w in known) if known else float("nan")
    assert found == pytest.approx(expected, nan_ok=True)
