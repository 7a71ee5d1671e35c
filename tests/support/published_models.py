"""Small trained models with their result records, made by the functions that training and evaluation use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from quick_heads import no_forests

from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.results import result_path
from connectomebench.evaluation.runner import evaluate_model
from connectomebench.models.image_classifier import ImageClassifier
from connectomebench.models.model_record import ModelRecord, write_record
from connectomebench.models.multitask import MultitaskModel
from connectomebench.models.multitask_network import MultitaskViT
from connectomebench.models.network_folder import network_revision
from connectomebench.models.registry import save_head_model
from connectomebench.models.trivial_baseline import TrivialConfig, train_trivial
from connectomebench.models.view_classifier import ViewClassifier, backbone_settings


def train_model(dataset: Path, folder: Path, results: Path | None = None, seed: int = 0, species: str = "fly") -> Path:
    """Train the trivial model on a dataset folder, and let it answer the test partition.

    It chooses among logistic regressions alone: forests take seconds to grow, and a few rows prefer none of them.
    """
    cache = folder.parent / "cache"
    train = load_rows(str(dataset), species, "train", cache=cache)
    with no_forests():
        model = train_trivial(train.dataset, TrivialConfig(folds=2, seed=seed), progress=False)
    save_head_model(model, folder, train.data)
    if results is not None:
        test = load_rows(str(dataset), species, "test", cache=cache)
        path = result_path(results, model.name, test.data.task, species, "test")
        evaluate_model(model, test.dataset, "test", test.data.fingerprint, path)
    return folder


def record_of_vlm(folder: Path, dataset: Path, base: str | None) -> ModelRecord:
    """Write the record of a vision-language model, or of an adapter of ``base``."""
    data = load_rows(str(dataset), "fly", "train", cache=folder.parent / "cache").data
    record = ModelRecord(
        kind="vlm" if base is None else "adapter",
        name=folder.name,
        revision="0" * 16,
        task="merge_action",
        base_model=base,
        base_revision=None,
        config={"steps": 0},
        trained_on=(data,),
        versions={},
    )
    write_record(folder, record)
    return record


def make_classifier(folder: Path, dataset: Path) -> Path:
    """Write an untrained ResNet classifier of tiny pictures."""
    from transformers import ResNetConfig

    network_config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViewClassifier(
            backbone=backbone_settings(network_config),
            classes=["no", "yes"],
            views=["front", "side", "top"],
            input_px=32,
            mean=[0.5] * 3,
            std=[0.5] * 3,
            prior=[0.5, 0.5],
            dropout=0.0,
            temperature=1.0,
        )
    data = load_rows(str(dataset), "fly", "train", cache=folder.parent / "cache").data
    record = ModelRecord(
        kind="image_classifier",
        name="resnet",
        revision=network_revision(network),
        task="merge_action",
        base_model=None,
        base_revision=None,
        config={"init": "random"},
        trained_on=(data,),
        versions={},
    )
    ImageClassifier(network, record).save(folder)
    return folder


def make_multitask(folder: Path, datasets: Sequence[Path], results: Path) -> Path:
    """Write an untrained multi-task model of tiny pictures, and let it answer the test partition of every task."""
    cache = folder.parent / "cache"
    train = [load_rows(str(dataset), "fly", "train", cache=cache).data for dataset in datasets]
    options = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 16}
    views = ["front", "side", "top"]
    tasks = {d.task: {"classes": ["no", "yes"], "views": views, "prior": [0.5, 0.5], "temperature": 1.0} for d in train}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = {"architecture": "vit_tiny_patch16_224", "options": options}
        network = MultitaskViT(encoder, tasks, 32, [0.5] * 3, [0.5] * 3)
    record = ModelRecord(
        kind="multitask_vit",
        name="multitask_vit",
        revision=network_revision(network),
        task=train[0].task,
        base_model=None,
        base_revision=None,
        config={"init": "random", "tasks": list(tasks)},
        trained_on=tuple(train),
        versions={},
    )
    model = MultitaskModel(network, record)
    model.save(folder)
    for dataset in datasets:
        test = load_rows(str(dataset), "fly", "test", cache=cache)
        path = result_path(results, model.name, test.data.task, "fly", "test")
        evaluate_model(model, test.dataset, "test", test.data.fingerprint, path)
    return folder
