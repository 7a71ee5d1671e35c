"""Scenes beside the rows of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.scene_shards import RowScenes, StoredScenes, scenes_path, write_scenes


def test_each_row_finds_its_own(tmp_path: Path):
    rows = [RowScenes(f"{i:016x}", bytes([i]) * (i + 1), bytes([255 - i]) * 3) for i in range(11)]
    path = scenes_path(tmp_path / "merge_action", "fly", "test")
    assert write_scenes(path, iter(rows)) == 11 and path == tmp_path / "merge_action/fly/scenes-test-00000-of-00001.zip"
    write_scenes(scenes_path(tmp_path / "split_action", "fly", "test"), [RowScenes("x", b"other", b"")])
    stored = StoredScenes([tmp_path / "merge_action/fly", tmp_path / "split_action/fly", tmp_path / "none/fly"])
    for row in rows:
        assert row.sample_id in stored
        assert (stored.get(row.sample_id, "scene"), stored.get(row.sample_id, "truth")) == (row.scene, row.truth)
    assert stored.get("x", "scene") == b"other" and stored.get("y", "scene") is None and "y" not in stored
    assert not StoredScenes([tmp_path / "none/fly"]).get("x", "scene")


def test_what_is_interrupted_or_damaged_leaves_no_half(tmp_path: Path):
    path = scenes_path(tmp_path, "fly", "test")

    def broken():
        yield RowScenes("a", b"1", b"2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(path, broken())
    assert not path.exists() and not list(path.parent.glob("*"))
    path.write_bytes(b"PK")
    with pytest.raises(ConnectomeBenchError, match="write the scenes again"):
        StoredScenes([path.parent])
