"""Image classifiers on all views of a row in one picture, as ResNets were published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from classified_rows import one_thread, write_backbone, write_classified_rows
from torch.utils.data import DataLoader

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.models import image_classifier_training, pixel_cache
from connectomebench.models.image_classifier import ImageClassifier, load_image_classifier
from connectomebench.models.image_classifier_init import ImageClassifierConfig, classifier_config, start_network
from connectomebench.models.image_classifier_trainer import BalancedSampler, ImageRows, load_batch
from connectomebench.models.image_classifier_training import small_sample, train_image_classifier
from connectomebench.models.training_run import measure
from connectomebench.models.view_grid import arrange, cell_px, grid_shape


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid-classifier")
    write_classified_rows(folder)
    write_backbone(folder / "tiny-resnet", "resnet")
    return folder


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, Rows]:
    parts = ("train", "validation", "test")
    return {p: load_rows(str(home / "merge_action"), "fly", p, cache=home / "cache") for p in parts}


def grid_config(home: Path, **changes) -> ImageClassifierConfig:
    given = {"input_px": 32, "epochs": 4, "batch_size": 8, "learning_rate": 1e-2, "augment": "published", **changes}
    return classifier_config(backbone=str(home / "tiny-resnet"), layout="grid", **given)


def train(rows: dict[str, Rows], config: ImageClassifierConfig) -> ImageClassifier:
    data = [rows["train"].data]
    model = train_image_classifier(
        rows["train"].dataset, rows["validation"].dataset, data, config, resume=False, progress=False
    )
    assert isinstance(model, ImageClassifier)
    return model


@pytest.fixture(scope="module")
def model(home, rows) -> ImageClassifier:
    return train(rows, grid_config(home))


def test_the_published_settings_are_the_defaults_of_a_grid(home) -> None:
    config = classifier_config(layout="grid", train="full", augment="published")
    assert (config.epochs, config.patience, config.batch_size, config.input_px) == (10, 5, 256, 224)
    assert (config.learning_rate, config.weight_decay, config.warmup) == (1e-3, 1e-4, 0)
    assert config.choose_by == "accuracy"
    assert classifier_config(epochs=None) == ImageClassifierConfig()
    for name in ("layout", "train", "augment", "choose_by", "precision"):
        with pytest.raises(ConnectomeBenchError, match=f"unknown {name} 'other'; choose .* or "):
            classifier_config(**{name: "other"})
    network = start_network(grid_config(home), ["no", "yes"], list(MESH_VIEWS), [0.5, 0.5])[0]
    assert (network.classifier.in_features, network.layout) == (16, "grid")


@pytest.mark.parametrize(("views", "shape"), [(2, (1, 2)), (3, (2, 2)), (6, (2, 3))])
def test_every_view_has_its_cell(views: int, shape: tuple[int, int]) -> None:
    height, width = cell_px(views, 25, "grid")
    assert grid_shape(views) == shape
    cells = torch.arange(views, dtype=torch.uint8)[None, :, None, None, None].expand(2, -1, height, width, 3)
    pictures = arrange(cells, 25, "grid")
    assert pictures.shape == (2, 1, 25, 25, 3)
    seen = torch.full(shape, 255)
    for view in range(views):
        row, column = divmod(view, shape[1])
        cell = pictures[1, 0, row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert (cell == view).all()
        seen[row, column] = view
    assert (pictures == 255).sum() == 2 * 3 * (25 * 25 - views * height * width)
    assert (seen == 255).sum() == shape[0] * shape[1] - views


def test_learns_saves_and_answers_with_its_layout(model, rows, tmp_path: Path) -> None:
    test = rows["test"].dataset[:]
    assert model.record.config["layout"] == "grid"
    history = model.record.config["history"]
    assert max(entry["accuracy"] for entry in history) >= 0.9
    assert model.record.config["best_epoch"] == 1 + max(
        range(len(history)), key=lambda i: (history[i]["accuracy"], -history[i]["log_loss"])
    )
    model.save(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings["layout"] == "grid"
    loaded = load_image_classifier(tmp_path / "model")
    answers = loaded.predict(test)
    assert answers == model.predict(test)
    alone = [loaded.predict(rows["test"].dataset[i : i + 1])[0] for i in range(len(answers))]
    assert [a.probabilities["yes"] for a in alone] == pytest.approx([a.probabilities["yes"] for a in answers], abs=1e-7)
    (tmp_path / "model" / "config.json").write_text(json.dumps({**settings, "layout": "circle"}))
    with pytest.raises(ConnectomeBenchError, match="layout is not grid"):
        load_image_classifier(tmp_path / "model")


def test_a_frozen_backbone_keeps_weights_and_means(home, rows, model) -> None:
    config = grid_config(home, train="frozen", epochs=2)
    start = start_network(config, ["no", "yes"], list(MESH_VIEWS), [0.5, 0.5])[0].backbone.state_dict()
    frozen = train(rows, config).network
    assert all(torch.equal(value.cpu(), start[name]) for name, value in frozen.backbone.state_dict().items())
    trained = model.network.backbone.state_dict()
    moved = [
        name for name, value in trained.items() if value.is_floating_point() and not torch.equal(value, start[name])
    ]
    assert any("running_mean" in name for name in moved) and any("convolution.weight" in name for name in moved)


def test_small_takes_few_rows_and_the_shares_of_all(home, rows, monkeypatch) -> None:
    monkeypatch.setattr(image_classifier_training, "SMALL_ROWS", 20)
    small = train(rows, grid_config(home, train="small", epochs=1))
    assert small.record.config["train_rows"] == 20
    assert small.network.settings["prior"] == [31 / 50, 19 / 50]
    labels = np.array([0] * 30 + [1] * 5)
    drawn = small_sample(labels, 20, seed=3)
    assert np.bincount(labels[drawn]).tolist() == [15, 5]
    assert np.unique(drawn).tolist() == drawn.tolist()
    assert small_sample(labels, 99, 0).tolist() == list(range(35))
    assert not np.array_equal(drawn, small_sample(labels, 20, seed=4))


def image_rows(rows: Rows, **more) -> ImageRows:
    stored = rows.dataset.select_columns(["images"]).with_format("arrow")
    labels = np.array([("no", "yes").index(answer) for answer in rows.dataset["answer"]])
    return ImageRows(stored, labels, list(rows.dataset["sample_id"]), tuple(MESH_VIEWS), **more)


def test_a_change_follows_from_seed_turn_and_row_alone(rows) -> None:
    part = image_rows(rows["train"], change_seed=7)
    sampler = BalancedSampler(part.labels, 7, with_turns=True)
    numbers: list[int] = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        numbers += list(sampler)
    # no turn of a row comes twice, though rows of the rarer answer are drawn again in an epoch
    assert len(set(numbers)) == len(numbers) == 96
    plain = BalancedSampler(part.labels, 7)
    assert [number % 48 for number in numbers[:48]] == list(plain)

    load = partial(load_batch, part, 16, layout="grid")
    whole = load(numbers[:16])["pixels"]
    halves = [load(numbers[start:16:2])["pixels"] for start in (0, 1)]
    assert torch.equal(whole[0::2], halves[0]) and torch.equal(whole[1::2], halves[1])
    loader = DataLoader(numbers[:16], 4, collate_fn=load, num_workers=1, timeout=60)  # type: ignore[arg-type]
    assert torch.equal(torch.cat([batch["pixels"] for batch in loader]), whole)
    kept = replace(part, change_seed=None)
    assert not torch.equal(load_batch(kept, 16, [n % 48 for n in numbers[:16]], "grid")["pixels"], whole)
    row = numbers[0] % 48
    assert not torch.equal(load([row])["pixels"], load([48 + row])["pixels"])


def test_pictures_are_decoded_once_and_each_time_without_room(home, rows, tmp_path, monkeypatch) -> None:
    part = image_rows(rows["validation"])
    decoded = part.decoded(16, "grid", tmp_path, None)
    assert decoded.cells is not None and decoded.cells.shape == (32, 3, 8, 8, 3)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(ImageRows, "row_images", None)  # nothing is read any more
    cached = load_batch(decoded, 16, [3, 1], "grid")["pixels"]
    monkeypatch.undo()
    assert torch.equal(cached, load_batch(part, 16, [3, 1], "grid")["pixels"])
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert part.decoded(16, "grid", tmp_path, None).cells is None


def test_bfloat16_learns_the_same(home, rows) -> None:
    half = train(rows, grid_config(home, precision="bfloat16", augment="none"))
    assert max(entry["accuracy"] for entry in half.record.config["history"]) >= 0.9
    assert half.network.classifier.weight.dtype == torch.float32


def test_accuracy_and_balanced_accuracy_are_two_things() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    found = measure(np.tile([1.0, 0.0], (10, 1)), labels)
    assert (found["accuracy"], found["balanced_accuracy"]) == (0.8, 0.5)
