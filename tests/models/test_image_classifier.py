from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from classified_rows import one_thread, write_backbone, write_classified_rows
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax
from torch.utils.data import DataLoader

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.models import image_classifier_trainer
from connectomebench.models.image_classifier import ImageClassifier, load_image_classifier
from connectomebench.models.image_classifier_init import ImageClassifierConfig, start_network
from connectomebench.models.image_classifier_trainer import (
    BalancedSampler,
    ImageRows,
    ViewTrainer,
    balanced_order,
    load_batch,
    score_rows,
)
from connectomebench.models.image_classifier_training import fit_temperature, train_image_classifier
from connectomebench.models.model_record import read_record, write_record
from connectomebench.models.training_run import memory_hint, training_arguments, used_precision
from connectomebench.models.view_classifier import ViewClassifier, calibrated, load_pixels, network_scores

RATES = {"resnet": 1e-2, "vit": 3e-3}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("image-classifier")
    write_classified_rows(folder)
    for kind in RATES:
        write_backbone(folder / f"tiny-{kind}", kind)
    return folder


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, Rows]:
    parts = ("train", "validation", "test")
    return {p: load_rows(str(home / "merge_action"), "fly", p, cache=home / "cache") for p in parts}


def config_of(home: Path, kind: str) -> ImageClassifierConfig:
    return ImageClassifierConfig(
        str(home / f"tiny-{kind}"), input_px=32, epochs=5, batch_size=8, learning_rate=RATES[kind]
    )


def train(rows: dict[str, Rows], config: ImageClassifierConfig, checkpoints: Path | None = None) -> ImageClassifier:
    data = [rows["train"].data]
    return train_image_classifier(
        rows["train"].dataset, rows["validation"].dataset, data, config, checkpoints, progress=False
    )


@pytest.fixture(scope="module")
def models(home: Path, rows) -> dict[str, ImageClassifier]:
    return {kind: train(rows, config_of(home, kind)) for kind in RATES}


def log_loss(model: ImageClassifier, images: list, answers: list[str]) -> float:
    """Of the bare scores; both answers are equally common in these rows."""
    codes = np.array([("no", "yes").index(answer) for answer in answers])
    return -float(log_softmax(network_scores(model.network, images), axis=1)[np.arange(len(codes)), codes].mean())


def saved(model: ImageClassifier, folder: Path) -> Path:
    model.save(folder)
    return folder


@pytest.mark.parametrize("kind", RATES)
def test_learns_what_can_be_seen_and_comes_back_from_its_folder(kind, models, rows, tmp_path: Path) -> None:
    model, test = models[kind], rows["test"].dataset[:]
    answers = model.predict(test)
    assert balanced_accuracy([a.prediction for a in answers], test["answer"]) == 1
    folder = saved(model, tmp_path / "model")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "connectomebench.json"}
    loaded = load_image_classifier(folder)
    assert loaded.predict(test) == answers
    assert (loaded.revision, loaded.record) == (model.revision, read_record(folder))

    record = loaded.record
    assert (record.kind, record.name, record.task) == ("image_classifier", kind, "merge_action")
    assert record.trained_on == (rows["train"].data,)
    assert record.base_model == record.config["backbone"] == f"tiny-{kind}"
    assert str(tmp_path.parent.parent) not in (folder / "connectomebench.json").read_text()
    assert record.config["validation_rows"] == 32
    settings = json.loads((folder / "config.json").read_text())
    assert (settings["classes"], settings["views"]) == (["no", "yes"], list(MESH_VIEWS))
    assert (settings["mean"], settings["std"]) == ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    assert settings["prior"] == [31 / 50, 19 / 50]

    judge = rows["validation"].dataset
    kept = record.config["history"][record.config["best_epoch"] - 1]
    assert kept["log_loss"] == pytest.approx(log_loss(loaded, judge["images"], judge["answer"]))

    stock = ViewClassifier.from_pretrained(folder)
    flat = [image for row in test["images"] for image in row]
    with torch.inference_mode():
        scores = stock(load_pixels(flat, 32).reshape(-1, 3, 32, 32, 3)).numpy()
    expected = calibrated(scores.astype(float), settings["temperature"], np.array(settings["prior"]))
    np.testing.assert_allclose([a.probabilities["yes"] for a in answers], expected[:, 1], atol=1e-5)


