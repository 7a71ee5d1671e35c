from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_training import Training, parsed

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.finetuning.adapter import (
    LORA_TARGETS,
    check_targets,
    check_trainable,
    empty_base,
    lora_config,
    open_base,
)
from connectomebench.finetuning.data import load_training_data
from connectomebench.finetuning.dry_run import Shape, memory_estimate
from connectomebench.finetuning.settings import AdapterConfig, checked_arguments, recipe, usable_optimizer
from connectomebench.finetuning.trainer import explain_errors, make_trainer


@pytest.fixture(scope="module")
def empty(tiny_vlm: Path):
    base = open_base(AdapterConfig(str(tiny_vlm)))
    return base, empty_base(base)


def adapted(tiny_vlm: Path, targets: str = LORA_TARGETS):
    from peft import get_peft_model

    config = lora_config(AdapterConfig(lora_r=2))
    config.target_modules = targets
    return get_peft_model(empty_base(open_base(AdapterConfig(str(tiny_vlm)))), config)


def test_recipe_is_that_of_the_published_adapters(tmp_path: Path) -> None:
    rows, adapter, args = parsed("--task", "merge_action", "--species", "fly", "mouse", "--model", "a/Qwen3")
    checked_arguments(args, rows, adapter)
    assert (adapter.lora_r, args.learning_rate, args.max_steps) == (16, 2e-4, 500)
    assert (args.save_steps, args.eval_steps, args.metric_for_best_model) == (100, 100, "eval_loss")
    assert args.load_best_model_at_end
    assert not args.greater_is_better
    assert args.gradient_checkpointing
    assert args.lr_scheduler_type == "reduce_lr_on_plateau"
    assert 4 <= args.per_device_train_batch_size <= 8
    assert recipe()["optim"] == "adamw_8bit"
    assert args.output_dir == "Qwen3-merge_action-fly-mouse"
    assert rows.name == "connectomebench/merge_action"


def test_plain_adamw_where_8_bit_does_not_work(monkeypatch, capsys) -> None:
    import torch

    assert usable_optimizer("adafactor") == "adafactor"
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert usable_optimizer("adamw_8bit") == "adamw_torch"
    told = "warning: 8-bit AdamW is fragile under FSDP and DeepSpeed, so the optimizer is adamw_torch"
    assert capsys.readouterr().out.startswith(told)


def test_targets_are_in_transformers_qwen3_vl_and_not_in_its_vision_tower(empty) -> None:
    base, model = empty
    found = [name for name, _ in model.named_modules() if re.fullmatch(LORA_TARGETS, name)]
    text, vision = base.config.text_config, base.config.vision_config
    assert len(found) == 7 * text.num_hidden_layers + 2 + 2 * len(vision.deepstack_visual_indexes)
    assert not [name for name in found if "visual.blocks" in name]
    check_targets(base, found)
    for left_out in ("gate_proj", "visual.merger.linear_fc2", "deepstack_merger_list"):
        with pytest.raises(ConnectomeBenchError, match=r"only dense Qwen3-VL models can be trained"):
            check_targets(base, [name for name in found if left_out not in name])


def test_nothing_but_the_adapter_may_learn(tiny_vlm: Path) -> None:
    model = adapted(tiny_vlm)
    check_trainable(model)
    weights = dict(model.named_parameters())
    merger = next(name for name in weights if "deepstack_merger_list.1.norm" in name)
    weights[merger].requires_grad_(True)
    with pytest.raises(ConnectomeBenchError, match=re.escape(f"{merger} is trainable")):
        check_trainable(model)
    weights[merger].requires_grad_(False)
    next(weight for name, weight in weights.items() if "lora_A" in name).requires_grad_(False)
    with pytest.raises(ConnectomeBenchError, match=r"lora_A.default.weight is frozen"):
        check_trainable(model)
    with pytest.raises(ConnectomeBenchError, match=r"the vision tower is not frozen \(.*blocks\.0\..*lora_A"):
        check_trainable(adapted(tiny_vlm, rf"{LORA_TARGETS}|.*visual\.blocks\.0\.attn\.qkv"))


