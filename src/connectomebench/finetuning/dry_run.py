"""Describe a training run (modules, data, memory) without loading weights."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from connectomebench.finetuning.adapter import Base, check_targets, check_trainable, empty_base, lora_config
from connectomebench.finetuning.completions import ANALYSIS, describe_targets
from connectomebench.finetuning.data import TrainingData
from connectomebench.finetuning.settings import AdapterConfig, is_sharded
from connectomebench.finetuning.trainer import make_collator
from connectomebench.models.vlm_loading import base_fingerprint

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

_GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """Sizes that determine the memory of a run.

    Attributes
    ----------
    base_parameters, adapter_parameters
        Numbers of weights.
    largest_layer
        Weights of the largest layer of the language model, which FSDP gathers whole.
    language, vision
        Layers, hidden size and width of the MLP of the two parts.
    rows, tokens, patches
        Of a batch on one GPU: rows, tokens with padding (all rows), and image patches of the vision tower.
    bf16
        True for weights and activations in bfloat16, False for float32.
    """

    base_parameters: int
    adapter_parameters: int
    largest_layer: int
    language: tuple[int, int, int]
    vision: tuple[int, int, int]
    rows: int
    tokens: int
    patches: int
    bf16: bool


def dry_run(base: Base, data: TrainingData, adapter: AdapterConfig, args: SFTConfig) -> str:
    """Describe a run without training or loading weights.

    Parameters
    ----------
    base, data, adapter, args
        Of the run.

    Returns
    -------
    str
        Trainable modules, an estimate of the memory of each GPU, the data, and one decoded batch with the trained
        tokens in ``[[...]]``.

    Raises
    ------
    ConnectomeBenchError
        Where the run itself would be refused: a base that lacks a target, a row without an answer.
    """
    from peft import get_peft_model

    model = empty_base(base)
    check_targets(base, (name for name, _ in model.named_modules()))
    weights = dict(model.named_parameters())
    layers: defaultdict[str, int] = defaultdict(int)
    for name, weight in weights.items():
        if found := re.match(r".*language_model\.layers\.\d+\.", name):
            layers[found[0]] += weight.numel()
    base_parameters = sum(weight.numel() for weight in weights.values())
    adapted: Any = get_peft_model(model, lora_config(adapter))
    check_trainable(adapted)
    trained = {name: weight.numel() for name, weight in adapted.named_parameters() if weight.requires_grad}

    count = min(args.per_device_train_batch_size, len(data.train))
    batch = make_collator(base.processor)([data.train[number] for number in range(count)])
    text, vision = base.config.text_config, base.config.vision_config
    shape = Shape(
        base_parameters,
        sum(trained.values()),
        max(layers.values()),
        (text.num_hidden_layers, text.hidden_size, text.intermediate_size),
        (vision.depth, vision.hidden_size, vision.intermediate_size),
        count,
        batch["input_ids"].numel(),
        len(batch["pixel_values"]),
        counts_in_bf16(base.config, args),
    )
    return "\n".join(
        [
            f"base {base.name}, revision {base.files.commit}, fingerprint {base_fingerprint(base.config)}",
            *_trainable(trained, base_parameters),
            "",
            *_memory(shape, args),
            "",
            *_data(data),
            "",
            f"one batch of {count} rows, {batch['input_ids'].shape[1]} tokens each; trained tokens in [[ ]]:",
            *marked_batch(batch, base.processor),
            "",
            "dry run: nothing was trained",
        ]
    )


def _trainable(trained: Mapping[str, int], base_parameters: int) -> list[str]:
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for name, size in trained.items():
        module = re.sub(r"^base_model\.model\.|\.lora_[AB]\..*$", "", name)
        kinds[re.sub(r"\.\d+\.", ".N.", module)].append(size)
    total = sum(trained.values())
    lines = [f"trainable: {total:,} of {base_parameters + total:,} parameters ({total / base_parameters:.3%})"]
    # every module has two matrices
    return lines + [f"  {kind}: {len(sizes) // 2} modules, {sum(sizes):,}" for kind, sizes in kinds.items()]


def counts_in_bf16(config: Any, args: SFTConfig) -> bool:
    """Return whether a run on a GPU has weights in bfloat16: where its options say so, or here without a GPU the base.

    Parameters
    ----------
    config
        Of the base. Where there is no GPU, ``bf16`` of the options is off by default, which says nothing about the GPUs
        that the run is planned for; the type of the published weights does.
    args
        Options.
    """
    import torch

    if args.bf16 or torch.cuda.is_available():
        return bool(args.bf16)
    kinds = [getattr(part, "dtype", None) for part in (config, getattr(config, "text_config", None))]
    return any(str(kind).removeprefix("torch.") == "bfloat16" for kind in kinds)


def memory_estimate(shape: Shape, args: SFTConfig) -> dict[str, float]:
    """Estimate the memory of one GPU, in bytes, by component.

    Weights are bfloat16 or float32, as `Shape.bf16` says. Adapter weights and their gradients are float32; AdamW keeps
    two more numbers a weight, of 4 bytes or, in 8 bit, of 1. With gradient checkpointing, each layer keeps its input,
    and one layer at a time all that its backward pass needs, counted as 8 vectors of the hidden size and 4 of the MLP
    per token; without, every layer keeps that. The vision tower counts likewise, since gradients of checkpointed inputs
    pass through it. TRL computes the loss in chunks, so logits are left out, as are the buffers of CUDA kernels and
    what PyTorch's allocator leaves unused.

    Parameters
    ----------
    shape
        Of model and batch.
    args
        Optimizer, checkpointing and number of processes.
    """
    word = 2 if shape.bf16 else 4
    shards = args.world_size if is_sharded() else 1
    state = 2 if "8bit" in str(getattr(args.optim, "value", args.optim)) else 8

    def activations(vectors: int, part: tuple[int, int, int]) -> float:
        layers, hidden, wide = part
        inner = (8 * hidden + 4 * wide) * vectors * word
        return layers * hidden * vectors * word + inner if args.gradient_checkpointing else layers * inner

    return {
        "weights of the base": shape.base_parameters * word / shards,
        "adapter and its gradients": shape.adapter_parameters * 8 / shards,
        "states of the optimizer": shape.adapter_parameters * state / shards,
        # the layer at work and the next one
        "gathered layers": 2 * shape.largest_layer * word if shards > 1 else 0,
        "activations, language": activations(shape.tokens, shape.language),
        "activations, vision": activations(shape.patches, shape.vision),
    }


def _memory(shape: Shape, args: SFTConfig) -> list[str]:
    parts = memory_estimate(shape, args)
    spread = f"sharded over {args.world_size} processes" if is_sharded() else "not sharded, the whole model on each"
    return [
        f"memory of each GPU, about {sum(parts.values()) / _GIB:.3g} GiB "
        f"({args.world_size} processes, {spread}; {'bfloat16' if shape.bf16 else 'float32'}; {args.optim}; an estimate "
        "from counts, leave a quarter free):",
        *(f"  {name}: {size / _GIB:.3g} GiB" for name, size in parts.items()),
    ]


def _data(data: TrainingData) -> list[str]:
    lines = [
        f"data {one.task} {one.species}: fingerprint {one.fingerprint}, revision {one.revision}, {one.rows}"
        for one in data.records
    ]
    lines += [f"  {name}: {sum(counts.values())} rows, {counts}" for name, counts in data.counts.items()]
    style = data.style
    if style.answer_style == ANALYSIS:
        lines.append(
            f"answer style analysis: rationale dropout {style.dropout:g}, "
            f"at least {style.agreement:.0%} of a teacher's votes right"
        )
        lines += [f"  {name}: {describe_targets(targets)}" for name, targets in data.targets.items()]
    return [*lines, f"  test: {len(data.sample_ids['test'])} rows, not trained on"]


def marked_batch(batch: Mapping[str, Any], processor: Any) -> list[str]:
    """Decode a batch, one line per row, with ``[[ ]]`` around the trained tokens.

    Parameters
    ----------
    batch
        ``input_ids`` and ``labels`` (rows, tokens) and ``attention_mask``.
    processor
        Of the base. Runs of image tokens are replaced by their count.
    """
    image = processor.image_token
    lines = []
    for tokens, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        pairs = zip(tokens[mask == 1].tolist(), (labels[mask == 1] != -100).tolist(), strict=True)
        parts = [
            (trained, processor.tokenizer.decode([token for token, _ in run]))
            for trained, run in groupby(pairs, key=itemgetter(1))
        ]
        text = "".join(f"[[{part}]]" if trained else part for trained, part in parts)
        text = re.sub(f"({re.escape(image)})+", lambda found: f"<{len(found[0]) // len(image)} image tokens>", text)
        lines.append("  " + text.replace("\n", "\\n"))
    return lines