def test_an_answer_is_of_the_images_of_its_row_in_their_order_alone(models, rows) -> None:
    test = rows["test"].dataset
    for model in models.values():
        together = model.predict(test[:])
        alone = [model.predict(test[i : i + 1])[0] for i in range(len(test))]
        stored = model.predict({"images": test.with_format("arrow")[:]["images"].to_pylist()})
        for answer, same, bytes_ in zip(together, alone, stored, strict=True):
            assert same.probabilities == pytest.approx(answer.probabilities, abs=1e-7)
            assert bytes_ == answer
            assert sum(answer.probabilities.values()) == pytest.approx(1)
        mixed = [test[0]["images"][0], *test[-1]["images"][:2]]  # little orange, much, much
        one, other = model.predict({"images": [mixed, mixed[::-1]]})
        assert abs(one.probabilities["yes"] - other.probabilities["yes"]) > 1e-4
    model = models["vit"]
    assert model.predict({"images": []}) == []
    images = test[0]["images"]
    with pytest.raises(ConnectomeBenchError, match="trained on 3 images per row and got 2"):
        model.predict({"images": [images[:2]]})
    with pytest.raises(ConnectomeBenchError, match="views front, side, top and got top, side, front"):
        model.predict({"images": [images[::-1]], "views": [MESH_VIEWS[::-1]]})


def test_the_prediction_is_the_answer_most_above_its_prior(models, rows) -> None:
    model, test = models["vit"], rows["test"].dataset[:]
    rare = ViewClassifier(**{**model.network.settings, "prior": [0.9999, 0.0001]})
    rare.load_state_dict(model.network.state_dict())
    answers = ImageClassifier(rare, model.record).predict(test)
    assert [a.prediction for a in answers] == test["answer"]
    assert all(a.probabilities["yes"] < 0.5 for a in answers)


def interrupt(monkeypatch, after: int) -> list[int]:
    """Break every training off while it validates epoch ``after`` + 1; counts the validations of it."""
    calls: list[int] = []

    def breaks(*arguments) -> np.ndarray:
        calls.append(len(calls))
        if len(calls) > after:
            raise KeyboardInterrupt
        return score_rows(*arguments)

    monkeypatch.setattr(image_classifier_trainer, "score_rows", breaks)
    return calls


def test_an_interrupted_run_ends_in_the_same_model(home, rows, models, tmp_path, monkeypatch) -> None:
    for kind, model in models.items():
        config, folder = config_of(home, kind), tmp_path / kind
        with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
            interrupt(broken, after=2)
            train(rows, config, folder)
        assert newest(folder).name == "checkpoint-12"
        # what was validated before the interruption is not trained again
        with monkeypatch.context() as counted:
            calls = interrupt(counted, after=3)
            assert train(rows, config, folder).record == model.record
            assert len(calls) == 3
        assert {p.name for p in folder.iterdir()} == {
            "training_config.yaml",
            "checkpoint-30",
            f"checkpoint-{6 * model.record.config['best_epoch']}",
        } | ({"checkpoint-24"} if model.record.config["best_epoch"] == 5 else set())
        # nothing is left to train, in another place either
        moved = folder.rename(tmp_path / f"{kind}-moved")
        with monkeypatch.context() as counted:
            calls = interrupt(counted, after=0)
            assert train(rows, config, moved).record == model.record
            assert not calls


def newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


@pytest.fixture(scope="module")
def stopped(home, rows, tmp_path_factory) -> Path:
    """Checkpoints of a training whose last epoch is worse than the first: validation says the opposite."""
    folder = tmp_path_factory.mktemp("stopped") / "checkpoints"
    train(opposite(rows), stopping(home), folder)
    return folder


