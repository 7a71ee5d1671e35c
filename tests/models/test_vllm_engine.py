"""Replies through vLLM's documented interface, with a stand-in of the same signatures; the package needs a GPU."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from stored_rows import row
from tiny_qwen3_vl import edit_json, make_tiny_adapter

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.evaluation.evaluator import model_defaults
from connectomebench.evaluation.model_spec import LoadedModel, ModelSpec, load_model_spec
from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint_requests import chat_messages
from connectomebench.models.prompt import messages
from connectomebench.models.vllm_engine import MOST_TOKENS, open_vllm, open_vllm_head
from connectomebench.models.vllm_scoring import VllmHead
from connectomebench.models.vlm_loading import load_vlm


@dataclass(frozen=True)
class SamplingParams:
    """The fields of vLLM's that are used, with its checks (``allowed_token_ids``, ``logprobs``: vLLM 0.8 and later)."""

    n: int = 1
    temperature: float = 1.0
    max_tokens: int | None = 16
    seed: int | None = None
    top_p: float = 1.0
    allowed_token_ids: list[int] | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n > 1:
            raise ValueError("n must be 1 when using greedy sampling")


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass(frozen=True)
class CompletionOutput:
    text: str
    token_ids: list[int]
    finish_reason: str = "stop"


@dataclass(frozen=True)
class RequestOutput:
    prompt_token_ids: list[int] | None
    outputs: list[CompletionOutput]


@dataclass
class LLM:
    """Takes what ``vllm.LLM`` does, and says what it was asked in place of a reply."""

    model: str
    trust_remote_code: bool = False
    load_format: str = "auto"
    generation_config: str = "auto"
    max_model_len: int | None = None
    limit_mm_per_prompt: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    enable_lora: bool = False
    max_lora_rank: int = 16
    max_loras: int = 1
    enable_tower_connector_lora: bool = False
    runner: str = "auto"
    hf_overrides: dict[str, Any] = field(default_factory=dict)
    logprobs_mode: str = "raw_logprobs"
    enable_prefix_caching: bool | None = None

    def __post_init__(self) -> None:
        self.asked: list[Any] = []
        loaded.append(self)

    def chat(
        self,
        messages: list[list[dict[str, Any]]],
        sampling_params: list[SamplingParams],
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        assert len(messages) == len(sampling_params) and not use_tqdm
        assert lora_request is None or self.enable_lora
        self.asked.append((messages, sampling_params, lora_request))
        if any("break" in str(turns) for turns in messages):
            raise RuntimeError("CUDA error: out of memory\nmore")
        return [
            RequestOutput(
                list(range(len(turns[0]["content"]))),
                [
                    CompletionOutput(f"{text}/{k}", [1] * (k + 2), "length" if "long" in text else "stop")
                    for k in range(params.n)
                ],
            )
            for turns, params in zip(messages, sampling_params, strict=True)
            for text in [turns[0]["content"][-1]["text"]]
        ]

    # what follows computes with the tiny model itself, through transformers

    def _logits(self, prompt: dict[str, Any]) -> torch.Tensor:
        """Logits after a ``TokensPrompt``, whose images have one placeholder each."""
        if not hasattr(self, "_vlm"):
            self._vlm = load_vlm(self.model, device="cpu")
        assert set(prompt) <= {"prompt_token_ids", "multi_modal_data"}
        processor = self._vlm.processor
        text = processor.tokenizer.decode(prompt["prompt_token_ids"])
        images = prompt.get("multi_modal_data", {"image": []})["image"]
        assert text.count(processor.image_token) == len(images)
        inputs = processor(text=[text], images=[images] if images else None, return_tensors="pt")
        with torch.inference_mode():
            return self._vlm.model(**inputs, logits_to_keep=1).logits[0, -1].double()

    def generate(
        self,
        prompts: list[dict[str, Any]],
        sampling_params: list[SamplingParams],
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[SimpleNamespace]:
        assert len(prompts) == len(sampling_params)
        assert not use_tqdm
        assert self.runner == "auto"
        self.asked.append((prompts, sampling_params, lora_request))
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            assert (params.n, params.temperature, params.max_tokens, params.logprobs) == (1, 0.0, 1, 1)
            logits = self._logits(prompt)
            (forced,) = params.allowed_token_ids or ()
            if self.logprobs_mode == "processed_logprobs":
                logits = torch.where(torch.arange(len(logits)) == forced, logits, -torch.inf)
            logs = logits.log_softmax(-1)
            best = int(logs.argmax())
            entries = {token: SimpleNamespace(logprob=float(logs[token])) for token in (best, forced)}
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=[forced], logprobs=[entries])]))
        return outputs

    def classify(
        self, prompts: list[dict[str, Any]], *, use_tqdm: bool = True, lora_request: LoRARequest | None = None
    ) -> list[SimpleNamespace]:
        assert self.runner == "pooling"
        assert not use_tqdm
        assert self.hf_overrides["architectures"] == ["Qwen3VLForSequenceClassification"]
        assert self.hf_overrides["is_original_qwen3_reranker"]
        self.asked.append((prompts, None, lora_request))
        outputs = []
        for prompt in prompts:
            logits = self._logits(prompt)
            no, yes = self._vlm.processor.tokenizer.convert_tokens_to_ids(self.hf_overrides["classifier_from_token"])
            outputs.append(
                SimpleNamespace(outputs=SimpleNamespace(probs=[float((logits[yes] - logits[no]).sigmoid())]))
            )
        return outputs


