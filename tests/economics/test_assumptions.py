"""Assumptions: every one is described, changeable and checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.assumptions import Assumptions, defaults, listed, read_assumptions


def test_every_assumption_says_what_it_is_and_where_it_comes_from() -> None:
    shown = listed(defaults())
    assert [s["name"] for s in shown] == [f.name for f in dataclasses.fields(Assumptions)]
    for one in shown:
        assert one["meaning"] and one["origin"] and (one["unit"] or one["name"] == "pricing")
        assert one["name"] == "pricing" or one["low"] <= one["value"]


def test_a_file_replaces_values_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("merge_precision: 0.1\npricing: tokens\nvotes: 5\n")
    found = read_assumptions(path, defaults())
    assert (found.values.merge_precision, found.values.pricing, found.values.votes) == (0.1, "tokens", 5)
    assert found.origins["votes"] == "file mine.yaml" and found.origins["split_s"] == defaults().origins["split_s"]


BAD = {
    "merge_precison: 0.1": "unknown assumption 'merge_precison'; did you mean merge_precision",
    "merge_precision: 0": "merge_precision is 0; it must be between",
    "recall: 1.5": "recall is 1.5; it must be between 0 and 1",
    "merge_s: -1": "merge_s is -1; it must be at least 0",
    "merge_s: fast": "merge_s is 'fast'; give a number",
    "merge_s: true": "merge_s is True; give a number",
    "merge_s: .inf": "merge_s is inf; give a number",
    "pricing: barter": "pricing is 'barter'; choose hardware or tokens",
    "- merge_s": "must be a mapping",
    "merge_s: [": "not valid YAML",
}


@pytest.mark.parametrize("text", BAD, ids=list(BAD))
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConnectomeBenchError) as caught:
        read_assumptions(path, defaults())
    assert BAD[text] in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="cannot read assumptions"):
        read_assumptions(tmp_path / "none.yaml", defaults())
