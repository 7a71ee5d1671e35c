"""Adapter that makes a chat model answer rows: scored, generated, by votes, or with a stated confidence."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import read_places
from connectomebench.core.tasks import Task, get_task
from connectomebench.evaluation.answer_from_analysis import derived_answer
from connectomebench.evaluation.answer_mode import AnswerMode, can_score
from connectomebench.evaluation.prompt_variants import DEFAULT_VARIANT, PromptVariant, build_messages
from connectomebench.models.base import Answer, Batch
from connectomebench.models.chat import ChatModel, Conversation, Reply
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.images import decode
from connectomebench.models.reply_parsing import parse_answer

__all__ = ["AnswerMode", "ChatModelAdapter", "ScoringModel", "majority"]

_NO_PLACES = {
    "scored": "cannot be scored; use generated",
    "confidence": "has a distance rather than right or wrong; use generated, without a confidence",
}
_NEEDED = ("task", "question", "views", "images")


class ScoringModel(ChatModel, Protocol):
    """A chat model that can also score given answers."""

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """See :meth:`connectomebench.models.vlm.VisionLanguageModel.score`."""
        ...


class ChatModelAdapter:
    """A chat model wrapped as a :class:`connectomebench.models.base.Model`.

    Attributes
    ----------
    name, revision
        Those of the chat model. Answer mode and prompt variant are not included: the condition of the records names
        them, and every record holds the full prompt text.

    Parameters
    ----------
    model
        The chat model.
    answer_mode
        How it answers.
    prompt_variant
        How the question is worded.
    examples
        From :func:`connectomebench.evaluation.prompt_variants.draw_examples`; as many as the variant has shots.

    Raises
    ------
    ConnectomeBenchError
        If model, answer mode, prompt variant and examples are incompatible.
    """

    def __init__(
        self,
        model: ChatModel,
        answer_mode: AnswerMode,
        prompt_variant: PromptVariant = DEFAULT_VARIANT,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if answer_mode.kind == "scored" and not can_score(model):
            default = "thinks before it answers" if hasattr(model, "score") else "only generates text"
            why = getattr(model, "why_not_scored", default)
            raise ConnectomeBenchError(f"{model.name} {why} and cannot be scored; use generated")
        if answer_mode.kind == "scored" and prompt_variant.style == "analysis":
            raise ConnectomeBenchError("scored answers have no analysis; use generated, or the style answer_only")
        wanted = prompt_variant.shots if prompt_variant.adaptation == "few_shot" else 0
        if len(examples) != wanted:
            raise ConnectomeBenchError(f"the prompt variant takes {wanted} examples; {len(examples)} were given")
        self.name = model.name
        self.revision = model.revision
        self._model = model
        self._answer_mode = answer_mode
        self._prompt_variant = prompt_variant
        self._examples = tuple(examples)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row.

        Probabilities by mode: ``scored``, the probability of every label; ``generated``, none; ``votes``, the share of
        each label among the parsed votes; ``confidence``, the stated one for the answer, the remainder shared by the
        other labels. `Answer.reply` is None for ``scored``; tasks that ask for places have no probabilities.

        Parameters
        ----------
        batch
            Columns of stored rows; ``task``, ``question``, ``views`` and ``images`` are read, and columns the prompt
            variant needs. `Answer.question` is the full prompt, with ``[image]`` for an image.

        Raises
        ------
        ConnectomeBenchError
            If a row does not fit the answer mode or prompt variant, or the model fails.
        """
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        for row in rows:
            _check(row, self._answer_mode)
        conversations = [self._conversation(row) for row in rows]
        tasks = [get_task(row["task"]).for_views(row["views"]) for row in rows]
        if self._answer_mode.kind == "scored":
            return self._scored(conversations, tasks)
        draws = self._answer_mode.votes
        replies = self._model.reply([one for one in conversations for _ in range(draws)], self._answer_mode.sampling)
        return [
            self._read(replies[draws * number : draws * (number + 1)], task, _question_text(conversations[number]))
            for number, task in enumerate(tasks)
        ]

    def _conversation(self, row: Mapping[str, Any]) -> Conversation:
        stated = self._answer_mode.kind == "confidence"
        written = build_messages(row, self._prompt_variant, self._examples, confidence=stated)
        images = [image for example in self._examples for image in example["images"]] + list(row["images"])
        seed = _seed(written, row["images"]) if self._answer_mode.temperature else 0
        return Conversation(written, images, seed)

    def _scored(self, conversations: Sequence[Conversation], tasks: Sequence[Task]) -> list[Answer]:
        model = cast(ScoringModel, self._model)
        by_task: dict[Task, list[int]] = {}
        for number, task in enumerate(tasks):
            by_task.setdefault(task, []).append(number)
        answers: dict[int, Answer] = {}
        for task, numbers in by_task.items():
            scores = model.score([conversations[number] for number in numbers], task.labels)
            for number, own in zip(numbers, scores, strict=True):
                answers[number] = Answer(
                    max(own, key=own.__getitem__), own, question=_question_text(conversations[number])
                )
        return [answers[number] for number in range(len(conversations))]

    def _read(self, replies: Sequence[Reply], task: Task, question: str) -> Answer:
        """Parse the replies to one row into its answer."""
        votes = [parse_answer(reply.text, task) if reply.whole else None for reply in replies]
        prediction, chosen = majority(votes, task)
        text, whole = replies[chosen].text, replies[chosen].whole
        probabilities: dict[str, float] = {}
        if self._answer_mode.kind == "votes" and task.labels:
            probabilities = _shares(votes, task)
        elif self._answer_mode.kind == "confidence" and prediction is not None:
            probabilities = _stated(parse_confidence(text), prediction, task)
        several = len(replies) > 1
        return Answer(
            prediction,
            probabilities,
            question=question,
            reply=text,
            votes=tuple(votes) if several else (),
            replies=tuple(reply.text for reply in replies) if several else (),
            derived=derived_answer(text, task) if whole else None,
            prompt_tokens=_sum([reply.prompt_tokens for reply in replies]),
            tokens=_sum([reply.tokens for reply in replies]),
            cost_usd=_sum([reply.cost_usd for reply in replies]),
        )


