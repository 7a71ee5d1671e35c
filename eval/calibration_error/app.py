"""Demo page of the calibration error: predictions and references as JSON lists."""

import json
from pathlib import Path

import evaluate
import gradio as gr
from evaluate.utils.gradio import parse_readme

HERE = Path(__file__).parent


def score(predictions: str, references: str, bins: float, scheme: str) -> dict[str, float] | None:
    """Compute ECE and MCE of a JSON list of probabilities (or of lists of them) and one of true classes."""
    # a fresh metric for every visitor: one that met bad input keeps part of it
    metric = evaluate.load(str(HERE / "calibration_error.py"), keep_in_memory=True)
    try:
        return metric.compute(
            predictions=json.loads(predictions), references=json.loads(references), bins=int(bins), scheme=scheme
        )
    except Exception as error:
        raise gr.Error(str(error)) from error


def build() -> gr.Interface:
    """Build the page."""
    return gr.Interface(
        fn=score,
        inputs=[
            gr.Textbox(label="Predictions: P(yes) or lists of class probabilities, a JSON list", lines=3),
            gr.Textbox(label="References: true classes 0, 1, ..., a JSON list", lines=3),
            gr.Slider(1, 50, value=15, step=1, label="Bins"),
            gr.Radio(["equal_width", "equal_mass"], value="equal_width", label="Scheme"),
        ],
        outputs=gr.JSON(label="Result"),
        examples=[
            ["[0.25, 0.25, 0.75, 0.75]", "[0, 0, 1, 0]", 2, "equal_width"],
            ["[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]", "[0, 1, 0]", 15, "equal_width"],
        ],
        cache_examples=False,
        flagging_mode="never",
        title="Calibration error",
        article=parse_readme(HERE / "README.md"),
    )


if __name__ == "__main__":
    build().launch()
