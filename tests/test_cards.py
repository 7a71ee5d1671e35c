from __future__ import annotations

import pytest
from datasets import ClassLabel
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard
from stored_rows import write_dataset

from connectomebench import resources
from connectomebench.cards import COLUMNS, LABEL_RULES, write_card
from connectomebench.config import FIRST_TASKS
from connectomebench.errors import ConnectomeBenchError
from connectomebench.manifest import read_manifest
from connectomebench.records import features
from connectomebench.tasks import get_task


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
            assert len(rows) > 3
            assert {r.count("|") for r in rows} == {columns}


def test_every_task_that_can_be_built_has_its_label_rule():
    assert set(FIRST_TASKS) <= set(LABEL_RULES)


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
