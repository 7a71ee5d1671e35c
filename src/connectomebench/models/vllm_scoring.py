"""Probabilities of given answers from vLLM: forced tokens, or a head of two tokens.

Written for vLLM's documented interface (0.15 to 0.20: ``LLM.generate``, ``LLM.classify``, ``TokensPrompt``,
``SamplingParams.allowed_token_ids``); it has not been run on a GPU here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.answer_tokens import Tokens, answer_endings
from connectomebench.models.chat import Conversation, Reply, Sampling
from connectomebench.models.images import decode
from connectomebench.models.model_files import reason_of

HEAD_TOKENS = ("no", "yes")
"""Answers of a head, in the order of vLLM's ``classifier_from_token``."""


def head_overrides() -> dict[str, Any]:
    """Return vLLM's ``hf_overrides`` that turn Qwen3-VL into a head of two tokens.

    vLLM then keeps two rows of the output matrix, and gives sigmoid(logit of yes - logit of no) at the end of a prompt:
    the probability of yes among the two, from one pass over the prompt and without sampling.
    """
    return {
        "architectures": ["Qwen3VLForSequenceClassification"],
        "classifier_from_token": list(HEAD_TOKENS),
        "is_original_qwen3_reranker": True,
    }


def prompt_tokens(processor: Any, conversation: Conversation, begun: Tokens) -> dict[str, Any]:
    """Build vLLM's ``TokensPrompt`` of a conversation and the first tokens of its reply.

    Parameters
    ----------
    processor
        Of the model.
    conversation
        Every image has one placeholder token, which vLLM expands.
    begun
        Tokens of the reply so far, taken as they are.
    """
    text = processor.apply_chat_template(list(conversation.messages), tokenize=False, add_generation_prompt=True)
    tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt: dict[str, Any] = {"prompt_token_ids": [*tokens, *begun]}
    if conversation.images:
        prompt["multi_modal_data"] = {"image": [decode(image) for image in conversation.images]}
    return prompt


def forced_scores(
    engine: Any, processor: Any, conversations: Sequence[Conversation], labels: Sequence[str], adapter: Any = None
) -> list[dict[str, float]]:
    """Score answers by forcing their tokens one by one and reading the probability each had before it was forced.

    All requests of a conversation begin with the same prompt and images, which vLLM computes once and keeps (prefix
    caching); the requests that fill the cache run first.

    Parameters
    ----------
    engine
        ``vllm.LLM`` with ``logprobs_mode="raw_logprobs"``.
    processor
        Of the model.
    conversations
        Conversations so far.
    labels
        At least two answers.
    adapter
        ``vllm.lora.request.LoRARequest``, or None.

    Returns
    -------
    list of dict
        Label -> probability, as :meth:`connectomebench.models.vlm.VisionLanguageModel.score` gives it.

    Raises
    ------
    ConnectomeBenchError
        If vLLM fails or gives the probabilities of forced tokens after forcing.
    """
    shared, endings = answer_endings(processor.tokenizer, labels)
    steps = sorted({(ending[:n], ending[n]) for ending in endings for n in range(len(ending))})
    found: dict[tuple[int, Tokens, int], float] = {}
    for batch in (steps[:1], steps[1:]):
        asked = [(number, *step) for number in range(len(conversations)) for step in batch]
        if not asked:
            continue
        prompts = [prompt_tokens(processor, conversations[number], (*shared, *before)) for number, before, _ in asked]
        forced = [token for *_, token in asked]
        found |= dict(zip(asked, _log_probabilities(engine, prompts, forced, adapter), strict=True))
    scores = []
    for number in range(len(conversations)):
        logs = [sum(found[number, ending[:n], ending[n]] for n in range(len(ending))) for ending in endings]
        if all(log == 0 for log in logs):
            raise ConnectomeBenchError(
                "this version of vLLM gives probabilities after tokens were forced, so answers cannot be scored; use "
                "--engine transformers"
            )
        most = max(logs)
        weights = [math.exp(log - most) for log in logs]
        scores.append({label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)})
    return scores


def _log_probabilities(
    engine: Any, prompts: Sequence[dict[str, Any]], forced: Sequence[int], adapter: Any
) -> list[float]:
    """Return the log-probability of one token after each prompt."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    parameters = [
        SamplingParams(temperature=0.0, max_tokens=1, allowed_token_ids=[token], logprobs=1) for token in forced
    ]
    try:
        outputs = engine.generate(list(prompts), parameters, use_tqdm=False, lora_request=adapter)
        return [
            float(output.outputs[0].logprobs[0][token].logprob) for output, token in zip(outputs, forced, strict=True)
        ]
    except Exception as error:  # of many kinds
        raise ConnectomeBenchError(f"vLLM cannot score: {reason_of(error)}") from error


class VllmHead:
    """Qwen3-VL with a head of two tokens on vLLM; created by :func:`connectomebench.models.vllm_engine.open_vllm_head`.

    It answers yes or no with a probability, in the answer mode ``scored`` alone.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.

    Parameters
    ----------
    name, revision
        As above.
    engine
        ``vllm.LLM`` with ``runner="pooling"`` and :func:`head_overrides`.
    processor
        Of the model.
    adapter
        ``vllm.lora.request.LoRARequest``, or None.
    """

    def __init__(self, name: str, revision: str, engine: Any, processor: Any, adapter: Any = None) -> None:
        self.name = name
        self.revision = revision
        self._engine = engine
        self._processor = processor
        self._adapter = adapter

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Raise: a head generates no text."""
        raise ConnectomeBenchError(f"{self.name} has a head in place of text; use --answer scored, or --engine vllm")

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of yes and no as the next turn, one pass a conversation.

        Parameters
        ----------
        conversations
            Conversations so far.
        labels
            ``yes`` and ``no``, in any order.

        Raises
        ------
        ConnectomeBenchError
            If the labels are others, are not one token each after the same prefix, or vLLM fails.
        """
        tokenizer = self._processor.tokenizer
        if sorted(labels) != sorted(HEAD_TOKENS):
            raise ConnectomeBenchError(f"a head answers yes or no, not {', '.join(labels)}; use --engine vllm")
        shared, endings = answer_endings(tokenizer, HEAD_TOKENS)
        if endings != [(token,) for token in tokenizer.convert_tokens_to_ids(list(HEAD_TOKENS))]:
            raise ConnectomeBenchError(f"yes and no are no single tokens of {self.name}; use --engine vllm")
        prompts = [prompt_tokens(self._processor, conversation, shared) for conversation in conversations]
        try:
            outputs = self._engine.classify(prompts, use_tqdm=False, lora_request=self._adapter)
            found = [[float(value) for value in output.outputs.probs] for output in outputs]
        except Exception as error:  # of many kinds
            raise ConnectomeBenchError(f"vLLM cannot score: {reason_of(error)}") from error
        if any(len(probabilities) != 1 for probabilities in found):
            raise ConnectomeBenchError("vLLM did not build a head of two tokens; use --engine vllm")
        return [{label: yes if label == "yes" else 1 - yes for label in labels} for (yes,) in found]
