"""``connectomebench economics`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cave_economics import CAVE_CONFIG
from matplotlib.figure import Figure
from replay_server import replay_server
from replay_volumes import FIXTURE
from simulated_edits import simulate

from connectomebench.cli import main
from connectomebench.economics import page as economics_page
from connectomebench.economics.analysis import Analysis
from connectomebench.economics.edit_table import read_edit_table, write_edit_table
from connectomebench.economics.figures import draw_sample


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_edit_table(simulate("fly", 30), tmp_path / "fly.parquet")


def one_figure(found: Analysis) -> dict[str, tuple[Figure, str]]:
    """Draw the first sample alone; all figures are those of the tests of the page."""
    return {"sample": (draw_sample(found.populations["fly"][0]), "A sample")}


def test_from_a_table_to_a_page(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(economics_page, "draw", one_figure)
    mine = tmp_path / "mine.yaml"
    mine.write_text("votes: 3\nmerge_s: 9\n")
    words = ["economics", "--table", f"fly={table}", "--simulated", "--population", "fly=5000", "--resamples", "20"]
    words += ["--assumptions", str(mine), "--merge-s", "1.5", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "economics.json").read_text())
    by_name = {a["name"]: (a["value"], a["origin"]) for a in found["assumptions"]}
    assert by_name["votes"] == (3, "file mine.yaml") and by_name["merge_s"] == (1.5, "option")
    [sample] = found["samples"]
    assert (sample["name"], sample["population"], sample["simulated"]) == ("fly n=30", 5000, True)
    assert sample["estimates"]["mean"]["value"] == pytest.approx(simulate("fly", 30).edits.mean())
    assert (tmp_path / "out" / "index.html").exists() and (tmp_path / "out" / "figures" / "sample.png").exists()


def test_from_change_logs_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(economics_page, "draw", lambda found: {})  # figures are those of the tests of the page
    with replay_server(FIXTURE) as server:
        config = tmp_path / "cave.yaml"
        config.write_text(CAVE_CONFIG.replace("SERVER", server.url))
        words = ["economics", "--cave", f"fly={config}", "--sizes", "8", "--all-operations"]
        words += ["--resamples", "20", "--json", "--out", str(tmp_path / "out")]
        assert main(words) == 0
        first = capsys.readouterr().out
        asked = server.endpoints["tabular_change_log_many"]
        assert main(words) == 0
        assert server.endpoints["tabular_change_log_many"] == asked and capsys.readouterr().out == first
    found = json.loads(first)
    assert [s["n"] for s in found["samples"]] == [8] and not found["samples"][0]["simulated"]
    stored = read_edit_table(tmp_path / "out" / "samples" / "fly-8.parquet", "fly")
    assert found["samples"][0]["estimates"]["mean"]["value"] == pytest.approx(stored.edits.mean())


WRONG = {
    "nothing": ([], "there are no edits; give --table"),
    "no file": (["--table", "fly"], "'fly' must be NAME=VALUE"),
    "absent": (["--table", "fly=none.csv"], "cannot read none.csv"),
    "population of nothing": (["--published", "--population", "fly=9"], "--population names fly, which has no table"),
    "population": (["--published", "--population", "fly=many"], "give a whole number of neurons"),
    "sizes": (["--published", "--sizes", "9"], "go with --cave"),
    "simulated": (["--published", "--simulated"], "--simulated marks tables"),
    "model": (["--published", "--model", "x"], "go with --results"),
    "recall": (["--published", "--recall", "2"], "recall is 2; it must be between 0 and 1"),
    "species": (["--cave", "ant"], "unknown species 'ant'"),
    "sizes of none": (["--cave", "fly", "--sizes", "0"], "sizes are"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, problem = WRONG[name]
    assert main(["economics", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
