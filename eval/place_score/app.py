"""Demo page of the place score: predictions and references as JSON lists."""

import json
from pathlib import Path

import evaluate
import gradio as gr
from evaluate.utils.gradio import parse_readme

HERE = Path(__file__).parent


def score(predictions: str, references: str, extent_nm: float) -> dict[str, float] | None:
    """Score two JSON lists of places in views of one width."""
    # a fresh metric for every visitor: one that met bad input keeps part of it
    metric = evaluate.load(str(HERE / "place_score.py"), keep_in_memory=True)
    try:
        given, true = json.loads(predictions), json.loads(references)
        return metric.compute(predictions=given, references=true, extent_nm=[extent_nm] * len(given))
    except Exception as error:
        raise gr.Error(str(error)) from error


def build() -> gr.Interface:
    """Build the page."""
    cut = ["sources=[(0, 0, 0)];sinks=[(4000, 0, 0)]"]
    return gr.Interface(
        fn=score,
        inputs=[
            gr.Textbox(label="Predictions: places in nm, a JSON list", lines=3),
            gr.Textbox(label="References: true places in nm, a JSON list", lines=3),
            gr.Number(label="Edge of the views, nm", value=5000),
        ],
        outputs=gr.JSON(label="Result"),
        examples=[
            ['["0, 0, 0", "1250, 0, 0"]', '["0, 0, 0", "0, 0, 0"]', 5000],
            ['["sources=[(4000, 0, 0)];sinks=[(0, 1250, 0)]"]', json.dumps(cut), 5000],
        ],
        cache_examples=False,
        flagging_mode="never",
        title="Place score",
        article=parse_readme(HERE / "README.md"),
    )


if __name__ == "__main__":
    build().launch()
