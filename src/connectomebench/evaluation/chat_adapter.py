"""Any model that talks, made to answer rows: scored, in words, by votes, or with a stated confidence."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task, get_task
from connectomebench.evaluation.answer_from_analysis import derived_answer
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.prompt_variants import DEFAULT_VARIANT, PromptVariant, build_messages
from connectomebench.models.base import Answer, Batch
from connectomebench.models.chat import ChatModel, Conversation, Reply
from connectomebench.models.confidence import ask_confidence, parse_confidence
from connectomebench.models.images import decode
from connectomebench.models.prompt import parse_answer

__all__ = ["AnswerMode", "ChatModelAdapter", "ScoringModel", "majority"]

_PLACELESS = {
    "scored": "cannot be scored; have it generated",
    "confidence": "is nearer or farther rather than right or wrong; have it generated, without a confidence",
}
_NEEDED = ("task", "question", "views", "images")


class ScoringModel(ChatModel, Protocol):
    """A model that talks and tells how probable given answers are."""

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """See :meth:`connectomebench.models.vlm.VisionLanguageModel.score`."""
        ...


class ChatModelAdapter:
    """A :class:`connectomebench.models.base.Model` around a model that talks.

    Attributes
    ----------
    name, revision
        Those of the model. Way and wording are not in them: the condition of the records names these, and every record
        holds the text that was asked.

    Parameters
    ----------
    model
        Who replies.
    way
        How it is had to answer.
    wording
        What it is asked with.
    examples
        Of :func:`connectomebench.evaluation.prompt_variants.draw_examples`; as many as the wording has.

    Raises
    ------
    ConnectomeBenchError
        If model, way, wording and examples do not go together.
    """

    def __init__(
        self,
        model: ChatModel,
        way: AnswerMode,
        wording: PromptVariant = DEFAULT_VARIANT,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if way.kind == "scored" and not hasattr(model, "score"):
            raise ConnectomeBenchError(f"{model.name} replies in words alone and cannot be scored; have it generated")
        if way.kind == "scored" and wording.style == "analysis":
            raise ConnectomeBenchError(
                "scored answers have no analysis; have them generated, or ask for the answer alone"
            )
        wanted = wording.shots if wording.adaptation == "few_shot" else 0
        if len(examples) != wanted:
            raise ConnectomeBenchError(f"the wording has {wanted} examples, and {len(examples)} are given")
        self.name = model.name
        self.revision = model.revision
        self._model = model
        self._way = way
        self._wording = wording
        self._examples = tuple(examples)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row.

        ``scored``: the probability of every label; ``generated``: no probabilities; ``votes``: the share of each label
        among the votes that could be read; ``confidence``: the stated one for the answer, the rest shared by the other
        labels. `Answer.reply` is None where scored; where places are asked there are no probabilities.

        Parameters
        ----------
        batch
            Columns of stored rows; ``task``, ``question``, ``views`` and ``images`` are read, and what the wording
            needs. `Answer.question` is all that was asked, ``[image]`` for an image.

        Raises
        ------
        ConnectomeBenchError
            If a row does not go with way or wording, or the model cannot be asked.
        """
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        for row in rows:
            _check(row, self._way)
        asked = [self._conversation(row) for row in rows]
        tasks = [get_task(row["task"]) for row in rows]
        if self._way.kind == "scored":
            return self._scored(asked, tasks)
        draws = self._way.votes
        replies = self._model.reply([one for one in asked for _ in range(draws)], self._way.sampling)
        return [
            self._read(replies[draws * number : draws * (number + 1)], task, _text(asked[number]))
            for number, task in enumerate(tasks)
        ]

    def _conversation(self, row: Mapping[str, Any]) -> Conversation:
        written = build_messages(row, self._wording, self._examples)
        if self._way.kind == "confidence":
            written = ask_confidence(written)
        images = [image for example in self._examples for image in example["images"]] + list(row["images"])
        seed = _seed(written, row["images"]) if self._way.temperature else 0
        return Conversation(written, images, seed)

    def _scored(self, asked: Sequence[Conversation], tasks: Sequence[Task]) -> list[Answer]:
        model = cast(ScoringModel, self._model)
        alike: dict[str, list[int]] = {}
        for number, task in enumerate(tasks):
            alike.setdefault(task.name, []).append(number)
        answers: dict[int, Answer] = {}
        for name, numbers in alike.items():
            scores = model.score([asked[number] for number in numbers], get_task(name).labels)
            for number, own in zip(numbers, scores, strict=True):
                answers[number] = Answer(max(own, key=own.__getitem__), own, question=_text(asked[number]))
        return [answers[number] for number in range(len(asked))]

    def _read(self, replies: Sequence[Reply], task: Task, question: str) -> Answer:
        """Make the answer of one row from its replies."""
        votes = [parse_answer(reply.text, task) for reply in replies]
        prediction, chosen = majority(votes, task)
        text = replies[chosen].text
        probabilities: dict[str, float] = {}
        if self._way.kind == "votes" and task.labels:
            probabilities = _shares(votes, task)
        elif self._way.kind == "confidence" and prediction is not None:
            probabilities = _stated(parse_confidence(text), prediction, task)
        several = len(replies) > 1
        return Answer(
            prediction,
            probabilities,
            question=question,
            reply=text,
            votes=tuple(votes) if several else (),
            replies=tuple(reply.text for reply in replies) if several else (),
            derived=derived_answer(text, task),
            prompt_tokens=_sum([reply.prompt_tokens for reply in replies]),
            tokens=_sum([reply.tokens for reply in replies]),
            cost_usd=_sum([reply.cost_usd for reply in replies]),
        )


