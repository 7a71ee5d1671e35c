"""Files of a review, beside its log in ``OUT/review``: edits, mapping, segmentation, rest of the queue, summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from connectomebench.core.files import write_json, write_text
from connectomebench.proofreading.decision_log import FOLDER
from connectomebench.proofreading.edit_log import FILE_NAME
from connectomebench.proofreading.outputs import write_csv, write_mapping, write_objects
from connectomebench.review.agreement_with_model import kappa_between_reviewers, kappa_interval, kappa_with_model
from connectomebench.review.review_session import ReviewSession
from connectomebench.review.review_state import ReviewState


def write_review(session: ReviewSession) -> dict[str, Any]:
    """Write ``edits.jsonl`` and ``.csv``, ``mapping.parquet``, ``segmentation``, ``queue.jsonl`` and ``summary.json``.

    Edits are those of the run and, after them, the accepted ones with confidence 1: applied in order to the
    segmentation before the run they give the mapping. Processes may write at the same time; the last one wins, and has
    read all decisions.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    ConnectomeBenchError
        If the run has taken decisions since the review began.
    """

    def write(state: ReviewState) -> dict[str, Any]:
        session.check_current()
        folder = session.out / FOLDER
        edits = [*session.edits, *state.applied]
        queue = [replace(one.edit, value=one.value) for one in state.waiting()]
        for name, rows in ((FILE_NAME, edits), ("queue.jsonl", queue)):
            write_text(folder / name, "".join(edit.as_line() + "\n" for edit in rows))
            write_csv(rows, (folder / name).with_suffix(".csv"))
        write_mapping(state.graph, folder)
        if (session.out / "supervoxels" / "info").exists():
            write_objects(session.out / "supervoxels", state.graph.objects, folder / "segmentation")
        summary = summarise(state)
        write_json(folder / "summary.json", summary)
        return summary

    return session.read(write)


def summarise(state: ReviewState) -> dict[str, Any]:
    """Count decisions, and compare them with the model and with each other."""
    verdicts = state.decided()
    refused = {e: one.refused for e, one in state.reviewed.items() if one.refused is not None}
    waiting = len(state.waiting())
    reviewers = sorted({entry.reviewer for entry in state.entries})
    seconds = [e.seconds for e in state.entries if e.action in ("accept", "reject")]
    return {
        "queue": len(state.edits),
        "accepted": sum(one == "accept" for one in verdicts.values()),
        "rejected": sum(one == "reject" for one in verdicts.values()),
        "applied": len(state.applied),
        "refused": refused,
        "waiting": waiting,
        "settled_by_other_edits": len(state.edits) - len(verdicts) - waiting,
        "disagreements": sorted(e for e, one in state.reviewed.items() if len(set(one.decisions.values())) > 1),
        "median_seconds": sorted(seconds)[len(seconds) // 2] if seconds else None,
        "kappa_with_model": kappa_interval(state),
        "reviewers": {
            name: {"decisions": len(state.decided(name)), "kappa_with_model": kappa_with_model(state, name)}
            for name in reviewers
        },
        "kappa_between_reviewers": kappa_between_reviewers(state),
    }


def summary_lines(summary: dict[str, Any], out: Path) -> list[str]:
    """Put a summary into two lines for the terminal."""
    kappa = summary["kappa_with_model"]
    agreement = "kappa with the model is undefined so far"
    if kappa["kappa"] is not None:
        low, high = kappa["interval"]
        agreement = f"kappa with the model {kappa['kappa']:.2f} [{low:.2f}, {high:.2f}], n={kappa['n']}"
    return [
        f"{summary['accepted']} accepted, {summary['rejected']} rejected, {summary['waiting']} left of "
        f"{summary['queue']}; {len(summary['refused'])} could not be applied; {agreement}",
        str(out / FOLDER),
    ]
