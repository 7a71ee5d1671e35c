"""Level-2 meshes come from storage once, close at the seams, and are cut to the view."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chunk_meshes import (
    CHUNK,
    GRID_NM,
    OFFSET,
    SHARDING,
    VOXEL_NM,
    Node,
    Served,
    draco,
    file_name,
    level2_nodes,
    node_id,
    serve,
    shard_files,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.rendering.clip import ViewMesh, clip_mesh
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.meshes import join_meshes, level2_meshes, segment_mesh

TOKEN = "0123456789abcdef0123456789abcdef"


def bent_tube() -> np.ndarray:
    """A tube through five of the six chunks of a volume of 48 x 32 x 16 voxels, away from its border."""
    x, y, z = np.meshgrid(np.arange(48), np.arange(32), np.arange(16), indexing="ij")
    along_x = (np.hypot(y - 8, z - 8) < 4.3) & (x > 3) & (x < 44)
    along_y = (np.hypot(x - 38, z - 8) < 4.7) & (y > 5) & (y < 28)
    return along_x | along_y | ((np.hypot(x - 25, z - 8) < 3.2) & (y > 5) & (y < 22))


@pytest.fixture(scope="module")
def nodes() -> dict[int, Node]:
    return level2_nodes(bent_tube())


@pytest.fixture(params=["unsharded", "sharded"])
def server(request: pytest.FixtureRequest, nodes: dict[int, Node]) -> Iterator[Served]:
    with serve() as served:
        blobs = {i: (node.chunk, draco(node.mesh, node.chunk)) for i, node in nodes.items()}
        edited = sorted(blobs)[-1]
        if request.param == "sharded":
            info = {"@type": "neuroglancer_legacy_mesh", "sharding": {"2": SHARDING}}
            initial = shard_files({i: blob for i, blob in blobs.items() if i != edited})
            served.files |= {f"/data/meshes/initial/2/{name}": content for name, content in initial.items()}
            blobs = {edited: blobs[edited]}
            folder = "/data/meshes/dynamic"
        else:
            info, folder = {"@type": "neuroglancer_legacy_mesh"}, "/data/meshes"
        served.files["/data/meshes/info"] = json.dumps(info).encode()
        served.files |= {f"{folder}/{file_name(i, chunk)}": blob for i, (chunk, blob) in blobs.items()}
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache", 10**8)


@pytest.fixture
def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from cloudfiles.interfaces import HttpInterface
    from tenacity import wait_none

    monkeypatch.setattr(HttpInterface.get_file.retry, "wait", wait_none())  # pyright: ignore


def opened(served: Served) -> Any:
    from cloudvolume import CloudVolume

    volume = CloudVolume(served.path, secrets={"token": TOKEN}, use_https=True, progress=False)
    served.requests.clear()
    return volume


def open_edges(mesh: Mesh) -> int:
    """Count directed edges without their reverse; 0 on a closed surface."""
    starts, ends = mesh.faces.ravel().astype(int), np.roll(mesh.faces, -1, axis=1).ravel().astype(int)
    n = len(mesh.vertices_nm)
    return int(
        (np.bincount(starts * n + ends, minlength=n * n) != np.bincount(ends * n + starts, minlength=n * n)).sum()
    )


def volume_nm3(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices_nm[mesh.faces].astype(float) - mesh.vertices_nm.mean(axis=0), 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def test_meshes_are_those_stored_within_the_grid_of_draco(
    server: Served, nodes: dict[int, Node], cache: BlobCache
) -> None:
    volume = opened(server)
    found = level2_meshes(volume, nodes, cache, "tiny")
    assert list(found) == sorted(nodes)
    assert {i: tuple(volume.meta.decode_chunk_position(i).tolist()) for i in found} == {
        i: nodes[i].chunk for i in found
    }
    assert len(nodes) == 5
    for i, mesh in found.items():
        assert len(mesh.faces) == len(nodes[i].mesh.faces)
        assert mesh.vertices_nm.dtype == np.float32 and mesh.faces.dtype == np.int32
        for bound in ("min", "max"):
            stored, made = (getattr(m.vertices_nm, bound)(axis=0) for m in (mesh, nodes[i].mesh))
            np.testing.assert_allclose(stored, made, atol=GRID_NM / 2)


def test_only_the_nodes_asked_for_are_read_and_only_once(
    server: Served, nodes: dict[int, Node], cache: BlobCache
) -> None:
    volume = opened(server)
    wanted = sorted(nodes)[1]
    first = level2_meshes(volume, [wanted, wanted], cache, "tiny")
    assert list(first) == [wanted]
    position = str(wanted >> 26 & (1 << 30) - 1)
    assert server.requests and all(str(wanted) in path or f"/{position}-" in path for path in server.requests)
    server.requests.clear()
    again = level2_meshes(volume, [wanted], cache, "tiny")
    assert server.requests == []
    np.testing.assert_array_equal(again[wanted].vertices_nm, first[wanted].vertices_nm)
    np.testing.assert_array_equal(again[wanted].faces, first[wanted].faces)
    level2_meshes(volume, [wanted], cache, "another volume")
    assert server.requests


def test_ids_without_a_mesh_are_absent_and_asked_for_again(
    server: Served, nodes: dict[int, Node], cache: BlobCache
) -> None:
    volume = opened(server)
    there, absent = sorted(nodes)[0], node_id((1, 0, 0), 77)
    far = node_id((9, 9, 9), 1)
    assert list(level2_meshes(volume, [absent, there, far], cache, "tiny")) == [there]
    server.requests.clear()
    assert level2_meshes(volume, [absent], cache, "tiny") == {}
    assert server.requests
    chunk = (1, 0, 0)
    folder = "/data/meshes/dynamic" if volume.mesh.meta.is_sharded() else "/data/meshes"
    server.files[f"{folder}/{file_name(absent, chunk)}"] = draco(nodes[node_id(chunk, 1)].mesh, chunk)
    assert list(level2_meshes(volume, [absent], cache, "tiny")) == [absent]


@pytest.mark.parametrize("server", ["unsharded"], indirect=True)
def test_old_fragments_without_draco_are_read(server: Served, nodes: dict[int, Node], cache: BlobCache) -> None:
    from cloudvolume import Mesh as StoredMesh

    i, node = next(iter(nodes.items()))
    old = StoredMesh(node.mesh.vertices_nm, node.mesh.faces)
    server.files[f"/data/meshes/{file_name(i, node.chunk)}"] = old.to_precomputed()
    mesh = level2_meshes(opened(server), [i], cache, "tiny")[i]
    np.testing.assert_array_equal(mesh.vertices_nm, node.mesh.vertices_nm)
    np.testing.assert_array_equal(mesh.faces, node.mesh.faces)


@pytest.mark.usefixtures("without_waits")
class TestFailures:
    def path(self, nodes: dict[int, Node]) -> tuple[int, str, str]:
        """A node that lies in a file of its own in both layouts."""
        i = sorted(nodes)[-1]
        name = file_name(i, nodes[i].chunk)
        return i, f"/data/meshes/{name}", f"/data/meshes/dynamic/{name}"

    def test_a_busy_server_is_asked_again(self, server: Served, nodes: dict[int, Node], cache: BlobCache) -> None:
        i, *paths = self.path(nodes)
        server.statuses |= {path: [500, 429, 503, 500, 429, 503] for path in paths}
        volume = opened(server)
        assert list(level2_meshes(volume, [i], cache, "tiny")) == [i]
        assert server.requests.count(paths[volume.mesh.meta.is_sharded()]) == 7

    def test_a_broken_server_makes_the_site_unavailable(
        self, server: Served, nodes: dict[int, Node], cache: BlobCache
    ) -> None:
        i, *paths = self.path(nodes)
        server.statuses |= {path: [500] * 20 for path in paths}
        volume = opened(server)
        with pytest.raises(SiteUnavailable, match="500"):
            level2_meshes(volume, [i], cache, "tiny")
        assert server.requests.count(paths[volume.mesh.meta.is_sharded()]) == 7

    def test_a_refused_token_is_told_without_the_token(
        self, server: Served, nodes: dict[int, Node], cache: BlobCache
    ) -> None:
        i, *paths = self.path(nodes)
        server.statuses |= {path: [401] * 20 for path in paths}
        with pytest.raises(ConnectomeBenchError) as caught:
            level2_meshes(opened(server), [i], cache, "tiny", login="https://login.example")
        message = str(caught.value)
        assert server.url in message and "401" in message and "login.example" in message
        assert TOKEN not in message and caught.value.__cause__ is None

    def test_damaged_files_are_not_kept(self, server: Served, nodes: dict[int, Node], cache: BlobCache) -> None:
        i, *paths = self.path(nodes)
        volume = opened(server)
        path = paths[volume.mesh.meta.is_sharded()]
        whole = server.files[path]
        server.files[path] = whole[: len(whole) // 2]
        with pytest.raises(SiteUnavailable):
            level2_meshes(volume, [i], cache, "tiny")
        server.files[path] = whole
        assert list(level2_meshes(volume, [i], cache, "tiny")) == [i]


@pytest.mark.parametrize("server", ["unsharded"], indirect=True)
def test_a_graph_without_meshes_says_what_to_do(server: Served, nodes: dict[int, Node], cache: BlobCache) -> None:
    server.files["/segmentation/table/tiny/info"] = json.dumps(server.info(mesh=None)).encode()
    with pytest.raises(ConnectomeBenchError, match=r"source\.cave\.meshes"):
        level2_meshes(opened(server), nodes, cache, "tiny")


@pytest.mark.parametrize("server", ["unsharded"], indirect=True)
def test_a_root_is_not_fetched(server: Served, cache: BlobCache) -> None:
    volume = opened(server)
    with pytest.raises(ValueError, match="level-2"):
        level2_meshes(volume, [4 << 56 | 5], cache, "tiny")
    assert server.requests == []


def test_seams_close_and_the_volume_is_that_of_the_object(
    server: Served, nodes: dict[int, Node], cache: BlobCache
) -> None:
    fragments = level2_meshes(opened(server), nodes, cache, "tiny").values()
    assert all(open_edges(mesh) for mesh in fragments)
    mesh = join_meshes(fragments)
    assert open_edges(mesh) == 0
    voxels = bent_tube().sum() * VOXEL_NM**3
    assert volume_nm3(mesh) == pytest.approx(voxels, rel=0.03)


def test_joining_keeps_every_face(nodes: dict[int, Node]) -> None:
    fragments = [node.mesh for node in nodes.values()]
    joined = join_meshes(fragments)
    every = np.concatenate([mesh.vertices_nm[mesh.faces] for mesh in fragments])
    np.testing.assert_array_equal(joined.vertices_nm[joined.faces], every)
    assert len(np.unique(joined.vertices_nm, axis=0)) == len(joined.vertices_nm)


def test_nothing_joined_is_empty() -> None:
    assert join_meshes([]).is_empty and join_meshes([EMPTY_MESH]).is_empty


def test_faces_without_area_and_zeros_of_either_sign() -> None:
    a = Mesh(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2], [1, 2, 3]], np.int32)
    )
    b = Mesh(np.array([[-0.0, -0.0, 0], [1, 0, -0.0], [0, 0, 1]], np.float32), np.array([[1, 0, 2]], np.int32))
    joined = join_meshes([a, b])
    assert len(joined.vertices_nm) == 4 and len(joined.faces) == 2


def sorted_corners(view: ViewMesh) -> np.ndarray:
    """Places and normals of the corners of each face, in one order of faces: a view sorts them by cells of its mesh."""
    corners = np.concatenate([view.points[view.faces], view.normals[view.faces]], axis=2).reshape(len(view.faces), 18)
    return corners[np.lexsort(corners.T)]


@given(
    center=st.tuples(st.floats(-2, 50), st.floats(-2, 34), st.floats(-2, 18)),
    extent=st.floats(20, 400),
)
# a small open patch that encloses a negative volume and yet is the right way round
@example(center=(26.43540945, 11.31865864, 10.1171591), extent=26.335408154451347)
@settings(max_examples=40, deadline=None)
def test_a_view_of_the_cut_mesh_is_a_view_of_the_whole(
    nodes: dict[int, Node], center: tuple[float, float, float], extent: float
) -> None:
    fragments = [node.mesh for node in nodes.values()]
    x, y, z = ((c + o) * VOXEL_NM for c, o in zip(center, OFFSET, strict=True))
    cut = segment_mesh(fragments, Box.around((x, y, z), extent))
    whole = join_meshes(fragments)
    seen, expected = clip_mesh(cut, (x, y, z), extent), clip_mesh(whole, (x, y, z), extent)
    np.testing.assert_array_equal(sorted_corners(seen), sorted_corners(expected))
    reach = extent / 2 + 4 * VOXEL_NM
    assert (np.abs(cut.vertices_nm - np.float32([x, y, z])) <= reach).all()


def test_a_box_far_away_shows_nothing(nodes: dict[int, Node]) -> None:
    far = Box.around((0, 0, 0), CHUNK * VOXEL_NM)
    assert segment_mesh([node.mesh for node in nodes.values()], far).is_empty
    assert segment_mesh([], far).is_empty
