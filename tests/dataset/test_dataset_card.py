from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from datasets import ClassLabel
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard
from stored_rows import partition_rows, write_dataset

from connectomebench.build.config import BUILDABLE_TASKS
from connectomebench.cards.baselines import add_baselines, baselines_entry
from connectomebench.core import resources
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.card_template import estimate_text
from connectomebench.dataset.column_docs import COLUMNS, LABEL_RULES
from connectomebench.dataset.dataset_card import dataset_card, write_card
from connectomebench.dataset.licences import strictest
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.sample_grid import picture_name
from connectomebench.dataset.schema import features
from connectomebench.evaluation.results import METRICS, read_results, result_path, summarise, write_results

TASK = "merge_action"


def test_card_says_what_is_in_the_files(tmp_path):
    folder = write_dataset(tmp_path)
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert [c["config_name"] for c in card.data.configs] == ["fly"]
    info = DatasetInfosDict.from_dataset_card_data(card.data)["fly"]
    assert info.features == features(get_task("merge_action"))
    assert {n: s.num_examples for n, s in info.splits.items()} == {"train": 8, "validation": 4, "test": 4}
    assert isinstance(info.features["label"], ClassLabel)
    assert "| fly | test | 4 | 2 | 2 |" in card.text
    assert "5 in labels: at the border of the data" in card.text
    assert "never" not in [line.split(": ")[-1] for line in card.text.splitlines()]
    assert "3 of 8 bodies run through" in card.text
    assert "recall 0.75" in card.text and "precision" not in card.text
    assert read_manifest(folder)["species"]["fly"]["fingerprint"] in card.text


def test_every_column_is_described_in_order():
    assert list(COLUMNS) == list(features(get_task("merge_action")))


def test_simulated_image_data_is_told_only_where_it_is_shown(tmp_path):
    for task, told in (("merge_action", False), ("endpoint_error_identification_with_em", True)):
        text = (write_dataset(tmp_path, task) / "README.md").read_text()
        assert ("no micrographs" in text) == told
        assert "Simulated errors" not in text


def test_a_second_species_becomes_a_second_config(tmp_path):
    write_dataset(tmp_path)
    folder = write_dataset(tmp_path, species="mouse")
    card = DatasetCard.load(folder / "README.md")
    assert [c["config_name"] for c in card.data.configs] == ["fly", "mouse"]
    assert sorted(DatasetInfosDict.from_dataset_card_data(card.data)) == ["fly", "mouse"]


def test_markdown_has_no_leftovers_and_tables_are_whole(tmp_path):
    text = DatasetCard.load(write_dataset(tmp_path) / "README.md").text
    assert "{{" not in text and "{%" not in text and "None" not in text
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("|---"):
            columns = line.count("|")
            rows = []
            for row in lines[i - 1 :]:
                if not row.startswith("|"):
                    break
                rows.append(row)
            assert len(rows) >= 3
            assert {r.count("|") for r in rows} == {columns}


def test_every_task_that_can_be_built_has_its_label_rule():
    assert set(BUILDABLE_TASKS) <= set(LABEL_RULES)


