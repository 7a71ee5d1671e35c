"""A dataset of masks on disk: loaded by `datasets`, checked, described on its card, drawn and shown in the demo."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from mask_rows import TASK, row
from PIL import Image
from stored_rows import entry

from connectomebench.cli import main
from connectomebench.core.part_masks import TAKEN, read_mask
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species, read_manifest
from connectomebench.dataset.sample_grid import write_grid
from connectomebench.dataset.schema import write_partition
from connectomebench.demo.stored_samples import open_samples
from connectomebench.evaluation.dataset_check import asks_for_masks, check_datasets
from connectomebench.evaluation.mask_check import check_masks
from connectomebench.rendering.mask_overlay import draw_mask

ROWS = {"train": range(8), "validation": range(20, 24), "test": range(40, 50)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masks") / TASK
    for partition in PARTITIONS:
        rows = [row(n) for n in ROWS[partition]]
        write_partition(out / "fly", TASK, partition, rows, len(rows), 1000)
    counts = {p: {"any": len(ROWS[p])} for p in PARTITIONS}
    manifest = add_species(out, TASK, "fly", entry(counts))
    write_grid(out, "fly")
    write_card(out, manifest)
    return out


def test_stock_datasets_reads_masks(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(folder), "fly", split="test", cache_dir=str(tmp_path))
    assert len(rows) == 10 and rows[0]["answer"] == "mask" and len(rows[0]["target_images"]) == 3
    assert (np.asarray(rows[0]["target_images"][0]) == TAKEN).any()


def test_masks_without_learning_are_scored_and_saved(folder: Path, tmp_path: Path, capsys) -> None:
    assert asks_for_masks(str(folder)) and check_datasets(str(folder), "fly") == ([], [])
    check = check_masks(str(folder), "fly", rows_cache=tmp_path)
    miou = {name: found["miou"] for name, found in check.scores.items()}
    assert list(miou) == ["empty", "all", "plane", "watershed"]
    assert all(one.n == 10 and one.n_groups == 5 for one in miou.values())
    assert miou["empty"].value <= 0.5 and miou["all"].value <= 0.5
    assert main(["check", str(folder), "--species", "fly", "--save", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    [one] = printed["datasets"]
    assert [b["baseline"] for b in one["mask_baselines"]] == list(miou) and not printed["failed"]
    stored = read_manifest(folder)["species"]["fly"]["mask_baselines"]
    assert stored[0]["metrics"]["miou"]["value"] == pytest.approx(miou["empty"].value)
    card = (folder / "README.md").read_text()
    assert "What needs no learning" in card and "| fly | watershed |" in card and "trivial" not in card
    assert main(["check", str(folder), "--species", "fly"]) == 0
    assert "masks without learning on 10 test rows in 5 groups" in capsys.readouterr().out


def test_the_grid_and_the_demo_show_the_answer_over_the_pictures(folder: Path) -> None:
    grid = np.asarray(Image.open(folder / "fly-samples.png").convert("RGB")).astype(int)
    # vermilion stands in the legend and in the pictures
    reddish = (grid[..., 0] > grid[..., 2] + 60).sum()
    assert reddish > 400
    samples = open_samples(folder)
    key = (TASK, "fly")
    number = samples.shown(key)[0]
    drawn = samples.answer_pictures(key, number)
    plain = samples.pictures(key, number)
    wanted = row(ROWS["test"][0])
    for shown, picture, target in zip(drawn, plain, wanted["target_images"], strict=True):
        a, b = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in (shown, picture))
        np.testing.assert_array_equal((a != b).any(axis=2), read_mask(target) == TAKEN)


def test_a_mask_of_another_size_is_resized_and_shading_stays() -> None:
    picture = Image.fromarray(np.repeat(np.array([[[0, 114, 178], [0, 57, 89]]], np.uint8), 4, axis=0))
    mask = np.full((8, 4), TAKEN, np.uint8)
    drawn = np.asarray(draw_mask(picture, mask)).astype(int)
    assert drawn.shape == (4, 2, 3) and (drawn[:, 0] >= drawn[:, 1]).all() and (drawn[:, 0, 0] > 100).all()
