"""One measured training of :mod:`train_vlm`, in a process of its own."""

from __future__ import annotations

import io
import resource
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from load import make_rows
from qwen3_vl_flops import Step, qwen3_vl_32b, training_flops
from tiny_qwen3_vl import make_tiny_qwen3_vl

from connectomebench.finetuning.adapter import Base, lora_config
from connectomebench.finetuning.completions import ANSWER_ONLY, answer_only_targets
from connectomebench.finetuning.data import TrainingData, as_prompts
from connectomebench.finetuning.settings import AdapterConfig, recipe, usable_optimizer
from connectomebench.finetuning.trainer import assemble_trainer
from connectomebench.models.model_files import ModelFiles
from connectomebench.models.prompt import completion, messages

SLICES = ("em_xy", "em_xz", "em_yz")
# steps whose time does not count: memory is reserved and kernels are chosen in them
WARM_UP = 2


@dataclass(frozen=True)
class Variant:
    """What is measured.

    Attributes
    ----------
    trainer
        ``ours``: the recipe of `training/sft_vlm.py`; ``trl``: SFTTrainer with its own defaults.
    config
        ``tiny`` or ``32b``; random weights.
    steps, batch_size, image_px
        Steps that count, rows a step, and edge of the (square) images.
    attention
        Implementation, as transformers names it.
    checkpointing
        Gradient checkpointing.
    liger
        Liger's kernels.
    optimizer
        As transformers names it; the trainer's own where None.
    shapes
        ``alike``: three images a row. ``mixed``: three and six in turn. ``grouped``: as many of each, but batches of
        three and batches of six in turn, so that none needs padding.
    """

    trainer: Literal["ours", "trl"]
    config: Literal["tiny", "32b"]
    steps: int
    batch_size: int
    image_px: int
    attention: str = "sdpa"
    checkpointing: bool = True
    liger: bool = False
    optimizer: str | None = None
    shapes: Literal["alike", "mixed", "grouped"] = "alike"


def measure(variant: Variant) -> dict[str, Any]:
    """Train a few steps and tell how fast and with how much memory; ``cannot_run`` where that is not possible."""
    import torch

    try:
        # what trainers print is no part of the result
        with tempfile.TemporaryDirectory(prefix="train_vlm-") as name, redirect_stdout(sys.stderr):
            return _measure(variant, Path(name))
    except torch.OutOfMemoryError:
        return {"cannot_run": "the memory of the GPU does not suffice"}
    except (ImportError, ValueError, RuntimeError) as error:
        return {"cannot_run": " ".join(str(error).split())[:300]}


