"""A dataset, and a probe on a tiny untrained ViT that was trained on it: what can be explained in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from stored_rows import write_dataset

from connectomebench.dataset.loading import load_rows
from connectomebench.models.probe import ProbeConfig, train_probe
from connectomebench.models.registry import save_head_model


def write_explained_probe(folder: Path) -> tuple[Path, Path]:
    """Write ``merge_action``, the encoder and ``models/probe`` to a folder; returns dataset and model."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = ViTModel(ViTConfig(**sizes, intermediate_size=64, image_size=64, patch_size=16))
    vit.save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder / "vit")
    dataset, model = write_dataset(folder), folder / "models" / "probe"
    train = load_rows(str(dataset), "fly", "train")
    probe = train_probe(train.dataset, ProbeConfig(str(folder / "vit"), c_grid=(0.1,), folds=2), progress=False)
    save_head_model(probe, model, train.data)
    return dataset, model
