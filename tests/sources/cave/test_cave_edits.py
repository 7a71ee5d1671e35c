"""A place that a visitor of the demo names: its segments as they are, and plain words where nothing is to be shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cave_ground import VOXEL_NM, Ground
from numpy.typing import NDArray
from replay_server import Faults, ReplayServer
from scipy import ndimage
from scipy.spatial import KDTree

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.core.site import Point
from connectomebench.core.species import SPECIES
from connectomebench.demo import ask_cave
from connectomebench.demo.ask_cave import meshes_at, meshes_now, root_ids, species_with_token
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig
from connectomebench.sources.cave.jobs import JobSpec, WorkerContext

EXTENT = 400.0


def settings(url: str) -> CaveConfig:
    requests = RequestConfig(attempts=2, wait_s=0.01, longest_wait_s=0.05)
    return CaveConfig(server=url, graph_table="fib_medulla_ts2", image="none", requests=requests)


@pytest.fixture(scope="module")
def context(site_server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> WorkerContext:
    return JobSpec(settings(site_server.url), "fly", tmp_path_factory.mktemp("asked"), datetime.now(UTC)).open()


@pytest.fixture(scope="module")
def merge(ground: Ground) -> dict[str, Any]:
    """The first merge; the server has meshes of its two segments just before it."""
    return next(told for told in ground.truth.told["operations"] if told["operation_id"] == 1)


def before(merge: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(merge["timestamp"], UTC) - timedelta(milliseconds=1)


def middle(merge: dict[str, Any]) -> Point:
    points = [seed["point_nm"] for seed in (*merge["sources"], *merge["sinks"])]
    x, y, z = np.mean(points, axis=0).tolist()
    return x, y, z


def apart(points: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    return float(KDTree(others).query(points)[0].max())


def test_meshes_are_those_of_the_segments_at_that_time(
    context: WorkerContext, ground: Ground, merge: dict[str, Any]
) -> None:
    roots, point, when = merge["old_root_ids"], middle(merge), before(merge)
    meshes = meshes_at(context, roots, point, EXTENT, when)
    inner = Box.around(point, EXTENT)
    for root, mesh in zip(roots, meshes, strict=True):
        mask = (ground.segments(when) == np.uint64(root))[ground.rows]
        border = ground.centres_nm(mask & (ndimage.binary_erosion(mask, border_value=1) == 0))
        points = mesh.vertices_nm.astype(np.float64)
        assert apart(points[inner.contains(points)], border) < 2 * VOXEL_NM
        assert apart(border[inner.contains(border)], points) < 2.5 * VOXEL_NM
    (second,) = meshes_at(context, roots[1:], point, EXTENT, when)
    np.testing.assert_array_equal(second.vertices_nm, meshes[1].vertices_nm)


def test_what_is_not_there_is_told(
    context: WorkerContext, merge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    roots, point = merge["old_root_ids"], middle(merge)
    with pytest.raises(ConnectomeBenchError, match=f"segment {roots[0]} is not at this point now; it may have been"):
        meshes_at(context, roots, point, EXTENT, datetime.now(UTC))
    with pytest.raises(ConnectomeBenchError, match="outside the dataset"):
        meshes_at(context, roots, (0.0, 0.0, 0.0), EXTENT, before(merge))
    far = (point[0] - 1000, point[1] + 1000, point[2] + 1000)
    with pytest.raises(ConnectomeBenchError, match=f"segment {roots[0]} is not at this point now"):
        meshes_at(context, roots, far, 50.0, before(merge))
    monkeypatch.setattr("connectomebench.sources.cave.meshes.level2_meshes", lambda *_: {})
    with pytest.raises(ConnectomeBenchError, match=f"no mesh of segment {roots[0]} at this point"):
        meshes_at(context, roots, point, EXTENT, before(merge))


def test_only_who_has_a_token_is_offered_a_dataset_and_no_address_is_told(
    site_server: ReplayServer, merge: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ask_cave, "_settings", lambda: settings(site_server.url))
    ask_cave._place.cache_clear()
    root, point = merge["new_root_ids"], middle(merge)
    assert species_with_token() == []
    with pytest.raises(ConnectomeBenchError, match="no token for this dataset"):
        meshes_now("fly", root, point, EXTENT)
    secrets = tmp_path / ".cloudvolume" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "cave-secret.json").write_text(json.dumps({"token": "abc123"}))
    assert species_with_token() == [known for known in SPECIES.values() if known.datastack and known.server]
    with pytest.raises(ConnectomeBenchError, match="at most 8 micrometres"):
        meshes_now("fly", root, point, 9000.0)
    kept, site_server.faults = site_server.faults, Faults(rate=1.0, seed=0)
    try:
        with pytest.raises(ConnectomeBenchError, match="does not give this place at present") as told:
            meshes_now("fly", root, point, EXTENT)
    finally:
        site_server.faults = kept
    assert "127.0.0.1" not in str(told.value) and "abc123" not in str(told.value)
    # this segment was edited again, so the server answers, and has another in its place
    with pytest.raises(ConnectomeBenchError, match=r"is not at this point now|no mesh of segment"):
        meshes_now("fly", root, point, EXTENT)
    ask_cave._place.cache_clear()


def test_root_ids_are_whole_numbers() -> None:
    high = 2**64 - 1
    assert root_ids(f" {high}, 72 ", 2) == [high, 72]
    assert root_ids("7", 1) == [7]
    for text, count in (
        ("7", 2),
        ("7, 7", 2),
        ("7, 8, 9", 2),
        ("0", 1),
        (str(2**64), 1),
        ("-7", 1),
        ("7.5", 1),
        ("", 1),
    ):
        with pytest.raises(ConnectomeBenchError, match=r"one root id|2 different root ids"):
            root_ids(text, count)
