"""The command that judges the cuts which answers imply, on a toy volume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stored_rows import entry, png
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.cli import main
from connectomebench.core.cut import ProposalConfig
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.schema import make_row, write_partition
from connectomebench.evaluation.results import write_results
from connectomebench.evaluation.true_answers import dataset_answers
from connectomebench.execution.runner import SerialRunner
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.place_sites import proposal_sites
from connectomebench.sites.view_nodes import NodeConfig
from connectomebench.sources.factory import open_source

TASK = "split_proposal"
NONSENSE = "sources=[node 1];sinks=[node 1]"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int]:
    """Arguments of the command, and the number of rows: one model is right, another cuts nothing."""
    folder = tmp_path_factory.mktemp("cuts")
    path = write_toy(folder)
    config = load_config(path)
    source: Any = open_source(config.source, config.species, folder / "cache", folder, SerialRunner())
    rules: ProposalConfig = config.proposals
    proposals, _ = source.propose(rules, max(config.sites.extent_nm))
    skeletons = dict(source.skeletons(sorted({proposal.segment for proposal in proposals})))
    nodes = NodeConfig(least=2, max_chance=0.95, shift=0.2)
    sites = SiteConfig(config.sites.extent_nm, config.sites.min_segment_voxels, nodes=nodes)
    found = proposal_sites(source, source.corrections(), proposals, skeletons, sites, ControlConfig(), rules).sites
    rows = [
        make_row(site, {view: png(i) for i, view in enumerate(site.views)}, f"segment-{n}", source.info)
        for n, site in enumerate(found)
    ]
    dataset = folder / "out" / TASK
    for partition, own in (("train", rows[:1]), ("validation", rows[:1]), ("test", rows)):
        write_partition(dataset / config.species, TASK, partition, own, len(own), 1000)
    counts = {partition: {"any": 1} for partition in ("train", "validation")} | {"test": {"any": len(rows)}}
    add_species(dataset, TASK, config.species, entry(counts))
    data = load_rows(str(dataset), config.species, "test")
    for model in ("right", "wrong"):
        records = [
            {"sample_id": row["sample_id"], "task": TASK, "species": config.species, "partition": "test"}
            | {"model": model, "model_revision": "1", "dataset_fingerprint": data.data.fingerprint}
            | {"code_version": "1", "question": row["question"], "answer": truth, "group": row["group"]}
            | {"prediction": row["answer"] if model == "right" else NONSENSE if i else None}
            for i, (row, truth) in enumerate(zip(data.dataset, dataset_answers(data.dataset), strict=True))
        ]
        write_results(folder / "results" / f"{model}.parquet", records)
    words = ["judge-cuts", str(folder / "results"), "--dataset", str(dataset), "--config", str(path)]
    return [*words, "--cache", str(folder / "cache")], len(rows)


def test_right_places_give_good_cuts(answered: tuple[list[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    words, n = answered
    assert n > 0 and main([*words, "--json"]) == 0
    right, wrong = json.loads(capsys.readouterr().out)
    assert (right["model"], right["good_cuts"]["value"], right["n"]) == ("right", 1.0, n)
    assert len(right["cuts"]) == n and all(cut["good"] and cut["worst_ratio"] > 1 for cut in right["cuts"])
    assert wrong["good_cuts"]["value"] == 0.0 and not any(cut["good"] for cut in wrong["cuts"])


def test_the_text_says_why_there_is_no_cut(answered: tuple[list[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    words, n = answered
    assert main([*words, "--models", "wrong"]) == 0
    first, *reasons = capsys.readouterr().out.splitlines()
    assert first.startswith("wrong: good cuts 0.000") and first.endswith(f"{n} rows in {n} groups")
    assert any("the answer names no places on both sides" in reason for reason in reasons)


def test_results_that_are_not_there_are_named(
    answered: tuple[list[str], int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words, _ = answered
    assert main([*words, "--models", "nobody"]) == 2
    assert "evaluate first" in capsys.readouterr().err
    assert main([*words, "--partition", "train"]) == 2
