"""Small pieces of HTML that several tabs share: tables, shares with intervals, the models' answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from connectomebench.core.tasks import TASKS
from connectomebench.demo.place_views import place_words
from connectomebench.demo.recorded_answers import RecordedAnswer, RecordedAnswers
from connectomebench.demo.stored_samples import Collection
from connectomebench.evaluation.calibration import wilson_interval

_ORIGINS = {
    "simulated": "a program cut or joined real neurons, or left them as they were, so the truth is known",
    "edit": "the proofread segmentation differs from the automatic one here",
    "control": "a place where nothing was corrected, chosen to compare with a corrected one",
}
_BY_A_PERSON = "a person corrected this place"


_KINDS = {
    "probe": "a linear classifier on a frozen image encoder",
    "trivial": "measures brightness and areas of colour, nothing of shape",
    "grey": "sees grey pictures only, so it can but guess",
    "image_classifier": "an image network trained on this task",
    "node_probe": "scores the numbered nodes by a frozen image encoder where they are drawn",
    "multitask_vit": "a vision transformer trained on this task and others",
    "mask_unet": "a small U-Net trained on this task",
    "adapter": "a vision-language model trained on this task",
    "vlm": "a vision-language model as it is",
}


def model_name(label: str, kinds: Mapping[str, str], always: str | None = None) -> Markup:
    """Write the name of a model, and below it what kind of model that is where this is known.

    Parameters
    ----------
    label
        Name, with the condition behind ``@``.
    kinds
        Of the models (:class:`connectomebench.demo.recorded_answers.RecordedAnswers`).
    always
        The one answer that it gives to every sample; None if it gives several.
    """
    kind = _KINDS.get(kinds.get(label.partition("@")[0], ""))
    notes = [kind, always and f"always answers {always}"]
    below = "; ".join(note for note in notes if note)
    return Markup("{}").format(label) + (Markup('<span class="cb-kind">{}</span>').format(below) if below else "")


def percent(share: float) -> str:
    """Format a share as whole percent; a dash for None."""
    return "–" if math.isnan(share) else f"{100 * share:.0f}%"


def tally(right: int, n: int) -> str:
    """Format how many of ``n`` were right, with the 95% interval."""
    lower, upper = wilson_interval(right, n)
    return f"{right} of {n} right ({percent(right / n)}, 95% interval {percent(lower)} to {percent(upper)})"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | Markup]]) -> Markup:
    """Return a table that scrolls sideways if it is wide; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return Markup(
        f'<div class="cb-scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="cb-table">'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(caption: str, values: Mapping[str, Any]) -> Markup:
    """Return a table of names and values."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in values.items()
    )
    return Markup(
        f'<div class="cb-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="cb-table cb-plain"><caption>{escape(caption)}</caption><tbody>{body}</tbody></table></div>'
    )


def origin(row: Mapping[str, Any]) -> str:
    """Describe where a sample comes from: only an edit history knows that a person was at this very place."""
    name = row["origin"]
    if name == "edit" and (row.get("edit_time") is not None or str(row.get("edit_id")).startswith("operation-")):
        return _BY_A_PERSON
    return _ORIGINS.get(name, name)


def warning(collection: Collection) -> Markup:
    """Return a highlighted paragraph on what is simulated; empty if nothing is."""
    if not collection.warning:
        return Markup("")
    return Markup('<p class="cb-warning">{}</p>').format(collection.warning)


def models_table(found: RecordedAnswers, row: Mapping[str, Any]) -> Markup:
    """Return the models' answers to one sample: answer, correctness, P(yes) as a bar, replies to unfold.

    Of places and masks there is a score in place of the last two.
    """
    said = found.of(row)
    if not said:
        reason = (
            "The records of models cannot be read." if found.unreadable else "No model was asked about this sample."
        )
        return Markup('<p class="cb-soft">{}</p>').format(reason)
    exact = TASKS[row["task"]].scoring == "exact"
    rows = [
        (
            model_name(one.model, found.kinds, found.always(one.model, row) if exact else None),
            _given(one, row),
            *((_right(one.right), probability_bar(one.probability)) if exact else (score_words(one),)),
        )
        for one in said
    ]
    replies = Markup("").join(
        Markup('<details><summary>What {} wrote</summary><p class="cb-reply">{}</p></details>').format(
            one.model, one.reply
        )
        for one in said
        if one.reply
    )
    head = ("Model", "Answer", "Right?", "Probability it gave to “yes”") if exact else ("Model", "Answer", "Score")
    return table("What models answered", head, rows) + replies


def _given(said: RecordedAnswer, row: Mapping[str, Any]) -> str:
    if said.prediction is None:
        return "no answer found"
    scoring = TASKS[row["task"]].scoring
    return {"places": place_words(said.prediction, row), "masks": "masks"}.get(scoring, said.prediction)


def score_words(said: RecordedAnswer) -> Markup:
    """Write the score of an answer, from 0 to 1."""
    return Markup('<span class="cb-{}">{:.2f}</span>').format("right" if said.right else "wrong", said.score)


def _right(right: bool) -> Markup:
    kind, mark, word = ("right", "✓", "right") if right else ("wrong", "✗", "wrong")
    return Markup('<span class="cb-{}">{} {}</span>').format(kind, mark, word)


def probability_bar(probability: float | None) -> Markup | str:
    """Draw a probability as a bar followed by its value; plain words if there is none."""
    if probability is None:
        return "not stated"
    width = f"{100 * probability:.1f}"
    return Markup('<span class="cb-track" aria-hidden="true"><i style="width:{}%"></i><b></b></span>{:.2f}').format(
        width, probability
    )