def test_a_loss_that_is_no_number_names_its_samples(training: Training, tmp_path: Path) -> None:
    import torch

    rows, adapter, args = parsed(*training.options, "--output_dir", str(tmp_path / "out"))
    checked_arguments(args, rows, adapter)
    data = load_training_data(rows, args.seed)
    trainer = make_trainer(open_base(adapter), data, adapter, args)
    # of an adapter's two matrices the second is zero at first
    weight = next(value for name, value in trainer.model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        weight.fill_(float("nan"))
    with pytest.raises(ConnectomeBenchError, match="the loss is nan at step 0 with the samples") as caught:
        trainer.train()
    first = next(iter(trainer.get_train_dataloader()))["row_number"].tolist()
    assert len(first) == 2
    assert ", ".join(data.sample_ids["train"][number] for number in first) in str(caught.value)
    with pytest.raises(ConnectomeBenchError, match="the loss is nan") as caught:
        trainer.evaluate()
    assert data.sample_ids["validation"][0] in str(caught.value)
    assert data.sample_ids["train"][0] not in str(caught.value)


def test_missing_memory_and_ctrl_c_are_told_in_one_line(training: Training, tmp_path: Path) -> None:
    import torch

    told = {}
    for name, more in {
        "batch": ["4"],
        "six": ["6", "--gradient_accumulation_steps", "5"],
        "odd": ["3"],
        "one": ["1"],
        "plain": ["1", "--gradient_checkpointing", "false"],
    }.items():
        *_, args = parsed(*training.options, "--per_device_train_batch_size", *more, "--output_dir", "out")
        with pytest.raises(ConnectomeBenchError) as caught, explain_errors(args):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        told[name] = str(caught.value)
    assert "lower --per_device_train_batch_size from 4 to 2 and raise --gradient_accumulation_steps" in told["batch"]
    # the rows of a step stay the same
    assert "from 6 to 3 and raise --gradient_accumulation_steps from 5 to 10, and run the same" in told["six"]
    assert "from 3 to 1 and raise --gradient_accumulation_steps from 1 to 3, and run the same" in told["odd"]
    assert "shard it over more GPUs with FSDP; both begin a new run" in told["one"]
    assert "set --gradient_checkpointing true, and run the same command to resume" in told["plain"]
    with pytest.raises(ConnectomeBenchError, match="resume from the last checkpoint in out"), explain_errors(args):
        raise KeyboardInterrupt


def test_memory_is_estimated_by_what_takes_it(training: Training, monkeypatch) -> None:
    from dataclasses import replace

    *_, args = parsed(*training.options, "--optim", "adamw_torch")
    shape = Shape(1000, 100, 50, (3, 8, 16), (2, 4, 8), rows=2, tokens=10, patches=20, bf16=False)
    alone = memory_estimate(shape, args)
    assert alone["weights of the base"] == 4 * 1000
    assert alone["adapter and its gradients"] == 8 * 100
    assert alone["states of the optimizer"] == 8 * 100
    # three layers keep 8 numbers a token, one of them 8 * 8 + 4 * 16 more, of 4 bytes
    assert alone["activations, language"] == 4 * 10 * (3 * 8 + 8 * 8 + 4 * 16)
    assert memory_estimate(replace(shape, tokens=20), args)["activations, language"] == 2 * 4 * 10 * 152
    assert alone["gathered layers"] == 0
    args.gradient_checkpointing = False
    assert memory_estimate(shape, args)["activations, language"] == 4 * 10 * 3 * (8 * 8 + 4 * 16)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(type(args), "world_size", 2)
    shared = memory_estimate(shape, args)
    assert shared["weights of the base"] == alone["weights of the base"] / 2
    assert shared["gathered layers"] == 2 * 50 * 4