def opposite(rows: dict[str, Rows]) -> dict[str, Rows]:
    flipped = rows["validation"].dataset.map(lambda row: {"answer": {"no": "yes", "yes": "no"}[row["answer"]]})
    return {**rows, "validation": replace(rows["validation"], dataset=flipped)}


def stopping(home: Path) -> ImageClassifierConfig:
    return replace(config_of(home, "vit"), patience=2, seed=3)


def test_checkpoints_of_another_training_are_refused(home, rows, stopped, tmp_path, monkeypatch) -> None:
    config, folder = stopping(home), Path(shutil.copytree(stopped, tmp_path / "checkpoints"))
    whole = opposite(rows)
    with pytest.raises(ConnectomeBenchError, match=r"classifier\.seed was 3, is 1.*--resume never"):
        train(whole, replace(config, seed=1), folder)
    order = [1, 0, *range(2, 48)]
    turned = {**whole, "train": replace(rows["train"], dataset=rows["train"].dataset.select(order))}
    with pytest.raises(ConnectomeBenchError, match=r"checkpoints of another configuration \(rows was"):
        train(turned, config, folder)
    (folder / "training_config.yaml").unlink()
    with pytest.raises(ConnectomeBenchError, match="no readable training_config"):
        train(whole, config, folder)
    assert {p.name for p in folder.iterdir()} == {"checkpoint-6", "checkpoint-18"}
    # one epoch, from the beginning
    short = replace(config, epochs=1)
    again = train_image_classifier(
        rows["train"].dataset,
        whole["validation"].dataset,
        [rows["train"].data],
        short,
        folder,
        resume=False,
        progress=False,
    )
    assert len(again.record.config["history"]) == 1
    assert {p.name for p in folder.iterdir()} == {"checkpoint-6", "training_config.yaml"}


