"""Completions to train on: the answer alone, or a teacher's analysis followed by the answer."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.schema import TEACHER_REPLIES
from connectomebench.models.prompt import ANALYSIS_CLOSE, ANALYSIS_OPEN, AnswerStyle, completion
from connectomebench.models.reply_parsing import parse_answer

if TYPE_CHECKING:
    from datasets import Dataset

ANSWER: AnswerStyle = "answer"
ANALYSIS: AnswerStyle = "analysis"
STYLES = get_args(AnswerStyle)
# every repetition has a bound, so that the time of a search is linear in the length of the reply
_ANSWERED = re.compile(r"<answer>[^<>]{0,2000}</answer>")
_TAG = re.compile(r"<\s{0,9}/?\s{0,9}(analysis|answer)\s{0,9}>", re.IGNORECASE)


@dataclass(frozen=True)
class StyleConfig:
    """Settings for the completions to train on.

    Attributes
    ----------
    answer_style
        ``answer``: the answer alone. ``analysis``: a teacher's reply, its analysis and then the answer.
    rationale_dropout
        For ``analysis``: share of rows trained on the answer alone. 0.5 if None.
    teacher_agreement
        For ``analysis``: minimum share of correct votes of a teacher on a row for its reply to be used. 0.8 if
        None.
    """

    answer_style: str = field(
        default=ANSWER,
        metadata={"help": "answer: train on the answer alone; analysis: train on a teacher's analysis, then answer."},
    )
    rationale_dropout: float | None = field(
        default=None,
        metadata={"help": "For analysis: share of rows trained on the answer alone, 0.5 by default."},
    )
    teacher_agreement: float | None = field(
        default=None,
        metadata={"help": "For analysis: minimum share of correct teacher votes, 0.8 by default."},
    )

    def __post_init__(self) -> None:
        if self.answer_style not in STYLES:
            raise unknown_name("answer_style", self.answer_style, STYLES)
        if self.answer_style == ANSWER:
            given = [name for name in ("rationale_dropout", "teacher_agreement") if getattr(self, name) is not None]
            if given:
                raise ConnectomeBenchError(f"{given[0]} requires --answer_style analysis; remove it")
        if not 0 <= self.dropout < 1:
            raise ConnectomeBenchError(f"rationale_dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0.5 < self.agreement <= 1:
            raise ConnectomeBenchError(f"teacher_agreement is {self.agreement}; it must lie in (0.5, 1]")

    @property
    def dropout(self) -> float:
        """Share of rows trained on the answer alone."""
        return 0.5 if self.rationale_dropout is None else self.rationale_dropout

    @property
    def agreement(self) -> float:
        """Minimum share of correct teacher votes."""
        return 0.8 if self.teacher_agreement is None else self.teacher_agreement

    def recorded(self) -> dict[str, Any]:
        """Return the settings that affect the weights, JSON-ready."""
        if self.answer_style == ANSWER:
            return {"answer_style": ANSWER}
        return {
            "answer_style": ANALYSIS,
            "rationale_dropout": self.dropout,
            "teacher_agreement": self.agreement,
        }


ANSWER_ONLY = StyleConfig()


@dataclass(frozen=True)
class CompletionTargets:
    """Training targets of the rows of one partition.

    Attributes
    ----------
    rows
        Numbers of the rows used, ascending.
    replies
        For every row of the partition, the reply to train on; None if the target is the answer alone or the row
        is left out.
    teachers
        Number of rows with a usable reply, by teacher; includes rows whose analysis is dropped.
    """

    rows: list[int]
    replies: list[str | None]
    teachers: dict[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by target: ``analysis``, ``answer`` alone, and ``left_out`` (no usable reply)."""
        analysed = sum(reply is not None for reply in self.replies)
        return {
            "analysis": analysed,
            "answer": len(self.rows) - analysed,
            "left_out": len(self.replies) - len(self.rows),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of all targets, 64 hex digits."""
        return hashlib.sha256(repr((self.rows, self.replies)).encode()).hexdigest()


def answer_only_targets(count: int) -> CompletionTargets:
    """Return targets for ``count`` rows that are all trained on the answer alone."""
    return CompletionTargets(list(range(count)), [None] * count, {})


def partition_targets(
    rows: Mapping[str, Dataset], task: Task, settings: StyleConfig, seed: int
) -> dict[str, CompletionTargets]:
    """Choose the targets of the training and validation rows.

    Validation rows follow the rules of training rows. If none has a usable reply, all use the answer alone.

    Parameters
    ----------
    rows
        By partition.
    task, settings, seed
        As for :func:`choose_targets`.

    Returns
    -------
    dict
        For ``train`` and ``validation``.

    Raises
    ------
    ConnectomeBenchError
        If no training row has a usable reply, or no validation row has one and ``rationale_dropout`` is 0.
    """
    if settings.answer_style == ANSWER:
        return {partition: answer_only_targets(len(rows[partition])) for partition in ("train", "validation")}
    targets = {name: choose_targets(rows[name], task, settings, seed) for name in ("train", "validation")}
    if not targets["train"].rows:
        raise ConnectomeBenchError(
            f"no training row has a well-formed reply of a teacher that was right in {settings.agreement:.0%} of its "
            "votes; collect replies that give an analysis and an answer, or lower --teacher_agreement"
        )
    if not targets["validation"].rows:
        if settings.dropout == 0:
            raise ConnectomeBenchError(
                "no validation row has a kept reply, so the best checkpoint is undefined; collect the teacher's "
                "replies for the partition validation too, or set --rationale_dropout above 0"
            )
        targets["validation"] = answer_only_targets(len(rows["validation"]))
    return targets


def choose_targets(rows: Dataset, task: Task, settings: StyleConfig, seed: int) -> CompletionTargets:
    """Choose the target of every row.

    Take the first well-formed, correct reply of the first teacher whose votes agree with the truth often enough; leave
    out rows without such a reply. Which rows drop the analysis depends on seed and ``sample_id`` alone, so a resumed
    run makes the same choice.

    Parameters
    ----------
    rows
        Of one partition, with ``teacher_replies``; their images are not read.
    task
        What they are about.
    settings
        Of style ``analysis``.
    seed
        Of the draw.

    Raises
    ------
    ConnectomeBenchError
        If the answer is a place.
    """
    if not task.labels:
        raise ConnectomeBenchError(
            f"the answer to {task.name} is a place, which teachers' votes seldom share; use --answer_style answer"
        )
    chosen: list[int] = []
    replies: list[str | None] = []
    teachers: Counter[str] = Counter()
    for number, row in enumerate(rows.select_columns(["sample_id", "task", "answer", "target_nm", TEACHER_REPLIES])):
        assert isinstance(row, Mapping)
        kept = kept_reply(row, settings.agreement)
        if kept is None:
            replies.append(None)
            continue
        teacher, reply = kept
        teachers[teacher] += 1
        chosen.append(number)
        replies.append(None if uniform_draw(seed, str(row["sample_id"])) < settings.dropout else reply)
    return CompletionTargets(chosen, replies, dict(sorted(teachers.items())))


def kept_reply(row: Mapping[str, Any], agreement: float) -> tuple[str, str] | None:
    """Return the teacher and the reply to train on, or None.

    Parameters
    ----------
    row
        A stored row with ``teacher_replies``; all entries of one model are its votes. A vote that could not be parsed
        counts as wrong.
    agreement
        Share of votes that must be right.
    """
    votes: dict[str, list[Mapping[str, Any]]] = {}
    for vote in row[TEACHER_REPLIES] or []:
        votes.setdefault(vote["model"], []).append(vote)
    for teacher, own in votes.items():
        if sum(vote["answer"] == row["answer"] for vote in own) / len(own) < agreement:
            continue
        for vote in own:
            reply = analysis_completion(vote["reply"], row)
            if reply is not None:
                return teacher, reply
    return None


def analysis_completion(reply: str, row: Mapping[str, Any]) -> str | None:
    r"""Return a teacher's reply as a completion, ``<analysis>\n...\n</analysis>\n<answer>yes</answer>``.

    Parameters
    ----------
    reply
        As the teacher wrote it.
    row
        A stored row.

    Returns
    -------
    str or None
        None unless the reply is one analysis and then one answer, the right one, with nothing beside them and no
        control tokens of a chat template.
    """
    analysis, _, answer = reply.strip().removeprefix(ANALYSIS_OPEN).partition(ANALYSIS_CLOSE)
    if not (reply.lstrip().startswith(ANALYSIS_OPEN) and analysis.strip() and _ANSWERED.fullmatch(answer.lstrip())):
        return None
    if len(_TAG.findall(reply)) != 4 or "<|" in reply:
        return None
    if parse_answer(reply, get_task(row["task"])) != row["answer"]:
        return None
    return f"{ANALYSIS_OPEN}\n{analysis.strip()}\n{ANALYSIS_CLOSE}\n{completion(row)}"


def uniform_draw(seed: int, sample_id: str) -> float:
    """Draw a number in [0, 1) from the seed and the sample id alone."""
    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def describe_targets(targets: CompletionTargets) -> str:
    """Summarise the targets of a partition in one line."""
    counts = targets.counts
    by = ", ".join(f"{name} {count}" for name, count in targets.teachers.items())
    return (
        f"{counts['analysis']} rows train on an analysis and the answer, {counts['answer']} on the answer alone, "
        f"{counts['left_out']} without a kept reply are left out (kept replies by teacher: {by or 'none'})"
    )
