"""Local language models on vLLM instead of transformers: much faster on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.chat import Conversation, Reply, Sampling
from connectomebench.models.chat_template import opens_thoughts
from connectomebench.models.endpoint_requests import chat_messages
from connectomebench.models.model_files import (
    ADAPTER_CONFIG,
    ModelFiles,
    adapter_revision,
    open_files,
    read_json,
    reason_of,
)
from connectomebench.models.prompt import PROMPT_VERSION
from connectomebench.models.vllm_scoring import VllmHead, forced_scores, head_overrides
from connectomebench.models.vlm_loading import (
    check_base,
    check_weight_files,
    find_base,
    load_processor,
    processor_files,
)

MOST_IMAGES = 64
"""Maximum number of images per conversation, including those of examples."""
MOST_TOKENS = 32_768
"""Context length, including images and reply; the 256,000 of Qwen3-VL would not fit most GPUs."""


class VllmModel:
    """A :class:`connectomebench.models.chat.ChatModel` on vLLM; created by :func:`open_vllm`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`. The revision includes the vLLM version: its kernels round
        differently from those of transformers, so replies may differ.

    Parameters
    ----------
    name, revision
        As above.
    engine
        ``vllm.LLM``.
    processor
        Of the model, for answers that are scored.
    adapter
        ``vllm.lora.request.LoRARequest`` of an adapter, or None.
    """

    scored_by_default = False
    """Answers are generated unless ``scored`` is asked for."""

    def __init__(self, name: str, revision: str, engine: Any, processor: Any, adapter: Any = None) -> None:
        self.name = name
        self.revision = revision
        self.can_score = not opens_thoughts(processor)
        self._engine = engine
        self._processor = processor
        self._adapter = adapter

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of each given answer as the next turn.

        Parameters
        ----------
        conversations, labels
            As for :meth:`connectomebench.models.vlm.VisionLanguageModel.score`.

        Raises
        ------
        ConnectomeBenchError
            If the model thinks before it answers, or vLLM fails.
        """
        if not self.can_score:
            raise ConnectomeBenchError(f"{self.name} thinks before it answers and cannot be scored; use generated")
        return forced_scores(self._engine, self._processor, conversations, labels, self._adapter)

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Reply to all conversations at once; vLLM does its own batching.

        Parameters
        ----------
        conversations
            Repeat an object to request several samples, which are computed together (``SamplingParams.n``).
        sampling
            Temperature and length; top-p, top-k and penalties of the model's ``generation_config.json`` are ignored.

        Raises
        ------
        ConnectomeBenchError
            If vLLM fails, for example on a prompt longer than its context.
        """
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        places: dict[int, list[int]] = {}
        for number, conversation in enumerate(conversations):
            places.setdefault(id(conversation), []).append(number)
        distinct = [conversations[numbers[0]] for numbers in places.values()]
        draws = [len(numbers) if sampling.temperature else 1 for numbers in places.values()]
        parameters = [
            SamplingParams(
                n=wanted,
                temperature=sampling.temperature,
                max_tokens=sampling.max_new_tokens,
                seed=conversation.seed,
                top_p=1.0,
            )
            for conversation, wanted in zip(distinct, draws, strict=True)
        ]
        try:
            outputs = self._engine.chat(
                [chat_messages(conversation) for conversation in distinct],
                parameters,
                use_tqdm=False,
                lora_request=self._adapter,
            )
        except Exception as error:  # of many kinds
            raise ConnectomeBenchError(f"vLLM cannot reply: {reason_of(error)}") from error
        replies: dict[int, Reply] = {}
        for numbers, output in zip(places.values(), outputs, strict=True):
            for draw, number in enumerate(numbers):
                written = output.outputs[draw % len(output.outputs)]
                replies[number] = Reply(
                    written.text,
                    prompt_tokens=len(output.prompt_token_ids or ()),
                    tokens=len(written.token_ids),
                    whole=written.finish_reason == "stop",
                )
        return [replies[number] for number in range(len(conversations))]


def open_vllm_head(name: str, revision: str | None = None, *, base: str | None = None) -> VllmHead:
    """Load a vision-language model into vLLM as a head that answers yes or no.

    Parameters
    ----------
    name, revision, base
        As for :func:`open_vllm`.

    Raises
    ------
    ConnectomeBenchError
        As for :func:`open_vllm`; also if the model is no dense Qwen3-VL, or thinks before it answers.
    """
    opened = _open(name, revision, base, runner="pooling", hf_overrides=head_overrides())
    key, engine, processor, adapter = opened
    if opens_thoughts(processor):
        raise ConnectomeBenchError(f"{key.name} thinks before it answers, so a head cannot answer; use --engine vllm")
    return VllmHead(key.name, f"{key.revision}+head", engine, processor, adapter)


def open_vllm(name: str, revision: str | None = None, *, base: str | None = None) -> VllmModel:
    """Load a vision-language model, or a LoRA adapter with its base, into vLLM.

    Parameters
    ----------
    name
        Folder, or ``ORG/NAME`` on the Hub.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    base
        Base of an adapter, a folder or ``ORG/NAME``; None takes the one the adapter names.

    Raises
    ------
    ConnectomeBenchError
        If vLLM is not installed or cannot load the model, files are missing or pickled, or adapter and base do
        not match.
    """
    key, engine, processor, adapter = _open(
        name, revision, base, logprobs_mode="raw_logprobs", enable_prefix_caching=True
    )
    return VllmModel(key.name, key.revision, engine, processor, adapter)


class _Key(NamedTuple):
    name: str
    revision: str


def _open(name: str, revision: str | None, base: str | None, **options: Any) -> tuple[_Key, Any, Any, Any]:
    """Load a model and return its name and revision, the engine, the processor, and the request of its adapter."""
    try:
        import vllm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConnectomeBenchError(
            "vLLM is not installed; pip install vllm (Linux with a GPU), or use --engine transformers"
        ) from None

    source = open_files(name, revision)
    if not (source.folder / ADAPTER_CONFIG).exists():
        if base is not None:
            raise ConnectomeBenchError(f"{source.name} is a full model, not an adapter; leave out --base")
        check_weight_files(source)
        key = content_key(source.identity, PROMPT_VERSION)[:16]
        processor = load_processor(source)
        return _Key(source.name, _with_version(key, vllm)), _load(vllm, source, **options), processor, None
    from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

    foundation = find_base(source, base)
    check_base(source, foundation)
    key = adapter_revision(source.folder, foundation.identity)
    adapter_options = _adapter_options(source)
    processor = load_processor(processor_files(source, foundation))
    engine = _load(vllm, foundation, **adapter_options, **options)
    adapter = LoRARequest(source.name, 1, str(source.folder))
    return _Key(source.name, _with_version(key, vllm)), engine, processor, adapter


def _with_version(key: str, vllm: Any) -> str:
    return f"{key}+vllm{vllm.__version__}"


def _adapter_options(adapter: ModelFiles) -> dict[str, Any]:
    """Return the adapter options vLLM needs before it loads the base."""
    config = read_json(adapter.folder / ADAPTER_CONFIG)
    rank, targets = config.get("r"), config.get("target_modules")
    if not isinstance(rank, int) or rank < 1:
        raise ConnectomeBenchError(f"{ADAPTER_CONFIG} of {adapter.name} has no rank; fetch the adapter again")
    options: dict[str, Any] = {"enable_lora": True, "max_lora_rank": _allowed_rank(rank), "max_loras": 1}
    if "visual" in str(targets):
        # without it vLLM only warns and drops the adapter's vision-language connector (vllm#26674)
        options["enable_tower_connector_lora"] = True
    return options


def _allowed_rank(rank: int) -> int:
    """Round a rank up to one vLLM accepts: a power of two, at least 8."""
    return max(8, 1 << (rank - 1).bit_length())


def _load(vllm: Any, source: ModelFiles, **options: Any) -> Any:
    check_weight_files(source)
    config = read_json(source.folder / "config.json")
    text = config.get("text_config")
    most = text.get("max_position_embeddings") if isinstance(text, dict) else None
    try:
        return vllm.LLM(
            model=str(source.folder),
            trust_remote_code=False,
            load_format="safetensors",
            # the model's own sampling and repetition settings would change a greedy reply
            generation_config="vllm",
            max_model_len=min(MOST_TOKENS, most) if isinstance(most, int) else MOST_TOKENS,
            limit_mm_per_prompt={"image": MOST_IMAGES, "video": 0},
            seed=0,
            **options,
        )
    except Exception as error:  # of many kinds
        raise ConnectomeBenchError(f"vLLM cannot load {source.name}: {reason_of(error)}") from error
