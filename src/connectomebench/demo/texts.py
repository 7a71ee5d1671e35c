"""Questions in plain words, with their buttons and keys."""

from __future__ import annotations

from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import Task
from connectomebench.core.view_layout import view_caption

INTRODUCTION = (
    "To map the wiring of a brain, tissue is imaged slice by slice, and a program traces every neuron in it. "
    "The program makes two kinds of mistakes: it breaks one neuron into pieces, or it fuses several neurons into one. "
    "Finding and mending them is called proofreading, and people do it by hand, place by place, for years. "
    "Each sample here is one such place, with the question a proofreader answers there. "
    "Try some, then see what models answered."
)

_PLAIN = {
    "merge_action": "Are the blue and the orange piece parts of one neuron?",
    "merge_action_with_em": "Are the blue and the orange piece parts of one neuron?",
    "merge_action_multiple_choice": "Which orange candidate, if any, continues the blue piece?",
    "endpoint_error_identification": "Does the neuron really go on where the blue piece ends, in the middle of the "
    "pictures?",
    "endpoint_error_identification_with_em": "Does the neuron really go on where the blue piece ends, in the middle of "
    "the pictures?",
    "endpoint_localization": "Where was the blue piece wrongly cut off from the rest of its neuron?",
    "split_proposal": "Where should the blue piece be cut, so that its two neurons come apart?",
    "merge_error_identification": "Are two different neurons fused into the blue piece, in the middle of the pictures?",
    "merge_error_identification_with_em": "Are two different neurons fused into the blue piece, in the middle of the "
    "pictures?",
    "split_action": "Should the piece be cut into the blue and the orange part?",
    "split_action_with_em": "Should the piece be cut into the blue and the orange part?",
    "split_mask_generation": "Which part of the blue piece belongs to another neuron? Mark the smaller of the two.",
    "segment_identity": "Do both pictures show the same piece?",
    "segment_classification": "What is the blue piece?",
}
_CHOICES = {
    "merge_action_multiple_choice": {"none": "none of them"},
    "segment_classification": {
        "a": "one cell body and its processes",
        "b": "several cell bodies",
        "c": "processes without a cell body",
        "d": "a nucleus",
        "e": "no neuron",
        "f": "cannot be told",
        "g": "none of these",
    },
}
_YES_NO = {"yes": "y", "no": "n"}

_VIEWS = {
    "first": "First picture",
    "second": "Second picture",
}

BUTTONS = 7
"""Most answers that a task has."""


def question(task: Task) -> str:
    """Return the question of a task in plain words."""
    return _PLAIN.get(task.name, task.question)


def answers(task: Task) -> list[tuple[str, str]]:
    """Return the possible answers and the texts of their buttons, which end with the key; yes comes first.

    Empty if the answer is a place or a mask.
    """
    if set(task.labels) == set(_YES_NO):
        return [(answer, f"{answer.capitalize()} ({key})") for answer, key in _YES_NO.items()]
    choices = _CHOICES.get(task.name, {})
    return [
        (answer, f"{answer}: {choices[answer]} ({number})" if answer in choices else f"{answer} ({number})")
        for number, answer in enumerate(task.labels, 1)
    ]


def view_title(view: str) -> str:
    """Return the display name of a view, with its plane."""
    caption = view_caption(view)
    return _VIEWS.get(view, caption[:1].upper() + caption[1:])


def species_title(name: str) -> str:
    """Return the display name of a species config."""
    return SPECIES[name].title if name in SPECIES else name.replace("_", " ")