def majority(votes: Sequence[str | None], task: Task) -> tuple[str | None, int]:
    """Return the answer that most votes give, and the place of the first vote that gives it.

    Votes that could not be read stand together against every answer: one that does not have more votes than they are
    is no answer. Of several with the same number of votes the one that was given first wins. Places are the same where
    they are so to the nm; the two places of a cut may be in any order, and stand as they were given first.

    Parameters
    ----------
    votes
        At least one; None where there was no answer.
    task
        What was asked.

    Returns
    -------
    tuple
        None and 0 where no answer has enough votes.
    """
    keys = [vote if vote is None else _same(vote, task) for vote in votes]
    counts = Counter(key for key in keys if key is not None)
    # a Counter keeps the order in which keys came, and most_common keeps it among equals
    for key, count in counts.most_common(1):
        if count > keys.count(None):
            return votes[keys.index(key)], keys.index(key)
    return None, 0


def _same(answer: str, task: Task) -> str:
    return "; ".join(sorted(answer.split("; "))) if task.answer_kind == "points" else answer


def _shares(votes: Sequence[str | None], task: Task) -> dict[str, float]:
    read = [vote for vote in votes if vote is not None]
    return {label: read.count(label) / len(read) for label in task.labels} if read else {}


def _stated(confidence: float | None, prediction: str, task: Task) -> dict[str, float]:
    if confidence is None:
        return {}
    rest = (1 - confidence) / (len(task.labels) - 1)
    return {label: confidence if label == prediction else rest for label in task.labels}


def _sum(numbers: Sequence[Any]) -> Any:
    """Add up; None where one is not known."""
    return None if None in numbers else sum(numbers)


def _check(row: Mapping[str, Any], way: AnswerMode) -> None:
    """Refuse a row that cannot be asked in this way."""
    if missing := [name for name in _NEEDED if name not in row]:
        raise ConnectomeBenchError(f"rows have no column {missing[0]!r}; load the dataset without dropping that column")
    if not row["images"] or len(row["images"]) != len(row["views"]):
        counts = f"{len(row['images'])} images and {len(row['views'])} views"
        raise ConnectomeBenchError(f"a row of {row['task']} has {counts}; build the dataset again")
    if not get_task(row["task"]).labels and way.kind in _PLACELESS:
        raise ConnectomeBenchError(f"the answer to {row['task']} is a place, which {_PLACELESS[way.kind]}")


def _text(conversation: Conversation) -> str:
    parts = (part for turn in conversation.messages for part in turn["content"])
    return "\n".join(part["text"] if part["type"] == "text" else "[image]" for part in parts)


def _seed(written: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> int:
    """Make a seed of what is asked and shown, so that it tells nothing else about the row."""
    seed = zlib.crc32(repr(written).encode())
    for image in images:
        seed = zlib.crc32(decode(image).tobytes(), seed)
    return seed
