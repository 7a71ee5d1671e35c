"""Time LoRA training of a vision-language model: our recipe against TRL's defaults, and single levers.

Run, with `export PYTHONPATH=tests/support`:
    python benchmarks/train_vlm.py --json
    python benchmarks/train_vlm.py --config 32b --steps 8 --batch_size 2 --image_px 1024 --levers --json

Weights are random and pictures synthetic; by default the model is a tiny Qwen3-VL, which says what the code around the
model costs and nothing of a real one. `--config 32b` builds Qwen3-VL-32B's shape in bfloat16 on a CUDA GPU (67 GB of
weights). Both trainers put the same adapter on the same modules of the same model and see the same rows in batches of
the same size. Each training has a process of its own; ours and TRL's take turns, and the faster of `--repeats` counts.

MFU is the FLOP/s that training needs at least (`qwen3_vl_flops.training_flops`) over the device's peak: the published
dense bfloat16 peak of a listed GPU, else that of one large product of matrices, measured in the same run. Peak memory
is `torch.cuda.max_memory_allocated` on a GPU and the process's peak resident memory on a CPU. On a CPU that others use,
compare in processor time, with `OMP_NUM_THREADS=1`: threads that wait for each other count as work.

`--levers` changes one thing at a time: Liger's kernels, attention (ours is sdpa), gradient checkpointing, image size,
batches of equal shapes (rows with three and six images, mixed or grouped), and the 8-bit optimizer. A lever that cannot
run says why.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from bench_arguments import parse_sizes
from qwen3_vl_flops import measured_peak, published_peak
from train_vlm_run import Variant, measure

# by name: what changes, and which measurement it is compared with; None for the first of a pair
_LEVERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "liger_kernel": ({"liger": True}, "ours"),
    "attention_eager": ({"attention": "eager"}, "ours"),
    "attention_flash": ({"attention": "flash_attention_2"}, "ours"),
    "checkpointing_off": ({"checkpointing": False}, "ours"),
    "images_1024": ({"image_px": 1024}, None),
    "images_512": ({"image_px": 512}, "images_1024"),
    "mixed_shapes": ({"shapes": "mixed"}, None),
    "equal_shapes": ({"shapes": "grouped"}, "mixed_shapes"),
    "optimizer_plain": ({"optimizer": "adamw_torch"}, None),
    "optimizer_8bit": ({"optimizer": "adamw_8bit"}, "optimizer_plain"),
}


def in_its_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a new process, so that memory is counted from nothing; tell where it was killed."""
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *arguments).result()
    except BrokenProcessPool:
        return {"cannot_run": "the process was killed, most likely for want of memory"}


def faster(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest of several measurements, or the first where one could not run."""
    failed = [one for one in found if "cannot_run" in one]
    return failed[0] if failed else max(found, key=lambda one: one["samples_per_s"])


def describe_device() -> dict[str, Any]:
    """Name the device, its peak and where that is from."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    published = published_peak(name)
    measured = measured_peak()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "peak_flops_per_s": measured if published is None else published,
        "peak_is": "published, dense bfloat16" if published else "a product of matrices, measured in this run",
        "measured_matmul_flops_per_s": measured,
    }


def levers(ours: Variant, repeats: int) -> dict[str, dict[str, Any]]:
    """Measure every lever alone."""
    found: dict[str, dict[str, Any]] = {}
    for name, (change, _) in _LEVERS.items():
        if change.get("liger") and find_spec("liger_kernel") is None:
            found[name] = {"cannot_run": "liger_kernel is not installed"}
            continue
        found[name] = faster([in_its_own_process(measure, replace(ours, **change)) for _ in range(repeats)])
    return found


def compared(found: dict[str, dict[str, Any]], ours: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Add how many times faster each lever is than what it is compared with."""
    everything = {"ours": ours, **found}
    told = {}
    for name, one in found.items():
        other = _LEVERS[name][1]
        told[name] = one if other is None else one | {"against": other, **times(one, everything[other])}
    return told


def times(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Tell how many times faster one measurement is than another: by the clock and, on a CPU, in processor time."""
    if "cannot_run" in one or "cannot_run" in other:
        return {}
    found = {"times": one["samples_per_s"] / other["samples_per_s"]}
    if "cpu_s_per_sample" in one:
        found["times_in_cpu_time"] = other["cpu_s_per_sample"] / one["cpu_s_per_sample"]
    return found


def with_mfu(one: dict[str, Any], peak: float) -> dict[str, Any]:
    """Put MFU in the place of FLOP/s."""
    if "cannot_run" in one:
        return one
    return {**one, "mfu": one["model_flops_per_s"] / peak}


def rounded(value: Any) -> Any:
    """Round numbers to four significant digits, wherever they are."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=("tiny", "32b"), default="tiny", help="shape of the model")
    parser.add_argument("--steps", type=int, default=10, help="steps that count, an even number")
    parser.add_argument("--batch_size", type=int, default=4, help="rows a step")
    parser.add_argument("--image_px", type=int, default=512, help="edge of the images, px")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each kind, of which the fastest counts")
    parser.add_argument("--levers", action="store_true", help="measure each lever alone, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse_sizes(parser, steps=2, image_px=128, repeats=1)
    if options.steps < 2 or options.steps % 2:
        parser.error("--steps must be even, so that there are as many batches of each shape")
    device = in_its_own_process(describe_device)
    if options.config == "32b" and device["device"] == "CPU":
        parser.error("--config 32b needs a CUDA GPU with 80 GB or more")
    ours = Variant("ours", options.config, options.steps, options.batch_size, options.image_px)
    pairs = [
        [in_its_own_process(measure, one) for one in (ours, replace(ours, trainer="trl"))]
        for _ in range(options.repeats)
    ]
    mine, theirs = (with_mfu(faster(list(one)), device["peak_flops_per_s"]) for one in zip(*pairs, strict=True))
    found = {
        "benchmark": "train_vlm",
        "model": f"{options.config}, random weights",
        **device,
        **{name: getattr(options, name) for name in ("batch_size", "image_px", "repeats")},
        "ours": mine,
        "trl_defaults": theirs,
    }
    found["ours_against_trl"] = times(mine, theirs)
    if options.levers:
        peak = device["peak_flops_per_s"]
        single = {name: with_mfu(one, peak) for name, one in levers(ours, options.repeats).items()}
        found["levers"] = compared(single, mine)
    print(json.dumps(rounded(found)) if options.json else json.dumps(rounded(found), indent=2))


if __name__ == "__main__":
    main()
