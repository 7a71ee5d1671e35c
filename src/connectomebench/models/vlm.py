"""Vision-language models: score the allowed answers by likelihood, or generate a reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task, get_task
from connectomebench.models.answer_tokens import Tokens, answer_endings, forced_tokens
from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.chat import Conversation, Reply, Sampling
from connectomebench.models.chat_template import opens_thoughts
from connectomebench.models.images import decode
from connectomebench.models.prompt import messages


class VisionLanguageModel:
    """A transformers chat model with images; created by :func:`connectomebench.models.vlm_loading.load_vlm`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    model, processor
        The transformers model (or PEFT's wrapper) and its processor.
    batch_size
        Rows per batch. Answers depend on it only through rounding, which
        is coarse in bfloat16.
    can_score
        False for a model that thinks before it answers: its answers are generated, never scored.

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
        self.can_score = not opens_thoughts(processor)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row with the most probable label of its task; no text is generated.

        Parameters
        ----------
        batch
            Columns of stored rows; ``task``, ``question``, ``views`` and ``images`` are read.

        Raises
        ------
        ConnectomeBenchError
            If the answer to a task is a place, a row is damaged, or GPU memory runs out.
        """
        columns = {name: column(batch, name) for name in ("task", "question", "views", "images")}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        alike: dict[Task, list[int]] = {}
        for number, row in enumerate(rows):
            if not row["images"] or len(row["images"]) != len(row["views"]):
                counts = f"{len(row['images'])} images and {len(row['views'])} views"
                raise ConnectomeBenchError(f"a row of {row['task']} has {counts}; build the dataset again")
            alike.setdefault(get_task(row["task"]).for_views(row["views"]), []).append(number)
        answers: dict[int, Answer] = {}
        for task, numbers in alike.items():
            labels = task.labels
            if not labels:
                raise ConnectomeBenchError(
                    f"the answer to {task.name} is a place, which cannot be scored; use generated"
                )
            asked = [Conversation(messages(rows[number]), rows[number]["images"]) for number in numbers]
            for number, scores in zip(numbers, self.score(asked, labels), strict=True):
                answers[number] = Answer(max(scores, key=scores.__getitem__), scores)
        return [answers[number] for number in range(len(rows))]

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of each given answer as the next turn; no text is generated.

        The probability of a label is that of the reply ``<answer>label</answer>`` through the last token of the label
        (:func:`connectomebench.models.answer_tokens.answer_endings`), normalised over the labels. For all current
        tasks this takes one forward pass per conversation.

        Parameters
        ----------
        conversations
            Conversations so far; those with the same number of images are batched together.
        labels
            At least two answers.

        Returns
        -------
        list of dict
            Label -> probability, summing to 1, in the order of the conversations.

        Raises
        ------
        ConnectomeBenchError
            If the model thinks before it answers, or GPU memory runs out.
        """
        import torch

        if not self.can_score:
            raise ConnectomeBenchError(f"{self.name} thinks before it answers and cannot be scored; use generated")
        shared, endings = answer_endings(self.processor.tokenizer, labels)
        found: dict[int, dict[str, float]] = {}
        for numbers in _chunks(conversations, self.batch_size):
            inputs = self.tensors([conversations[number] for number in numbers])
            with torch.inference_mode(), _enough_memory(len(numbers)):
                scores = self.log_likelihoods(inputs, shared, endings)
            for number, row in zip(numbers, scores.softmax(-1).tolist(), strict=True):
                found[number] = dict(zip(labels, row, strict=True))
        return [found[number] for number in range(len(conversations))]

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Generate a reply to every conversation.

        Parameters
        ----------
        conversations
            Repeat an object to request several samples; each is seeded by the conversation's seed and its index, so
            that it depends neither on other conversations nor on `batch_size`. Those with the same number of images
            are batched together.
        sampling
            Sampling parameters; greedy replies to one conversation are all the same.

        Raises
        ------
        ConnectomeBenchError
            If an image is damaged or GPU memory runs out.
        """
        draws = Counter[int]()
        wanted: dict[tuple[int, int], list[int]] = {}
        for number, conversation in enumerate(conversations):
            draw = draws[id(conversation)] if sampling.temperature else 0
            draws[id(conversation)] += 1
            wanted.setdefault((id(conversation), draw), []).append(number)
        numbers = list(wanted.values())
        drawn = [(conversations[own[0]], draw) for own, (_, draw) in zip(numbers, wanted, strict=True)]
        replies: dict[int, Reply] = {}
        for chunk in _chunks([conversation for conversation, _ in drawn], self.batch_size):
            for place, written in zip(chunk, self._written([drawn[n] for n in chunk], sampling), strict=True):
                replies |= dict.fromkeys(numbers[place], written)
        return [replies[number] for number in range(len(conversations))]

    def _written(self, drawn: Sequence[tuple[Conversation, int]], sampling: Sampling) -> list[Reply]:
        """Generate one reply per (conversation, sample index); all have the same number of images."""
        import torch
        from transformers import LogitsProcessorList

        inputs = self.tensors([conversation for conversation, _ in drawn])
        noise = LogitsProcessorList()
        if sampling.temperature:
            seeds = [conversation.seed * 1_000_003 + draw for conversation, draw in drawn]
            noise.append(_Noise(sampling.temperature, seeds))
        with torch.inference_mode(), _enough_memory(len(drawn)):
            tokens = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=sampling.max_new_tokens, logits_processor=noise
            )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(new, skip_special_tokens=True)
        ends = torch.isin(new, torch.tensor(self._end_tokens(), dtype=new.dtype, device=new.device)).int()
        written = (ends.cumsum(-1) - ends == 0).sum(-1).tolist()
        ended = ends.any(-1).tolist()
        read = inputs["attention_mask"].sum(-1).tolist()
        return [
            Reply(text, prompt_tokens=before, tokens=after, whole=whole)
            for text, before, after, whole in zip(texts, read, written, ended, strict=True)
        ]

    def _end_tokens(self) -> list[int]:
        end = self.model.generation_config.eos_token_id
        return [] if end is None else [end] if isinstance(end, int) else list(end)

    def tensors(self, conversations: Sequence[Conversation]) -> Any:
        """Tokenise conversations with equally many images, up to the reply; shorter ones are padded on the left."""
        texts = [
            self.processor.apply_chat_template(list(one.messages), tokenize=False, add_generation_prompt=True)
            for one in conversations
        ]
        # a conversation without images needs None
        images = [[decode(image) for image in one.images] for one in conversations] if conversations[0].images else None
        inputs = self.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        return inputs.to(device=self.model.device, dtype=self.model.dtype)

    def log_likelihoods(self, inputs: Any, shared: Tokens, endings: Sequence[Tokens]) -> Any:
        """Return the log-likelihood of each ending after the shared tokens, with gradients where they are enabled.

        Parameters
        ----------
        inputs
            From :meth:`tensors`.
        shared, endings
            From :func:`connectomebench.models.answer_tokens.answer_endings`.

        Returns
        -------
        torch.Tensor
            Shape (conversations, endings), float64, on the CPU.
        """
        import torch

        scores = torch.zeros(len(inputs["input_ids"]), len(endings), dtype=torch.float64)
        for forced in forced_tokens(endings):
            logits = self.model(
                **_continued(inputs, (*shared, *forced)), logits_to_keep=len(forced) + 1, use_cache=False
            ).logits
            likelihoods = logits.float().log_softmax(-1)
            for label, ending in enumerate(endings):
                if ending[:-1] == forced[: len(ending) - 1]:
                    places = range(len(ending))
                    scores[:, label] = likelihoods[:, places, ending].double().sum(-1).cpu()
        return scores


class _Noise:
    """Turn greedy decoding into sampling: the largest of logits / temperature + Gumbel noise.

    This samples from their softmax (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030), with one generator per
    row of the batch, so that a sample depends neither on other rows nor on the device.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        import torch

        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        uniform = torch.stack([torch.rand(scores.shape[-1], generator=one) for one in self._generators])
        return scores.float() / self._temperature - (-uniform.to(scores.device).log()).log()


def _chunks(conversations: Sequence[Conversation], size: int) -> Iterator[list[int]]:
    """Yield the indices of conversations per batch: those with the same number of images."""
    alike: dict[int, list[int]] = {}
    for number, conversation in enumerate(conversations):
        alike.setdefault(len(conversation.images), []).append(number)
    for group in alike.values():
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _continued(inputs: Any, tokens: Tokens) -> dict[str, Any]:
    """Append the same text tokens to every prompt of a batch."""
    import torch

    prompts = inputs["input_ids"]
    continued = dict(inputs)
    for name, values in inputs.items():
        if values.shape != prompts.shape:
            continue
        # besides the tokens there are the mask and, in some models, token types, of which 0 is text
        more = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}.get(name, [0] * len(tokens))
        added = torch.tensor(more, dtype=values.dtype, device=values.device).expand(len(prompts), -1)
        continued[name] = torch.cat([values, added], dim=1)
    return continued


@contextmanager
def _enough_memory(rows: int) -> Iterator[None]:
    """Convert a GPU out-of-memory error to a one-line error."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise ConnectomeBenchError(
            f"{rows} rows at a time do not fit in GPU memory; lower batch_size, or use smaller images"
        ) from None
