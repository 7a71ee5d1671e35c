"""A manifest that was damaged, or never was one, is one line: for a build that looks at it and for whoever loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stored_rows import write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import is_built, read_manifest

DAMAGES: list[tuple[list[str], Any]] = [
    (["task"], 7),
    (["task"], None),
    (["format_version"], "one"),
    (["species"], []),
    (["species", "fly"], 1),
    (["species", "fly"], []),
    (["species", "fly", "counts"], None),
    (["species", "fly", "counts"], 3),
]


def damaged(folder: Path, keys: list[str], value: Any) -> Path:
    """A dataset whose manifest holds another value at a place; None takes the key away."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(("keys", "value"), DAMAGES)
def test_damage_is_one_line_for_everybody(tmp_path: Path, keys: list[str], value: Any) -> None:
    folder = damaged(write_dataset(tmp_path, "merge_action"), keys, value)
    for ask in (lambda: is_built(folder, "fly", "c"), lambda: load_rows(str(folder), "fly", "test")):
        with pytest.raises(ConnectomeBenchError) as caught:
            ask()
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("value", ["five", -1, 1.5, None])
def test_counts_that_are_none_are_damage(tmp_path: Path, value: Any) -> None:
    folder = write_dataset(tmp_path, "merge_action")
    assert read_manifest(folder)["task"] == "merge_action"
    damaged(folder, ["species", "fly", "counts", "test"], {"yes": value})
    with pytest.raises(ConnectomeBenchError, match="entry of fly is damaged"):
        is_built(folder, "fly", "c")
