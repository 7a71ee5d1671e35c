"""Demo page of the overlap of masks: predictions and references as JSON lists of text."""

import json
from pathlib import Path

import evaluate
import gradio as gr
from evaluate.utils.gradio import parse_readme

HERE = Path(__file__).parent

# one view of four pixels: background, two that stay, one that is taken away; and a guess that takes one too many
_TRUE = "front=iVBORw0KGgoAAAANSUhEUgAAAAQAAAABCAAAAADcV1ARAAAADUlEQVR42mNgqK//DwADfwH+TS2LPwAAAABJRU5ErkJggg=="
_GUESS = "front=iVBORw0KGgoAAAANSUhEUgAAAAQAAAABCAAAAADcV1ARAAAADUlEQVR42mNgqP//HwAEfwJ+QJ+SOAAAAABJRU5ErkJggg=="


def score(predictions: str, references: str) -> dict[str, float] | None:
    """Compute the overlap of a JSON list of predicted masks and one of true masks."""
    # a fresh metric for every visitor: one that met bad input keeps part of it
    metric = evaluate.load(str(HERE / "mask_iou.py"), keep_in_memory=True)
    try:
        found = metric.compute(predictions=json.loads(predictions), references=json.loads(references))
    except Exception as error:
        raise gr.Error(str(error)) from error
    # JSON has no NaN: views that show nothing of the part are left out
    return {name: value for name, value in (found or {}).items() if value == value}


def build() -> gr.Interface:
    """Build the page."""
    return gr.Interface(
        fn=score,
        inputs=[
            gr.Textbox(label="Predictions: masks of each row as text, a JSON list", lines=3),
            gr.Textbox(label="References: true masks of each row as text, a JSON list", lines=3),
        ],
        outputs=gr.JSON(label="Result"),
        examples=[[json.dumps([_GUESS]), json.dumps([_TRUE])], [json.dumps([_TRUE]), json.dumps([_TRUE])]],
        cache_examples=False,
        flagging_mode="never",
        title="Overlap of the parts of a split",
        article=parse_readme(HERE / "README.md"),
    )


if __name__ == "__main__":
    build().launch()
