"""Load a base model, add a LoRA adapter, and check that only the adapter is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.finetuning.settings import AdapterConfig
from connectomebench.models.chat_template import check_trainable_template
from connectomebench.models.model_files import ADAPTER_CONFIG, ModelFiles, open_files
from connectomebench.models.vlm_loading import check_weight_files, load_processor, told_in_one_line

if TYPE_CHECKING:
    from peft import LoraConfig

LANGUAGE_MODULES = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
MERGER_MODULES = ("linear_fc1", "linear_fc2")

# names in transformers' Qwen3-VL; its vision tower has a fused `attn.qkv` and `mlp.linear_fc1`, which these leave out
LORA_TARGETS = (
    r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
    r"|.*visual\.(merger|deepstack_merger_list\.\d+)\.linear_fc[12]"
)
_TRAINED = re.compile(rf"base_model\.model\.({LORA_TARGETS})\.lora_[AB]\.\w+\.weight")
_VISION_TOWER = re.compile(r"visual\.(blocks|patch_embed|pos_embed)\b")


@dataclass(frozen=True)
class Base:
    """A base model whose weights are not loaded yet.

    Attributes
    ----------
    files
        Where it is.
    name
        As an adapter names it: Hub id, or the path of a folder.
    config, processor
        Of transformers.
    """

    files: ModelFiles
    name: str
    config: Any
    processor: Any


def open_base(settings: AdapterConfig) -> Base:
    """Find a base model and read its config and processor.

    Parameters
    ----------
    settings
        Name the base.

    Raises
    ------
    ConnectomeBenchError
        If there is no such model, it is an adapter itself, has no safetensors, takes no images, or its chat template
        puts thoughts or anything else before a reply.
    """
    from transformers import AutoConfig

    files = open_files(settings.model, settings.model_revision)
    if (files.folder / ADAPTER_CONFIG).exists():
        raise ConnectomeBenchError(f"{settings.model} is an adapter; name the model it was trained on")
    check_weight_files(files)
    with told_in_one_line(f"cannot read the config of {files.name}"):
        config = AutoConfig.from_pretrained(files.folder, trust_remote_code=False)
    name = settings.model if files.commit else str(files.folder.resolve())
    processor = load_processor(files)
    check_trainable_template(processor, files.name)
    return Base(files, name, config, processor)


def load_base(base: Base, *, bf16: bool, whole_on_gpu: bool) -> Any:
    """Load the weights of a base model.

    Parameters
    ----------
    base
        What to load.
    bf16
        bfloat16 weights; float32 otherwise.
    whole_on_gpu
        Load directly onto the single GPU, bypassing host memory. Where processes share the weights (FSDP,
        DeepSpeed, DDP), accelerate places them.

    Returns
    -------
    transformers.PreTrainedModel
        The base model, without an adapter.

    Raises
    ------
    ConnectomeBenchError
        If weights are damaged or missing.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    place = {"device_map": {"": torch.cuda.current_device()}} if whole_on_gpu else {}
    with told_in_one_line(f"cannot load {base.files.name} as a vision-language model"):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            base.files.folder,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if bf16 else torch.float32,
            output_loading_info=True,
            **place,
        )
    model, loading = loaded
    if loading["missing_keys"]:
        raise ConnectomeBenchError(f"{base.files.name} lacks weights ({min(loading['missing_keys'])}); fetch it again")
    return model


def empty_base(base: Base) -> Any:
    """Build the base model without weights (PyTorch's meta device), to read names and parameter counts."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"), told_in_one_line(f"cannot build {base.files.name} as a vision-language model"):
        return AutoModelForImageTextToText.from_config(base.config, trust_remote_code=False)


def lora_config(settings: AdapterConfig) -> LoraConfig:
    """Return the PEFT configuration of the adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=LORA_TARGETS,
    )


def check_targets(base: Base, module_names: Iterable[str]) -> None:
    """Raise if the base lacks a module that the adapter targets.

    Parameters
    ----------
    base
        Named in the error.
    module_names
        Module names of the base without adapter.

    Raises
    ------
    ConnectomeBenchError
        If a kind of projection is missing, as in a model of another family or a mixture of experts.
    """
    found = [name for name in module_names if re.fullmatch(LORA_TARGETS, name)]
    wanted = {f"language_model...{name}": rf"language_model\..*\.{name}" for name in LANGUAGE_MODULES}
    for merger in ("merger", "deepstack_merger_list"):
        wanted |= {f"visual.{merger}...{name}": rf"visual\.{merger}\..*{name}" for name in MERGER_MODULES}
    for module, pattern in wanted.items():
        if not any(re.search(pattern, name) for name in found):
            raise ConnectomeBenchError(f"{base.files.name} has no {module}; only dense Qwen3-VL models can be trained")


def check_trainable(model: Any) -> None:
    """Check that only the adapter is trainable and that the vision tower is frozen.

    Parameters
    ----------
    model
        PEFT's wrapper of the base.

    Raises
    ------
    ConnectomeBenchError
        If a weight of the base is trainable, an adapter sits in the vision tower, or an adapter is frozen.
    """
    weights = {name: weight.requires_grad for name, weight in model.named_parameters()}
    tower = [name for name, trained in weights.items() if trained and _VISION_TOWER.search(name)]
    if tower:
        raise ConnectomeBenchError(f"the vision tower is not frozen ({tower[0]}); report this with the model's name")
    for name, trained in weights.items():
        if trained != bool(_TRAINED.fullmatch(name)):
            state = "trainable" if trained else "frozen"
            raise ConnectomeBenchError(f"{name} is {state}; only the adapter may be trainable")