def majority(votes: Sequence[str | None], task: Task) -> tuple[str | None, int]:
    """Return the majority answer and the index of the first vote for it.

    An answer wins only with more votes than there are unparsed replies. Ties go to the answer given first. Places are
    equal if they match to the nm, or are the same node; those of a cut may come in any order, and either side may be
    called the source. They are returned as first given.

    Parameters
    ----------
    votes
        At least one; None for an unparsed reply.
    task
        The task.

    Returns
    -------
    tuple
        Answer and index; None and 0 if no answer has enough votes.
    """
    keys = [vote if vote is None else _vote_key(vote, task) for vote in votes]
    counts = Counter(key for key in keys if key is not None)
    # a Counter keeps the order in which keys came, and most_common keeps it among equals
    for key, count in counts.most_common(1):
        if count > keys.count(None):
            return votes[keys.index(key)], keys.index(key)
    return None, 0


def _vote_key(answer: str, task: Task) -> str:
    places = read_places(answer) if task.answer_kind == "points" else None
    if places is None:
        return answer
    sides = sorted((sorted(side, key=repr) for side in (places.sources, places.sinks)), key=repr)
    return repr(sides)


def _shares(votes: Sequence[str | None], task: Task) -> dict[str, float]:
    read = [vote for vote in votes if vote is not None]
    return {label: read.count(label) / len(read) for label in task.labels} if read else {}


def _stated(confidence: float | None, prediction: str, task: Task) -> dict[str, float]:
    if confidence is None:
        return {}
    rest = (1 - confidence) / (len(task.labels) - 1)
    return {label: confidence if label == prediction else rest for label in task.labels}


def _sum(numbers: Sequence[Any]) -> Any:
    """Sum; None if any is unknown."""
    return None if None in numbers else sum(numbers)


def _check(row: Mapping[str, Any], answer_mode: AnswerMode) -> None:
    """Raise if a row cannot be asked in this answer mode."""
    if missing := [name for name in _NEEDED if name not in row]:
        raise ConnectomeBenchError(f"rows have no column {missing[0]!r}; load the dataset without dropping that column")
    if not row["images"] or len(row["images"]) != len(row["views"]):
        counts = f"{len(row['images'])} images and {len(row['views'])} views"
        raise ConnectomeBenchError(f"a row of {row['task']} has {counts}; build the dataset again")
    if not get_task(row["task"]).labels and answer_mode.kind in _NO_PLACES:
        raise ConnectomeBenchError(f"the answer to {row['task']} is a place, which {_NO_PLACES[answer_mode.kind]}")


def _question_text(conversation: Conversation) -> str:
    parts = (part for turn in conversation.messages for part in turn["content"])
    return "\n".join(part["text"] if part["type"] == "text" else "[image]" for part in parts)


def _seed(written: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> int:
    """Derive the seed from prompt and images only, so that it leaks nothing else about the row."""
    seed = zlib.crc32(repr(written).encode())
    for image in images:
        seed = zlib.crc32(decode(image).tobytes(), seed)
    return seed