def test_missing_files_are_told(tmp_path):
    folder = write_dataset(tmp_path)
    (folder / "fly" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(ConnectomeBenchError, match="0 of the test files"):
        write_card(folder, read_manifest(folder))


def test_resources_are_found_in_a_wheel_and_missing_ones_are_told(tmp_path, monkeypatch):
    assert resources.resource_path("hub_cards/dataset.md.jinja").is_file()
    (tmp_path / "hub_cards").mkdir()
    monkeypatch.setattr(resources, "_INSTALLED", tmp_path)
    assert resources.resource_path("hub_cards") == tmp_path / "hub_cards"
    with pytest.raises(ConnectomeBenchError, match="install connectomebench again"):
        resources.resource_path("hub_cards/no_such_template")


@pytest.fixture(scope="module")
def two_species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of flies and mice; tests leave its files as they are."""
    out = tmp_path_factory.mktemp("two")
    write_dataset(out)
    return write_dataset(out, species="mouse")


def with_licences(folder: Path, **licences: str) -> dict[str, Any]:
    manifest = read_manifest(folder)
    for species, licence in licences.items():
        manifest["species"][species]["source"]["license"] = licence
    return manifest


def test_mixed_licences_are_listed_and_the_strictest_named(two_species: Path) -> None:
    card = dataset_card(two_species, with_licences(two_species, fly="cc-by-nc-4.0", mouse="cc-by-4.0"))
    assert card.data.license == ["cc-by-4.0", "cc-by-nc-4.0"]
    assert "| fly | cc-by-nc-4.0 | cube 7 |" in card.text and "| mouse | cc-by-4.0 | cube 7 |" in card.text
    assert "**Mixed licences.**" in card.text and "the strictest of them: **cc-by-nc-4.0**" in card.text

    card = dataset_card(two_species, with_licences(two_species, mouse="mit"))
    assert "**Mixed licences.**" in card.text and "read each licence first" in card.text

    card = dataset_card(two_species, read_manifest(two_species))
    assert card.data.license == "cc-by-4.0" and "Mixed" not in card.text


@pytest.mark.parametrize(
    ("licences", "wanted"),
    [
        (["cc-by-4.0", "cc-by-nc-4.0"], "cc-by-nc-4.0"),
        (["cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0"], "cc-by-nc-4.0"),
        (["cc-by-sa-4.0", "cc-by-4.0", "cc0-1.0"], "cc-by-sa-4.0"),
        (["cc-by-nc-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["cc-by-4.0", "cc-by-3.0"], "cc-by-4.0"),
        (["cc0-1.0", "cc-by-2.0"], "cc-by-2.0"),
        (["cc-by-nc-4.0", "gpl-3.0"], "other"),
        (["gpl-3.0", "gpl-3.0"], "gpl-3.0"),
    ],
)
def test_the_strictest_licence_does_not_depend_on_the_order(licences: list[str], wanted: str) -> None:
    assert strictest(licences) == strictest(licences[::-1]) == wanted


def test_terms_that_were_not_stated_are_said_to_be_so(two_species: Path) -> None:
    manifest = with_licences(two_species, fly="unknown", mouse="cc-by-4.0")
    manifest["species"]["fly"]["source"]["citation"] = ""
    text = dataset_card(two_species, manifest).text
    assert "| fly | not stated |" in text and "- `fly`: not stated by those who built it" in text
    assert "Dorkenwald" not in text


def test_a_species_of_ones_own_has_its_title(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    manifest = read_manifest(folder)
    manifest["species"]["fly"]["config"]["own_species"] = {"name": "rat", "title": "Rat hippocampus"}
    manifest["species"] = {"rat": manifest["species"]["fly"]}
    (folder / "fly").rename(folder / "rat")
    assert "Rat hippocampus" in dataset_card(folder, manifest).text


def test_pictures_are_shown_where_they_are(two_species: Path) -> None:
    manifest = read_manifest(two_species)
    assert "![" not in dataset_card(two_species, manifest).text
    shown = dataset_card(two_species, manifest, "brains/merge_action", {"mouse"}).text
    assert shown.count("![") == 1 and "](mouse-samples.png)" in shown and "![]" not in shown
    (two_species / picture_name("fly")).write_bytes(b"")
    assert "](fly-samples.png)" in dataset_card(two_species, manifest).text
    (two_species / picture_name("fly")).unlink()

    manifest["species"]["fly"]["source"]["simulated_errors"] = True
    told = dataset_card(two_species, manifest, None, {"fly", "mouse"}).text.splitlines()
    pictures = {line.split("](")[1]: "simulated" in line for line in told if line.startswith("![")}
    assert pictures == {"fly-samples.png)": True, "mouse-samples.png)": False}


def write_answers(results: Path, model: str, fingerprint: str, stated: float | None, revision: str = "r1") -> Path:
    """Write records of a model that is wrong in every third row; two rows a group."""
    records = []
    for i, sample in enumerate(partition_rows(TASK)["test"] + partition_rows(TASK)["train"]):
        said = sample["answer"] if i % 3 else {"yes": "no", "no": "yes"}[sample["answer"]]
        records.append(
            {
                **{name: sample[name] for name in ("sample_id", "task", "species", "question", "answer")},
                "partition": "test",
                "model": model,
                "model_revision": revision,
                "dataset_fingerprint": fingerprint,
                "code_version": "0.1.0",
                "prediction": said,
                "probability": stated and (stated if said == "yes" else 1 - stated),
                "group": f"g{i // 2}",
            }
        )
    return write_results(result_path(results, model, TASK, "fly", "test"), records)


def test_scores_of_the_baselines_come_from_their_records(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    write_dataset(tmp_path, species="mouse")
    before = read_manifest(folder)
    assert "| fly | trivial, grey | not measured |" in DatasetCard.load(folder / "README.md").text
    fingerprint = before["species"]["fly"]["fingerprint"]
    write_answers(tmp_path / "results", "grey", fingerprint, None)
    write_answers(tmp_path / "results", "trivial", fingerprint, 0.7, "r2")
    write_answers(tmp_path / "results", "probe", fingerprint, 0.9)
    add_baselines(folder, "fly", tmp_path / "results")

    after = read_manifest(folder)
    measured = after["species"]["fly"].pop("baselines")
    assert after == before and list(after["species"]["fly"]) == list(before["species"]["fly"])
    expected = {s.model: s for s in summarise(read_results(tmp_path / "results"))}
    assert [(m["model"], m["revision"], m["n"], m["n_groups"]) for m in measured] == [
        ("trivial", "r2", 12, 6),
        ("grey", "r1", 12, 6),
    ]
    text = DatasetCard.load(folder / "README.md").text
    for m in measured:
        for name in METRICS:
            estimate = expected[m["model"]].estimates[name]
            values = [m["metrics"][name][key] for key in ("value", "low", "high")]
            wanted = [estimate.value, estimate.lower, estimate.upper]
            assert [math.nan if v is None else v for v in values] == pytest.approx(wanted, nan_ok=True)
        shown = [estimate_text(*m["metrics"][name].values()) for name in ("balanced_accuracy", "auroc")]
        assert f"| fly | {m['model']} | test | 12 | 6 | {shown[0]} | {shown[1]} |" in text
    assert measured[1]["metrics"]["auroc"] == {"value": None, "low": None, "high": None}
    assert "| – |" in text and "nan" not in text.lower() and "None" not in text
    assert "| mouse | trivial, grey | not measured |" in text

    add_baselines(folder, "fly", tmp_path / "results")
    assert (folder / "README.md").read_text().endswith(text)
    assert [e["model"] for e in read_manifest(folder)["species"]["fly"]["baselines"]] == ["trivial", "grey"]


def test_records_of_other_data_or_mixed_models_are_no_scores(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    with pytest.raises(ConnectomeBenchError, match="no results of trivial or grey"):
        add_baselines(folder, "fly", tmp_path / "results")
    path = write_answers(tmp_path / "results", "trivial", "another", 0.7)
    with pytest.raises(ConnectomeBenchError, match="present data of merge_action/fly"):
        add_baselines(folder, "fly", tmp_path / "results")
    with pytest.raises(ConnectomeBenchError, match="no species 'mouse'"):
        add_baselines(folder, "mouse", tmp_path / "results")
    assert "baselines" not in read_manifest(folder)["species"]["fly"]
    frame = read_results(path)
    ablated = frame.assign(condition="blank_images", prediction="yes")
    assert baselines_entry(pd.concat([ablated, frame]), "another") == baselines_entry(frame, "another")
    assert [e["n"] for e in baselines_entry(frame, "another")] == [12]
    frame.loc[0, "model_revision"] = "r2"
    with pytest.raises(ConnectomeBenchError, match="revisions r1, r2"):
        baselines_entry(frame, "another")


def test_scores_from_the_hub_are_not_trusted(two_species: Path) -> None:
    entry = {"model": "trivial", "revision": "r", "partition": "test", "n": 4, "n_groups": 2, "metrics": {}}
    numbers = {name: {"value": 0.5, "low": 0.4, "high": None} for name in METRICS}
    for wrong in ({"model": "x | y"}, {"partition": "# x"}, {"n": "many"}, {"metrics": {"auroc": numbers["auroc"]}}):
        manifest = read_manifest(two_species)
        manifest["species"]["fly"]["baselines"] = [{**entry, "metrics": numbers, **wrong}]
        with pytest.raises((KeyError, ValueError, TypeError)):
            dataset_card(two_species, manifest)
    manifest["species"]["fly"]["baselines"] = [{**entry, "metrics": numbers}]
    assert "0.500 (no interval)" in dataset_card(two_species, manifest).text


def test_light_microscopy_is_not_called_electron_microscopy(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, species="mouse_exm")
    assert "light-microscopy" in DatasetCard.load(folder / "README.md").data.to_dict()["tags"]
    assert "electron-microscopy" not in (folder / "README.md").read_text()
    write_dataset(tmp_path, species="fly")
    tags = DatasetCard.load(folder / "README.md").data.to_dict()["tags"]
    assert {"light-microscopy", "electron-microscopy"} <= set(tags)


def test_no_value_is_html_and_the_front_matter_stays(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    manifest = read_manifest(folder)
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    source = manifest["species"]["fly"]["source"]
    source |= {"name": f"a{evil}", "citation": f"Someone {evil} & others", "version": evil}
    text = str(dataset_card(folder, manifest, "org/name"))
    _, front, body = text.split("---\n", 2)
    assert "<script" not in body and "<img" not in body and "&lt;script>" in body
    assert "n<1K" in front and yaml.safe_load(front)["size_categories"]
