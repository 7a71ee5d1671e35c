"""Demo page of the multiclass Brier score: predictions and references as JSON lists."""

import json
from pathlib import Path

import evaluate
import gradio as gr
from evaluate.utils.gradio import parse_readme

HERE = Path(__file__).parent


def score(predictions: str, references: str) -> dict[str, float] | None:
    """Compute the Brier score of a JSON list of lists of probabilities and one of true classes."""
    # a fresh metric for every visitor: one that met bad input keeps part of it
    metric = evaluate.load(str(HERE / "brier_score_multiclass.py"), keep_in_memory=True)
    try:
        return metric.compute(predictions=json.loads(predictions), references=json.loads(references))
    except Exception as error:
        raise gr.Error(str(error)) from error


def build() -> gr.Interface:
    """Build the page."""
    return gr.Interface(
        fn=score,
        inputs=[
            gr.Textbox(label="Predictions: one list of class probabilities a row, a JSON list", lines=3),
            gr.Textbox(label="References: true classes 0, 1, ..., a JSON list", lines=3),
        ],
        outputs=gr.JSON(label="Result"),
        examples=[
            ["[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]", "[0, 1]"],
            ["[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]", "[0, 1, 1]"],
        ],
        cache_examples=False,
        flagging_mode="never",
        title="Brier score over classes",
        article=parse_readme(HERE / "README.md"),
    )


if __name__ == "__main__":
    build().launch()
