from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from mask_rows import TASK, row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import NOTHING, TAKEN, decode_masks, encode_masks, stored_masks
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.dataset.rows import DataRecord
from connectomebench.dataset.schema import features
from connectomebench.evaluation.comparison import as_text, compare
from connectomebench.evaluation.console_summary import summary_lines
from connectomebench.evaluation.mask_scores import mean_scores, score_texts
from connectomebench.evaluation.results import read_results, summarise
from connectomebench.evaluation.runner import evaluate_model
from connectomebench.models.mask_baselines import (
    HALVING,
    MaskBaseline,
    halve_by_plane,
    halve_by_watershed,
)
from connectomebench.models.mask_training import MaskTrainingConfig, mask_loss, train_masks
from connectomebench.models.mask_unet import load_mask_model
from connectomebench.models.registry import load_model


def rows(numbers) -> Dataset:
    return Dataset.from_list([row(n) for n in numbers], features=features(get_task(TASK)))


def record(task=TASK) -> DataRecord:
    source = {"name": "bars", "version": "1", "license": "cc0-1.0", "citation": ""}
    return DataRecord(task, "fly", "train", None, None, "f", {"any": 24}, source)


def dumbbell(px=64):
    """A thick and a smaller ball, joined by a thin neck."""
    y, x = np.mgrid[:px, :px]
    big = (x - 20) ** 2 + (y - 32) ** 2 < 14**2
    small = (x - 48) ** 2 + (y - 32) ** 2 < 8**2
    neck = (abs(y - 32) < 2) & (x > 20) & (x < 48)
    return big | small | neck, small


@pytest.mark.parametrize("halve", [halve_by_plane, halve_by_watershed])
def test_a_dumbbell_is_halved_at_its_neck(halve):
    segment, small = dumbbell()
    taken = halve(segment)
    assert not (taken & ~segment).any()
    assert (taken & small).sum() / (taken | small).sum() > 0.85
    empty = np.zeros((16, 16), bool)
    assert not halve(empty).any()


def test_baselines_answer_with_masks_of_the_segment():
    data = rows(range(3))
    batch = data[:3]
    truth = [encode_masks(stored_masks(MESH_VIEWS, targets)) for targets in batch["target_images"]]
    scores = {}
    for name in HALVING:
        said = [answer.prediction for answer in MaskBaseline(name).predict(batch)]
        scores[name] = mean_scores(score_texts(said, truth))
        for text, right in zip(said, truth, strict=True):
            for view, mask in decode_masks(text or "").items():
                np.testing.assert_array_equal(mask != NOTHING, decode_masks(right)[view] != NOTHING)
    assert scores["empty"]["iou"] == 0 and scores["empty"]["miou"] <= 0.5
    assert scores["all"]["miou"] <= 0.5 and scores["all"]["iou"] > 0


def test_the_loss_names_parts_only_where_one_is_the_smaller():
    scores = torch.full((2, 1, 10, 10), -6.0)
    scores[:, :, :, :3] = 6
    weight = torch.ones_like(scores)
    taken = (scores > 0).float()
    half = torch.zeros_like(taken)
    half[:, :, :5] = 1
    assert (mask_loss(scores, taken, weight) < 0.1).all()
    assert (mask_loss(scores, 1 - taken, weight) > 2).all()
    right = torch.where(half > 0, 6.0, -6.0)
    assert torch.allclose(mask_loss(right, half, weight), mask_loss(right, 1 - half, weight))


@pytest.fixture(scope="module")
def trained():
    config = MaskTrainingConfig(input_px=32, width=8, depth=2, epochs=14, patience=14, batch_size=6, seed=1)
    return train_masks(rows(range(24)), rows(range(100, 106)), [record()], config)


def test_a_small_network_learns_thick_and_thin(trained, tmp_path):
    held_out = rows(range(200, 212))
    path = evaluate_model(trained, held_out, "test", "f", tmp_path / "unet" / "test.parquet")
    base = evaluate_model(MaskBaseline("plane"), held_out, "test", "f", tmp_path / "plane" / "test.parquet")
    frame = read_results([path, base])
    found = {summary.model: summary.estimates["miou"] for summary in summarise(frame)}
    assert found["mask_unet"].value > 0.8 > found["plane"].value
    assert found["mask_unet"].lower <= found["mask_unet"].value <= found["mask_unet"].upper
    assert found["mask_unet"].n == 12 and found["mask_unet"].n_groups == 6
    [comparison] = compare(frame, "mask_unet", "plane")
    assert comparison.difference.lower > 0 and np.isnan(comparison.mcnemar_p)
    assert "mean IoU of both parts" in as_text([comparison]) and "Cohen" not in as_text([comparison])
    lines = summary_lines(read_results(path))
    assert "mean IoU of both parts" in lines[0] and "Dice" in lines[1]


def test_it_is_saved_and_loaded_with_the_same_answers(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"))
    batch = rows(range(300, 303))[:3]
    assert [a.prediction for a in loaded.predict(batch)] == [a.prediction for a in trained.predict(batch)]
    assert loaded.revision == trained.revision and trained.record.config["best_epoch"] >= 1
    for answer in trained.predict(batch):
        masks = decode_masks(answer.prediction)
        taken = sum(int((m == TAKEN).sum()) for m in masks.values())
        assert 2 * taken <= sum(int((m != NOTHING).sum()) for m in masks.values())
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"depth": 2', '"depth": 3'))
    with pytest.raises(ConnectomeBenchError, match=r"does not fit config.json"):
        load_mask_model(tmp_path / "model")
    config.write_text("{}")
    with pytest.raises(ConnectomeBenchError, match="keys missing or foreign: depth"):
        load_mask_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_px": 100, "depth": 3}, "multiple of 8"),
        ({"width": 12}, "multiple of 8"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": 0}, "above 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConnectomeBenchError, match=message):
        MaskTrainingConfig(**settings)


def test_rows_that_do_not_fit_are_named():
    with pytest.raises(ConnectomeBenchError, match="no masks to learn"):
        train_masks(rows(range(2)), rows(range(2)), [record("merge_action")])
    with pytest.raises(ConnectomeBenchError, match="lack the columns"):
        train_masks(rows(range(2)).remove_columns("target_images"), rows(range(2)), [record()])
