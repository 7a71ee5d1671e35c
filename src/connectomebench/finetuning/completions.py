"""What a completion holds: the answer alone, or a teacher's analysis before it, which some rows leave out."""

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
from connectomebench.models.prompt import ANALYSIS_CLOSE, ANALYSIS_OPEN, AnswerStyle, completion, parse_answer

if TYPE_CHECKING:
    from datasets import Dataset

ANSWER: AnswerStyle = "answer"
ANALYSIS: AnswerStyle = "analysis"
STYLES = get_args(AnswerStyle)
_ANALYSED = re.compile(rf"\s*{ANALYSIS_OPEN}(.*?\S.*?){ANALYSIS_CLOSE}\s*<answer>[^<>]*</answer>\s*", re.DOTALL)
_TAG = re.compile(r"<\s*/?\s*(analysis|answer)\s*>", re.IGNORECASE)


@dataclass(frozen=True)
class StyleSettings:
    """What is learnt of a row.

    Attributes
    ----------
    answer_style
        ``answer``: the answer alone. ``analysis``: a teacher's reply, its analysis and then the answer.
    rationale_dropout
        Of ``analysis``: share of rows that are asked for the answer alone and learn that. 0.5 where None.
    teacher_agreement
        Of ``analysis``: share of a teacher's votes on a row that must be right for its reply to be learnt. 0.8, four of
        five, where None.
    """

    answer_style: str = field(
        default=ANSWER,
        metadata={"help": "answer: learn the answer alone; analysis: learn a teacher's analysis and then the answer."},
    )
    rationale_dropout: float | None = field(
        default=None,
        metadata={"help": "Of analysis: share of rows that learn the answer alone, 0.5 by default."},
    )
    teacher_agreement: float | None = field(
        default=None,
        metadata={"help": "Of analysis: share of a teacher's votes that must be right, 0.8 by default."},
    )

    def __post_init__(self) -> None:
        if self.answer_style not in STYLES:
            raise unknown_name("answer_style", self.answer_style, STYLES)
        if self.answer_style == ANSWER:
            given = [name for name in ("rationale_dropout", "teacher_agreement") if getattr(self, name) is not None]
            if given:
                raise ConnectomeBenchError(f"{given[0]} is of --answer_style analysis alone; leave it out")
        if not 0 <= self.dropout < 1:
            raise ConnectomeBenchError(f"rationale_dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0.5 < self.agreement <= 1:
            raise ConnectomeBenchError(f"teacher_agreement is {self.agreement}; it must lie in (0.5, 1]")

    @property
    def dropout(self) -> float:
        """Share of rows that learn the answer alone."""
        return 0.5 if self.rationale_dropout is None else self.rationale_dropout

    @property
    def agreement(self) -> float:
        """Share of a teacher's votes that must be right."""
        return 0.8 if self.teacher_agreement is None else self.teacher_agreement

    def recorded(self) -> dict[str, Any]:
        """List what decides the weights, by name, JSON-ready."""
        if self.answer_style == ANSWER:
            return {"answer_style": ANSWER}
        return {
            "answer_style": ANALYSIS,
            "rationale_dropout": self.dropout,
            "teacher_agreement": self.agreement,
        }


ANSWERS_ALONE = StyleSettings()


@dataclass(frozen=True)
class TeacherExample:
    """What the rows of one partition learn.

    Attributes
    ----------
    rows
        Numbers of the rows that are learnt, ascending.
    replies
        For every row of the partition, the reply that is learnt; None where it is the answer alone, or the row is left
        out.
    teachers
        Rows with a kept reply, by the teacher it comes from, those that leave out the analysis among them.
    """

    rows: list[int]
    replies: list[str | None]
    teachers: dict[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by what they learn: ``analysis`` and ``answer`` alone; ``left_out`` have no kept reply."""
        analysed = sum(reply is not None for reply in self.replies)
        return {
            "analysis": analysed,
            "answer": len(self.rows) - analysed,
            "left_out": len(self.replies) - len(self.rows),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of all that is learnt, 64 hex digits."""
        return hashlib.sha256(repr((self.rows, self.replies)).encode()).hexdigest()


def answered_alone(count: int) -> TeacherExample:
    """Return what ``count`` rows learn that all learn the answer alone."""
    return TeacherExample(list(range(count)), [None] * count, {})


def taught_partitions(
    rows: Mapping[str, Dataset], task: Task, settings: StyleSettings, seed: int
) -> dict[str, TeacherExample]:
    """Choose what training and validation rows learn.

    Validation rows are asked as training rows are. Where none of them has a kept reply, all are asked for the answer
    alone.

    Parameters
    ----------
    rows
        By partition.
    task, settings, seed
        As for :func:`teach`.

    Returns
    -------
    dict
        For ``train`` and ``validation``.

    Raises
    ------
    ConnectomeBenchError
        If no training row has a kept reply, or no validation row has one and the answer alone is never learnt.
    """
    if settings.answer_style == ANSWER:
        return {partition: answered_alone(len(rows[partition])) for partition in ("train", "validation")}
    taught = {name: teach(rows[name], task, settings, seed) for name in ("train", "validation")}
    if not taught["train"].rows:
        raise ConnectomeBenchError(
            f"no training row has a well-formed reply of a teacher that was right in {settings.agreement:.0%} of its "
            "votes; collect replies that give an analysis and an answer, or lower --teacher_agreement"
        )
    if not taught["validation"].rows:
        if settings.dropout == 0:
            raise ConnectomeBenchError(
                "no validation row has a kept reply, so nothing tells which checkpoint is best; collect the teacher's "
                "replies for the partition validation too, or set --rationale_dropout above 0"
            )
        taught["validation"] = answered_alone(len(rows["validation"]))
    return taught


def teach(rows: Dataset, task: Task, settings: StyleSettings, seed: int) -> TeacherExample:
    """Choose for every row what it learns.

    A row learns the first well-formed and right reply of the first of its teachers whose votes on it agree with the
    truth often enough; rows without such a reply are left out. Which rows leave the analysis out depends on seed and
    ``sample_id`` alone, so that it is the same wherever a run goes on.

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
    learnt: list[int] = []
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
        learnt.append(number)
        replies.append(None if draw(seed, str(row["sample_id"])) < settings.dropout else reply)
    return TeacherExample(learnt, replies, dict(sorted(teachers.items())))


def kept_reply(row: Mapping[str, Any], agreement: float) -> tuple[str, str] | None:
    """Return teacher and reply that a row learns, or None.

    Parameters
    ----------
    row
        A stored row with ``teacher_replies``, of which all entries of one model are its votes. A vote that could not be
        read counts as wrong.
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
            reply = analysed_completion(vote["reply"], row)
            if reply is not None:
                return teacher, reply
    return None


def analysed_completion(reply: str, row: Mapping[str, Any]) -> str | None:
    r"""Return a teacher's reply as it is learnt, ``<analysis>\n...\n</analysis>\n<answer>yes</answer>``.

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
    found = _ANALYSED.fullmatch(reply)
    if found is None or len(_TAG.findall(reply)) != 4 or "<|" in reply:
        return None
    if parse_answer(reply, get_task(row["task"])) != row["answer"]:
        return None
    return f"{ANALYSIS_OPEN}\n{found[1].strip()}\n{ANALYSIS_CLOSE}\n{completion(row)}"


def draw(seed: int, sample_id: str) -> float:
    """Return a number in [0, 1) that depends on seed and sample alone."""
    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def told(taught: TeacherExample) -> str:
    """Word what the rows of a partition learn, in one line."""
    counts = taught.counts
    by = ", ".join(f"{name} {count}" for name, count in taught.teachers.items())
    return (
        f"{counts['analysis']} rows learn an analysis and the answer, {counts['answer']} the answer alone, "
        f"{counts['left_out']} without a kept reply are left out (kept replies by teacher: {by or 'none'})"
    )
