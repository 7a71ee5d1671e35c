"""Demo page of balanced accuracy: predictions and references as JSON lists."""

import json
from pathlib import Path

import evaluate
import gradio as gr
from evaluate.utils.gradio import parse_readme

HERE = Path(__file__).parent


def score(predictions: str, references: str, adjusted: bool) -> dict[str, float] | None:
    """Compute balanced accuracy of two JSON lists of classes."""
    # a fresh metric for every visitor: one that met bad input keeps part of it
    metric = evaluate.load(str(HERE / "balanced_accuracy.py"), keep_in_memory=True)
    try:
        return metric.compute(predictions=json.loads(predictions), references=json.loads(references), adjusted=adjusted)
    except Exception as error:
        raise gr.Error(str(error)) from error


def build() -> gr.Interface:
    """Build the page."""
    return gr.Interface(
        fn=score,
        inputs=[
            gr.Textbox(label="Predictions: predicted classes, a JSON list", lines=3),
            gr.Textbox(label="References: true classes, a JSON list", lines=3),
            gr.Checkbox(label="Adjusted: rescale so that chance is 0"),
        ],
        outputs=gr.JSON(label="Result"),
        examples=[
            ["[1, 1, 0, 1, 1]", "[1, 1, 1, 0, 1]", False],
            ['["yes", "no", "no", "yes"]', '["yes", "yes", "no", "no"]', True],
        ],
        cache_examples=False,
        flagging_mode="never",
        title="Balanced accuracy",
        article=parse_readme(HERE / "README.md"),
    )


if __name__ == "__main__":
    build().launch()