loaded: list[LLM] = []


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loaded.clear()
    module, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vars(module).update(LLM=LLM, SamplingParams=SamplingParams, __version__="0.99.0")
    vars(request).update(LoRARequest=LoRARequest)
    for name, one in {"vllm": module, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, one)
    return module


def talk(text: str, seed: int = 0) -> Conversation:
    return Conversation([{"role": "user", "content": [{"type": "text", "text": text}]}], [], seed)


def test_pictures_and_sampling_reach_the_engine(vllm: ModuleType, tiny_vlm: Path) -> None:
    stored = row(1, "yes")
    shown = Conversation(messages(stored), stored["images"])
    model = open_vllm(str(tiny_vlm))
    (reply,) = model.reply([shown], Sampling(max_new_tokens=32))
    (engine,) = loaded
    assert (engine.model, engine.generation_config, engine.load_format) == (str(tiny_vlm), "vllm", "safetensors")
    assert engine.max_model_len == MOST_TOKENS and not engine.enable_lora and not engine.trust_remote_code
    assert engine.asked == [([chat_messages(shown)], [SamplingParams(1, 0.0, 32, 0)], None)]
    assert (reply.prompt_tokens, reply.tokens, reply.cost_usd) == (len(shown.messages[0]["content"]), 2, None)
    assert reply.text.endswith("/0")


def test_a_reply_that_was_cut_is_not_whole(vllm: ModuleType, tiny_vlm: Path) -> None:
    replies = open_vllm(str(tiny_vlm)).reply([talk("long"), talk("short")], Sampling())
    assert [reply.whole for reply in replies] == [False, True]


def test_draws_of_a_conversation_are_computed_together_and_told_apart(vllm: ModuleType, tiny_vlm: Path) -> None:
    first, second = talk("a", 7), talk("b", 8)
    model = open_vllm(str(tiny_vlm))
    replies = model.reply([first, second, first, first], Sampling(0.7, 32))
    assert [reply.text for reply in replies] == ["a/0", "b/0", "a/1", "a/2"]
    assert [reply.tokens for reply in replies] == [2, 2, 3, 4]
    (_, parameters, _) = loaded[0].asked[0]
    assert parameters == [SamplingParams(3, 0.7, 32, 7), SamplingParams(1, 0.7, 32, 8)]
    greedy = model.reply([first, second, first], Sampling())
    assert [reply.text for reply in greedy] == ["a/0", "b/0", "a/0"]


def test_an_adapter_goes_with_every_request(vllm: ModuleType, tiny_vlm: Path, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tiny_vlm, tmp_path / "adapter")
    edit_json(adapter / "adapter_config.json", r=24)
    model = open_vllm(str(adapter), base=str(tiny_vlm))
    model.reply([talk("a")], Sampling())
    (engine,) = loaded
    assert (engine.model, engine.max_lora_rank, engine.enable_tower_connector_lora) == (str(tiny_vlm), 32, True)
    assert engine.asked[0][2] == LoRARequest("adapter", 1, str(adapter))
    plain = open_vllm(str(tiny_vlm))
    assert model.name == "adapter" and plain.name == tiny_vlm.name and model.revision != plain.revision
    vllm.__version__ = "1.0"  # type: ignore[attr-defined]
    assert open_vllm(str(tiny_vlm)).revision == plain.revision.replace("0.99.0", "1.0")


def test_an_adapter_of_the_language_part_alone(vllm: ModuleType, tiny_vlm: Path, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tiny_vlm, tmp_path / "adapter")
    edit_json(adapter / "adapter_config.json", target_modules=["q_proj"])
    open_vllm(str(adapter), base=str(tiny_vlm))
    assert (loaded[0].max_lora_rank, loaded[0].enable_tower_connector_lora) == (8, False)


def test_what_it_refuses_before_anything_is_loaded(vllm: ModuleType, tiny_vlm: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="full model, not an adapter"):
        open_vllm(str(tiny_vlm), base=str(tiny_vlm))
    adapter = make_tiny_adapter(tiny_vlm, tmp_path / "adapter")
    edit_json(adapter / "adapter_config.json", r="16")
    with pytest.raises(ConnectomeBenchError, match="has no rank"):
        open_vllm(str(adapter), base=str(tiny_vlm))
    edit_json(adapter / "adapter_config.json", peft_type="IA3")
    with pytest.raises(ConnectomeBenchError, match="not a plain LoRA adapter"):
        open_vllm(str(adapter), base=str(tiny_vlm))
    assert loaded == []


