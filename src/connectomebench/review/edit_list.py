"""All edits of a run with what became of them, the most valuable first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from connectomebench.proofreading.edit_log import Edit
from connectomebench.review.review_state import ReviewState

Fate = Literal["applied", "waiting", "accepted", "rejected", "refused", "settled"]
"""``applied``: by the run itself, as models decided. ``refused``: a person accepted it, and it could not be applied.
``settled``: other edits made it impossible before anybody decided it."""


@dataclass(frozen=True)
class ListedEdit:
    """An edit with what became of it.

    Attributes
    ----------
    edit
        As it was proposed or applied.
    value
        Expected gain, bits: with the objects as they are now where it waits, else as it was proposed.
    fate
        What became of it.
    by
        Reviewer whose decision counts; empty where nobody decided.
    reason
        Why an accepted edit could not be applied; empty otherwise.
    changed
        Whether other edits changed its objects since its pictures were drawn; False where it does not wait.
    """

    edit: Edit
    value: float
    fate: Fate
    by: str = ""
    reason: str = ""
    changed: bool = False


def list_edits(state: ReviewState, applied: Sequence[Edit]) -> list[ListedEdit]:
    """List the edits of a run and of its queue.

    Parameters
    ----------
    state
        Of the review; a queue may be empty.
    applied
        Edits of the run itself.

    Returns
    -------
    list of ListedEdit
        The largest expected gain first, then by id.
    """
    waiting = {one.edit.edit_id: one for one in state.waiting()}
    found = [ListedEdit(e, e.value, "accepted" if e.decided_by else "applied", e.decided_by) for e in applied]
    done = {edit.edit_id for edit in applied}
    for edit in state.edits.values():
        if edit.edit_id in done:
            continue
        known = waiting.get(edit.edit_id)
        own = state.reviewed.get(edit.edit_id)
        if known is not None:
            found.append(ListedEdit(edit, known.value, "waiting", changed=known.changed))
        elif own is None or own.verdict is None:
            found.append(ListedEdit(edit, edit.value, "settled"))
        else:
            refused = own.refused
            if own.verdict == "accept" and edit.edit_id in state.taken:
                refused = "the run did not apply it"
            found.append(ListedEdit(edit, edit.value, _fate(own.verdict, refused), own.by, refused or ""))
    return sorted(found, key=lambda one: (-one.value, one.edit.edit_id))


def _fate(verdict: str, refused: str | None) -> Fate:
    if verdict == "reject":
        return "rejected"
    return "accepted" if refused is None else "refused"
