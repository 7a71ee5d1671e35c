"""accelerate reads the configs, and the names in them are those of transformers' Qwen3-VL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectomebench.finetuning.adapter import LORA_TARGETS
from connectomebench.finetuning.settings import recipe

CONFIGS = sorted((Path(__file__).parents[2] / "accelerate_configs").glob("*.yaml"))
SHARDED = [path for path in CONFIGS if "FSDP" in path.read_text().partition("\ndistributed_type: ")[2].splitlines()[0]]


@pytest.fixture(scope="module")
def module_classes(tiny_vlm: Path) -> dict[str, str]:
    """Name of a module of the tiny model -> its class."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tiny_vlm))
    return {name: type(module).__name__ for name, module in model.named_modules()}


def launched(path: Path, *options: str) -> Any:
    """Settings of `accelerate launch`, after it has read the file."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    args = launch_command_parser().parse_args(["--config_file", str(path), *options, "script.py"])
    return _validate_launch_command(args)[0]


def test_what_there_is():
    names = ("cpu", "deepspeed_zero3", "fsdp2_2gpu", "fsdp2_8gpu", "one_gpu", "several_nodes")
    assert [path.stem for path in CONFIGS] == list(names)
    assert [path.stem for path in SHARDED] == ["fsdp2_2gpu", "fsdp2_8gpu", "several_nodes"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_leaves_nothing_out(path: Path):
    from accelerate.commands.config import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(path))
    assert config.num_processes == {"cpu": 2, "one_gpu": 1, "fsdp2_2gpu": 2, "several_nodes": 16}.get(path.stem, 8)
    assert config.mixed_precision == ("no" if path.stem == "cpu" else "bf16")
    # a misspelt entry of these would be dropped without a word
    options = vars(launch_command_parser().parse_args(["script.py"]))
    assert {**config.fsdp_config, **config.deepspeed_config}.keys() <= options.keys()


@pytest.mark.parametrize("path", SHARDED, ids=lambda path: path.stem)
def test_layers_that_are_sharded_exist(path: Path, module_classes: dict[str, str]):
    from transformers.models.qwen3_vl import modeling_qwen3_vl

    fsdp = yaml.safe_load(path.read_text())["fsdp_config"]
    assert fsdp["fsdp_version"] == 2
    names = fsdp["fsdp_transformer_layer_cls_to_wrap"].split(",")
    assert all(hasattr(modeling_qwen3_vl, name) for name in names)
    assert set(names) == set(modeling_qwen3_vl.Qwen3VLForConditionalGeneration._no_split_modules)
    layers = {name: kind for name, kind in module_classes.items() if kind in names}
    assert set(layers.values()) == set(names)
    assert {re.sub(r"\d+", "N", name) for name in layers} == {
        "model.language_model.layers.N",
        "model.visual.blocks.N",
    }


@pytest.mark.parametrize("path", SHARDED, ids=lambda path: path.stem)
def test_fsdp_takes_it_and_the_recipe_fits(path: Path, monkeypatch: pytest.MonkeyPatch):
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    address = ("--main_process_ip", "127.0.0.1", "--main_process_port", "29500")
    environment = prepare_multi_gpu_env(launched(path, *(address if path.stem == "several_nodes" else ())))
    for name, value in environment.items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.transformer_cls_names_to_wrap == ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]
    assert str(plugin.state_dict_type.name) == "FULL_STATE_DICT"
    # transformers refuses both at once
    assert recipe()["gradient_checkpointing"] and not plugin.activation_checkpointing
    assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_the_address_of_several_machines_is_an_argument():
    path = next(path for path in CONFIGS if path.stem == "several_nodes")
    args = launched(path, "--machine_rank", "1", "--main_process_ip", "10.0.0.1", "--main_process_port", "29500")
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 16, 1)
    assert (args.main_process_ip, args.main_process_port) == ("10.0.0.1", 29500)


def test_two_processes_on_the_cpu_are_two():
    path = next(path for path in CONFIGS if path.stem == "cpu")
    args = launched(path)
    assert args.multi_gpu and args.num_processes == 2 and args.use_cpu and not args.cpu
    assert "ACCELERATE_USE_CPU=true accelerate launch" in path.read_text()


def test_the_adapter_sits_on_the_language_model_and_the_mergers(module_classes: dict[str, str]):
    found = {re.sub(r"\.\d+\.", ".N.", name) for name in module_classes if re.fullmatch(LORA_TARGETS, name)}
    layer, merger = "model.language_model.layers.N", "model.visual"
    assert found == {
        *(f"{layer}.self_attn.{name}_proj" for name in "qkvo"),
        *(f"{layer}.mlp.{name}_proj" for name in ("gate", "up", "down")),
        *(f"{merger}.{name}.linear_fc{n}" for name in ("merger", "deepstack_merger_list.N") for n in (1, 2)),
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_readme_lists_it(path: Path):
    assert f"| `{path.name}` |" in path.with_name("README.md").read_text()