def shown(task: str, number: int) -> Conversation:
    stored = row(number, get_task(task).labels[0], task)
    return Conversation(messages(stored), stored["images"])


@pytest.mark.parametrize("task", ["merge_action", "merge_action_multiple_choice"])
def test_scores_are_those_of_transformers_and_share_their_prompt(vllm: ModuleType, tiny_vlm: Path, task: str) -> None:
    labels = get_task(task).labels
    model = open_vllm(str(tiny_vlm))
    talks = [shown(task, 1), shown(task, 2)]
    scores = model.score(talks, labels)
    expected = load_vlm(tiny_vlm, device="cpu").score(talks, labels)
    for own, other in zip(scores, expected, strict=True):
        assert own == pytest.approx(other, abs=1e-4)
        assert sum(own.values()) == pytest.approx(1)
    (engine,) = loaded
    assert (engine.logprobs_mode, engine.enable_prefix_caching) == ("raw_logprobs", True)
    (first, *_), (rest, *_) = engine.asked
    # the first request of each row fills the cache, and the others go on from its prompt
    assert len(first) == len(talks)
    tokens = [prompt["prompt_token_ids"] for prompt in first]
    for prompt in rest:
        assert any(prompt["prompt_token_ids"][: len(own)] == own for own in tokens)
    # yes and no; or >a, >b, >c, >d, > and none
    assert len(first) + len(rest) == len(talks) * {"merge_action": 2, "merge_action_multiple_choice": 6}[task]
    assert model_defaults(LoadedModel(model, None, model.name))[0] == AnswerMode("generated")
    adapted = ChatModelAdapter(model, AnswerMode("scored")).predict(
        {name: [value] for name, value in row(1, labels[0], task).items()}
    )
    assert adapted[0].probabilities == pytest.approx(scores[0])


def test_probabilities_after_forcing_are_refused(
    vllm: ModuleType, tiny_vlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_vllm(str(tiny_vlm))
    loaded[0].logprobs_mode = "processed_logprobs"
    with pytest.raises(ConnectomeBenchError, match=r"after tokens were forced.*--engine transformers"):
        model.score([talk("a")], ("no", "yes"))
    monkeypatch.setattr(LLM, "generate", lambda *_, **__: [SimpleNamespace(outputs=[])])
    with pytest.raises(ConnectomeBenchError, match="vLLM cannot score"):
        model.score([talk("a")], ("no", "yes"))


def test_a_head_of_two_tokens_gives_the_scores_of_yes_and_no_in_one_pass(
    vllm: ModuleType, tiny_vlm: Path, tmp_path: Path
) -> None:
    head = load_model_spec(ModelSpec(str(tiny_vlm), engine="vllm-head"))
    assert isinstance(head.model, VllmHead)
    assert model_defaults(head)[0] == AnswerMode("scored")
    talks = [shown("merge_action", 1), shown("split_action", 2), talk("Yes or no?")]
    scores = head.model.score(talks, ("no", "yes"))
    for own, other in zip(scores, load_vlm(tiny_vlm, device="cpu").score(talks, ("no", "yes")), strict=True):
        assert own == pytest.approx(other, abs=1e-4)
    (engine,) = loaded
    assert engine.hf_overrides["classifier_from_token"] == ["no", "yes"]
    assert [len(prompts) for prompts, *_ in engine.asked] == [len(talks)]
    with pytest.raises(ConnectomeBenchError, match=r"answers yes or no, not a, b.*--engine vllm"):
        head.model.score(talks, ("a", "b"))
    with pytest.raises(ConnectomeBenchError, match="head in place of text"):
        head.model.reply(talks, Sampling())
    assert head.model.revision == f"{open_vllm(str(tiny_vlm)).revision}+head"
    adapter = make_tiny_adapter(tiny_vlm, tmp_path / "adapter")
    open_vllm_head(str(adapter), base=str(tiny_vlm)).score(talks[:1], ("yes", "no"))
    assert loaded[-1].asked[0][2] == LoRARequest("adapter", 1, str(adapter))


def test_failures_of_the_engine_are_one_line(vllm: ModuleType, tiny_vlm: Path) -> None:
    model = open_vllm(str(tiny_vlm))
    with pytest.raises(ConnectomeBenchError, match=r"^vLLM cannot reply: CUDA error: out of memory$"):
        model.reply([talk("break")], Sampling())

    class Broken:
        def __init__(self, **options: Any) -> None:
            raise ValueError("No supported device")

    vllm.LLM = Broken  # type: ignore[attr-defined]
    with pytest.raises(ConnectomeBenchError, match="vLLM cannot load tiny-vl: No supported device"):
        open_vllm(str(tiny_vlm))


def test_without_vllm(monkeypatch: pytest.MonkeyPatch, tiny_vlm: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConnectomeBenchError, match="pip install vllm"):
        open_vllm(str(tiny_vlm))