def _measure(variant: Variant, folder: Path) -> dict[str, Any]:
    import torch

    on_gpu = torch.cuda.is_available()
    if variant.optimizer and usable_optimizer(variant.optimizer, speak=False) != variant.optimizer:
        return {"cannot_run": f"{variant.optimizer} needs a GPU and bitsandbytes"}
    if variant.shapes != "alike" and variant.batch_size % 2:
        return {"cannot_run": "shapes are mixed in batches of an even number of rows alone"}
    base, model = random_model(variant.config, variant.image_px, folder, variant.attention)
    rows = _rows(variant)
    trainer: Any = (_ours if variant.trainer == "ours" else _trl)(variant, base, model, rows, folder)
    steps: list[Step] = []
    ends: list[tuple[float, float]] = []
    inner = trainer.training_step

    def counted(model: Any, inputs: Any, *more: Any) -> Any:
        steps.append(_step(inputs))
        return inner(model, inputs, *more)

    trainer.training_step = counted
    trainer.add_callback(_clock(ends))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer.train()

    learnt = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    timed = steps[WARM_UP:]
    seconds, cpu_seconds = (end - start for start, end in zip(ends[WARM_UP - 1], ends[-1], strict=True))
    tokens = sum(sum(step.tokens) for step in timed)
    flops = sum(training_flops(base.config, step, learnt) for step in timed)
    memory = (
        {"peak_gpu_bytes": torch.cuda.max_memory_allocated()}
        if on_gpu
        else {
            "cpu_s_per_sample": cpu_seconds / (variant.batch_size * len(timed)),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )
    return {
        "samples_per_s": variant.batch_size * len(timed) / seconds,
        "tokens_per_s": tokens / seconds,
        "model_flops_per_s": flops / seconds,
        "padding_share": 1 - tokens / sum(step.padded for step in timed),
        "steps": len(timed),
        **memory,
        "optimizer": str(getattr(trainer.args.optim, "value", trainer.args.optim)),
        "bf16": bool(trainer.args.bf16),
        "adapter_parameters": learnt,
    }


def _step(inputs: Any) -> Step:
    grid = inputs["image_grid_thw"]
    return Step(
        inputs["attention_mask"].sum(dim=1).tolist(),
        int((inputs["labels"] != -100).sum()),
        grid.prod(dim=1).tolist(),
        inputs["input_ids"].numel(),
    )


def _clock(ends: list[tuple[float, float]]) -> Any:
    """Note when steps end: on the clock, and in processor time, which others on the machine hardly change."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append((time.perf_counter(), time.process_time()))

    return Clock()


def random_model(
    config: Literal["tiny", "32b"], image_px: int, folder: Path, attention: str = "sdpa"
) -> tuple[Base, Any]:
    """Make a model with random weights, and the small tokenizer and processor of the tests for either size.

    Parameters
    ----------
    config
        ``tiny``, or ``32b`` for the shape of Qwen3-VL-32B, in bfloat16 on a CUDA GPU.
    image_px
        Images above ``image_px`` squared are made smaller.
    folder
        Where the files of tokenizer and processor go.
    attention
        Implementation, as transformers names it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    where = make_tiny_qwen3_vl(folder / "tiny", image_px=image_px)
    shape = AutoConfig.from_pretrained(where)
    kept = ("image_token_id", "video_token_id", "vision_start_token_id")
    if config == "32b":
        shape = qwen3_vl_32b({name: getattr(shape, name) for name in kept})
        with torch.device("cuda"):
            model = AutoModelForImageTextToText.from_config(
                shape, dtype=dtype, attn_implementation=attention, trust_remote_code=False
            )
    else:
        model = AutoModelForImageTextToText.from_pretrained(
            where, dtype=dtype, attn_implementation=attention, use_safetensors=True, trust_remote_code=False
        )
        if on_gpu:
            torch.nn.Module.to(model, "cuda")
    processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
    return Base(ModelFiles(where, where.name, None), str(where), shape, processor), model


def _rows(variant: Variant) -> Any:
    """Make rows of synthetic pictures, as stored."""
    from datasets import Dataset

    count = variant.batch_size * (variant.steps + WARM_UP)
    names = ("sample_id", "task", "question", "answer", "target_nm", "views", "images")
    rows = [{name: row[name] for name in names} for row in make_rows(count)]
    for number, row in enumerate(rows):
        row["images"] = [{"bytes": _resized(image["bytes"], variant.image_px)} for image in row["images"]]
        turn = number // variant.batch_size if variant.shapes == "grouped" else number
        if variant.shapes != "alike" and turn % 2:
            row |= {"views": [*row["views"], *SLICES], "images": row["images"] * 2}
    return Dataset.from_list(rows)


def _resized(picture: bytes, edge: int) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        stream = io.BytesIO()
        image.resize((edge, edge)).save(stream, "PNG")
    return stream.getvalue()


def _given(variant: Variant, folder: Path) -> dict[str, Any]:
    """Return options that both trainers need to be comparable: as many rows and steps, nothing saved or reported."""
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": variant.batch_size,
        "max_steps": variant.steps + WARM_UP,
        "max_length": None,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": variant.checkpointing,
        "use_liger_kernel": variant.liger,
        **({"optim": variant.optimizer} if variant.optimizer else {}),
        **({} if variant.shapes == "alike" else {"train_sampling_strategy": "sequential"}),
    }


def _ours(variant: Variant, base: Base, model: Any, rows: Any, folder: Path) -> Any:
    from trl import SFTConfig  # pyright: ignore[reportPrivateImportUsage]

    targets = answer_only_targets(len(rows))
    prompts = as_prompts(rows, targets)
    ids = {"train": rows["sample_id"][:], "validation": []}
    data = TrainingData(prompts, prompts, ids, (), {}, ANSWER_ONLY, {"train": targets})
    # the schedule follows validations, of which there are none here
    mine = {**recipe(), "lr_scheduler_type": "constant", "lr_scheduler_kwargs": None, "load_best_model_at_end": False}
    args = SFTConfig(**(mine | _given(variant, folder)))
    args.optim = usable_optimizer(str(getattr(args.optim, "value", args.optim)), speak=False)
    return assemble_trainer(model, base, data, AdapterConfig(), args)


def _trl(variant: Variant, base: Base, model: Any, rows: Any, folder: Path) -> Any:
    """Build TRL's trainer as its documentation does for images: prompt, completion and images as stored columns."""
    import torch
    from datasets import Dataset, Features, Image, List
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportPrivateImportUsage]

    turns = [
        {"prompt": messages(row), "completion": [{"role": "assistant", "content": completion(row)}]}
        for row in rows.to_list()
    ]
    stored: Any = Dataset.from_list(turns)
    stored = stored.add_column("images", rows["images"][:])
    plain = stored.cast(Features({**stored.features, "images": List(Image())}))
    # float32 on a CPU, as ours
    precision = {} if torch.cuda.is_available() else {"bf16": False}
    return SFTTrainer(
        model,
        SFTConfig(**precision, **_given(variant, folder)),
        train_dataset=plain,
        processing_class=base.processor,
        peft_config=lora_config(AdapterConfig()),
    )
