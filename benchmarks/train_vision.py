"""Time the training of an image classifier: images a second, against the plain torch loop over the same Parquet.

Run:
    python benchmarks/train_vision.py --json

Rows of three 512 x 512 pictures are written as a build writes them. Both ways train the same randomly initialised
ResNet in the same run, on all views of a row in a 2 x 2 grid, for the same number of epochs, with the same batches and
AdamW. Ours is `train_image_classifier`, whole: decoding, epochs, validation, checkpoints and temperature, in float32
and in bfloat16. The plain loop is what one writes first: `load_dataset`, a `DataLoader`, Pillow's resize of the grid,
and steps in float32, without any validation.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes
from features import open_rows, timed, write_rows
from load import INFO, SPECIES, TASK

from connectomebench.core.tasks import YES_NO
from connectomebench.dataset.rows import DataRecord

DEPTHS = {"resnet-18": ("basic", [2, 2, 2, 2]), "resnet-50": ("bottleneck", [3, 4, 6, 3])}
VALIDATION_ROWS = 8


def write_backbone(folder: Path, name: str) -> Path:
    """Write the configuration of a ResNet."""
    from transformers import ResNetConfig

    layer, depths = DEPTHS[name]
    sizes = [64, 128, 256, 512] if layer == "basic" else [256, 512, 1024, 2048]
    ResNetConfig(layer_type=layer, depths=depths, hidden_sizes=sizes).save_pretrained(folder)
    return folder


def train_plainly(dataset: Any, backbone: Path, px: int, epochs: int, batch: int) -> None:
    """Train with a plain loop."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(backbone)
    network = AutoModel.from_config(config)
    head = nn.Linear(config.hidden_sizes[-1], 2)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3, weight_decay=1e-4)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def collate(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = []
        for row in rows:
            views = [image.convert("RGB") for image in row["images"]]
            edge = views[0].width
            whole = Image.new("RGB", (2 * edge, 2 * edge), (255, 255, 255))
            for number, view in enumerate(views):
                whole.paste(view, (number % 2 * edge, number // 2 * edge))
            pixels = torch.from_numpy(np.array(whole.resize((px, px), Image.Resampling.BICUBIC)))
            pictures.append((pixels.permute(2, 0, 1).float() / 255 - mean) / std)
        return torch.stack(pictures), torch.tensor([YES_NO.index(row["answer"]) for row in rows])

    network.train()
    for _ in range(epochs):
        for pixels, labels in DataLoader(dataset, batch, shuffle=True, drop_last=True, collate_fn=collate):
            scores = head(network(pixel_values=pixels).last_hidden_state.mean(dim=(2, 3)))
            loss = nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def train_ours(dataset: Any, backbone: Path, px: int, epochs: int, batch: int, precision: str, folder: Path) -> None:
    """Train as the script does."""
    from connectomebench.models.image_classifier_init import classifier_config
    from connectomebench.models.image_classifier_training import train_image_classifier

    config = classifier_config(
        backbone=str(backbone),
        init="random",
        layout="grid",
        input_px=px,
        epochs=epochs,
        patience=epochs,
        batch_size=batch,
        precision=precision,
    )
    counts = {answer: dataset["answer"][:].count(answer) for answer in YES_NO}
    data = DataRecord(TASK, SPECIES, "train", None, None, "0" * 16, counts, {"name": INFO.name})
    validation = dataset.select(range(VALIDATION_ROWS))
    train_image_classifier(dataset, validation, [data], config, folder, resume=False, progress=False)


def measure(rows: int, epochs: int, px: int, batch: int, backbone: str, folder: Path) -> dict[str, Any]:
    """Write rows and train both ways."""
    import datasets

    datasets.disable_progress_bars()
    dataset = open_rows(write_rows(folder / TASK, rows), folder / "cache")
    network = write_backbone(folder / backbone, backbone)
    few = dataset.select(range(2 * batch))
    train_plainly(few, network, px, 1, batch)
    train_ours(few, network, px, 1, batch, "float32", folder / "warm")
    images = 3 * epochs * (rows // batch) * batch
    plain_s = timed(lambda: train_plainly(dataset, network, px, epochs, batch))[0]
    own_s = {
        name: timed(lambda name=name: train_ours(dataset, network, px, epochs, batch, name, folder / name))[0]
        for name in ("float32", "bfloat16")
    }
    return {
        "benchmark": "train_vision",
        "backbone": f"{backbone}, random",
        "images_per_s_plain": images / plain_s,
        "images_per_s_float32": images / own_s["float32"],
        "images_per_s_bfloat16": images / own_s["bfloat16"],
        "ratio_float32": plain_s / own_s["float32"],
        "ratio": plain_s / min(own_s.values()),
        "rows": rows,
        "epochs": epochs,
        "input_px": px,
        "batch_size": batch,
    }


def main() -> None:
    """Parse the command line and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=192, help="rows of three pictures")
    parser.add_argument("--epochs", type=int, default=3, help="epochs")
    parser.add_argument("--input_px", type=int, default=224, help="edge of the grid")
    parser.add_argument("--batch_size", type=int, default=16, help="rows a step")
    parser.add_argument("--backbone", choices=tuple(DEPTHS), default="resnet-18", help="which ResNet")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse_sizes(parser, rows=8, epochs=1, input_px=64, batch_size=4)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            options.rows, options.epochs, options.input_px, options.batch_size, options.backbone, Path(folder)
        )
    rounded = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps(rounded) if options.json else "\n".join(f"{k}: {v}" for k, v in rounded.items()))


if __name__ == "__main__":
    main()
