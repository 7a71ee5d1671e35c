"""Vision-language models: the allowed answers scored by their likelihood, or a reply in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from connectomebench.errors import ConnectomeBenchError
from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.images import decode
from connectomebench.models.prompt import ANSWER_CLOSE, ANSWER_OPEN, messages
from connectomebench.tasks import Task, get_task

Tokens = tuple[int, ...]


class VisionLanguageModel:
    """A chat model of transformers that takes images; :func:`connectomebench.models.vlm_loading.load_vlm` makes one.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    model, processor
        The model of transformers (or PEFT's wrapper of one) and its processor.
    batch_size
        Rows that are computed together. More take more memory. An answer does not depend on it beyond rounding, which
        is coarse in bfloat16.

    Parameters
    ----------
    name, revision, model, processor, batch_size
        As above.
    """

    def __init__(self, name: str, revision: str, model: Any, processor: Any, batch_size: int = 4) -> None:
        if batch_size < 1:
            raise ConnectomeBenchError(f"batch_size is {batch_size}; it must be at least 1")
        self.name = name
        self.revision = revision
        self.model = model.eval()
        self.processor = processor
        self.batch_size = batch_size

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row with the likeliest of its task's labels; nothing is generated.

        The probability of a label is that of the reply ``<answer>label</answer>``, cut after the token that tells it
        apart from all other labels, and normalised over the labels. Where the labels differ in their first token, as in
        all present tasks, that takes one forward pass a row.

        Parameters
        ----------
        batch
            Columns of stored rows; ``task``, ``question``, ``views`` and ``images`` are read.

        Raises
        ------
        ConnectomeBenchError
            If the answer to a task is a place, a row is damaged, or the memory of the GPU does not suffice.
        """
        answers: dict[int, Answer] = {}
        for task, numbers, rows in self._chunks(batch):
            if not task.labels:
                raise ConnectomeBenchError(
                    f"the answer to {task.name} is a place, which cannot be scored; have the reply generated"
                )
            for number, probabilities in zip(numbers, self._probabilities(task, rows), strict=True):
                named = dict(zip(task.labels, probabilities, strict=True))
                answers[number] = Answer(max(named, key=named.__getitem__), named)
        return [answers[number] for number in sorted(answers)]

    def generate(self, batch: Batch, max_new_tokens: int = 512) -> list[str]:
        """Return the model's greedy reply to every row.

        Parameters
        ----------
        batch
            As for :meth:`predict`; the answer may be a place.
        max_new_tokens
            Where a reply is cut off.

        Raises
        ------
        ConnectomeBenchError
            As for :meth:`predict`.
        """
        import torch

        replies: dict[int, str] = {}
        for _, numbers, rows in self._chunks(batch):
            inputs = self._inputs(rows)
            with torch.inference_mode(), _enough_memory(len(rows)):
                tokens = self.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
            new = tokens[:, inputs["input_ids"].shape[1] :]
            replies.update(zip(numbers, self.processor.batch_decode(new, skip_special_tokens=True), strict=True))
        return [replies[number] for number in sorted(replies)]

    def _chunks(self, batch: Batch) -> Iterator[tuple[Task, list[int], list[dict[str, Any]]]]:
        """Yield rows of one task and number of images that are computed together, with their places in the batch."""
        columns = {name: column(batch, name) for name in ("task", "question", "views", "images")}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        alike: dict[tuple[str, int], list[int]] = {}
        for number, row in enumerate(rows):
            if not row["images"] or len(row["images"]) != len(row["views"]):
                counts = f"{len(row['images'])} images and {len(row['views'])} views"
                raise ConnectomeBenchError(f"a row of {row['task']} has {counts}; build the dataset again")
            alike.setdefault((row["task"], len(row["images"])), []).append(number)
        for (task, _), numbers in alike.items():
            for start in range(0, len(numbers), self.batch_size):
                chunk = numbers[start : start + self.batch_size]
                yield get_task(task), chunk, [rows[number] for number in chunk]

    def _inputs(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Make the tensors of prompts up to where the reply begins; shorter ones are padded on the left."""
        texts = [
            self.processor.apply_chat_template(messages(row), tokenize=False, add_generation_prompt=True)
            for row in rows
        ]
        images = [[decode(image) for image in row["images"]] for row in rows]
        inputs = self.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        return inputs.to(device=self.model.device, dtype=self.model.dtype)

    def _probabilities(self, task: Task, rows: Sequence[dict[str, Any]]) -> list[list[float]]:
        """Return the probabilities of a task's labels, shape (rows, labels)."""
        import torch

        replies = [f"{ANSWER_OPEN}{label}{ANSWER_CLOSE}" for label in task.labels]
        shared, endings = distinct_endings(
            [tuple(self.processor.tokenizer(reply, add_special_tokens=False)["input_ids"]) for reply in replies]
        )
        inputs = self._inputs(rows)
        scores = torch.zeros(len(rows), len(endings), dtype=torch.float64)
        for forced in forced_tokens(endings):
            with torch.inference_mode(), _enough_memory(len(rows)):
                logits = self.model(
                    **_continued(inputs, (*shared, *forced)), logits_to_keep=len(forced) + 1, use_cache=False
                ).logits
                likelihoods = logits.float().log_softmax(-1)
            for label, ending in enumerate(endings):
                if ending[:-1] == forced[: len(ending) - 1]:
                    places = range(len(ending))
                    scores[:, label] = likelihoods[:, places, ending].double().sum(-1).cpu()
        return scores.softmax(-1).tolist()


def distinct_endings(replies: Sequence[Tokens]) -> tuple[Tokens, list[Tokens]]:
    """Cut replies down to what tells them apart.

    Parameters
    ----------
    replies
        Tokens of at least two replies, none the beginning of another.

    Returns
    -------
    tuple, list of tuple
        The tokens that all begin with; and of each reply what follows, up to its first token that no other one shares.
    """
    shared = max(n for n in range(min(map(len, replies)) + 1) if len({reply[:n] for reply in replies}) == 1)
    endings = []
    for number, reply in enumerate(replies):
        others = [other for k, other in enumerate(replies) if k != number]
        length = next(n for n in range(shared + 1, len(reply) + 1) if all(reply[:n] != other[:n] for other in others))
        endings.append(reply[shared:length])
    return replies[0][:shared], endings


def forced_tokens(endings: Sequence[Tokens]) -> list[Tokens]:
    """Return the fewest sequences to force upon the model so that every token of every ending is scored."""
    needed = {ending[:-1] for ending in endings}
    return sorted(one for one in needed if not any(one != other and other[: len(one)] == one for other in needed))


def _continued(inputs: Any, tokens: Tokens) -> dict[str, Any]:
    """Put the same tokens of text behind every prompt of a batch."""
    import torch

    prompts = inputs["input_ids"]
    continued = dict(inputs)
    for name, values in inputs.items():
        if values.shape != prompts.shape:
            continue
        # besides the tokens there are the mask and, in some models, the kinds of tokens, of which 0 is text
        more = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}.get(name, [0] * len(tokens))
        added = torch.tensor(more, dtype=values.dtype, device=values.device).expand(len(prompts), -1)
        continued[name] = torch.cat([values, added], dim=1)
    return continued


@contextmanager
def _enough_memory(rows: int) -> Iterator[None]:
    """Tell in one line what to do where the memory of the GPU does not suffice."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise ConnectomeBenchError(
            f"{rows} rows at a time do not fit the memory of the GPU; lower batch_size, or take smaller images"
        ) from None
