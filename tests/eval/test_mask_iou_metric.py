"""The metric `mask_iou`: known answers, bad input, its app."""

from __future__ import annotations

import json

import numpy as np
import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import encode_masks

NAME = "mask_iou"


def text(front, side=None) -> str:
    masks = {"front": np.array([front], np.uint8)}
    return encode_masks(masks | ({} if side is None else {"side": np.array([side], np.uint8)}))


def test_known_answers(metric):
    truth = text([0, 127, 127, 255], [127, 127, 127, 127])
    found = metric(NAME).compute(predictions=[truth, ""], references=[truth, truth])
    assert (found["miou"], found["iou"], found["dice"], found["iou_front"]) == (0.5, 0.5, 0.5, 0.5)
    # 3 of 4 pixels of the side view and all of the front: 1 of 2 and 6 of 7
    found = metric(NAME).compute(predictions=[text([0, 0, 0, 255], [255, 0, 0, 0])], references=[truth])
    assert found["miou"] == pytest.approx((1 / 2 + 5 / 6) / 2) and found["iou"] == 0.5
    assert found["iou_front"] == 1 and found["iou_side"] == 0 and np.isnan(found["iou_top"])


@pytest.mark.parametrize(
    ("predictions", "references", "error", "message"),
    [
        (["front"], [text([127, 255])], ConnectomeBenchError, "row 0: masks are written as"),
        ([text([127])], [text([127, 255])], ConnectomeBenchError, "1 x 1 pixels and the true one 2 x 1"),
        ([text([127, 255])], [text([127, 127])], ConnectomeBenchError, "only one part"),
        ([text([127, 255])], [], ValueError, "Mismatch in the number"),
        ([], [], ConnectomeBenchError, "no rows"),
    ],
)
def test_bad_input_is_named(metric, predictions, references, error, message):
    with pytest.raises(error, match=message):
        metric(NAME).compute(predictions=predictions, references=references)


def test_app(app):
    import gradio as gr

    page = app(NAME)
    assert isinstance(page.build(), gr.Interface)
    found = page.score(json.dumps([page._GUESS]), json.dumps([page._TRUE]))
    assert found == {"miou": 0.5, "miou_per_view": 0.5, "iou": 0.5, "dice": pytest.approx(2 / 3), "iou_front": 0.5}
    with pytest.raises(gr.Error, match="masks are written as"):
        page.score('["x"]', json.dumps([page._TRUE]))
