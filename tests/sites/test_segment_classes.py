"""Classes of whole segments, by what is known of the cells in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from connectomebench.core.errors import TaskLacking
from connectomebench.core.geometry import Box
from connectomebench.core.source import SourceInfo
from connectomebench.core.whole_segment import WholeSegment, WholeSegments
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.segment_classes import (
    LEAST,
    MIXED,
    MOST_TO_SECOND,
    TOO_MANY,
    TOO_SMALL,
    UNSURE_KIND,
    UNSURE_PIECE,
    UNSURE_SIZE,
    classification_sites,
    classify,
    question_of,
)

NUCLEUS = (6000.0, 5000.0, 5000.0)


def whole(kinds: Any, edges: float = 100_000.0, **known: Any) -> WholeSegment:
    return WholeSegment(7, (70,), Box((0, 0, 0), (edges, edges / 2, edges / 4)), kinds, **known)


@pytest.mark.parametrize(
    ("segment", "answer"),
    [
        (whole(("neuron",), nucleus_nm=NUCLEUS), ("a", "")),
        (whole(("neuron",), checked=True), ("a", "")),
        (whole(("neuron",)), (None, UNSURE_SIZE)),
        (whole(("neuron",), 15_000, nucleus_nm=NUCLEUS, checked=True), (None, UNSURE_SIZE)),
        (whole(("neuron", "neuron")), ("b", "")),
        (whole(("neuron",) * 3), ("b", "")),
        (whole(("neuron", "other")), (None, MIXED)),
        (whole(("neuron", "unknown")), (None, UNSURE_KIND)),
        (whole((), kind="neuron"), ("c", "")),
        (whole(()), (None, UNSURE_PIECE)),
        (whole(("neuron",), 7000, nucleus_nm=NUCLEUS), ("d", "")),
        (whole(("unknown",), 7000, nucleus_nm=NUCLEUS), ("d", "")),
        (whole(("unknown",), nucleus_nm=NUCLEUS), (None, UNSURE_KIND)),
        (whole(("other",), nucleus_nm=NUCLEUS), ("e", "")),
        (whole(("other", "other")), ("e", "")),
        (whole((), kind="other"), ("e", "")),
    ],
)
def test_classes(segment: WholeSegment, answer: tuple[str | None, str]) -> None:
    assert classify(segment) == answer


class Known:
    """A source that knows whole segments."""

    def __init__(self, *found: WholeSegment) -> None:
        self.found = found

    @property
    def info(self) -> SourceInfo:
        return SourceInfo("known", "1", "fly", Box((0,) * 3, (1e5,) * 3), False, False, 1.0, "cc-by-4.0", "")

    def whole_segments(self) -> WholeSegments:
        return WholeSegments(self.found, Counter({"segment without a mesh": 2}))


def test_a_site_shows_the_whole_segment_and_asks_with_its_box() -> None:
    one = WholeSegment(9, (90,), Box((1000, 2000, 3000), (41_000, 22_000, 13_000)), (), kind="neuron")
    small = WholeSegment(8, (80,), Box((0, 0, 0), (900, 100, 100)), (), kind="neuron")
    others = [replace(whole((), kind="neuron"), segment=s) for s in range(100, 200)]
    others += [replace(whole(("neuron", "neuron")), segment=s) for s in range(200, 200 + LEAST)]
    source: Any = Known(one, small, whole(()), *others)
    found = classification_sites(source, SiteConfig((1000, 2000), 1))
    answers = Counter(site.answer for site in found.sites)
    assert answers == {"b": LEAST, "c": MOST_TO_SECOND * LEAST}
    assert [s.answer for s in found.sites] == sorted(s.answer for s in found.sites)
    few: Any = Known(one, *others[-LEAST:], *others[: LEAST - 1])
    site = next(s for s in classification_sites(few, SiteConfig((1000, 2000), 1)).sites if s.segment_ids == (9,))
    assert site.answer == "c" and site.location_nm == (21_000, 12_000, 8000) and site.extent_nm == 42_000
    assert site.segment_ids == (9,) and site.body_ids == (90,) and site.origin == "control"
    assert site.question is not None and "Its bounding box measures 40000 x 20000 x 10000 nm" in site.question
    assert site.question.endswith(question_of((1, 1, 1)).partition("What is it?")[2])
    assert found.dropped == {
        "segment without a mesh": 2, TOO_SMALL: 1, UNSURE_PIECE: 1, TOO_MANY: 101 - MOST_TO_SECOND * LEAST,
    }  # fmt: skip


def test_one_class_alone_is_no_task() -> None:
    few: Any = Known(*(replace(whole((), kind="neuron"), segment=s) for s in range(30)), whole(("neuron",) * 2))
    with pytest.raises(TaskLacking, match="two classes with 10 segments each are needed, and there are 1 b, 30 c"):
        classification_sites(few, SiteConfig((1000, 2000), 1))
