"""A sample of "Try it" before and after its answer, whatever kind of answer it asks for.

``samples, key, number`` name it everywhere here: the samples, the collection and the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import TAKEN, decode_masks, mask_png
from connectomebench.core.tasks import get_task
from connectomebench.demo.answer_scores import is_right
from connectomebench.demo.html import origin
from connectomebench.demo.mask_views import loop_hint, loop_pictures, read_drawn
from connectomebench.demo.place_views import (
    GIVEN,
    TRUE,
    given_places,
    node_list,
    place_hint,
    place_pictures,
    place_words,
    read_typed,
    right_places,
)
from connectomebench.demo.recorded_answers import RecordedAnswer
from connectomebench.demo.sample_pictures import pictures_html, views_html
from connectomebench.demo.stored_samples import StoredSamples, with_mask
from connectomebench.evaluation.prompt_hints import hint

Key = tuple[str, str]


def asked_html(samples: StoredSamples, key: Key, number: int) -> Markup:
    """Show the pictures of a sample with all that is needed to answer it."""
    task, row = get_task(key[0]), samples.row(key, number)
    help_text = Markup('<p class="cb-hint">What to look for: {}</p>').format(hint(task))
    if task.scoring == "places":
        return place_pictures(row, samples.pictures(key, number)) + node_list(row) + place_hint(row) + help_text
    if task.scoring == "masks":
        return loop_pictures(row, samples.pictures(key, number)) + loop_hint() + help_text
    return views_html(samples, key, number) + help_text


def answered_html(samples: StoredSamples, key: Key, number: int, given: str) -> Markup:
    """Show the pictures of a sample with the visitor's answer, ``given``, and the right one drawn into them."""
    task, row = get_task(key[0]), samples.row(key, number)
    if task.scoring == "places":
        marks = [(GIVEN, given_places(given, row)), (TRUE, right_places(row))]
        return place_pictures(row, samples.pictures(key, number), marks)
    if task.scoring == "masks":
        own = masked_html(samples, key, number, given)
        true = pictures_html(list(row["views"]), samples.answer_pictures(key, number), row["extent_nm"])
        return Markup("<h3>What the right split takes away</h3>{}<h3>What you drew</h3>{}").format(true, own)
    return views_html(samples, key, number)


def masked_html(samples: StoredSamples, key: Key, number: int, masks: str) -> Markup:
    """Show the pictures of a sample with what is marked in masks, stored as answers are, drawn over them.

    Raises
    ------
    ConnectomeBenchError
        If they cannot be read.
    """
    row = samples.row(key, number)
    try:
        drawn = decode_masks(masks)
    except ValueError as error:
        raise ConnectomeBenchError("the masks of this answer cannot be read") from error
    files = [
        with_mask(file, mask_png(drawn[view])) if view in drawn and (drawn[view] == TAKEN).any() else file
        for view, file in zip(row["views"], samples.pictures(key, number), strict=True)
    ]
    return pictures_html(list(row["views"]), files, row["extent_nm"])


def read_answer(samples: StoredSamples, key: Key, number: int, typed: str) -> str:
    """Convert the content of the page's field, a place or masks, to the form in which such answers are stored.

    Raises
    ------
    ConnectomeBenchError
        If it is no answer to this row.
    """
    row = samples.row(key, number)
    if get_task(key[0]).scoring == "masks":
        return read_drawn(typed, row, samples.pictures(key, number))
    return read_typed(typed, row)


def verdict_html(row: dict[str, Any], score: float) -> Markup:
    """Say how good an answer is, and what the right one is.

    Parameters
    ----------
    row
        Small columns of the row.
    score
        From :func:`connectomebench.demo.answer_scores.visitor_score`.
    """
    task, right = get_task(row["task"]), is_right(row["task"], score)
    said = {
        "exact": ("Right." if right else "Not right.") + f" The answer is: {row['answer']}.",
        "places": f"Score {score:.2f} of 1. " + _right_place(row),
        "masks": f"Overlap {score:.2f} of 1, over both parts. The right answer is drawn above.",
    }[task.scoring]
    verdict = Markup('<p class="cb-verdict cb-{}">{} {}</p>').format(
        "right" if right else "wrong", "✓" if right else "✗", said
    )
    where = Markup('<p class="cb-soft">Where the answer comes from: {}. Sample {}.</p>').format(
        origin(row), row["sample_id"]
    )
    return verdict + where


def _right_place(row: dict[str, Any]) -> str:
    others = len(row["target_nm"]) - 1 if get_task(row["task"]).answer_kind == "point" else 0
    more = f", or {others} more, all marked" if others else ", marked"
    return f"The right place is {place_words(row['answer'], row)}{more} in the pictures."


def models_masks(samples: StoredSamples, key: Key, number: int, said: Sequence[RecordedAnswer]) -> Markup:
    """Show the masks of models, each folded away; nothing where the answers are no masks."""
    if get_task(key[0]).scoring != "masks":
        return Markup("")
    return Markup("").join(
        Markup("<details><summary>What {} marked</summary>{}</details>").format(
            one.model, masked_html(samples, key, number, one.prediction)
        )
        for one in said
        if one.prediction is not None
    )
