"""The second count of choices and masks finds what is wrong, and nothing else, in volumes drawn by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectomebench.core.part_masks import STAYS, TAKEN, mask_png
from connectomebench.core.tasks import MESH_VIEWS

VOXEL, OFFSET = np.array([10.0, 10.0, 20.0]), np.array([5, 0, 2])


@pytest.fixture(scope="module")
def recount() -> Any:
    path = Path(__file__).parents[1] / "benchmarks" / "recount_answers.py"
    spec = importlib.util.spec_from_file_location("recount_answers", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_choice_is_right_where_most_voxels_are_of_the_same_body(recount: Any) -> None:
    automatic = np.zeros((12, 4, 4), np.uint64)
    proofread = np.zeros_like(automatic)
    for segment, body in ((1, 10), (2, 10), (3, 20)):
        automatic[4 * segment - 4 : 4 * segment] = segment
        proofread[4 * segment - 4 : 4 * segment] = body
    proofread[0] = 20  # a few voxels of another body
    row = {"sample_id": "x", "source": "s", "segment_ids": [1, 3, 2], "choices": [3, 2]}
    wrong = lambda answer: recount.wrong_choices([row | {"answer": answer}], {"s": automatic}, proofread)  # noqa: E731
    assert wrong("b") == []
    assert wrong("a") == [{"sample_id": "x", "answer": "a", "counted": ["b"]}]
    assert wrong("none") and not recount.wrong_choices(
        [row | {"choices": [3], "answer": "none"}], {"s": automatic}, proofread
    )


def test_a_mask_agrees_with_the_bodies_that_are_seen(recount: Any) -> None:
    """Body 10 is the half of lower x; looking along +x the other half is hidden behind it."""
    automatic = np.full((40, 40, 20), 7, np.uint64)
    proofread = np.full_like(automatic, 20)
    proofread[:20] = 10
    masks = {view: np.full((64, 64), STAYS, np.uint8) for view in MESH_VIEWS}
    for view in ("front", "top"):
        masks[view][:, 32:] = TAKEN
    row = {
        "segment_ids": [7],
        "location_nm": ((OFFSET + np.array((20, 20, 10))) * VOXEL).tolist(),
        "extent_nm": 400.0,
        "views": list(MESH_VIEWS),
        "target_images": [{"bytes": mask_png(masks[view])} for view in MESH_VIEWS],
    }
    bodies = {view: recount.seen_bodies(view, row, automatic, proofread, VOXEL, OFFSET) for view in MESH_VIEWS}
    assert recount.agreement(row, bodies, masks) == (1.0, 3 * recount.RAYS**2)
    # the name of the correction says which bodies it parts; without one of them nothing agrees
    assert recount.agreement(row | {"edit_id": "split-7-20-10-0"}, bodies, masks)[0] == 1.0
    assert recount.agreement(row | {"edit_id": "split-7-20-30-0"}, bodies, masks)[0] == 0.0
    lines = list(recount.line_masks(row))
    assert len(lines) == recount.LINES and all((mask > 0).all() for masks in lines for mask in masks.values())
    # the line across the middle of every view is right but for the side view, of which it halves body 10
    assert recount.agreement(row, bodies, lines[0])[0] == pytest.approx(0.75)
    masks["front"] = np.ascontiguousarray(masks["front"][:, ::-1])
    assert recount.agreement(row, bodies, masks)[0] == pytest.approx(0.5)


def test_the_two_places_of_a_pair_are_looked_up(recount: Any) -> None:
    automatic = np.zeros((60, 10, 10), np.uint64)
    proofread = np.zeros_like(automatic)
    for segment, body in ((1, 10), (2, 10), (3, 20)):
        automatic[20 * segment - 20 : 20 * segment] = segment
        proofread[20 * segment - 20 : 20 * segment] = body
    places = {s: ((OFFSET + np.array((20 * s - 10, 5, 5))) * VOXEL).tolist() for s in (1, 2, 3)}

    def wrong(answer: str, first: int, second: int, *ids: int) -> bool:
        row = {"sample_id": "x", "source": "s", "answer": answer, "segment_ids": ids}
        row |= {"location_nm": places[first], "second_place": [*places[second], 50.0]}
        return bool(recount.wrong_pairs([row], {"s": automatic}, proofread, VOXEL, OFFSET))

    assert not wrong("yes", 1, 1, 1) and not wrong("no", 1, 3, 1, 3)
    assert wrong("no", 1, 1, 1) and wrong("yes", 1, 3, 1, 3)
    assert wrong("no", 1, 2, 1, 2), "two pieces of one body"
    assert wrong("no", 1, 2, 1, 3), "the second place is elsewhere"
