"""Convert published answers of a model or person to result records.

A published file of several votes becomes two sets of records: the first answer alone, and the majority of all votes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.core.files import content_key
from connectomebench.core.version import __version__
from connectomebench.evaluation.results import DEFAULT, result_path, write_results

CONFIDENCE = "confidence"
"""Part of a condition: the model states its confidence."""

_STATED = re.compile(r"<confidence>\s{0,9}(\d{1,12}(?:\.\d{1,12})?)\s{0,9}%?\s{0,9}</confidence>")


@dataclass(frozen=True)
class PublishedSample:
    """One sample with all its answers.

    Attributes
    ----------
    sample_id, group
        Name of the sample, and of what it shares with others (see :mod:`.names`).
    truth
        True where the answer is yes.
    votes
        Every answer in order; None where a reply held none.
    replies
        The text of every vote, empty if unknown.
    derived
        Every answer read again from the reasoning alone, empty where there is no such reading.
    confidence
        Stated confidence in the first answer, 0 to 1.
    latency_s
        Seconds until the answer, where they were taken.
    """

    sample_id: str
    group: str
    truth: bool
    votes: tuple[bool | None, ...]
    replies: tuple[str, ...] = ()
    derived: tuple[bool | None, ...] = ()
    confidence: float | None = None
    latency_s: float | None = None


@dataclass(frozen=True)
class Run:
    """All answers of one published file, or of one person in a session.

    Attributes
    ----------
    file
        Path inside the folder that was read.
    model, revision
        As in result records.
    task, species, partition
        Samples evaluated; ``partition`` is as stated in the file.
    source
        Name of the dataset in the file; empty where there is none.
    votes
        Answers a sample.
    states_confidence
        Whether the model states its confidence.
    samples
        One entry a sample, in the order of the file.
    stated
        Numbers the file gives about itself, by its own names.
    is_network
        Whether an image network answered: its confidence is its probability.
    """

    file: str
    model: str
    revision: str
    task: str
    species: str
    partition: str
    source: str
    votes: int
    states_confidence: bool
    samples: tuple[PublishedSample, ...]
    stated: Mapping[str, float]
    is_network: bool = False

    @property
    def fingerprint(self) -> str:
        """Order-independent hash of samples and truths; equal for runs on the same samples."""
        return content_key(sorted((s.sample_id, s.truth) for s in self.samples))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions of the first answer and, with several votes, of their majority."""
        if self.votes == 1:
            return (CONFIDENCE if self.states_confidence else DEFAULT,)
        ending = f"+{CONFIDENCE}" if self.states_confidence else ""
        return (CONFIDENCE if self.states_confidence else DEFAULT, f"votes{self.votes}{ending}")

    @property
    def main_condition(self) -> str:
        """The condition whose prediction uses every vote."""
        return self.conditions[-1]


def majority(votes: Sequence[bool | None]) -> bool | None:
    """Return the majority answer of the votes that have one; None for a tie or no answers."""
    counts = Counter(vote for vote in votes if vote is not None)
    return None if counts[True] == counts[False] else counts[True] > counts[False]


def stated_confidence(reply: str) -> float | None:
    """Return the confidence in ``<confidence>`` (percent) of a reply, 0 to 1; None if missing."""
    found = _STATED.search(reply)
    if found is None or float(found[1]) > 100:
        return None
    return float(found[1]) / 100


def word(answer: bool | None) -> str | None:
    """Return ``yes``, ``no`` or None."""
    return None if answer is None else ("yes" if answer else "no")


def run_rows(run: Run, condition: str) -> list[dict[str, Any]]:
    """Convert a run to result records of one of its conditions.

    With one answer, ``probability`` is the stated confidence as P(yes). With several votes it is the share of "yes"
    among the votes that hold an answer. ``question`` is empty: published files lack it.
    """
    constant = {
        "model": run.model,
        "model_revision": run.revision,
        "task": run.task,
        "species": run.species,
        "partition": run.partition,
        "condition": condition,
        "dataset_fingerprint": run.fingerprint,
        "code_version": __version__,
        "question": "",
    }
    of = _voted if condition == run.main_condition and run.votes > 1 else _first
    return [
        constant
        | {"sample_id": s.sample_id, "group": s.group, "answer": word(s.truth), "latency_s": s.latency_s}
        | of(s)
        for s in run.samples
    ]


def write_records(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write every run under FOLDER, named by :func:`connectomebench.evaluation.results.result_path`.

    Raises
    ------
    ConnectomeBenchError
        If the records of a run cannot be, for example because a sample occurs twice.
    """
    written = []
    for run in runs:
        for condition in run.conditions:
            path = result_path(folder, run.model, run.task, run.species, run.partition, condition)
            written.append(write_results(path, run_rows(run, condition)))
    return written


def _first(sample: PublishedSample) -> dict[str, Any]:
    answer = sample.votes[0]
    confidence = None if answer is None else sample.confidence
    return {
        "prediction": word(answer),
        "probability": None if confidence is None else (confidence if answer else 1 - confidence),
        "reply": sample.replies[0] if sample.replies else None,
        "derived": word(sample.derived[0]) if sample.derived else None,
    }


def _voted(sample: PublishedSample) -> dict[str, Any]:
    answer = majority(sample.votes)
    held = [vote for vote in sample.votes if vote is not None]
    reply = None
    if sample.replies and answer is not None:
        reply = sample.replies[sample.votes.index(answer)]
    return {
        "prediction": word(answer),
        "probability": sum(held) / len(held) if held else None,
        "reply": reply,
        "votes": [word(vote) for vote in sample.votes],
        "replies": list(sample.replies) or None,
        "derived": word(majority(sample.derived)),
    }
