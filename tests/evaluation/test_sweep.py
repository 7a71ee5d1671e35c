"""Sweeps over training sizes, run on small stored rows."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stored_rows
from quick_heads import no_forests
from stored_rows import entry

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.schema import write_partition
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.sweep import SweepConfig, SweepResult, run_sweep, spaced_sizes

SCRIPT = Path(__file__).parents[2] / "training" / "sweep.py"
SIZES = (8, 12, 16, 24)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "merge_action"
    ranges = {"train": range(0, 24), "validation": range(24, 30), "test": range(30, 42)}
    counts = {}
    for partition in PARTITIONS:
        rows = [stored_rows.row(n, ("no", "yes")[n % 2]) for n in ranges[partition]]
        write_partition(folder / "fly", "merge_action", partition, rows, len(rows), 1000)
        counts[partition] = {a: sum(row["answer"] == a for row in rows) for a in ("no", "yes")}
    write_card(folder, add_species(folder, "merge_action", "fly", entry(counts)))
    return folder


@pytest.fixture(autouse=True, scope="module")
def no_forest() -> Iterator[None]:
    """Forests have no part in sweeps."""
    with no_forests():
        yield


@dataclass(frozen=True)
class Finished:
    """A sweep that ran to its end: its folder, what it said and what it found."""

    folder: Path
    lines: tuple[str, ...]
    found: SweepResult


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out, lines = tmp_path_factory.mktemp("finished"), []
    found = sweep(dataset, out, lines)
    return Finished(out, tuple(lines), found)


def sweep(dataset: Path, out: Path, lines: list[str], **changes):
    config = SweepConfig(str(dataset), "fly", **{"models": ("trivial",), "sizes": SIZES, "seeds": 2} | changes)
    return run_sweep(config, out / "results", cache=out / "features", target=0.9, echo=lines.append)


def test_every_run_is_recorded_once_and_a_stopped_sweep_goes_on(dataset, finished, tmp_path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    lines, found = finished.lines, finished.found
    paths = [tmp_path / path.relative_to(finished.folder) for path in found.paths]
    assert len(lines) == 8 and lines[-1].startswith("8 of 8: trivial, 24 samples")
    frame = read_results(tmp_path / "results")
    assert set(frame["condition"]) == {f"train{n}-seed{s}" for n in SIZES for s in range(2)}
    assert set(frame.groupby("condition").size()) == {12} and set(frame["model"]) == {"trivial"}
    curve = found.curves["trivial"]
    assert curve.samples.tolist() == list(SIZES) and curve.runs.tolist() == [2] * 4 and curve.n == 12
    # what is there is kept as it is; what is missing is made again, byte by byte the same
    kept = paths[0].read_bytes()
    paths[0].unlink()
    again: list[str] = []
    assert sweep(dataset, tmp_path, again).curves["trivial"].accuracy.tolist() == curve.accuracy.tolist()
    assert again[0] == "7 of 8 runs are there already" and len(again) == 2
    same = read_results(paths[0]).drop(columns="latency_s")
    (tmp_path / "old.parquet").write_bytes(kept)
    assert same.equals(read_results(tmp_path / "old.parquet").drop(columns="latency_s"))


def test_sizes_that_the_data_do_not_have_are_refused(dataset, tmp_path) -> None:
    with pytest.raises(ConnectomeBenchError, match="100 samples are more than the 24 training rows"):
        sweep(dataset, tmp_path, [], sizes=(8, 12, 16, 100))
    with pytest.raises(ConnectomeBenchError, match="4 different numbers"):
        sweep(dataset, tmp_path, [], sizes=(8, 12, 16))
    with pytest.raises(ConnectomeBenchError, match="unknown model"):
        sweep(dataset, tmp_path, [], models=("oracle",))
    with pytest.raises(ConnectomeBenchError, match="build more"):
        spaced_sizes(18, 10)


def test_records_of_other_data_are_not_taken(dataset, finished, tmp_path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    found = sweep(dataset, tmp_path, [])
    manifest = json.loads((dataset / "manifest.json").read_text())
    assert manifest["species"]["fly"]["fingerprint"] == read_results(found.paths[0])["dataset_fingerprint"][0]
    rows = read_results(found.paths[0]).assign(dataset_fingerprint="other")
    rows.to_parquet(found.paths[0])
    with pytest.raises(ConnectomeBenchError, match="another build of the data"):
        sweep(dataset, tmp_path, [])


def test_the_script_prints_curves_and_draws_them(dataset, finished, tmp_path, monkeypatch, capsys) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    missing = next(tmp_path.rglob("test@train24-seed1.parquet"))
    missing.unlink()
    words = ["--dataset", dataset, "--models", "trivial", "--sizes", *SIZES, "--seeds", 2, "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr()
    assert "7 of 8 runs are there already" in printed.err and missing.is_file()
    found = json.loads(printed.out)
    assert [p["samples"] for p in found["curves"]["trivial"]["points"]] == list(SIZES)
    assert found["level"] == "published level of people (mouse)" and not found["simulated_errors"]
    assert (tmp_path / "learning-curve.png").stat().st_size > 10_000
