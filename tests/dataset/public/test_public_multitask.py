"""Geometry channels of ConnectomeBench2 in our form, and a multi-task model on its rows as they are."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from public_files import row, write

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry_channels import read_geometry
from connectomebench.dataset.data_spec import parse_data_spec
from connectomebench.dataset.public import stream_public
from connectomebench.dataset.public.archives import read_channels
from connectomebench.dataset.public.pictures import FRAMES
from connectomebench.evaluation.evaluator import EvalData, evaluate
from connectomebench.evaluation.model_spec import ModelSpec
from connectomebench.evaluation.results import read_results
from connectomebench.models.multitask_init import MultitaskConfig
from connectomebench.models.multitask_training import train_multitask

PAIR, ERROR = "merge_action", "merge_error_identification"


@pytest.mark.parametrize(("release", "column"), [("first_release", "geometry_single"), ("second_release", "geometry")])
def test_channels_are_those_of_the_pictures(release: str, column: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(release)
    raw = pq.read_table(folder / "test" / "test-00000.parquet").to_pylist()
    for task, own in ((PAIR, "geometry"), (ERROR, column)):
        stored = {one["combined_sample_hash"]: read_channels(one[own]) for one in raw}
        for shown in islice(stream_public(str(folder), task, "mouse", "test", geometry=True), 3):
            found = read_geometry(shown["geometry"])
            theirs = stored[shown["sample_id"]]
            assert found.shape == (3, 7, 224, 224)
            small = found[:, :, 3::7, 3::7]  # each of their 32 pixels is 7 of ours
            seen = theirs[:, 0] > 0.5
            np.testing.assert_allclose(small[:, 0], seen, atol=1e-3)
            np.testing.assert_allclose(small[:, 1], np.where(seen, theirs[:, 1], 0), atol=1e-3)
            masks = (seen, 0) if task == ERROR else (theirs[:, 5], theirs[:, 6])
            for channel, mask in zip((5, 6), masks, strict=True):
                np.testing.assert_allclose(small[:, channel], mask, atol=1e-3)
            for view, frame in enumerate(FRAMES):
                forward = frame[2] @ small[view, 2:5][:, seen[view]]
                assert forward.max() < 1e-3, "no surface that is seen faces away"
                assert np.abs(forward).max() > 0.5
    assert "geometry" not in next(stream_public(str(folder), PAIR, "mouse", "test"))


def test_a_multitask_model_learns_its_rows_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    kinds = ("merge_edit", "split_edit", "adjacent_control", "junction_control")
    folder, numbers = tmp_path / "bench", {"train": range(16), "val": range(100, 108), "test": range(200, 208)}
    for name, own in numbers.items():
        write(folder / name / f"{name}-00000.parquet", [row(n, kinds[n % 4], name) for n in own])
    options = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
    (tmp_path / "vit").mkdir()
    config = {"architecture": "vit_tiny_patch16_224", "model_args": options}
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    specs = [parse_data_spec(f"MICrONS:{folder}:{task}") for task in (PAIR, ERROR)]
    train, validation = ([spec.load(p, geometry=True) for spec in specs] for p in ("train", "val"))
    settings = MultitaskConfig(
        str(tmp_path / "vit"), init="random", geometry=True, epochs=3, batch_size=8, learning_rate=5e-3
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = train_multitask(train, validation, settings, progress=False)
        losses = [epoch["loss"] for epoch in model.record.config["history"]]
        assert losses[-1] < losses[0]
        model.save(tmp_path / "model")
        for task in (PAIR, ERROR):
            shown = EvalData(str(folder), "mouse", task=task)
            path = evaluate(ModelSpec(str(tmp_path / "model")), shown, tmp_path / "results", echo=lambda _: None)
            found = read_results(path)
            assert len(found) == 4 and found["probability"].between(0, 1).all() and set(found["task"]) == {task}
    finally:
        torch.set_num_threads(threads)


def test_the_first_benchmark_has_no_channels(first_benchmark: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="has no geometry channels; leave geometry out"):
        next(stream_public(str(first_benchmark), PAIR, "mouse", "test", geometry=True))
