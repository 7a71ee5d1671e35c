"""Vision-language models: scores against a plain reference, replies, and what loading refuses."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stored_rows import png, row
from tiny_qwen3_vl import edit_json, make_tiny_adapter, make_tiny_qwen3_vl

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import MESH_VIEWS, TASKS, Task, get_task
from connectomebench.models.answer_tokens import answer_endings, forced_tokens
from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.images import decode
from connectomebench.models.model_record import ModelRecord, write_record
from connectomebench.models.prompt import messages
from connectomebench.models.vlm import VisionLanguageModel, _Noise
from connectomebench.models.vlm_loading import base_fingerprint, load_vlm

Rows = list[dict[str, Any]]
QWEN3 = Path(__file__).parents[3] / "shared" / "data" / "qwen3_tokenizer"


pytestmark = pytest.mark.usefixtures("one_thread")


def columns(rows: Rows) -> dict[str, list[Any]]:
    """A batch that holds nothing a model may not read."""
    return {name: [row[name] for row in rows] for name in ("task", "question", "views", "images")}


def some_rows(task: str = "merge_action", n: int = 5) -> Rows:
    """Rows whose prompts differ in length: images of 32 px become one token, larger ones four."""
    rows = [row(number, get_task(task).labels[0] if get_task(task).labels else "", task) for number in range(n)]
    for number, one in enumerate(rows):
        one["images"] = [
            {"bytes": png(10 * number + i, (32, 64)[(number + i) % 2 or number % 2]), "path": None}
            for i in range(len(one["views"]))
        ]
    return rows


def conversation(one: dict[str, Any], seed: int = 0) -> Conversation:
    return Conversation(messages(one), one["images"], seed)


def prompt_inputs(processor: Any, one: dict[str, Any]) -> Any:
    text = processor.apply_chat_template(messages(one), tokenize=False, add_generation_prompt=True)
    return processor(text=[text], images=[[decode(image) for image in one["images"]]], return_tensors="pt")


def next_token(model: Any, processor: Any, one: dict[str, Any], reply: Sequence[int]) -> torch.Tensor:
    """Log-likelihoods of every next token after a prompt and the beginning of a reply, of one row without padding."""
    inputs = dict(prompt_inputs(processor, one))
    tokens = torch.tensor([reply], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tokens)], 1)
    with torch.no_grad():
        return model(**inputs, logits_to_keep=1).logits[0, -1].double().log_softmax(-1)


def reference(model: Any, processor: Any, one: dict[str, Any], labels: Sequence[str]) -> dict[str, float]:
    """The likelihood of each reply, token by token, until it holds the whole label and no other reply begins so."""
    replies = {label: processor.tokenizer(f"<answer>{label}</answer>").input_ids for label in labels}
    scores = {}
    for label, reply in replies.items():
        others = [other for name, other in replies.items() if name != label]
        scores[label], end = 0.0, 0
        while f"<answer>{label}" not in processor.tokenizer.decode(reply[:end]) or any(
            other[:end] == reply[:end] for other in others
        ):
            scores[label] += float(next_token(model, processor, one, reply[:end])[reply[end]])
            end += 1
    total = sum(math.exp(score) for score in scores.values())
    return {label: math.exp(score) / total for label, score in scores.items()}


@pytest.fixture(scope="module")
def vlm(tiny_vlm: Path) -> VisionLanguageModel:
    return load_vlm(tiny_vlm, device="cpu")


@pytest.fixture(scope="module")
def whole_vlm(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    """The same model over the whole tokenizer of Qwen3."""
    if not QWEN3.is_dir():
        pytest.skip("the whole tokenizer of Qwen3 is not here")
    folder = make_tiny_qwen3_vl(tmp_path_factory.mktemp("whole") / "whole-vl", hidden=32, whole=QWEN3)
    return load_vlm(folder, device="cpu")


@pytest.fixture(params=["few_merges", "whole"])
def any_vlm(request: pytest.FixtureRequest, vlm: VisionLanguageModel) -> VisionLanguageModel:
    return vlm if request.param == "few_merges" else request.getfixturevalue("whole_vlm")


@pytest.mark.parametrize("task", ["merge_action", "merge_action_multiple_choice", "segment_classification"])
def test_scores_are_those_of_a_plain_computation_in_one_pass_a_batch(any_vlm: VisionLanguageModel, task: str) -> None:
    rows = some_rows(task)
    assert len({len(prompt_inputs(any_vlm.processor, one)["input_ids"][0]) for one in rows}) > 1
    passes: list[int] = []
    hook = any_vlm.model.register_forward_pre_hook(lambda *_: passes.append(1))
    answers = any_vlm.predict(columns(rows))
    hook.remove()
    assert len(passes) == math.ceil(len(rows) / any_vlm.batch_size)
    for one, answer in zip(rows[:2], answers, strict=False):
        expected = reference(any_vlm.model, any_vlm.processor, one, get_task(task).labels)
        assert answer.probabilities == pytest.approx(expected, abs=1e-4)
        assert math.isclose(sum(answer.probabilities.values()), 1, abs_tol=1e-9)
        assert answer.prediction == max(expected, key=expected.__getitem__)
    assert len({round(answer.probabilities[get_task(task).labels[0]], 3) for answer in answers}) > 1


def test_a_label_counts_whole_where_its_bracket_alone_is_likely(any_vlm: VisionLanguageModel) -> None:
    tokenizer = any_vlm.processor.tokenizer
    bracket, none = tokenizer.convert_tokens_to_ids([">", "none"])

    def favour(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        turned = logits.clone()
        turned[..., bracket] += 14
        turned[..., none] -= 40
        return turned

    (one,) = some_rows("merge_action_multiple_choice", 1)
    labels = get_task("merge_action_multiple_choice").labels
    hook = any_vlm.model.lm_head.register_forward_hook(favour)
    try:
        opened = tokenizer("<answer", add_special_tokens=False).input_ids
        assert next_token(any_vlm.model, any_vlm.processor, one, opened)[bracket].exp() > 0.5
        (scores,) = any_vlm.score([conversation(one)], labels)
        assert scores == pytest.approx(reference(any_vlm.model, any_vlm.processor, one, labels), abs=1e-6)
    finally:
        hook.remove()
    assert scores["none"] < 1e-5


def test_labels_that_begin_alike_are_told_apart(vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ("no", "none", "nothing", "nobody", "no one", "yes", "yesterday")
    task = Task("shared", "", "Which one?", "choice", labels, MESH_VIEWS, (), "none")
    monkeypatch.setitem(TASKS, "shared", task)
    endings = answer_endings(vlm.processor.tokenizer, labels)[1]
    assert max(map(len, endings)) > 1
    assert len(forced_tokens(endings)) > 1
    rows = [one | {"task": "shared", "question": task.question} for one in some_rows(n=2)]
    for one, answer in zip(rows, vlm.predict(columns(rows)), strict=True):
        assert answer.probabilities == pytest.approx(reference(vlm.model, vlm.processor, one, labels), abs=1e-4)


def test_an_answer_depends_on_its_row_alone(vlm: VisionLanguageModel) -> None:
    rows = [*some_rows(n=3), *some_rows("segment_identity", 2), *some_rows("merge_action_multiple_choice", 2)]
    mixed = [rows[i] for i in (3, 0, 5, 1, 4, 2, 6)]
    together = vlm.predict(columns(mixed))
    for one, answer in zip(mixed, together, strict=True):
        (alone,) = vlm.predict(columns([one]))
        assert list(answer.probabilities) == list(get_task(one["task"]).labels)
        assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    pictures = vlm.predict(columns([mixed[1] | {"images": mixed[1]["images"][::-1]}]))[0]
    assert pictures.probabilities != pytest.approx(together[1].probabilities, abs=1e-3)
    assert vlm.predict(columns([])) == []


def test_replies_are_greedy_and_do_not_depend_on_the_batch(
    vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*some_rows(n=3), *some_rows("endpoint_localization", 1)]
    # as a model has it that was not loaded by this package, but is being trained
    with monkeypatch.context() as sampling:
        sampling.setattr(vlm.model.generation_config, "do_sample", True)
        replies = vlm.reply([conversation(one) for one in rows], Sampling(max_new_tokens=6))
    for one, reply in zip(rows, replies, strict=True):
        tokens: list[int] = []
        for _ in range(6):
            tokens.append(int(next_token(vlm.model, vlm.processor, one, tokens).argmax()))
        assert reply.text == vlm.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        assert (reply.prompt_tokens, reply.tokens) == (prompt_inputs(vlm.processor, one)["input_ids"].numel(), 6)
    with pytest.raises(ConnectomeBenchError, match="is a place"):
        vlm.predict(columns(rows))


def test_draws_follow_the_likelihoods_and_depend_on_their_seed_alone(vlm: VisionLanguageModel) -> None:
    rows = [*some_rows(n=3), *some_rows("segment_identity", 1)]
    talks = [conversation(one, seed) for seed, one in enumerate(rows)]
    warm = Sampling(temperature=1.0, max_new_tokens=4)
    order = [talks[k] for k in (3, 0, 1, 0, 2, 0)]
    together = vlm.reply(order, warm)
    alone = {id(talk): vlm.reply([talk] * order.count(talk), warm) for talk in talks}
    assert together == [alone[id(talk)][order[:k].count(talk)] for k, talk in enumerate(order)]
    assert len({together[k].text for k in (1, 3, 5)}) > 1, "votes on one row differ"
    assert vlm.reply([conversation(rows[0], 7)], warm) != vlm.reply([talks[0]], warm)

    greedy = vlm.reply([talks[0], talks[0]], Sampling(max_new_tokens=4))
    assert greedy[0] == greedy[1]
    assert vlm.reply([talks[0]], Sampling(temperature=0.001, max_new_tokens=4)) == greedy[:1]

    logits = torch.tensor([[2.0, 1.0, 0.0, -math.inf]])
    noise = _Noise(2.0, [3])
    counts = torch.bincount(torch.cat([noise(None, logits).argmax(-1) for _ in range(4000)]), minlength=4) / 4000
    assert counts.tolist() == pytest.approx((logits[0] / 2).softmax(-1).tolist(), abs=0.03)


def test_tokens_are_counted_up_to_the_end_of_the_reply(
    vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(n=2)
    first = int(next_token(vlm.model, vlm.processor, rows[0], []).argmax())
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", [first])
    short, other = vlm.reply([conversation(one) for one in rows], Sampling(max_new_tokens=5))
    assert (short.tokens, short.whole) == (1, True)
    assert not other.whole
    assert other == vlm.reply([conversation(rows[1])], Sampling(max_new_tokens=5))[0]
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", None)
    cut = vlm.reply([conversation(rows[0])], Sampling(max_new_tokens=5))[0]
    assert (cut.tokens, cut.whole) == (5, False)


def test_any_wording_is_scored_with_earlier_turns_and_without_images(vlm: VisionLanguageModel) -> None:
    one, other = some_rows(n=2)
    earlier = [*messages(one), {"role": "assistant", "content": [{"type": "text", "text": "<answer>no</answer>"}]}]
    long = Conversation([*earlier, *messages(other)], [*one["images"], *other["images"]])
    bare = Conversation([{"role": "user", "content": [{"type": "text", "text": "Yes or no?"}]}], [])
    plain = conversation(other)
    scores = vlm.score([long, bare, plain], ("no", "yes"))
    (usual,) = vlm.predict(columns([other]))
    assert scores[2] == pytest.approx(usual.probabilities)
    assert all(math.isclose(sum(own.values()), 1, abs_tol=1e-9) for own in scores)
    assert len({round(own["yes"], 4) for own in scores}) == 3
    # turned round, the labels keep their probabilities
    assert vlm.score([plain], ("yes", "no"))[0] == pytest.approx(scores[2])


def test_damaged_rows_and_a_full_gpu_are_told(vlm: VisionLanguageModel) -> None:
    (one,) = some_rows(n=1)
    with pytest.raises(ConnectomeBenchError, match="2 images and 3 views"):
        vlm.predict(columns([one | {"images": one["images"][:2]}]))

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = vlm.model.register_forward_pre_hook(out_of_memory)
    try:
        with pytest.raises(ConnectomeBenchError, match="lower batch_size"):
            vlm.predict(columns([one]))
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def adapter(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_adapter(tiny_vlm, tmp_path_factory.mktemp("adapter") / "tiny-adapter")


@pytest.fixture
def own_adapter(adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "own"))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen3_vl(tmp_path_factory.mktemp("narrow") / "narrow", hidden=32)


def write_adapter_record(folder: Path, fingerprint: str) -> None:
    config = {"base_fingerprint": fingerprint}
    write_record(folder, ModelRecord("adapter", "a", "1", "merge_action", "o/b", None, config, (), {}))


def test_an_adapter_answers_as_stock_peft_and_unlike_its_base(
    vlm: VisionLanguageModel, adapter: Path, tiny_vlm: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    loaded = load_vlm(adapter, device="cpu")
    stock = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(tiny_vlm), str(adapter))
    processor = AutoProcessor.from_pretrained(tiny_vlm)
    rows = some_rows(n=2)
    for one, answer, before in zip(rows, loaded.predict(columns(rows)), vlm.predict(columns(rows)), strict=True):
        assert answer.probabilities == pytest.approx(reference(stock, processor, one, ("no", "yes")), abs=1e-4)
        assert answer.probabilities != pytest.approx(before.probabilities, abs=1e-3)
    assert (loaded.name, vlm.name) == ("tiny-adapter", "tiny-vl")


def test_revisions_follow_weights_settings_base_and_prompt(
    own_adapter: Path, tiny_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revision(base: Path | None = None) -> str:
        return load_vlm(own_adapter, base=base, device="cpu").revision

    first = revision()
    copy = Path(shutil.copytree(tiny_vlm, tmp_path / "copy"))
    edit_json(own_adapter / "adapter_config.json", base_model_name_or_path="org/tiny-vl", revision="v1")
    (own_adapter / "trainer_state.json").write_text("{}")
    (own_adapter / "README.md").write_text("changed")
    assert revision(copy) == first

    edit_json(own_adapter / "adapter_config.json", lora_alpha=9)
    after_settings = revision(copy)
    weights = own_adapter / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    after_weights = revision(copy)
    edit_json(copy / "processor_config.json", changed=1)
    after_base = revision(copy)
    monkeypatch.setattr("connectomebench.models.model_files.PROMPT_VERSION", 0)
    revisions = [first, after_settings, after_weights, after_base, revision(copy)]
    assert len(set(revisions)) == len(revisions)
    assert load_vlm(tiny_vlm, device="cpu").revision != load_vlm(copy, device="cpu").revision


def test_a_wrong_base_is_refused(own_adapter: Path, tiny_vlm: Path, narrow: Path) -> None:
    from transformers import AutoConfig

    right, wrong = (base_fingerprint(AutoConfig.from_pretrained(folder)) for folder in (tiny_vlm, narrow))
    assert right != wrong
    with pytest.raises(ConnectomeBenchError, match="does not fit narrow: size mismatch"):
        load_vlm(own_adapter, base=narrow, device="cpu")
    write_adapter_record(own_adapter, right)
    load_vlm(own_adapter, base=tiny_vlm, device="cpu")
    with pytest.raises(ConnectomeBenchError, match="does not fit narrow: the two models have different architectures"):
        load_vlm(own_adapter, base=narrow, device="cpu")
    write_adapter_record(own_adapter, wrong)
    with pytest.raises(ConnectomeBenchError, match="does not fit tiny-vl: the two models have different architectures"):
        load_vlm(own_adapter, device="cpu")


def test_an_adapter_that_the_base_has_no_place_for_is_refused(own_adapter: Path) -> None:
    config, weights = own_adapter / "adapter_config.json", own_adapter / "adapter_model.safetensors"
    content, tensors = config.read_bytes(), load_file(weights)
    edit_json(config, target_modules=["no_such_module"])
    with pytest.raises(ConnectomeBenchError, match="no_such_module"):
        load_vlm(own_adapter, device="cpu")
    edit_json(config, target_modules=["q_proj"])
    with pytest.raises(ConnectomeBenchError, match="no counterpart"):
        load_vlm(own_adapter, device="cpu")
    config.write_bytes(content)
    save_file({name: tensor for name, tensor in tensors.items() if "merger" not in name}, weights)
    with pytest.warns(UserWarning), pytest.raises(ConnectomeBenchError, match="no counterpart"):
        load_vlm(own_adapter, device="cpu")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_unopened(own_adapter: Path, tiny_vlm: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    whole = Path(shutil.copytree(tiny_vlm, tmp_path / "whole"))
    for folder, weights, name in (
        (own_adapter, "adapter_model.safetensors", "adapter_model.bin"),
        (whole, "model.safetensors", "pytorch_model.bin"),
    ):
        (folder / weights).unlink()
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
        with pytest.raises(ConnectomeBenchError, match=r"pickled (weights|ones) are never loaded"):
            load_vlm(folder, device="cpu")
    assert not sprung.exists()


def test_damaged_and_foreign_folders_are_told_in_one_line(own_adapter: Path, tiny_vlm: Path, tmp_path: Path) -> None:
    def refused(folder: Path | str, words: str, **options: Any) -> None:
        with pytest.raises(ConnectomeBenchError, match=words) as caught:
            load_vlm(folder, device="cpu", **options)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "gone", "there is no model folder")
    refused(tiny_vlm, "leave out the revision", revision="main")
    refused(tiny_vlm, "leave out --base", base=tiny_vlm)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "so it is not a model")

    config = own_adapter / "adapter_config.json"
    edit_json(config, base_model_name_or_path=str(tmp_path / "gone"))
    refused(own_adapter, "not here; name the base with --base")
    edit_json(config, base_model_name_or_path=None)
    refused(own_adapter, "does not name its base")
    edit_json(config, peft_type="XLORA")
    refused(own_adapter, "not a plain LoRA", base=tiny_vlm)
    edit_json(config, peft_type="LORA", megatron_config={"a": 1}, megatron_core="antigravity")
    refused(own_adapter, "not a plain LoRA", base=tiny_vlm)
    config.write_text("[]")
    refused(own_adapter, "cannot be read", base=tiny_vlm)
    shutil.copy(tiny_vlm / "config.json", own_adapter)
    write_record(own_adapter, ModelRecord("probe", "p", "1", "merge_action", None, None, {}, (), {}))
    refused(own_adapter, "kind probe")

    whole = Path(shutil.copytree(tiny_vlm, tmp_path / "whole"))
    index = whole / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../model.safetensors"}}))
    refused(whole, "names files that are not weights")
    index.unlink()
    (whole / "chat_template.jinja").unlink()
    refused(whole, "takes no images or no chat")
    weights = load_file(whole / "model.safetensors")
    lost = next(name for name in weights if "q_proj" in name)
    save_file({n: t for n, t in weights.items() if n != lost}, whole / "model.safetensors", {"format": "pt"})
    refused(whole, "lacks weights")
    (whole / "model.safetensors").write_bytes(b"\x10" + bytes(30))
    refused(whole, "cannot load whole as a vision-language model")


def in_cache(cache: Path, repo: str, commit: str, folder: Path) -> None:
    """Put a folder where the client of the Hub looks for a repository that it has fetched."""
    place = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)


def test_repositories_are_pinned_and_name_no_folder_of_this_machine(
    own_adapter: Path, tiny_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    in_cache(cache, "org/evil", "e" * 40, own_adapter)
    with pytest.raises(ConnectomeBenchError, match="--base"):
        load_vlm("org/evil", device="cpu")

    edit_json(own_adapter / "adapter_config.json", base_model_name_or_path="org/tiny-vl")
    in_cache(cache, "org/adapter", "a" * 40, own_adapter)
    in_cache(cache, "org/tiny-vl", "b" * 40, tiny_vlm)
    fetched = load_vlm("org/adapter", device="cpu")
    local = load_vlm(own_adapter, base="org/tiny-vl", device="cpu")
    assert fetched.name == "adapter"
    assert fetched.revision == local.revision != load_vlm(own_adapter, base=tiny_vlm, device="cpu").revision
    rows = columns(some_rows(n=1))
    assert fetched.predict(rows) == local.predict(rows)
    edit_json(own_adapter / "adapter_config.json", revision="c" * 40)
    with pytest.raises(ConnectomeBenchError, match="org/tiny-vl"):
        load_vlm(own_adapter, device="cpu")
