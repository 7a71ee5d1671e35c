"""Result records as a repository, and the Space that reads it; models of several tasks with their results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hub_client import Done, HubClient
from hub_server import WRITER, HubServer
from published_models import train_model
from stored_rows import write_dataset

from connectomebench.core.resources import resource_path
from connectomebench.models.model_record import FILE_NAME

RESULTS = "brains/results"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, a model of each in ``models``, and their answers in ``results``."""
    out = tmp_path_factory.mktemp("run")
    for task in ("merge_action", "split_action"):
        dataset = write_dataset(out, task)
        train_model(dataset, out / "models" / "trivial" / task / "fly", out / "results")
        shutil.rmtree(out / "models" / "trivial" / task / "cache", ignore_errors=True)
    return out


def published(client: HubClient, *words: str | Path) -> str:
    done = client.publish(*words, token=WRITER)
    assert done.status == 0, done.err
    return done.out


def line_of(done: Done) -> str:
    assert done.status == 2 and "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    return line


def records(hub: HubServer, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(hub.content(RESULTS, name)))


def test_results_become_the_repository_that_a_space_reads(
    hub: HubServer, client: HubClient, out: Path, tmp_path: Path
) -> None:
    published(client, out / "results", "--org", "brains")
    tasks = ("merge_action", "split_action")
    assert set(hub.files(RESULTS)) - {".gitattributes"} == {
        "README.md",
        *(f"results/trivial/{task}/fly/test.parquet" for task in tasks),
        *(f"models/trivial/{task}/fly/{FILE_NAME}" for task in tasks),
    }
    assert published(client, out / "results", "--repo", RESULTS) == f"{RESULTS}: nothing to change\n"
    loaded = client.load(RESULTS, "results")
    assert len(loaded["train"]["ids"]) == 8

    # another model of the same name does not take its place
    other = tmp_path / "other"
    train_model(out / "merge_action", other / "models" / "t", other / "results", seed=1)
    name = "results/trivial/merge_action/fly/test.parquet"
    before = records(hub, name)
    assert "model_revision" in line_of(client.publish(other / "results", "--repo", RESULTS, token=WRITER))
    assert records(hub, name).equals(before)
    (other / "results" / "trivial").rename(other / "results" / "second")
    published(client, other / "results", "--repo", RESULTS)
    assert records(hub, name).equals(before) and "results/second/merge_action/fly/test.parquet" in hub.files(RESULTS)

    published(client, out, "--org", "brains")
    folder = client.space(SPACE_ID="brains/demo", XDG_CACHE_HOME=str(tmp_path / "cache"))
    found = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.parquet")}
    assert {name, "brains--merge_action/fly/test-00000-of-00001.parquet"} <= found
    assert not [path for path in found if "/train-" in path]


def test_a_space_of_an_owner_without_data_says_so_in_one_line(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"ConnectomeBenchError.*brains has none of the datasets"):
        client.space(SPACE_ID="brains/demo", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert hub.requests


def test_the_published_space_names_the_datasets_of_its_owner(hub: HubServer, client: HubClient) -> None:
    published(client, resource_path("spaces/demo"), "--repo", "brains/demo")
    card = hub.content("brains/demo", "README.md", kind="space").decode()
    assert yaml.safe_load(card.split("---\n")[1])["datasets"][0] == "brains/merge_action"
    assert (
        published(client, resource_path("spaces/demo"), "--repo", "brains/demo") == "brains/demo: nothing to change\n"
    )


def test_models_of_several_tasks_name_their_data_by_the_hub(hub: HubServer, client: HubClient, out: Path) -> None:
    published(client, out, "--org", "brains")
    words = [out / "models", "--org", "brains", "--results", out / "results"]
    missing = client.publish(*words, "--dataset", "brains/merge_action", token=WRITER)
    assert "add --dataset with the dataset of that task" in line_of(missing)
    both = [*words, "--dataset", "brains/merge_action", "--dataset", "brains/split_action"]
    published(client, *both)
    for task in ("merge_action", "split_action"):
        name = f"brains/trivial-{task}-fly"
        card = hub.content(name, "README.md", kind="model").decode()
        assert "out/" not in card and "a local folder" not in card
        assert f'load_dataset("brains/{task}", "fly"' in card and f"--dataset brains/{task} " in card
        metadata = yaml.safe_load(card.split("---\n")[1])
        assert metadata["datasets"] == [f"brains/{task}"]
        assert metadata["model-index"][0]["results"][0]["dataset"]["type"] == f"brains/{task}"
        assert f"brains/{task}" in hub.content(name, FILE_NAME, kind="model").decode()
    assert published(client, *both).count("nothing to change") == 2
    # the dataset moves on: the model and its data stay what they are
    assert published(client, out / "models", "--org", "brains").count("nothing to change") == 2
