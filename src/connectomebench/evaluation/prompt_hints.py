"""Proofreading hints per task, as shown to a model."""

from __future__ import annotations

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task

_ONE_NEURITE = (
    "Two pieces of one neuron meet end to end, with the same calibre and the same direction, and do so in every view; "
    "a small gap between them is common. Pieces that only pass or touch each other side by side, or whose calibre does "
    "not fit, belong to different neurons."
)
_AN_END = (
    "A natural end tapers off, or closes in a rounded swelling. A neurite that stops bluntly at its full calibre, or "
    "with a flat or ragged face, goes on in truth. Look at the end in every view."
)
_FUSED = (
    "A natural branch leaves its parent smoothly, is thinner or as thick, and all parts look like one tree. Two fused "
    "neurons often cross like an X, touch along their sides or over a thin bridge, turn sharply, or differ in calibre "
    "and texture. Look at the place in every view."
)
_A_CUT = (
    "A right cut goes through the thin bridge where two neurons touch, and leaves two parts of which each goes on "
    "smoothly by itself. A wrong one goes across a single smooth neurite and leaves blunt stumps that face each other."
)
_HINTS = {
    "merge_action": _ONE_NEURITE,
    "merge_action_with_em": f"{_ONE_NEURITE} In the slices, see whether a membrane runs between the two tinted "
    "profiles, or the same inside goes on from one to the other.",
    "merge_action_multiple_choice": _ONE_NEURITE,
    "endpoint_error_identification": _AN_END,
    "endpoint_error_identification_with_em": f"{_AN_END} In the slices, see whether a membrane closes the outlined "
    "profile, or the same inside goes on beyond the outline.",
    "endpoint_localization": _AN_END,
    "merge_error_identification": _FUSED,
    "merge_error_identification_with_em": f"{_FUSED} In the slices, see whether a membrane runs through the outlined "
    "profile, or the same inside fills all of it.",
    "split_action": _A_CUT,
    "split_action_with_em": f"{_A_CUT} In the slices, see whether a membrane runs where the two tints meet, or the cut "
    "goes through the inside of one profile.",
    "split_proposal": f"{_FUSED} {_A_CUT}",
    "split_mask_generation": f"{_FUSED} {_A_CUT}",
    "segment_identity": "View and zoom may differ: compare branches, bends, calibre and surface rather than the "
    "outline.",
    "segment_classification": "A soma is a large round body from which neurites leave; a nucleus is a round body "
    "alone; processes without a soma are long, thin and branched.",
}


def hint(task: Task) -> str:
    """Return the hint of a task.

    Raises
    ------
    ConnectomeBenchError
        If the task has no hint.
    """
    if task.name not in _HINTS:
        raise ConnectomeBenchError(f"there are no hints for {task.name}; use another --prompt")
    return _HINTS[task.name]
