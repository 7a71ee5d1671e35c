"""A dataset folder whose answer is how much orange there is, and tiny backbones with random weights."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from stored_rows import entry, site, source_info

from connectomebench.core.geometry_channels import (
    CHANNEL_NAMES,
    GEOMETRY_CHANNELS,
    GEOMETRY_PREFIX,
    GEOMETRY_PX,
    pack_channels,
)
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.schema import make_row, write_partition
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE

TASK = "merge_action"
# more "no" than "yes", as in real data
COUNTS = {"train": (30, 18), "validation": (16, 16), "test": (4, 4)}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: small networks gain nothing from more, and threads that wait for a core lose much."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _png(answer: str, random: np.random.Generator) -> bytes:
    pixels = np.full((40, 40, 3), BACKGROUND, np.uint8)
    pixels[:, :12] = BLUE
    edge = int(random.integers(20, 26) if answer == "yes" else random.integers(4, 10))
    x, y = random.integers(12, 41 - edge), random.integers(0, 41 - edge)
    pixels[y : y + edge, x : x + edge] = ORANGE
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_classified_rows(out: Path) -> Path:
    """Write OUT/TASK as a build does; returns it."""
    return write_task_rows(out, TASK, orange_png)


Draw = Callable[[str, str, np.random.Generator], bytes]
"""Answer and view of a row -> a picture of it."""


def write_task_rows(
    out: Path,
    task: str,
    draw: Draw,
    channels: Draw | None = None,
    species: str = "fly",
    counted: Mapping[str, tuple[int, int]] = COUNTS,
) -> Path:
    """Write OUT/TASK of a task of yes and no as a build does, perhaps with geometry channels; returns it."""
    random = np.random.default_rng(0)
    folder, number, counts = out / task, 0, {}
    shown = len(get_task(task).roles)
    for partition, (no, yes) in counted.items():
        rows = []
        for answer in ["no"] * no + ["yes"] * yes:
            number += 1
            place = site(100.0 * number, [10 * number + k for k in range(shown)], answer, task)
            images = {view: draw(answer, view, random) for view in place.views}
            if channels is not None:
                shapes = [view for view in place.views if view in MESH_VIEWS]
                images |= {GEOMETRY_PREFIX + view: channels(answer, view, random) for view in shapes}
            rows.append(make_row(place, images, f"segment-{number // 2}", source_info(species)))
        write_partition(folder / species, task, partition, rows, len(rows), 1000, geometry=channels is not None)
        counts[partition] = {"no": no, "yes": yes}
    about = entry(counts) | ({"geometry": {"channels": GEOMETRY_CHANNELS}} if channels is not None else {})
    write_card(folder, add_species(folder, task, species, about))
    return folder


def orange_png(answer: str, _view: str, random: np.random.Generator) -> bytes:
    """Draw much orange where the answer is yes."""
    return _png(answer, random)


def reversed_png(answer: str, _view: str, random: np.random.Generator) -> bytes:
    """Draw much orange where the answer is no."""
    return _png("no" if answer == "yes" else "yes", random)


def slice_png(answer: str, view: str, random: np.random.Generator) -> bytes:
    """Draw a bright slice where the answer is yes, and views of meshes that say nothing."""
    if view not in EM_VIEWS:
        return _png("no", random)
    grey = random.integers(150, 220) if answer == "yes" else random.integers(30, 100)
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def dull_png(_answer: str, _view: str, random: np.random.Generator) -> bytes:
    """Draw little orange, whatever the answer."""
    return _png("no", random)


def mask_channels(answer: str, _view: str, random: np.random.Generator) -> bytes:
    """Draw channels whose second mask is large where the answer is yes."""
    found = np.zeros((GEOMETRY_CHANNELS, GEOMETRY_PX, GEOMETRY_PX), np.float32)
    edge = int(random.integers(110, 140) if answer == "yes" else random.integers(20, 50))
    found[CHANNEL_NAMES.index("mask_second"), :edge, :edge] = 1
    return pack_channels(found)


CHOICES = "merge_action_multiple_choice"


def write_choice_rows(out: Path, counts: tuple[int, int, int] = (40, 16, 24)) -> Path:
    """Write OUT/TASK of choices among two to four candidates: the right one is the one with much orange, or none is."""
    random = np.random.default_rng(1)
    folder, number, written = out / CHOICES, 0, {}
    for partition, n in zip(PARTITIONS, counts, strict=True):
        rows = []
        for k in range(n):
            number += 1
            count = 2 + number % 3
            answer = "none" if k % 5 == 0 else "abcd"[k % count]
            place = site(100.0 * number, [10 * number + i for i in range(1 + count)], answer, CHOICES)
            shown = {view: _png("yes" if view[0] == answer else "no", random) for view in place.views}
            rows.append(make_row(place, shown, f"segment-{number // 2}", source_info()))
        write_partition(folder / "fly", CHOICES, partition, rows, len(rows), 1000)
        answers = [row["answer"] for row in rows]
        written[partition] = {answer: answers.count(answer) for answer in sorted(set(answers))}
    write_card(folder, add_species(folder, CHOICES, "fly", entry(written)))
    return folder


def write_vision_transformer(folder: Path, weights: bool = True) -> Path:
    """Write a tiny vision transformer of timm for pictures of 32 px, in timm's own form."""
    import timm
    from safetensors.torch import save_file

    options = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
    folder.mkdir()
    known = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    config = {"architecture": "vit_tiny_patch16_224", "model_args": options, "pretrained_cfg": known}
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **options)
        save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def write_backbone(folder: Path, kind: str, weights: str = "safetensors") -> Path:
    """Write a tiny ResNet or ViT with its image processor; ``weights`` may be ``none`` or ``pickle``."""
    import torch
    from transformers import AutoModel, ResNetConfig, ViTConfig, ViTImageProcessor

    if kind == "resnet":
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    else:
        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
        )
    config.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModel.from_config(config, **({} if kind == "resnet" else {"add_pooling_layer": False}))
    if weights == "safetensors":
        model.save_pretrained(folder)
    elif weights == "pickle":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]).save_pretrained(folder)
    return folder
