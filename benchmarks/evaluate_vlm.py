"""Time a vision-language model that scores the allowed answers against the same model writing its reply.

Run:
    PYTHONPATH=tests/support python benchmarks/evaluate_vlm.py --json
    PYTHONPATH=tests/support python benchmarks/evaluate_vlm.py --model Qwen/Qwen3-VL-2B-Instruct --json
    PYTHONPATH=tests/support python benchmarks/evaluate_vlm.py --config 32b --batch_size 4 8 16 --lengths 8 --json

Without --model it is a tiny Qwen3-VL with random weights, so that only the answer modes are compared, not models;
`--config 32b` takes the shape of Qwen3-VL-32B in bfloat16, on a CUDA GPU. Of several batch sizes, the one that scores
fastest also writes.
Such a model seldom ends its reply, so both bounds are measured: replies of up to 512 tokens, as an analysis before the
answer takes, and of 8, as long as the bare answer of a fine-tuned model. Rows are synthetic, three views of 512 px.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench_arguments import parse_sizes
from load import make_rows
from train_vlm_run import random_model

from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.models.base import Batch
from connectomebench.models.vlm import VisionLanguageModel
from connectomebench.models.vlm_loading import load_vlm

LENGTHS = (512, 8)
IMAGE_PX = 512


def measure(model: VisionLanguageModel, batch: Batch, sizes: Sequence[int], lengths: Sequence[int]) -> dict[str, Any]:
    """Time scoring and writing; decisions a second, seconds a decision, and how many times faster scoring is."""
    count = len(batch["question"])
    scored_by_size: dict[int, float] = {}
    for size in sizes:
        model.batch_size = size
        one = {name: values[:size] for name, values in batch.items()}
        scored_by_size[size] = rate(count, partial(model.predict, batch), partial(model.predict, one))
    model.batch_size = max(scored_by_size, key=scored_by_size.__getitem__)
    one = {name: values[: model.batch_size] for name, values in batch.items()}
    scored = scored_by_size[model.batch_size]
    found: dict[str, Any] = {
        "scored_per_s_by_batch_size": {str(size): round(rate, 3) for size, rate in scored_by_size.items()},
        "batch_size": model.batch_size,
        "scored_per_s": scored,
        "seconds_a_decision": 1 / scored,
    }

    def writer(length: int) -> ChatModelAdapter:
        return ChatModelAdapter(model, AnswerMode("generated", max_new_tokens=length))

    for length in lengths:
        written = rate(count, partial(writer(length).predict, batch), partial(writer(2).predict, one))
        found |= {f"written_{length}_per_s": written, f"ratio_{length}": scored / written}
    return found


def rate(count: int, run: Callable[[], Any], warm_up: Callable[[], Any]) -> float:
    """Rows a second of the better of two runs, after a short one that is not timed."""
    warm_up()
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return count / best


def main() -> None:
    """Build or load the model, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id; a tiny random one by default")
    parser.add_argument("--config", choices=("tiny", "32b"), default="tiny", help="shape of the random model")
    parser.add_argument("--rows", type=int, default=16, help="rows to answer")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[4], help="rows that are computed together")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS, help="most tokens of a written reply")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse_sizes(parser, rows=4, lengths=(16, 8))
    rows = make_rows(options.rows)
    batch = {name: [row[name] for row in rows] for name in ("task", "question", "views", "images")}
    if options.model:
        model = load_vlm(options.model)
    else:
        with tempfile.TemporaryDirectory() as folder:
            base, network = random_model(options.config, IMAGE_PX, Path(folder))
        model = VisionLanguageModel("random", "0", network, base.processor)
    found = {
        "benchmark": "evaluate_vlm",
        "model": options.model or f"{options.config} random Qwen3-VL",
        "device": str(model.model.device),
        "rows": options.rows,
        **measure(model, batch, options.batch_size, options.lengths),
    }
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
    print(json.dumps(rounded) if options.json else "\n".join(f"{key}: {value}" for key, value in rounded.items()))


if __name__ == "__main__":
    main()
