"""Templates that leave room for thoughts, from models as they are published, are refused for training and scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from stored_rows import row
from transformers import AutoProcessor

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.evaluation.evaluator import model_defaults
from connectomebench.evaluation.model_spec import LoadedModel
from connectomebench.finetuning.adapter import open_base
from connectomebench.finetuning.settings import AdapterConfig
from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.chat_template import check_trainable_template, opens_thoughts
from connectomebench.models.prompt import messages
from connectomebench.models.vlm_loading import load_vlm


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def template(name: str) -> str:
    """A chat template as published with its model, from TRL's collection."""
    found = find_spec("trl")  # which takes more than a second to import
    assert found is not None and found.origin is not None
    return (Path(found.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


# the end of the template of Qwen3-VL-Thinking
OPENS = "{{- '<|im_start|>assistant\\n' }}", "{{- '<|im_start|>assistant\\n<think>\\n' }}"
# as of hybrid models, which write empty thoughts before a reply of their own
WRITES = "{{ part.text }}", "{{ '<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' }}{{ part.text }}"


def thinking(folder: Path) -> Path:
    text = template("qwen3_vl")
    assert OPENS[0] in text
    (folder / "chat_template.jinja").write_text(text.replace(*OPENS), encoding="utf-8")
    return folder


@pytest.fixture
def processor(tiny_vlm: Path) -> Any:
    return AutoProcessor.from_pretrained(tiny_vlm)


def test_templates_of_instruct_models_put_the_reply_right_after_the_prompt(processor: Any) -> None:
    for text in (processor.chat_template, template("qwen3_vl"), template("qwen2_5_vl")):
        processor.chat_template = text
        assert not opens_thoughts(processor)
        check_trainable_template(processor, "tiny")


@pytest.mark.parametrize(
    "text",
    [
        template("qwen3_5_think"),
        template("qwen3_vl").replace(*OPENS),
    ],
    ids=["qwen3_5_think", "qwen3_vl_thinking"],
)
def test_templates_that_open_thoughts_are_found(processor: Any, text: str) -> None:
    processor.chat_template = text
    assert opens_thoughts(processor)
    with pytest.raises(ConnectomeBenchError, match="opens <think> before a reply"):
        check_trainable_template(processor, "tiny")


def test_empty_thoughts_before_a_reply_and_other_words_are_found(processor: Any) -> None:
    plain = processor.chat_template
    processor.chat_template = plain.replace(*WRITES)
    assert opens_thoughts(processor)
    processor.chat_template = plain.replace(
        "{{ part.text }}", "{{ 'Sure: ' if message.role == 'assistant' }}{{ part.text }}"
    )
    assert not opens_thoughts(processor)
    with pytest.raises(ConnectomeBenchError, match="right after the prompt"):
        check_trainable_template(processor, "tiny")


def test_a_model_that_thinks_generates_by_default_and_is_neither_scored_nor_trained(
    tiny_vlm: Path, tmp_path: Path
) -> None:
    folder = thinking(Path(shutil.copytree(tiny_vlm, tmp_path / "tiny-thinking")))
    model = load_vlm(folder, device="cpu")
    one = row(1, "yes")
    asked = Conversation(messages(one), one["images"])
    assert model_defaults(LoadedModel(model, None, model.name))[0] == AnswerMode("generated")
    (reply,) = model.reply([asked], Sampling(max_new_tokens=2))
    assert reply.tokens == 2
    with pytest.raises(ConnectomeBenchError, match="tiny-thinking thinks before it answers and cannot be scored"):
        model.score([asked], ("no", "yes"))
    with pytest.raises(ConnectomeBenchError, match="thinks before it answers"):
        model.predict({name: [one[name]] for name in ("task", "question", "views", "images")})
    with pytest.raises(ConnectomeBenchError, match="thinks before it answers and cannot be scored; use generated"):
        ChatModelAdapter(model, AnswerMode("scored"))
    with pytest.raises(ConnectomeBenchError, match="choose an Instruct model"):
        open_base(AdapterConfig(model=str(folder)))
    assert model_defaults(LoadedModel(load_vlm(tiny_vlm, device="cpu"), None, "tiny"))[0] == AnswerMode("scored")