def test_a_damaged_checkpoint_is_made_again(home, rows, stopped, tmp_path) -> None:
    config, whole = stopping(home), opposite(rows)
    expected = train(whole, config, stopped).record
    folder = Path(shutil.copytree(stopped, tmp_path / "cut"))
    weights = newest(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert train(whole, config, folder).record == expected
    # the first epoch is the best one, and its weights are the model
    shutil.rmtree(folder / "checkpoint-6")
    with pytest.raises(ConnectomeBenchError, match="checkpoint-6, the best checkpoint so far, is missing or damaged"):
        train(whole, config, folder)


class Payload:
    """What a pickle can do: call a function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_runs_no_code(home, rows, tmp_path, monkeypatch, name: str) -> None:
    config, folder = config_of(home, "vit"), tmp_path / "checkpoints"
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        interrupt(broken, after=1)
        train(rows, config, folder)
    torch.save({"state": Payload(tmp_path / "executed")}, newest(folder) / name)
    with pytest.raises(ConnectomeBenchError, match="holds more than tensors, and was not loaded") as caught:
        train(rows, config, folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    torch.load(newest(folder) / name, weights_only=False)
    assert (tmp_path / "executed").exists()


def test_training_stops_and_keeps_the_best_epoch(home, rows, stopped, tmp_path, monkeypatch) -> None:
    # Validation rows that say the opposite: every epoch after the first is worse.
    flipped = opposite(rows)["validation"].dataset
    model = train(opposite(rows), stopping(home))
    history = model.record.config["history"]
    assert (model.record.config["best_epoch"], len(history)) == (1, 3)
    kept = log_loss(model, flipped["images"], flipped["answer"])
    assert history[0]["log_loss"] == pytest.approx(kept)
    assert history[-1]["log_loss"] > kept + 0.1
    # Scores that point the wrong way say nothing: the probabilities are those of the training rows.
    for answer in model.predict(flipped[:4]):
        assert answer.probabilities["yes"] == pytest.approx(19 / 50, abs=0.01)
    # Resumed once it has stopped, it does not train on.
    with monkeypatch.context() as counted:
        calls = interrupt(counted, after=0)
        folder = shutil.copytree(stopped, tmp_path / "checkpoints")
        assert train(opposite(rows), stopping(home), Path(folder)).record == model.record
        assert not calls


def test_temperature_brings_stated_probabilities_to_the_share_that_is_right() -> None:
    random = np.random.default_rng(0)
    prior = np.array([0.7, 0.3])
    true_scores = random.normal(0, 2, (4000, 2))
    chance = calibrated(true_scores, 1.0, prior)[:, 1]
    labels = (random.random(4000) < chance).astype(np.intp)
    assert fit_temperature(true_scores * 3, labels, prior) == pytest.approx(3, rel=0.1)
    sure = np.eye(2)[labels] * 50
    stated = calibrated(sure, fit_temperature(sure, labels, prior), prior).max(axis=1)
    assert 1e-4 < 1 - stated.max() < 1e-2


def test_an_epoch_shows_every_answer_equally_often() -> None:
    labels = np.array([0] * 90 + [1] * 7 + [2] * 3)
    seen = [balanced_order(labels, np.random.default_rng([0, epoch])) for epoch in range(2)]
    assert not np.array_equal(*seen)
    for order in seen:
        assert len(order) == 100
        assert sorted(np.bincount(labels[order])) == [33, 33, 34]
        times = np.bincount(order, minlength=100)
        assert times[:90].max() == 1
        assert times[90:97].max() - times[90:97].min() <= 1
        assert len(set(labels[order[:20]])) > 1
    sampler = BalancedSampler(labels, 0)
    for epoch, order in enumerate(seen):
        sampler.set_epoch(epoch)
        assert list(sampler) == order.tolist()


def test_processes_that_load_ahead_load_the_same(rows) -> None:
    part = ImageRows(rows["validation"].dataset.select_columns(["images"]).with_format("arrow"), np.arange(32), [])
    load = partial(load_batch, part, 16)
    # threads that decode exist before the processes are made of this one
    alone = [load(range(start, start + 8)) for start in range(0, 32, 8)]
    numbers = [list(range(start, start + 8)) for start in range(0, 32, 8)]
    together = list(DataLoader(range(32), batch_sampler=numbers, collate_fn=load, num_workers=2, timeout=60))
    assert len(together) == 4
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("pixels", "labels", "rows"))
        assert one["pixels"].shape == (8, 3, 16, 16, 3)


def test_the_rate_rises_and_falls_as_a_cosine(models) -> None:
    history = models["vit"].record.config["history"]
    # 3 of 30 steps warm up; each epoch has 6, and its last rate is kept
    expected = [3e-3 * (1 + np.cos(np.pi * (last - 3) / 27)) / 2 for last in (5, 11, 17, 23, 29)]
    assert [epoch["learning_rate"] for epoch in history] == pytest.approx(expected)


def test_every_epoch_has_its_own_rows(home, rows, monkeypatch) -> None:
    seen: list[list[int]] = []

    def watched(rows_, px, numbers, layout) -> dict[str, torch.Tensor]:
        seen.append(list(numbers))
        return load_batch(rows_, px, numbers, layout)

    monkeypatch.setattr(image_classifier_trainer, "load_batch", watched)
    train(rows, replace(config_of(home, "vit"), epochs=3))
    labels = np.array([("no", "yes").index(answer) for answer in rows["train"].dataset["answer"]])
    expected = [balanced_order(labels, np.random.default_rng([0, epoch])) for epoch in range(3)]
    assert [number for batch in seen for number in batch] == np.concatenate(expected).tolist()
    assert {len(batch) for batch in seen} == {8}


@pytest.mark.parametrize("kind", RATES)
def test_training_starts_from_the_backbone(kind, home, rows) -> None:
    from transformers import AutoModel

    options = {"add_pooling_layer": False} if kind == "vit" else {}
    backbone = AutoModel.from_pretrained(home / f"tiny-{kind}", **options)
    # too small a rate to move a weight
    model = train(rows, replace(config_of(home, kind), epochs=1, learning_rate=1e-12))
    own, stored = (dict(network.named_parameters()) for network in (model.network.backbone, backbone))
    assert own.keys() == stored.keys()
    assert all(torch.allclose(own[name].cpu(), value, rtol=0, atol=1e-10) for name, value in stored.items())


def test_biases_and_norms_do_not_decay(home, rows) -> None:
    config = config_of(home, "resnet")
    network, _, _ = start_network(config, ["no", "yes"], list(MESH_VIEWS), [0.5, 0.5])
    part = ImageRows(None, np.zeros(8, np.intp), [""] * 8)
    args = training_arguments(config, 8, home / "unused")
    trainer = ViewTrainer(network, args, train_dataset=part, eval_dataset=part)
    decayed = {parameter for parameter in trainer.get_decay_parameter_names(network)}
    assert decayed and all(network.get_parameter(name).ndim > 1 for name in decayed)
    groups = trainer.create_optimizer().param_groups
    by_decay = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in groups}
    assert by_decay == {0.01: {2, 4}, 0.0: {1}}


@pytest.mark.parametrize(("amx", "used"), [(True, "bfloat16"), (False, "float32")])
def test_the_machine_chooses_the_precision_and_the_record_names_it(home, rows, monkeypatch, amx, used) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert used_precision("auto") == used
    assert (used_precision("float32"), used_precision("bfloat16")) == ("float32", "bfloat16")
    assert training_arguments(config_of(home, "resnet"), 8, home / "unused").bf16 == amx
    model = train(rows, replace(config_of(home, "resnet"), epochs=1))
    assert model.record.config["precision"] == used


def test_a_run_is_not_resumed_in_another_precision(home, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    train(rows, replace(config_of(home, "resnet"), epochs=1), checkpoints=tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with pytest.raises(ConnectomeBenchError, match="precision"):
        train(rows, replace(config_of(home, "resnet"), epochs=1), checkpoints=tmp_path)


def test_random_weights_rest_on_no_model(home, rows) -> None:
    config = replace(config_of(home, "vit"), init="random", input_px=16, epochs=1)
    model = train(rows, config)
    assert (model.record.base_model, model.record.base_revision) == (None, None)
    assert model.network.backbone.config.image_size == 16
    assert model.record.revision != train(rows, replace(config, seed=1)).record.revision
    with pytest.raises(ConnectomeBenchError, match="cannot load backbone"):
        train(rows, replace(config, init="pretrained"))  # position embeddings of another size


Change = Callable[[Path], None]


def edit(file: str, **changes) -> Change:
    def change(folder: Path) -> None:
        values = json.loads((folder / file).read_text())
        values.update(changes)
        (folder / file).write_text(json.dumps(values))

    return change


def edit_backbone(**changes) -> Change:
    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        values["backbone"].update(changes)
        (folder / "config.json").write_text(json.dumps(values))

    return change


def edit_weights(change_state: Callable[[dict], object]) -> Change:
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change_state(state)
        save_file(state, folder / "model.safetensors")

    return change


BROKEN = [
    (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    (lambda folder: (folder / "config.json").write_text("["), "not the configuration of an image classifier"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04"), "cannot read"),
    (edit("config.json", classes=["yes", "no"]), "classes are not no, yes"),
    (edit("config.json", views=[]), "views are no names"),
    (edit("config.json", views=["front"]), "classifier.weight has shape"),
    (edit("config.json", input_px=10**9), "input_px"),
    (edit("config.json", prior=[0.5, float("nan")]), "prior"),
    (edit("config.json", temperature=0), "out of range"),
    (edit("config.json", colour="red"), "foreign: colour"),
    (edit("config.json", temperature=1.0), "not those of its record"),
    (edit_backbone(auto_map={"AutoModel": "x--y"}), "not allowed: auto_map"),
    (edit_backbone(_attn_implementation="x/y"), "not allowed: _attn_implementation"),
    (edit_backbone(model_type="bert"), "not the configuration of an image classifier"),
    (edit_backbone(hidden_size=10**7), "does not fit"),
    (edit_backbone(num_hidden_layers=1), "has shape"),
    (edit_weights(lambda state: state.pop("classifier.bias")), r"classifier\.bias has shape none, not \(2,\)"),
    (edit_weights(lambda state: state.update(extra=torch.zeros(1))), r"extra has shape \(1,\), not none"),
    (edit_weights(lambda state: state["classifier.bias"].add_(1)), "not those of its record"),
]


def test_folders_that_are_not_a_sound_classifier_are_refused(models, tmp_path: Path) -> None:
    good = saved(models["vit"], tmp_path / "good")
    for number, (change, message) in enumerate(BROKEN):
        folder = Path(shutil.copytree(good, tmp_path / str(number)))
        change(folder)
        with pytest.raises(ConnectomeBenchError, match=message) as caught:
            load_image_classifier(folder)
        assert "\n" not in str(caught.value)
    write_record(good, replace(models["vit"].record, kind="probe"))
    with pytest.raises(ConnectomeBenchError, match="kind probe, not an image classifier"):
        load_image_classifier(good)


def test_backbones_that_cannot_be_used_are_refused(home, rows, tmp_path: Path) -> None:
    from transformers import BertConfig

    def refused(folder: Path, message: str, **changes) -> None:
        with pytest.raises(ConnectomeBenchError, match=message) as caught:
            train(rows, replace(config_of(home, "vit"), backbone=str(folder), **changes))
        assert "\n" not in str(caught.value)

    refused(write_backbone(tmp_path / "pickle", "vit", "pickle"), "cannot load backbone.*safetensors")
    refused(tmp_path / "absent", "cannot load backbone")
    lacking = Path(shutil.copytree(home / "tiny-vit", tmp_path / "lacking"))
    edit_weights(lambda state: state.pop("layernorm.weight"))(lacking)
    refused(lacking, r"lacks weights \(for example layernorm\.weight\)")
    BertConfig(
        vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ).save_pretrained(tmp_path / "text")
    refused(tmp_path / "text", "bert does not take images", init="random")


def test_a_loss_that_is_no_number_names_the_samples(home, rows) -> None:
    with pytest.raises(ConnectomeBenchError, match="not finite in epoch 1") as caught:
        train(rows, replace(config_of(home, "vit"), learning_rate=1e30, warmup=0.0))
    named = str(caught.value).split("samples ")[1].split(", ")
    assert len(named) == 8
    assert set(named) <= set(rows["train"].dataset["sample_id"])


def test_no_memory_says_what_to_lower() -> None:
    config = ImageClassifierConfig(batch_size=64)
    with pytest.raises(ConnectomeBenchError, match="batch_size 64; lower batch_size"), memory_hint(config):
        torch.empty(2**50)
    with pytest.raises(ConnectomeBenchError, match="lower batch_size"), memory_hint(config):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="other"), memory_hint(config):
        raise RuntimeError("other")


def test_settings_and_rows_are_checked(home, rows) -> None:
    wrong = [{"init": "zeros"}, {"input_px": 4}, {"epochs": 0}, {"batch_size": 1}, {"warmup": 1.0}, {"dropout": 1.0}]
    for changes in wrong:
        with pytest.raises(ConnectomeBenchError, match=next(iter(changes))):
            ImageClassifierConfig(**changes)
    config, whole = config_of(home, "vit"), rows["train"]

    def refused(message: str, **changes) -> None:
        with pytest.raises(ConnectomeBenchError, match=message):
            train({**rows, "train": replace(whole, **changes)}, config)

    refused("training rows lack the columns sample_id", dataset=whole.dataset.remove_columns("sample_id"))
    refused("all 30 training rows have the same answer", dataset=whole.dataset.select(range(30)))
    refused("'maybe', not one of no, yes", dataset=whole.dataset.map(lambda row: {"answer": "maybe"}))
    refused("0 different sets of views", dataset=whole.dataset.select([]))
    refused("different views", dataset=whole.dataset.map(lambda row: {"views": row["views"][::-1]}))
    refused("asks for a place", data=replace(whole.data, task="split_proposal"))
    with pytest.raises(ConnectomeBenchError, match="train on one task, not on merge_action, split_action"):
        data = [whole.data, replace(whole.data, task="split_action")]
        train_image_classifier(whole.dataset, rows["validation"].dataset, data, config)
