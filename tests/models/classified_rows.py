"""A dataset folder whose answer is how much orange there is, and tiny backbones with random weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from stored_rows import entry, site, source_info

from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import MESH_VIEWS
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
    random = np.random.default_rng(0)
    folder, number, counts = out / TASK, 0, {}
    for partition, (no, yes) in COUNTS.items():
        rows = []
        for answer in ["no"] * no + ["yes"] * yes:
            number += 1
            images = {view: _png(answer, random) for view in MESH_VIEWS}
            place = site(100.0 * number, [10 * number, 10 * number + 1], answer)
            rows.append(make_row(place, images, f"segment-{number // 2}", source_info()))
        write_partition(folder / "fly", TASK, partition, rows, len(rows), 1000)
        counts[partition] = {"no": no, "yes": yes}
    write_card(folder, add_species(folder, TASK, "fly", entry(counts)))
    return folder


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
