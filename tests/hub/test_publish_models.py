"""Models go to a Hub that speaks the real protocol, and come back by their names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hub_client import Done, HubClient
from hub_server import WRITER, Fault, HubServer
from published_models import make_classifier, make_multitask, record_of_vlm, train_model
from published_rows import add_rows
from stored_rows import write_dataset
from tiny_qwen3_vl import edit_json, make_tiny_adapter

from connectomebench import load_model
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.results import read_results
from connectomebench.models.model_record import FILE_NAME, read_record

DATA = "brains/merge_action"
MODEL = "brains/trivial"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its results."""
    folder = tmp_path_factory.mktemp("trained")
    return train_model(dataset, folder / "model", folder / "results"), folder / "results"


@pytest.fixture(scope="module")
def adapter(tiny_vlm: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of `brains/tiny-vl`, in a folder that lacks nothing."""
    folder = make_tiny_adapter(tiny_vlm, tmp_path_factory.mktemp("adapter") / "tiny-lora")
    edit_json(folder / "adapter_config.json", base_model_name_or_path="brains/tiny-vl")
    record_of_vlm(folder, dataset, "brains/tiny-vl")
    return folder


def published(client: HubClient, *words: str | Path) -> str:
    done = client.publish(*words, token=WRITER)
    assert done.status == 0, done.err
    return done.out


def line_of(done: Done) -> str:
    assert done.status == 2 and "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_model_comes_back_with_its_results(
    hub: HubServer, client: HubClient, dataset: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, results = trained
    published(client, dataset, "--repo", DATA)
    out = published(client, model, "--repo", MODEL, "--results", results, "--dataset", DATA)
    assert "7 added" in out and "tag" not in out
    record = read_record(model)
    files = hub.files(MODEL, kind="model")
    assert set(files) - {".gitattributes"} == {
        "README.md",
        "config.json",
        "head.skops",
        FILE_NAME,
        "calibration.png",
        ".eval_results/merge_action.yaml",
        "results/merge_action/fly/test.parquet",
    }
    card = hub.content(MODEL, "README.md", kind="model").decode()
    assert record.revision in card and "4 " in card
    (entry,) = yaml.safe_load(hub.content(MODEL, ".eval_results/merge_action.yaml", kind="model"))
    assert entry["dataset"] == {"id": DATA, "task_id": "fly", "revision": hub.repo(DATA).branches["main"]}

    words = ["--model", MODEL, "--dataset", DATA, "--species", "fly", "--out", tmp_path / "pulled"]
    done = client.evaluate(*words)
    assert done.status == 0, done.err
    path = tmp_path / "pulled" / "brains--trivial" / "merge_action" / "fly" / "test.parquet"
    assert str(path) in done.out and "4 rows in 4 groups" in done.out
    here, there = (read_results(folder).drop(columns="latency_s") for folder in (results, path))
    assert set(there["model"]) == {MODEL} and here.drop(columns="model").equals(there.drop(columns="model"))
    assert published(client, model, "--repo", MODEL) == f"{MODEL}: nothing to change\n", "results there stay"
    # records under the published name are this model's too
    published(client, model, "--repo", MODEL, "--results", tmp_path / "pulled", "--dataset", DATA)
    name = "results/merge_action/fly/test.parquet"
    held = pq.read_table(pa.BufferReader(hub.content(MODEL, name, kind="model")))
    assert set(held["model"].to_pylist()) == {record.name}


def test_a_model_of_two_tasks_has_results_of_both(
    hub: HubServer, client: HubClient, dataset: Path, tmp_path: Path
) -> None:
    tasks = ("merge_action", "split_action")
    folders = [dataset, write_dataset(tmp_path, "split_action")]
    model = make_multitask(tmp_path / "model", folders, tmp_path / "results")
    for task, folder in zip(tasks, folders, strict=True):
        published(client, folder, "--repo", f"brains/{task}")
    repos = [word for task in tasks for word in ("--dataset", f"brains/{task}")]
    published(client, model, "--repo", "brains/multi", "--results", tmp_path / "results", *repos)
    card = hub.content("brains/multi", "README.md", kind="model").decode()
    assert card.count("Split error correction, Split action evaluation: multitask_vit") == 1
    record = read_record(model)
    sent = json.loads(hub.content("brains/multi", FILE_NAME, kind="model"))
    for task, data in zip(tasks, sent["trained_on"], strict=True):
        assert f"| {task} | fly | test | 4 | 4 |" in card and f"| {task} | [brains/{task}](" in card
        assert f"| `{task}` | front, side, top |" in card
        (entry,) = yaml.safe_load(hub.content("brains/multi", f".eval_results/{task}.yaml", kind="model"))
        assert entry["dataset"]["id"] == data["repo"] == f"brains/{task}"
        held = hub.content("brains/multi", f"results/{task}/fly/test.parquet", kind="model")
        assert set(pq.read_table(pa.BufferReader(held))["task"].to_pylist()) == {task}
    index = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    assert {one["task"]["name"] for one in index} == {"Split error correction", "Split action evaluation"}
    assert published(client, model, "--repo", "brains/multi") == "brains/multi: nothing to change\n"
    words = ["--model", "brains/multi", "--dataset", "brains/split_action", "--species", "fly", "--out", tmp_path / "o"]
    done = client.evaluate(*words)
    assert done.status == 0 and "4 rows in 4 groups" in done.out, done.err
    assert set(read_results(tmp_path / "o")["model_revision"]) == {record.revision}


def test_two_published_models_of_one_kind_stand_beside_each_other(
    hub: HubServer, client: HubClient, dataset: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    published(client, dataset, "--repo", DATA)
    other = train_model(dataset, tmp_path / "model", seed=1)
    folders = {"brains/first": trained[0], "brains/second": other}
    out = tmp_path / "results"
    for repo, folder in folders.items():
        published(client, folder, "--repo", repo)
        words = ["--model", repo, "--dataset", DATA, "--species", "fly", "--out", out]
        assert client.evaluate(*words).status == 0
    found = read_results(out).groupby("model")["model_revision"].unique()
    assert {name: tuple(of) for name, of in found.items()} == {
        repo: (read_record(folder).revision,) for repo, folder in folders.items()
    }
    # a new version of a repository is another model: its records do not replace those of the old one unasked
    published(client, other, "--repo", "brains/first", "--replace")
    words = ["--model", "brains/first", "--dataset", DATA, "--species", "fly", "--out", out]
    assert "--name" in line_of(client.evaluate(*words))
    assert client.evaluate(*words, "--name", "brains/first-2").status == 0
    assert set(read_results(out)["model"]) == {*folders, "brains/first-2"}


def test_ablations_are_not_published(
    hub: HubServer, client: HubClient, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, results = trained
    shutil.copytree(results, tmp_path / "both")
    (path,) = (tmp_path / "both").rglob("test.parquet")
    table = pq.read_table(path)
    changed = table.set_column(table.column_names.index("condition"), "condition", pa.array(["blank_images"] * 4))
    pq.write_table(changed, path.with_name("a.parquet"))  # is read first
    published(client, model, "--repo", MODEL, "--results", tmp_path / "both")
    (name,) = (name for name in hub.files(MODEL, kind="model") if name.startswith("results/"))
    there = pq.read_table(pa.BufferReader(hub.content(MODEL, name, kind="model")))
    assert there["condition"].to_pylist() == ["default"] * 4


def test_another_model_needs_replace_and_the_old_one_stays_at_its_commit(
    hub: HubServer, client: HubClient, dataset: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, results = trained
    published(client, dataset, "--repo", DATA)
    published(client, model, "--repo", MODEL, "--results", results)
    first = hub.repo(MODEL, "model").branches["main"]
    other = train_model(dataset, tmp_path / "model", seed=1)
    assert "holds another model" in line_of(client.publish(other, "--repo", MODEL, token=WRITER))
    out = published(client, other, "--repo", MODEL, "--replace")
    # results and calibration are those of the model that went
    assert "2 deleted" in out and "Replace trivial" in hub.repo(MODEL, "model").history("main")[0].title
    words = ["--model", MODEL, "--dataset", DATA, "--species", "fly", "--out", tmp_path / "out"]
    for revision, folder in ((first, model), ("main", other)):
        assert client.evaluate(*words, "--model-revision", revision, "--overwrite").status == 0
        (path,) = (tmp_path / "out").rglob("*.parquet")
        assert set(pq.read_table(path)["model_revision"].to_pylist()) == {read_record(folder).revision}


def test_adapter_and_base_come_back_through_stock_peft(
    hub: HubServer, client: HubClient, tiny_vlm: Path, adapter: Path, dataset: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = tmp_path / "tiny-vl"
    base.mkdir()
    for path in tiny_vlm.iterdir():
        (base / path.name).symlink_to(path)
    assert "lacks config.json" in line_of(_publish_base(client, base, dataset))
    for path in tiny_vlm.iterdir():
        (base / path.name).unlink()
        (base / path.name).write_bytes(path.read_bytes())
    # the connection breaks while the weights are sent; the same command goes on
    hub.faults.append(Fault("PUT /large/", "cut"))
    assert "connection to the Hub was lost" in line_of(_publish_base(client, base, dataset))
    assert ("model", "brains/tiny-vl") not in hub.store.repos or len(hub.repo("brains/tiny-vl", "model").commits) == 1
    hub.faults.clear()
    assert _publish_base(client, base, dataset).status == 0
    published(client, adapter, "--repo", "brains/tiny-lora")
    assert set(hub.files("brains/tiny-lora", kind="model")) == {
        ".gitattributes",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        FILE_NAME,
    }

    ids = [5, 9, 300, 12]
    local = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(tiny_vlm), str(adapter))
    with torch.inference_mode():
        expected = local(input_ids=torch.tensor([ids])).logits[0, -1]
    assert client.adapted("brains/tiny-vl", "brains/tiny-lora", ids) == pytest.approx(expected.tolist(), abs=1e-5)
    words = ["--model", "brains/tiny-lora", "--dataset", dataset, "--species", "fly", "--out", tmp_path / "out"]
    done = client.evaluate(*words)
    assert done.status == 0, done.err
    assert len(read_results(tmp_path / "out")) == 4


def test_an_image_classifier_comes_back(hub: HubServer, client: HubClient, dataset: Path, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "model", dataset)
    published(client, folder, "--repo", "brains/resnet")
    words = ["--model", "brains/resnet", "--dataset", dataset, "--species", "fly", "--out"]
    done = client.evaluate(*words, tmp_path / "pulled")
    assert done.status == 0, done.err
    rows = load_rows(str(dataset), "fly", "test", cache=tmp_path / "cache").dataset[:]
    here = [answer.probabilities["yes"] for answer in load_model(str(folder)).predict(rows)]
    assert read_results(tmp_path / "pulled")["probability"].tolist() == pytest.approx(here)
    split = write_dataset(tmp_path / "other", "split_action")
    line = line_of(client.evaluate("--model", "brains/resnet", "--dataset", split, "--species", "fly"))
    assert "was trained for merge_action" in line


def _publish_base(client: HubClient, base: Path, dataset: Path) -> Done:
    record_of_vlm(base, dataset, None)
    return client.publish(base, "--repo", "brains/tiny-vl", token=WRITER)


def test_results_of_two_runs_come_together(
    hub: HubServer, client: HubClient, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, results = trained
    published(client, model, "--repo", MODEL, "--results", results)
    rows = read_results(results)
    mouse = rows.assign(species="mouse", dataset_fingerprint="e" * 32)
    (tmp_path / "more").mkdir()
    mouse.to_parquet(tmp_path / "more" / "test.parquet")
    published(client, model, "--repo", MODEL, "--results", tmp_path / "more")
    kept = [path for path in hub.files(MODEL, kind="model") if path.startswith("results/")]
    assert kept == [f"results/merge_action/{name}/test.parquet" for name in ("fly", "mouse")]
    card = hub.content(MODEL, "README.md", kind="model").decode()
    assert re.search(r"\| *`?fly`? *\|", card) and re.search(r"\| *`?mouse`? *\|", card)
    wrong = rows.assign(model_revision="another")
    wrong.to_parquet(tmp_path / "more" / "test.parquet")
    line = line_of(client.publish(model, "--repo", MODEL, "--results", tmp_path / "more", token=WRITER))
    assert "holds no results of trivial" in line


def test_all_models_of_a_folder_by_their_names(
    hub: HubServer, client: HubClient, dataset: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "models"
    train_model(dataset, out / "trivial" / "merge_action" / "fly")
    assert "give --org" in line_of(client.publish(out, "--repo", MODEL, token=WRITER))
    assert published(client, out, "--org", "brains").startswith("brains/trivial-merge_action-fly: ")
    train_model(dataset, out / "twin")
    assert "would both go to" in line_of(client.publish(out, "--org", "brains", token=WRITER))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("adapter_model.bin", "", "pickled weights are never published"),
        ("test_indices.json", '{"test": ["/home/anna/rows"]}', "test_indices.json holds a home folder"),
        ("training_config.yaml", "token: " + "0123456789abcdef" * 2, "looks like a CAVE token"),
        ("adapter_config.json", '{"base_model_name_or_path": "/data/qwen"}', "which others do not have"),
        ("adapter_config.json", "{", "is not JSON"),
        (FILE_NAME, "{}", "is not the record of a model"),
    ],
)
def test_what_is_not_published(
    hub: HubServer, client: HubClient, adapter: Path, tmp_path: Path, name: str, text: str, words: str
) -> None:
    folder = tmp_path / "tiny-lora"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_text(text)
    line = line_of(client.publish(folder, "--repo", "brains/tiny-lora", token=WRITER))
    assert words in line and not hub.store.repos


def test_ids_of_samples_are_no_tokens(hub: HubServer, client: HubClient, adapter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-lora"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "test_indices.json").write_text(json.dumps({"test": ["0123456789abcdef" * 2]}))
    (folder / "checkpoint-100").mkdir()
    (folder / "checkpoint-100" / "optimizer.pt").write_bytes(b"left alone")
    published(client, folder, "--repo", "brains/tiny-lora")
    assert "test_indices.json" in hub.files("brains/tiny-lora", kind="model")
    assert not any("checkpoint" in path for path in hub.files("brains/tiny-lora", kind="model"))


def test_options_of_models_alone(hub: HubServer, client: HubClient, trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder = add_rows(tmp_path / "merge_action", "fly")
    assert "is for models" in line_of(client.publish(folder, "--repo", DATA, "--results", tmp_path, token=WRITER))
    assert "is for models" in line_of(client.publish(folder, "--repo", DATA, "--dataset", DATA, token=WRITER))
    line = line_of(client.publish(trained[0], "--repo", MODEL, "--dataset", "nowhere", token=WRITER))
    assert "no name of a repository" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"encoder": "/etc/model"}, "kind": "probe"}, "not a Hub model"),
        ({"config": {"encoder": "../../model"}, "kind": "probe"}, "not a Hub model"),
        ({"kind": "pickle"}, "is not the record of a model"),
    ],
)
def test_a_model_from_the_hub_is_not_trusted(
    hub: HubServer, client: HubClient, trained: tuple[Path, Path], dataset: Path, changes: dict, words: str
) -> None:
    published(client, trained[0], "--repo", MODEL)
    repo = hub.repo(MODEL, "model")
    record = json.loads((trained[0] / FILE_NAME).read_text()) | {"kind": changes["kind"]}
    config = json.loads((trained[0] / "config.json").read_text()) | changes
    put = {"config.json": config, FILE_NAME: record}
    files = {path: hub.store.put_blob(json.dumps(content).encode()) for path, content in put.items()}
    repo.add("main", "by hand", "", {**hub.files(MODEL, kind="model"), **files})
    line = line_of(client.evaluate("--model", MODEL, "--dataset", dataset, "--species", "fly"))
    assert words in line


def test_models_that_are_not_there(client: HubClient, hub: HubServer, dataset: Path, adapter: Path) -> None:
    def told(*words: str | Path) -> str:
        return line_of(client.evaluate("--dataset", dataset, "--species", "fly", *words))

    assert "no model folder ../nothing" in told("--model", "../nothing")
    assert "brains/nothing is not there" in told("--model", "brains/nothing")
    assert "has no revisions" in told("--model", adapter, "--model-revision", "main")
    assert "has no revisions" in line_of(
        client.evaluate("--model", adapter, "--dataset", dataset, "--dataset-revision", "x", "--species", "fly")
    )
    hub.store.create("model", "brains/other", False)
    assert "no supported model" in told("--model", "brains/other")
