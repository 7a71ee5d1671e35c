"""Render answers about a visitor's own place as HTML: views, a table of answers, and how to read them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from connectomebench.core.tasks import Task
from connectomebench.demo.ask_models import AskableModel, ModelOpinion
from connectomebench.demo.evidence import evidence_html
from connectomebench.demo.html import model_name, probability_bar, table
from connectomebench.demo.sample_pictures import figure
from connectomebench.demo.scene_view import scene_html
from connectomebench.demo.texts import question, species_title
from connectomebench.evaluation.prompt_hints import hint

if TYPE_CHECKING:
    from PIL import Image

_HEAD = ("Model", "Answer", "Probability it gives to “yes”", "Learnt from")
_SIMULATED = {"no": "", "some": ", some of the errors simulated", "all": ", simulated errors"}


def answer_html(
    task: Task, views: Sequence[Image.Image], note: str, opinions: Sequence[ModelOpinion], scene: bytes | None = None
) -> Markup:
    """Show a place and the models' answers.

    Parameters
    ----------
    task
        Task of the question.
    views
        RGB, in the order of the task's views.
    note
        Caption of the views.
    opinions
        From :func:`connectomebench.demo.ask_models.ask`; empty if no model was trained for the task.
    scene
        The same in 3D; None where only pictures are known.
    """
    shown = Markup("").join(_figure(name, view) for name, view in zip(task.views, views, strict=True))
    start = Markup(
        '<h2 class="cb-question">{}</h2><p class="cb-hint">What to look for: {}</p><div class="cb-views">{}</div>'
        '<p class="cb-soft">{}</p>'
    ).format(question(task), hint(task), shown, note)
    if scene is not None:
        start += scene_html(scene, "The same in 3D. Drag to turn, wheel or pinch to zoom.")
    if not opinions:
        return start + Markup("<p>No model that was trained for this question is at hand here.</p>")
    answers = table("What the models say", _HEAD, [_row(opinion) for opinion in opinions])
    replies = Markup("").join(
        Markup('<details><summary>What {} wrote</summary><p class="cb-reply">{}</p></details>').format(
            opinion.model.name, opinion.answer.reply
        )
        for opinion in opinions
        if opinion.answer is not None and opinion.answer.reply
    )
    looked = Markup("").join(
        evidence_html(opinion.model.name, opinion.evidence, task.views, views)
        for opinion in opinions
        if opinion.evidence
    )
    caution = Markup('<p class="cb-warning">{}</p>').format(
        "These are guesses of models that may never have seen data like yours. How often they were right where the "
        "truth is known is in the tab Compare."
    )
    return start + answers + looked + replies + caution


def refusal_html(reason: str) -> Markup:
    """Return the reason why there is no answer."""
    return Markup('<p class="cb-warning" role="alert">{}</p>').format(reason[:1].upper() + reason[1:] + ".")


def _row(opinion: ModelOpinion) -> tuple[str | Markup, ...]:
    model, answer = opinion.model, opinion.answer
    name = model_name(model.name, {model.name: model.kind})
    if answer is None:
        return name, "cannot be asked at present", "–", _learnt(model)
    prediction = answer.prediction or "no answer found"
    return name, prediction, probability_bar(answer.probabilities.get("yes")), _learnt(model)


def _learnt(model: AskableModel) -> str:
    species = ", ".join(species_title(name) for name in model.trained_on)
    return f"{species}{_SIMULATED[model.simulated]}" if species else "not known"


def _figure(name: str, view: Image.Image) -> Markup:
    stream = io.BytesIO()
    view.save(stream, "PNG")
    return Markup(figure(name, stream.getvalue()))
