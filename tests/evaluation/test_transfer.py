"""Transfer between species on synthetic records and pictures: species names are made up, nothing was measured."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from some_results import records, write
from stored_rows import entry, row

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.rows import DataRecord
from connectomebench.dataset.schema import write_partition
from connectomebench.evaluation.results import read_results, summarise
from connectomebench.evaluation.training_species import find_records, recorded_species, stated_species
from connectomebench.evaluation.transfer import transfer_rows
from connectomebench.models.model_record import ModelRecord, write_record

TASK = "merge_action"
SKILLS = {"fly": 0.95, "mouse": 0.75, "human": 0.6}
FINGERPRINT = "f" * 32


def answers(model: str = "probe", skills: dict[str, float] = SKILLS, **changes):
    """Records of one model on several made-up species, one list a species."""
    return [
        records(model, 120, skill, seed, species=species, dataset_fingerprint=FINGERPRINT, **changes)
        for seed, (species, skill) in enumerate(skills.items())
    ]


def save_record(folder: Path, *species: str, revision: str = "abc", partition: str = "train", simulated: bool = True):
    source = {"simulated_errors": simulated}
    data = [DataRecord(TASK, s, partition, None, None, FINGERPRINT, {"yes": 1}, source) for s in species]
    write_record(folder, ModelRecord("probe", "probe", revision, TASK, None, None, {}, tuple(data), {}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a model on three species, and of an ablation of it."""
    folder = tmp_path_factory.mktemp("transfer") / "results"
    for rows in [*answers(), *answers(skills={"fly": 0.5}, condition="blank_images")]:
        write(folder, rows)
    return folder


def test_drops_are_differences_of_independent_values(folder: Path):
    frame = read_results(folder)
    (found,) = transfer_rows(frame, {("probe", "abc", TASK): ["fly"]}, resamples=400)
    assert (found.model, found.trained_on) == ("probe", ("fly",))
    usual = {s.species: s for s in summarise(frame, resamples=400) if s.condition == "default"}
    assert {s: e for s, e in found.values.items()} == {
        s: u.estimates["balanced_accuracy"] for s, u in sorted(usual.items())
    }
    assert [(d.source, d.target) for d in found.drops] == [("fly", "human"), ("fly", "mouse")]
    for d in found.drops:
        assert d.drop.value == pytest.approx(found.values["fly"].value - found.values[d.target].value)
        assert d.drop.lower < d.drop.value < d.drop.upper and d.drop.n == 240 and d.drop.n_groups == 120
        # variances of independent values add
        widths = [found.values[s].upper - found.values[s].lower for s in ("fly", d.target)]
        assert d.drop.upper - d.drop.lower == pytest.approx(math.hypot(*widths), rel=0.15)


def test_several_training_species_each_have_their_drop(folder: Path):
    training = {("probe", "abc", TASK): ["mouse", "fly"]}
    (found,) = transfer_rows(read_results(folder), training, resamples=20)
    assert [(d.source, d.target) for d in found.drops] == [("mouse", "human"), ("fly", "human")]


