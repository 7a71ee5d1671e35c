"""Collect text replies from result records and find the visual cues they name. Needs no model.

Every vote of a row counts: the unit here is the reply, not the sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.responses.lexicon import Lexicon, Mention, find_mentions
from connectomebench.evaluation.result_records import by_keys, label

if TYPE_CHECKING:
    import pandas as pd

Use = Literal["mentioned", "affirmed", "denied"]
USES: tuple[Use, ...] = ("mentioned", "affirmed", "denied")
"""A reply mentions a cue where it names it at all; it affirms or denies it where at least one mention does."""
ANALYSIS_WORDS = 5
"""Words besides the answer from which on a reply counts as one with an analysis."""

# answer and confidence are removed with their content; of other tags (analysis, think) only the tags
# every repetition has a bound, so that the time of a search is linear in the length of the reply
_TAGS = re.compile(
    r"<\s{0,9}(answer|confidence)\s{0,9}>[^<>]{0,2000}<\s{0,9}/\s{0,9}\1\s{0,9}>"
    r"|<\s{0,9}/?\s{0,9}\w{1,20}\s{0,9}>",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]{1,60}(?:['’-][^\W_]{1,60}){0,9}")


@dataclass(frozen=True)
class Replies:
    """Replies of one model in one condition to one partition, one entry per reply.

    Attributes
    ----------
    model, revision, task, species, partition, condition
        Origin of the replies; several revisions in one file are joined.
    sample_id, group, answer
        Of the row of each reply, shape (replies,).
    prediction
        Answer in the reply, shape (replies,); empty if it had none.
    text
        The reply without answer, confidence and tags.
    words
        Words in ``text``, shape (replies,).
    tokens
        Tokens of the whole reply, shape (replies,), NaN where unknown; several votes have only a total,
        which is divided evenly.
    mentions
        Cue mentions of every reply.
    uses
        Whether a reply uses a cue in this way, shape (uses, cues, replies).
    """

    model: str
    revision: str
    task: str
    species: str
    partition: str
    condition: str
    sample_id: NDArray[np.str_]
    group: NDArray[np.str_]
    answer: NDArray[np.str_]
    prediction: NDArray[np.str_]
    text: tuple[str, ...]
    words: NDArray[np.int64]
    tokens: NDArray[np.float64]
    mentions: tuple[tuple[Mention, ...], ...]
    uses: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Name of the model with its condition, as `connectomebench.evaluation.results.label` names it."""
        return label(self.model, self.condition)

    @property
    def place(self) -> tuple[str, str, str]:
        """Task, species and partition."""
        return self.task, self.species, self.partition

    @property
    def reasoned(self) -> NDArray[np.bool_]:
        """True for replies with an analysis, shape (replies,)."""
        return self.words >= ANALYSIS_WORDS


def collect_replies(frame: pd.DataFrame, lexicon: Lexicon) -> tuple[list[Replies], list[str]]:
    """Extract the replies from result records and find the cues in them.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.results.read_results`.
    lexicon
        From :func:`connectomebench.evaluation.responses.lexicon.read_lexicon`.

    Returns
    -------
    tuple
        The replies, sorted by model, task, species, partition and condition; and the names of records without any
        reply (answers that were scored or clicked), ``MODEL@CONDITION TASK/SPECIES/PARTITION``.

    Raises
    ------
    ConnectomeBenchError
        If there is no reply at all, or the numbers of votes and replies of a row differ.
    """
    found, silent = [], []
    for (model, task, species, partition, condition), rows in tqdm(
        by_keys(frame).items(), desc="Reading replies", unit="file", disable=None
    ):
        entries = [entry for row in rows.itertuples(index=False) for entry in _entries(row)]
        if not entries:
            silent.append(f"{label(model, condition)} {task}/{species}/{partition}")
            continue
        sample, group, answer, prediction, written, tokens = zip(*entries, strict=True)
        text = tuple(plain_text(reply) for reply in written)
        mentions = tuple(tuple(find_mentions(words, lexicon)) for words in text)
        found.append(
            Replies(
                model,
                ", ".join(sorted(set(rows["model_revision"]))),
                task,
                species,
                partition,
                condition,
                np.array(sample, dtype=str),
                np.array(group, dtype=str),
                np.array(answer, dtype=str),
                np.array(prediction, dtype=str),
                text,
                np.array([len(_WORD.findall(words)) for words in text], dtype=np.int64),
                np.array(tokens, dtype=np.float64),
                mentions,
                _uses(mentions, lexicon),
            )
        )
    if not found:
        raise ConnectomeBenchError(
            "these results keep no replies (the answers were scored or clicked); evaluate with --answer generated"
        )
    return found, silent


def plain_text(reply: str) -> str:
    """Return a reply without answer, confidence and tags."""
    return _TAGS.sub(" ", reply).strip()


def _entries(row: Any) -> list[tuple[str, str, str, str, str, float]]:
    """Return sample, group, truth, answer, words and tokens of every reply to one row."""
    replies, votes = row.replies, row.votes
    if replies is None or not len(replies):
        if not isinstance(row.reply, str):
            return []
        replies, votes = [row.reply], [row.prediction]
    if votes is None or len(votes) != len(replies):
        raise ConnectomeBenchError(f"sample {row.sample_id!r} has not one vote a reply; evaluate again")
    # a missing number of tokens is NaN and stays so
    tokens = float("nan") if row.tokens is None else float(row.tokens) / len(replies)
    return [
        (row.sample_id, row.group, row.answer, vote if isinstance(vote, str) else "", reply or "", tokens)
        for vote, reply in zip(votes, replies, strict=True)
    ]


def _uses(mentions: tuple[tuple[Mention, ...], ...], lexicon: Lexicon) -> NDArray[np.bool_]:
    """Return which reply mentions, affirms and denies which cue; bool, shape (uses, cues, replies)."""
    place = {cue.name: i for i, cue in enumerate(lexicon.cues)}
    uses = np.zeros((len(USES), len(place), len(mentions)), dtype=bool)
    for reply, found in enumerate(mentions):
        for mention in found:
            uses[USES.index("mentioned"), place[mention.cue], reply] = True
            if mention.reading != "named":
                uses[USES.index(mention.reading), place[mention.cue], reply] = True
    return uses
