"""One vision transformer answers several tasks, each by its own head, from all its pictures and channels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from classified_rows import (
    dull_png,
    mask_channels,
    one_thread,
    orange_png,
    reversed_png,
    slice_png,
    write_choice_rows,
    write_task_rows,
    write_vision_transformer,
)
from safetensors.torch import load_file, save_file

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry_channels import read_geometry
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.ablations import ablate
from connectomebench.evaluation.evaluator import EvalData, evaluate
from connectomebench.evaluation.model_spec import ModelSpec
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.models import multitask_training
from connectomebench.models.model_record import read_record
from connectomebench.models.multitask import MultitaskModel, load_multitask
from connectomebench.models.multitask_init import MultitaskConfig, start_multitask
from connectomebench.models.multitask_network import MultitaskViT, make_encoder
from connectomebench.models.multitask_rows import BlendedSampler, blend_rows, load_blend
from connectomebench.models.multitask_training import BlendTrainer, part_scores, train_multitask
from connectomebench.models.recalibration import Recalibration, save_recalibration
from connectomebench.models.registry import open_model
from connectomebench.models.training_run import training_arguments

MERGE, SPLIT, EM = "merge_action", "split_action", "endpoint_error_identification_with_em"
TASKS = (MERGE, SPLIT, EM)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multitask")
    for task, draw in ((MERGE, orange_png), (SPLIT, reversed_png), (EM, slice_png)):
        write_task_rows(folder, task, draw, counted={"train": (18, 14), "validation": (8, 8), "test": (4, 4)})
    few = {"train": (8, 8), "validation": (4, 4), "test": (2, 2)}
    write_task_rows(folder / "channels", MERGE, dull_png, mask_channels, counted=few)
    write_vision_transformer(folder / "tiny-vit")
    return folder


def rows_of(home: Path, folder: str, partition: str) -> Rows:
    return load_rows(str(home / folder), "fly", partition, cache=home / "cache")


def config_of(home: Path) -> MultitaskConfig:
    return MultitaskConfig(str(home / "tiny-vit"), epochs=4, batch_size=12, learning_rate=1e-2)


def train(home: Path, config: MultitaskConfig, folders=TASKS, checkpoints: Path | None = None) -> MultitaskModel:
    parts = [[rows_of(home, folder, name) for folder in folders] for name in ("train", "validation")]
    return train_multitask(*parts, config, checkpoints, progress=False)


@pytest.fixture(scope="module")
def model(home: Path) -> MultitaskModel:
    return train(home, config_of(home))


@pytest.fixture(scope="module")
def saved(model: MultitaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def of_channels(home: Path) -> MultitaskModel:
    """Its pictures say nothing; only the channels do."""
    return train(home, replace(config_of(home), geometry=True, epochs=5, batch_size=4), ("channels/merge_action",))


def test_each_task_is_learnt_by_its_own_head(home: Path, model: MultitaskModel) -> None:
    # the same pictures have opposite answers in two of the tasks, and only slices tell that of the third
    for task in TASKS:
        test = rows_of(home, task, "test").dataset[:]
        answers = model.predict(test)
        assert balanced_accuracy([a.prediction for a in answers], test["answer"]) >= 0.875, task
        assert all(sum(a.probabilities.values()) == pytest.approx(1) for a in answers)
    record = model.record
    assert (record.kind, record.task, record.tasks, record.base_model) == ("multitask_vit", MERGE, TASKS, "tiny-vit")
    assert [data.task for data in record.trained_on] == list(TASKS)
    assert record.of_task(SPLIT).trained_on == (record.trained_on[1],)
    best = record.config["history"][record.config["best_epoch"] - 1]
    assert best["balanced_accuracy"] == pytest.approx(np.mean([best[f"{task}_balanced_accuracy"] for task in TASKS]))
    assert best["balanced_accuracy"] == max(epoch["balanced_accuracy"] for epoch in record.config["history"])
    assert set(record.config["temperatures"]) == set(TASKS) and len(set(record.config["temperatures"].values())) == 3


def test_it_comes_back_from_its_folder(home: Path, model: MultitaskModel, saved: Path) -> None:
    assert {p.name for p in saved.iterdir()} == {"config.json", "model.safetensors", "connectomebench.json"}
    loaded, record = open_model(str(saved))
    assert record == read_record(saved) == model.record and isinstance(loaded, MultitaskModel)
    merge, split = (rows_of(home, task, "test").dataset[:4] for task in (MERGE, SPLIT))
    # rows of several tasks in any order
    mixed = {name: [v for pair in zip(merge[name], split[name], strict=True) for v in pair] for name in merge}
    apart = [a for pair in zip(model.predict(merge), model.predict(split), strict=True) for a in pair]
    assert loaded.predict(mixed) == apart
    stock = MultitaskViT.from_pretrained(saved)
    assert all(torch.equal(value, loaded.network.state_dict()[name]) for name, value in stock.state_dict().items())
    assert str(home) not in (saved / "connectomebench.json").read_text()


def test_evaluate_answers_two_tasks_from_one_folder(home: Path, saved: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "cache"))
    folder = shutil.copytree(saved, tmp_path / "model")
    revision = read_record(folder).revision
    for task, temperature in ((MERGE, 2.0), (SPLIT, 0.5)):
        fitted = Recalibration("temperature", (temperature,), task, "fly", "multitask_vit", revision, "f" * 32, 32, 17)
        save_recalibration(folder, fitted)
    lines: list[str] = []
    for task, temperature in ((MERGE, 2.0), (SPLIT, 0.5)):
        path = evaluate(ModelSpec(str(folder)), EvalData(str(home / task), "fly"), tmp_path, echo=lines.append)
        assert path == tmp_path / "multitask_vit" / task / "fly" / "test.parquet"
        found = read_results(path)
        assert (found["prediction"] == found["answer"]).mean() > 0.8
        # the calibration of this task, and not that of the other
        calibrated = read_results(path.with_name("test@calibrated.parquet"))
        odds = [np.log(p / (1 - p)) for p in (found["probability"], calibrated["probability"])]
        np.testing.assert_allclose(odds[0] / temperature, odds[1], rtol=1e-3)
    # the head of pairs chooses among candidates
    choices = write_choice_rows(tmp_path, (4, 16, 16))
    found = read_results(evaluate(ModelSpec(str(folder)), EvalData(str(choices), "fly"), tmp_path, echo=lines.append))
    assert (found["prediction"] == found["answer"]).mean() > 0.8
    other = write_task_rows(tmp_path, "merge_error_identification", dull_png)
    with pytest.raises(ConnectomeBenchError) as caught:
        evaluate(ModelSpec(str(folder)), EvalData(str(other), "fly"), tmp_path)
    known = ", ".join(TASKS)
    assert str(caught.value) == f"multitask_vit was trained for {known}, but the rows are of merge_error_identification"


def test_slices_and_channels_change_the_answer(home: Path, model: MultitaskModel, of_channels: MultitaskModel) -> None:
    test = rows_of(home, EM, "test").dataset[:]
    bright = test["answer"].index("yes")
    slices = test["images"][bright][len(MESH_VIEWS) :]
    shown = {**test, "images": [[*images[: len(MESH_VIEWS)], *slices] for images in test["images"]]}
    assert {a.prediction for a in model.predict(shown)} == {"yes"} != {a.prediction for a in model.predict(test)}

    test = rows_of(home, "channels/merge_action", "test").dataset[:]
    answers = of_channels.predict(test)
    assert [a.prediction for a in answers] == test["answer"]
    turned = of_channels.predict({**test, "geometry": test["geometry"][::-1]})
    assert [a.prediction for a in turned] == test["answer"][::-1]
    with pytest.raises(ConnectomeBenchError, match=r"trained on geometry channels, and the rows have none"):
        of_channels.predict({name: values for name, values in test.items() if name != "geometry"})
    with pytest.raises(ConnectomeBenchError, match="channels of 2 views and shows 3 of meshes"):
        of_channels.predict({**test, "geometry": [channels[:2] for channels in test["geometry"]]})
    # what is taken from the pictures is taken from the channels
    blank = ablate(test, "blank_images")
    assert not any(read_geometry(channels).any() for channels in blank["geometry"])
    assert len({a.probabilities["yes"] for a in of_channels.predict(blank)}) == 1
    swapped = read_geometry(ablate(test, "swapped_colours")["geometry"][0])
    assert (swapped[:, [6, 5]] == read_geometry(test["geometry"][0])[:, [5, 6]]).all()


def test_an_interrupted_run_ends_in_the_same_model(
    home: Path, model: MultitaskModel, tmp_path: Path, monkeypatch
) -> None:
    calls: list[int] = []

    def breaks(network, part) -> np.ndarray:
        calls.append(len(calls))
        if len(calls) > 2 * len(TASKS) + 1:  # in the third epoch
            raise KeyboardInterrupt
        return part_scores(network, part)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(multitask_training, "part_scores", breaks)
        train(home, config_of(home), checkpoints=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-16").is_dir()
    resumed = train(home, config_of(home), checkpoints=tmp_path / "run")
    assert resumed.record == model.record
    state = resumed.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    with pytest.raises(ConnectomeBenchError, match=r"multitask\.mix was 'rows', is 'equal'"):
        train(home, replace(config_of(home), mix="equal"), checkpoints=tmp_path / "run")


def test_an_epoch_has_all_tasks_with_balanced_answers(home: Path) -> None:
    loaded = [rows_of(home, task, "train") for task in (MERGE, EM)]
    few = Rows(loaded[1].dataset.select(range(8, 28)), loaded[1].data)
    blend = blend_rows([loaded[0], few], "training", geometry=False)
    assert (len(blend), blend.starts.tolist()) == (52, [0, 32])
    for mix, sizes in (("rows", (32, 20)), ("equal", (26, 26))):
        order = np.array(list(BlendedSampler(blend, 0, mix)))  # type: ignore[arg-type]
        for (low, high), size in zip(((0, 32), (32, 52)), sizes, strict=True):
            own = order[(order >= low) & (order < high)]
            assert len(own) == size and blend.labels[own].mean() == 0.5
    batch = load_blend(blend, 16, [40, 3, 33, 0])
    assert [group["pictures"].shape[:2] for group in batch["groups"]] == [(2, 3), (2, 6)]
    assert batch["rows"].tolist() == [3, 0, 40, 33] and batch["parts"].tolist() == [0, 0, 1, 1]
    assert batch["labels"].tolist() == blend.labels[[3, 0, 40, 33]].tolist()
    changed = replace(blend, change_seed=0)
    first, again, later = (load_blend(changed, 16, [n])["groups"][0]["pictures"] for n in (3, 3, 52 + 3))
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_it_starts_from_the_weights_of_timm(home: Path) -> None:
    tasks = {MERGE: {"classes": ["no", "yes"], "views": ["front", *EM_VIEWS], "prior": [0.5, 0.5], "temperature": 1.0}}
    network, base, revision = start_multitask(replace(config_of(home), geometry=True), tasks)
    assert base == "tiny-vit" and revision and network.settings["mean"] == [0.4, 0.5, 0.6]
    stored = load_file(home / "tiny-vit" / "model.safetensors")
    own = network.encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in stored.items() if not name.startswith("head"))
    colours = network.encoder.patch_embed.proj.weight
    assert network.slice_patches is not None and network.geometry_patches is not None
    assert torch.equal(network.slice_patches.weight, colours)
    even = torch.full((1, 7, 8, 8), 0.5)
    torch.testing.assert_close(network.geometry_patches(even), network.encoder.patch_embed.proj(even[:, :3]))
    # one view without the new embeddings is what timm's own network sees
    torch.nn.init.zeros_(network.view_embedding), torch.nn.init.zeros_(network.kind_embedding)
    picture = torch.randint(0, 255, (2, 1, 32, 32, 3), dtype=torch.uint8)
    scaled = (picture[:, 0].float() / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.25])
    with torch.inference_mode():
        expected = network.eval().encoder(scaled.permute(0, 3, 1, 2))
        torch.testing.assert_close(network.features(picture, ["front"]), expected)
    # place embeddings fit larger pictures
    wide, _, _ = start_multitask(replace(config_of(home), input_px=64), tasks)
    assert wide.encoder.pos_embed.shape[1] == 65
    rows = blend_rows([rows_of(home, MERGE, "test")], "test", geometry=False)
    arguments = training_arguments(config_of(home), 8, home / "unused")
    trainer = BlendTrainer(network, arguments, train_dataset=rows, eval_dataset=rows)
    decayed = trainer.get_decay_parameter_names(network)
    assert "heads.merge_action.weight" in decayed and "encoder.patch_embed.proj.weight" in decayed
    assert not {"view_embedding", "kind_embedding", "encoder.pos_embed", "encoder.cls_token"} & set(decayed)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"class_token": False, "global_pool": "avg"}, None),
        ({"reg_tokens": 4, "no_embed_class": True}, None),
        ({"pos_embed": "none", "pre_norm": True}, None),
        ({"patch_size": 12}, "patches of 12 px do not fill"),
    ],
)
def test_kinds_of_vision_transformers(options, problem) -> None:
    encoder = {
        "architecture": "vit_tiny_patch16_224",
        "options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8} | options,
    }
    if problem is not None:
        with pytest.raises(ValueError, match=problem):
            make_encoder(encoder, 32)
        return
    tasks = {MERGE: {"classes": ["no", "yes"], "views": ["front"], "prior": [0.5, 0.5], "temperature": 1.0}}
    network = MultitaskViT(encoder, tasks, 32, [0.5] * 3, [0.5] * 3).eval()
    torch.nn.init.zeros_(network.view_embedding), torch.nn.init.zeros_(network.kind_embedding)
    picture = torch.randint(0, 255, (2, 1, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network.encoder((picture[:, 0].float() / 255 - 0.5).div(0.5).permute(0, 3, 1, 2))
        torch.testing.assert_close(network.features(picture, ["front"]), expected)


def test_what_cannot_be_trained_is_one_line(home: Path, tmp_path: Path) -> None:
    config = config_of(home)
    with pytest.raises(ConnectomeBenchError, match=r"training rows of merge_action \(fly\) have no geometry channels"):
        train(home, replace(config, geometry=True))
    with pytest.raises(ConnectomeBenchError, match="leave out augment or geometry"):
        replace(config, geometry=True, augment="published")
    rows = [rows_of(home, MERGE, "train")]
    with pytest.raises(ConnectomeBenchError, match="32 rows of merge_action are in training and validation"):
        train_multitask(rows, rows, config, progress=False)
    with pytest.raises(ConnectomeBenchError, match="split_action has no rows in one of training and validation"):
        train_multitask([*rows, rows_of(home, SPLIT, "train")], [rows_of(home, MERGE, "validation")], config)
    for backbone, problem in (
        ("resnet18", "resnet18 is not a plain vision transformer"),
        ("no/where/here", "there is no backbone"),
        (str(write_vision_transformer(tmp_path / "bare", weights=False)), "has no model.safetensors"),
    ):
        init = "random" if backbone == "resnet18" else "pretrained"
        with pytest.raises(ConnectomeBenchError, match=problem):
            train(home, replace(config, backbone=backbone, init=init), (MERGE,))
    odd = json.loads((home / "tiny-vit" / "config.json").read_text())
    odd["model_args"]["act_layer"] = "relu"
    (tmp_path / "bare" / "config.json").write_text(json.dumps(odd))
    with pytest.raises(ConnectomeBenchError, match="the option 'act_layer', which is not supported"):
        train(home, replace(config, backbone=str(tmp_path / "bare"), init="random"), (MERGE,))


def _edit(name: str, **changes):
    def edit(folder: Path) -> None:
        path = folder / name
        raw = json.loads(path.read_text())
        path.write_text(json.dumps({**raw, **{key: change(raw[key]) for key, change in changes.items()}}))

    return edit


def _reweighed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["view_embedding"] += 1
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_edit("config.json", encoder=lambda e: {**e, "architecture": "local-dir:/tmp"}), "timm has no architecture"),
        (_edit("config.json", encoder=lambda e: {**e, "architecture": "resnet18"}), "not a plain vision transformer"),
        (_edit("config.json", encoder=lambda e: {**e, "options": {"depth": 10**9}}), "cannot have depth"),
        (_edit("config.json", encoder=lambda e: {**e, "options": {"act_layer": "x"}}), "cannot have act_layer"),
        (_edit("config.json", tasks=lambda t: {**t, "spilt_action": t[MERGE]}), "no task 'spilt_action'"),
        (_edit("config.json", tasks=lambda t: {**t, MERGE: {**t[MERGE], "temperature": 0}}), "temperature is out"),
        (_edit("config.json", tasks=lambda t: {**t, MERGE: {**t[MERGE], "views": ["front"] * 3}}), "a view twice"),
        (_edit("config.json", tasks=lambda t: {MERGE: t[MERGE]}), "does not fit config.json"),
        (_edit("config.json", geometry=lambda _: True), "does not fit config.json"),
        (_edit("config.json", input_px=lambda _: 40), "does not fit config.json"),
        (_edit("connectomebench.json", config=lambda c: {**c, "tasks": [SPLIT]}), "not the record of a model"),
        (_edit("connectomebench.json", config=lambda c: {**c, "tasks": 3}), "not the record of a model"),
        (_reweighed, "are not those of its record"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{"), "cannot read"),
    ],
)
def test_damaged_folders_are_one_line(saved: Path, tmp_path: Path, damage, problem: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "model")
    damage(folder)
    with pytest.raises(ConnectomeBenchError, match=problem) as caught:
        load_multitask(folder)
    assert "\n" not in str(caught.value)
