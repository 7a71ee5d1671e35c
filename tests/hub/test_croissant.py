from __future__ import annotations

import copy
import json
import logging
import sys
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import pyarrow.parquet as pq
import pytest
from absl import logging as absl_logging
from stored_rows import write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import get_task
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import features, shard_paths
from connectomebench.hub.croissant import croissant, croissant_text

# absl (of mlcroissant) closes the stream it began with when a server sets up logging: pytest's own capture
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

TASK = "endpoint_error_identification_with_em"
REPO = "brains/ends"
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    write_dataset(out, TASK)
    return write_dataset(out, TASK, "mouse")


@pytest.fixture
def manifest(folder: Path) -> dict[str, Any]:
    return copy.deepcopy(read_manifest(folder))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def test_mlcroissant_reads_every_stored_value_of_a_species(folder, manifest, caplog):
    found = croissant(manifest, REPO)
    with caplog.at_level(logging.WARNING):
        data = mlc.Dataset(jsonld=found, mapping={"repo": folder})
        records = {r["mouse/sample_id"].decode(): r for r in data.records("mouse")}
    assert data.metadata.to_json() == found
    assert {"arrayShape", "containedIn", "isArray"} <= set(found["@context"])
    assert not data.metadata.ctx.issues.errors
    assert all("datePublished" in warning for warning in data.metadata.ctx.issues.warnings)
    assert [r.message for r in caplog.records if "datePublished" not in r.message] == []
    stored = {
        row["sample_id"]: (p, row)
        for p in PARTITIONS
        for path in shard_paths(folder / "mouse", p)
        for row in pq.read_table(path).to_pylist()
    }
    assert set(records) == set(stored) and len(stored) == 16
    columns = list(features(get_task(TASK)))
    for sample, record in records.items():
        partition, row = stored[sample]
        assert list(record) == [f"mouse/{name}" for name in ("split", *columns)]
        assert record.pop("mouse/split") == partition.encode()
        pictures = record.pop("mouse/images")
        assert [(p.format, p.size) for p in pictures] == [("PNG", (48, 48))] * len(row["views"])
        assert {f"mouse/{n}": row[n] for n in columns if n != "images"} == {k: _plain(v) for k, v in record.items()}


def test_one_partition_can_be_read_alone(folder, manifest):
    for partition in PARTITIONS:
        data = mlc.Dataset(jsonld=croissant(manifest, REPO), mapping={"repo": folder})
        records = list(data.records("fly", filters={"fly/split": partition}))
        assert {r["fly/split"] for r in records} == {partition.encode()}
        assert len(records) == sum(manifest["species"]["fly"]["counts"][partition].values())


def test_it_says_what_the_manifest_says(manifest):
    text = croissant_text(manifest, REPO)
    assert text == croissant_text(json.loads(json.dumps(manifest)), REPO) and text.endswith("}\n")
    found = json.loads(text)
    assert found["url"] == "https://huggingface.co/datasets/brains/ends"
    assert found["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert found["citeAs"] == "Someone (2020)."
    assert found["creator"]["name"] == "brains"
    assert "datePublished" not in found
    assert found["rai:dataCollectionMissingData"].startswith(
        "Left out of `fly`: 5 in labels: at the border of the data."
    )
    assert "never" not in found["rai:dataCollectionMissingData"]
    assert "segmentation and truth from cube, version 7" in found["rai:dataCollection"]
    assert "`fly`: 3 of 8 bodies run through" in " ".join(found["rai:dataLimitations"])
    assert "cubes of 500 nm" in " ".join(found["rai:dataPreprocessingProtocol"])
    assert "8 rows in train (4 no, 4 yes), 4 rows in validation" in found["recordSet"][1]["description"]
    label = next(f for f in found["recordSet"][1]["field"] if f["name"] == "label")
    assert label["description"].endswith("(0: no, 1: yes)")


def test_it_is_the_same_without_mlcroissant(manifest, monkeypatch):
    checked = croissant_text(manifest, REPO)
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    assert croissant_text(manifest, REPO) == checked


def test_what_is_simulated_is_called_so_and_only_that(manifest):
    found = croissant(manifest, REPO)
    assert "simulated" in found["keywords"]
    assert "they are no micrographs" in found["rai:dataCollection"]
    assert "the errors are simulated" not in found["rai:dataCollection"]
    assert [bias.split()[0] for bias in found["rai:dataBiases"]] == ["Shares", "Real"]
    manifest["species"]["mouse"]["source"] |= {"simulated_errors": True, "simulated_em": False}
    manifest["species"]["fly"]["source"]["simulated_em"] = False
    found = croissant(manifest, REPO)
    fly, mouse = found["rai:dataCollection"].split("`mouse`")
    assert "simulated" in found["keywords"]
    assert "the errors are simulated" in mouse and "simulated" not in fly and "micrographs" not in mouse
    assert [bias.split()[0] for bias in found["rai:dataBiases"]] == ["Shares", "Simulated", "Real"]
    manifest["task"] = "merge_action"
    manifest["species"]["fly"]["source"]["simulated_em"] = True
    assert "micrographs" not in croissant(manifest, REPO)["rai:dataCollection"]


def test_licences_and_people_differ_by_species(manifest):
    manifest["species"]["human"] = manifest["species"].pop("mouse")
    manifest["species"]["human"]["source"] |= {"license": "other", "citation": ""}
    manifest["species"]["fly"]["source"]["license"] = "cc-by-nc-4.0"
    found = croissant(manifest, REPO)
    assert found["license"] == ["https://creativecommons.org/licenses/by-nc/4.0/", "other"]
    assert found["citeAs"] == "Someone (2020)."
    fly, human = found["rai:personalSensitiveInformation"]
    assert fly.startswith("`fly`: none") and "de-identified" in human


def test_a_damaged_manifest_is_told_in_one_line(manifest, monkeypatch):
    for damage, line in (
        (lambda m: m["species"]["fly"].pop("leaks"), "not complete .*leaks.*build the species again"),
        (lambda m: m["species"]["fly"]["source"].pop("license"), "not complete .*license"),
        (lambda m: m["species"]["fly"]["counts"].update(test=None), "not complete"),
        (lambda m: m["species"].update({"../fly": m["species"]["fly"]}), "unknown species"),
    ):
        damaged = copy.deepcopy(manifest)
        damage(damaged)
        with pytest.raises(ConnectomeBenchError, match=line) as caught:
            croissant(damaged, REPO)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConnectomeBenchError, match="give ORG/NAME"):
        croissant(manifest, "ends")
    monkeypatch.setattr("connectomebench.hub.croissant._NO_CHECKSUM", None)
    with pytest.raises(ConnectomeBenchError, match=r"is not valid .*sha256.*report it"):
        croissant(manifest, REPO)