def test_training_species_come_from_records_and_not_from_elsewhere(folder: Path, tmp_path: Path):
    frame = read_results(folder)
    save_record(tmp_path / "here" / "deep", "fly")
    save_record(tmp_path / "other", "mouse", revision="another")
    found = recorded_species(frame, find_records([str(tmp_path)]), "test")
    assert found == {("probe", "abc", TASK): ("fly",)}
    # from the Hub it has the name of its repository
    published = recorded_species(frame.assign(model="brains/probe"), find_records([str(tmp_path)]), "test")
    assert published == {("brains/probe", "abc", TASK): ("fly",)}
    assert recorded_species(frame, find_records([str(tmp_path / "other")]), "test") == {}
    with pytest.raises(ConnectomeBenchError, match="a model whose training is known"):
        transfer_rows(frame, {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConnectomeBenchError, match="holds no model"):
        find_records([str(tmp_path / "empty")])
    with pytest.raises(ConnectomeBenchError, match="no folder nowhere"):
        find_records(["nowhere"])
    save_record(tmp_path / "learnt", "fly", partition="test")
    with pytest.raises(ConnectomeBenchError, match="was trained on the test partition of fly"):
        recorded_species(frame, find_records([str(tmp_path / "learnt")]), "test")


def test_a_statement_is_of_one_model(folder: Path):
    frame = read_results(folder)
    assert stated_species(frame, ["fly", "fly"]) == {("probe", "abc", TASK): ("fly",)}
    for column, value in (("model", "grey"), ("model_revision", "another")):
        both = pd.concat([frame, frame.assign(**{column: value})])
        with pytest.raises(ConnectomeBenchError, match="is for one model"):
            stated_species(both, ["fly"])


def test_different_data_under_one_name_are_refused(folder: Path):
    frame = read_results(folder)
    training = {("probe", "abc", TASK): ["fly"], ("grey", "abc", TASK): ["fly"]}
    other = frame.assign(model="grey", dataset_fingerprint="another")
    with pytest.raises(ConnectomeBenchError, match="models saw different data of merge_action/fly"):
        transfer_rows(pd.concat([frame, other]), training)
    with pytest.raises(ConnectomeBenchError, match=r"several results of probe \(revision abc\) on merge_action/fly"):
        transfer_rows(pd.concat([frame, frame]), training)


def test_models_of_one_name_are_told_apart_by_their_revision(folder: Path, tmp_path: Path, capsys):
    skills = {"mouse": 0.95, "fly": 0.7, "human": 0.6}
    for rows in answers(skills=skills, model_revision="def"):
        write(tmp_path / "more", rows)
    save_record(tmp_path / "models" / "fly", "fly")
    save_record(tmp_path / "models" / "mouse", "mouse", revision="def", simulated=False)
    words = [str(folder), str(tmp_path / "more"), "--models", str(tmp_path / "models")]
    assert main(["transfer", *words]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[1].split("  ")[1:] and "evaluated on human" in lines[1]
    assert lines[2].split()[:3] == ["fly", "probe", "(abc)"] and lines[3].split()[:3] == ["mouse", "probe", "(def)"]
    assert lines[2].count("*") == 1 and "n = 120 in 60 groups" in lines[2]
    assert "probe (abc), fly to mouse: drop +" in text and "probe (def), mouse to fly: drop +" in text
    assert lines[-1] == "simulated, not real: the errors that models were trained on in fly"
    assert main(["transfer", *words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(r["revision"], r["trained_on"]) for r in content["rows"]] == [("abc", ["fly"]), ("def", ["mouse"])]
    assert content["distances"] == [] and content["simulated_training"] == ["fly"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "either --models or --trained-on"),
        (["--models", ".", "--trained-on", "fly"], "either --models or --trained-on"),
        (["--trained-on", "fly", "--encoder", "efficientnet_lite0"], "need --dataset"),
        (["--trained-on", "fly", "--model", "grey"], "no results of grey"),
        (["--trained-on", "fly", "--partition", "train"], "no results on the train partition"),
    ],
)
def test_what_the_command_cannot_do_is_told(folder: Path, capsys, words: list[str], told: str):
    assert main(["transfer", str(folder), *words]) == 2
    assert told in capsys.readouterr().err


def test_what_is_left_out_or_unknown_is_said(folder: Path, tmp_path: Path, capsys):
    for rows in answers("grey", model_revision="def"):
        write(tmp_path / "more", rows)
    save_record(tmp_path / "model", "rat")
    words = [str(folder), str(tmp_path / "more"), "--models", str(tmp_path / "model")]
    assert main(["transfer", *words]) == 0
    out, err = capsys.readouterr()
    assert "left out, no training record: grey (revision def, merge_action)" in err
    assert "no drop for probe (abc): not evaluated on rat" in out and "grey" not in out


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three made-up species: those of fly and mouse are the same."""
    folder = tmp_path_factory.mktemp("pictures") / TASK
    for species, first in {"fly": 0, "mouse": 0, "human": 40}.items():
        counts = {}
        for p, numbers in zip(PARTITIONS, (range(4), range(4, 8), range(8, 12)), strict=True):
            rows = [row(first + n, ("no", "yes")[n % 2], TASK, species) for n in numbers]
            write_partition(folder / species, TASK, p, rows, len(rows), 1000)
            counts[p] = {"no": len(rows) // 2, "yes": len(rows) // 2}
        write_card(folder, add_species(folder, TASK, species, entry(counts, FINGERPRINT)))
    return folder


def test_distances_stand_beside_the_drops(folder: Path, dataset: Path, tmp_path: Path, capsys):
    words = ["transfer", str(folder), "--trained-on", "fly", "--dataset", str(dataset), "--json"]
    words += ["--encoder", "efficientnet_lite0", "--cache", str(tmp_path / "vectors")]
    assert main(words) == 0
    content = json.loads(capsys.readouterr().out)
    far = {(d["first"], d["second"]): d for d in content["distances"]}
    assert list(far) == [("fly", "human"), ("fly", "mouse"), ("human", "mouse")]
    assert all(d["n"] == 4 and d["encoder"] == "efficientnet_lite0" for d in far.values())
    assert far["fly", "mouse"]["frechet"] == pytest.approx(0, abs=1e-3) and far["fly", "human"]["frechet"] > 1
    assert far["fly", "mouse"]["energy"] < 0 < far["fly", "human"]["energy"] + 1
    assert far["fly", "human"]["frechet"] == pytest.approx(far["human", "mouse"]["frechet"], rel=1e-4)
    assert [(c["n"], c["pairs"], c["spearman"]) for c in content["correlations"]] == [(2, 2, None)] * 2
    assert main([*words, "--rows", "2"]) == 0
    text = capsys.readouterr()
    rows = json.loads(text.out)["distances"]
    assert {d["n"] for d in rows} == {2} and np.all([d["frechet"] != far["fly", "human"]["frechet"] for d in rows])


def test_distances_are_of_the_data_that_were_evaluated(folder: Path, dataset: Path, tmp_path: Path, capsys):
    words = ["transfer", str(folder), "--trained-on", "fly", "--dataset", str(dataset)]
    rebuilt = tmp_path / TASK
    rebuilt.mkdir()
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["species"]["human"]["fingerprint"] = "a" * 32
    (rebuilt / "manifest.json").write_text(json.dumps(manifest))
    assert main([*words[:-1], str(rebuilt)]) == 2
    assert f"merge_action/human, data {FINGERPRINT}, was evaluated and is of another build" in capsys.readouterr().err
    del manifest["species"]["human"]
    (rebuilt / "manifest.json").write_text(json.dumps(manifest))
    assert main([*words[:-1], str(rebuilt)]) == 2
    assert "is in none of the datasets" in capsys.readouterr().err
    (rebuilt / "manifest.json").write_text(json.dumps({**manifest, "task": "split_action"}))
    assert main([*words[:-1], str(rebuilt)]) == 2
    assert "holds none of the tasks that were evaluated: merge_action" in capsys.readouterr().err
    assert main([*words, "--rows", "1"]) == 2
    assert "2 rows per species" in capsys.readouterr().err


def test_records_of_one_answer_have_no_drop(folder: Path):
    frame = read_results(folder).assign(answer="yes")
    (found,) = transfer_rows(frame, {("probe", "abc", TASK): ["fly"]}, resamples=20)
    assert all(math.isnan(d.drop.value) and math.isnan(d.drop.lower) for d in found.drops)
    assert dataclasses.asdict(found)["values"]["fly"]["n"] == 120
