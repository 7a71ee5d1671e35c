"""Volumes read block by block: the same voxels as stored, asked for once, whatever happens to the cache."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import diskcache
import fastremap
import numpy as np
import pytest
from forked import run_forked
from graph_truth import FIXTURE, Truth
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from replay_answers import INFO, TABLE, Request, json_answer
from replay_server import Faults, ReplayServer, replay_server
from replay_volumes import OFFSET, SHAPE, image, layer_files, supervoxels

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.species import get_species
from connectomebench.core.volume import IntPoint
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig
from connectomebench.sources.cave.cloud_volumes import CloudLayer, InMemoryLayer, RootLayer, distinct, relabel
from connectomebench.sources.cave.connect import connect

ROOM = 10**9
QUICK = RequestConfig(attempts=3, wait_s=0.001, longest_wait_s=0.01)


def layer_at(
    path: str,
    folder: Path,
    kind: Literal["labels", "image"] = "labels",
    voxel_nm: float = 10,
    room: int = ROOM,
    rules: RequestConfig = QUICK,
) -> CloudLayer:
    return CloudLayer(path, voxel_nm, kind, BlobCache(folder, room), rules, "http://login", None)


def graphene(server: ReplayServer) -> str:
    return f"graphene://{server.url}/segmentation/table/{TABLE}"


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return supervoxels()


@pytest.fixture(scope="module")
def warm(server: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> CloudLayer:
    """A layer whose blocks are read as the tests need them."""
    return layer_at(graphene(server), tmp_path_factory.mktemp("warm"))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[IntPoint, IntPoint]:
    """Boxes inside the volume; those without voxels and those at chunk faces among them."""
    edge = st.integers(0, 250) | st.sampled_from([0, 63, 64, 65, 128, 192, 249, 250])
    spans = [sorted(draw(st.tuples(edge, edge))) for _ in range(3)]
    (a, b), (c, d), (e, f) = spans
    return (a, c, e), (b, d, f)


@given(box=boxes())
@settings(max_examples=60, deadline=None)
def test_any_box_is_what_is_stored(warm: CloudLayer, labels: np.ndarray, box: tuple[IntPoint, IntPoint]) -> None:
    found = warm.read(*box)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, labels[tuple(slice(a, b) for a, b in zip(*box, strict=True))])


def test_a_layer_tells_its_place(server: ReplayServer, warm: CloudLayer, tmp_path: Path) -> None:
    assert (warm.shape, warm.offset_vx, warm.voxel_size_nm) == (SHAPE, OFFSET, (10.0, 10.0, 10.0))
    again = layer_at(graphene(server), tmp_path / "a")
    other = layer_at(f"precomputed://{server.url}/data/ws", tmp_path / "b")
    assert warm.fingerprint == again.fingerprint != other.fingerprint


def test_labels_of_a_graph_are_supervoxels(warm: CloudLayer, truth: Truth) -> None:
    assert np.array_equal(fastremap.unique(warm.read((0, 0, 0), SHAPE)), truth.table["supervoxel_id"])


def test_image_data_are_those_stored(server: ReplayServer, tmp_path: Path) -> None:
    layer = layer_at(f"precomputed://{server.url}/data/em", tmp_path, "image")
    stored = layer_files("em")
    for _ in range(2):
        found = layer.read((10, 60, 120), (90, 250, 131))
        assert found.dtype == np.uint8
        # x to the right, y and then z downwards
        chunk = np.asarray(Image.open(io.BytesIO(stored["10_10_10/1024-1088_2112-2176_2664-2728"])))
        wanted = chunk.reshape(64, 64, 64).T[10:, :, 56:]
        # libraries for JPEG differ in their rounding
        assert np.abs(found[:54, 4:68, :8].astype(int) - wanted.astype(int)).max() <= 1
        made = image()[10:90, 60:250, 120:131].astype(int)
        assert np.corrcoef(found.ravel(), made.ravel())[0, 1] > 0.9
    assert found.std() > 10


@given(axis=st.integers(0, 2), below=st.booleans(), by=st.integers(1, 1000))
@settings(max_examples=40, deadline=None)
def test_nothing_is_read_outside(warm: CloudLayer, axis: int, below: bool, by: int) -> None:
    lower, upper = [100, 100, 100], [110, 110, 110]
    if below:
        lower[axis] = -by
    else:
        upper[axis] = 250 + by
    with pytest.raises(IndexError, match="outside the volume"):
        warm.read((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
    with pytest.raises(IndexError):
        warm.read((110, 110, 110), (109, 120, 120))


# ------------------------------------------------------------------ the cache


class Chunks:
    """Chunks that were asked of a server, in order."""

    def __init__(self, server: ReplayServer) -> None:
        self.paths: list[str] = []
        answer = server.answer

        def listening(request: Request) -> Any:
            if "/10_10_10/" in request.path:
                self.paths.append(request.path)
            return answer(request)

        server.answer = listening

    def taken(self) -> list[str]:
        """Chunks asked for since the last call."""
        found, self.paths = self.paths, []
        return found


@pytest.fixture
def own_server() -> Iterator[ReplayServer]:
    with replay_server(FIXTURE) as server:
        yield server


BOX = (50, 60, 70), (70, 200, 75)  # 2 x 4 x 1 chunks along x, y, z, and those below z 64 are not needed
NEEDED = 2 * 4 * 1


def test_what_was_read_is_not_asked_for_again(own_server: ReplayServer, tmp_path: Path, labels: np.ndarray) -> None:
    chunks = Chunks(own_server)
    layer = layer_at(graphene(own_server), tmp_path)
    assert chunks.taken() == []
    first = layer.read(*BOX)
    asked = chunks.taken()
    assert len(asked) == len(set(asked)) == NEEDED
    requests = own_server.requests
    np.testing.assert_array_equal(layer.read(*BOX), first)
    inside = (50, 64, 70), (51, 65, 71)
    np.testing.assert_array_equal(layer.read(*inside), labels[50:51, 64:65, 70:71])
    assert own_server.requests == requests
    # another object on the same folder asks for the info alone
    np.testing.assert_array_equal(layer_at(graphene(own_server), tmp_path).read(*BOX), first)
    assert chunks.taken() == []
    # one chunk further along x: only that one
    layer.read((50, 60, 70), (129, 61, 71))
    assert [path.rpartition("/")[2] for path in chunks.taken()] == ["1152-1216_2048-2112_2664-2728"]


def test_another_process_asks_for_nothing(own_server: ReplayServer, tmp_path: Path, labels: np.ndarray) -> None:
    chunks, folder, log = Chunks(own_server), tmp_path / "cache", tmp_path / "log"

    def read() -> None:
        found = layer_at(graphene(own_server), folder).read(*BOX)
        np.testing.assert_array_equal(found, labels[50:70, 60:200, 70:75])

    assert run_forked(read, log) == 0, log.read_text()
    assert len(chunks.taken()) == NEEDED
    assert run_forked(read, log) == 0, log.read_text()
    read()
    assert chunks.taken() == []


def test_layers_do_not_share_blocks(server: ReplayServer, tmp_path: Path, labels: np.ndarray) -> None:
    box = (0, 0, 0), (20, 20, 20)
    image = layer_at(f"precomputed://{server.url}/data/em", tmp_path, "image").read(*box)
    found = layer_at(graphene(server), tmp_path).read(*box)
    np.testing.assert_array_equal(found, labels[:20, :20, :20])
    again = layer_at(f"precomputed://{server.url}/data/em", tmp_path, "image").read(*box)
    np.testing.assert_array_equal(again, image)


def test_a_small_cache_keeps_its_limit_and_reads_stay_right(
    own_server: ReplayServer, tmp_path: Path, labels: np.ndarray
) -> None:
    chunks = Chunks(own_server)
    whole, limit = tmp_path / "whole", 300_000
    layer_at(graphene(own_server), whole).read((0, 0, 0), SHAPE)
    small = layer_at(graphene(own_server), tmp_path / "small", room=limit)
    chunks.taken()
    for _ in range(2):
        for z in (0, 64, 128, 192):
            np.testing.assert_array_equal(small.read((0, 0, z), (250, 250, z + 5)), labels[:, :, z : z + 5])
    assert len(chunks.taken()) > 64  # some were forgotten
    used, held = (sum(p.stat().st_size for p in d.rglob("*.val")) for d in (whole, tmp_path / "small"))
    assert used > 1.5 * limit and held < 1.1 * limit


class Planted:
    """Leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_what_was_planted_in_the_cache_is_not_loaded_but_read_again(
    own_server: ReplayServer, tmp_path: Path, labels: np.ndarray
) -> None:
    folder, mark = tmp_path / "cache", tmp_path / "mark"
    chunks = Chunks(own_server)
    layer_at(graphene(own_server), folder).read(*BOX)
    with diskcache.Cache(str(folder)) as raw:
        keys = list(raw)
        for i, key in enumerate(keys):
            raw[key] = [Planted(mark), b"x" * 100_000, "text", None, 7, b"no npz"][i % 6]
    assert len(keys) == NEEDED
    chunks.taken()
    np.testing.assert_array_equal(layer_at(graphene(own_server), folder).read(*BOX), labels[50:70, 60:200, 70:75])
    assert len(chunks.taken()) == NEEDED
    assert not mark.exists()
    # and is replaced by what was read
    layer_at(graphene(own_server), folder).read(*BOX)
    assert chunks.taken() == []


def test_files_cut_short_are_read_again(own_server: ReplayServer, tmp_path: Path, labels: np.ndarray) -> None:
    chunks = Chunks(own_server)
    layer = layer_at(graphene(own_server), tmp_path)
    layer.read(*BOX)
    files = sorted(tmp_path.rglob("*.val"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    chunks.taken()
    np.testing.assert_array_equal(layer.read(*BOX), labels[50:70, 60:200, 70:75])
    # the box around what is missing is read in one go
    assert len(files) <= len(chunks.taken()) <= NEEDED


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("seed", range(2))
def test_voxels_under_faults_are_those_without(tmp_path: Path, labels: np.ndarray, seed: int) -> None:
    rules = RequestConfig(attempts=30, wait_s=1e-4, longest_wait_s=1e-3)
    with replay_server(FIXTURE, faults=Faults(rate=0.3, seed=seed, max_consecutive=2)) as server:
        layer = layer_at(graphene(server), tmp_path, rules=rules)
        np.testing.assert_array_equal(layer.read(*BOX), labels[50:70, 60:200, 70:75])
        assert sum(server.faulted.values()) >= 2
        np.testing.assert_array_equal(layer_at(graphene(server), tmp_path, rules=rules).read(*BOX), layer.read(*BOX))


def test_voxels_that_cannot_be_had_are_a_reason_and_nothing_is_kept(
    tmp_path: Path, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # cloud-volume waits between attempts of its own
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))
    with replay_server(FIXTURE, faults=Faults(force={"/10_10_10/": 503})) as server:
        layer = layer_at(graphene(server), tmp_path, rules=RequestConfig(attempts=1, wait_s=0.001))
        with pytest.raises(SiteUnavailable, match=r"^voxels of graphene://"):
            layer.read((0, 0, 0), (5, 5, 5))
    with replay_server(FIXTURE, port=int(server.url.rpartition(":")[2])) as server:
        np.testing.assert_array_equal(layer.read((0, 0, 0), (5, 5, 5)), labels[:5, :5, :5])


def test_threads_read_one_layer(server: ReplayServer, tmp_path: Path, labels: np.ndarray) -> None:
    layer = layer_at(graphene(server), tmp_path)

    def same(i: int) -> bool:
        low = (i * 23) % 200
        found = layer.read((low, 200 - low, 30), (low + 40, 240 - low, 80))
        return np.array_equal(found, labels[low : low + 40, 200 - low : 240 - low, 30:80])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(same, range(24)))


# ------------------------------------------------------------------ other volumes


def stored(
    folder: Path, sizes: list[tuple[float, float, float]], dtype: str = "uint8", channels: int = 1
) -> tuple[str, list[np.ndarray]]:
    """A precomputed folder of random voxels with a level for each voxel size."""
    from cloudvolume import CloudVolume

    path = f"precomputed://file://{folder}"
    shapes = [[int(np.ceil(v * sizes[0][a] / s[a])) for a, v in enumerate((70, 66, 20))] for s in sizes]
    scales = [
        {
            "key": f"level{i}",
            "resolution": list(size),
            "size": shape,
            "voxel_offset": [8 // (i + 1), 0, 3],
            "chunk_sizes": [[32, 16, 8]],
            "encoding": "raw",
        }
        for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True))
    ]
    info: dict[str, Any] = {"data_type": dtype, "num_channels": channels, "scales": scales, "type": "image"}
    rng = np.random.default_rng(3)
    levels = []
    for mip, shape in enumerate(shapes):
        cloud: Any = CloudVolume(path, mip=mip, info=info, progress=False)
        if not mip:
            cloud.commit_info()
        levels.append(rng.integers(0, 200, [*shape, channels]).astype(dtype))
        cloud[:, :, :] = levels[-1]
    return path, [level[..., 0] for level in levels]


LEVELS = [(4.0, 4.0, 40.0), (8.0, 8.0, 40.0), (16.0, 16.0, 40.0), (32.0, 32.0, 80.0)]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[np.ndarray]]:
    return stored(tmp_path_factory.mktemp("pyramid") / "em", LEVELS)


@pytest.mark.parametrize(
    ("voxel_nm", "level"), [(1, 0), (4, 0), (7.9, 0), (8, 1), (15, 1), (16, 2), (31, 2), (32, 3), (1000, 3)]
)
def test_the_coarsest_level_that_is_fine_enough_is_read(
    pyramid: tuple[str, list[np.ndarray]], tmp_path: Path, voxel_nm: float, level: int
) -> None:
    path, levels = pyramid
    layer = layer_at(path, tmp_path, "image", voxel_nm)
    assert layer.voxel_size_nm == LEVELS[level]
    assert layer.shape == levels[level].shape
    assert layer.offset_vx == (8 // (level + 1), 0, 3)
    for _ in range(2):
        np.testing.assert_array_equal(layer.read((0, 0, 0), layer.shape), levels[level])


def test_blocks_are_whole_chunks_of_some_size(pyramid: tuple[str, list[np.ndarray]], tmp_path: Path) -> None:
    path, levels = pyramid
    layer = layer_at(path, tmp_path, "image", 4)
    layer.read((0, 0, 0), layer.shape)
    with diskcache.Cache(str(tmp_path)) as raw:
        # 70 x 66 x 20 voxels in blocks of 64: chunks of 32 x 16 x 8 are put together
        assert len(list(raw)) == 4
    np.testing.assert_array_equal(layer.read((63, 63, 0), (66, 66, 20)), levels[0][63:66, 63:66])


def test_where_nothing_is_stored_is_background(tmp_path: Path) -> None:
    path, (level,) = stored(tmp_path / "em", [(10.0, 10.0, 10.0)])
    chunks = sorted((tmp_path / "em" / "level0").iterdir())
    gone = next(c for c in chunks if c.name.startswith("8-40_0-16_3-11"))
    gone.unlink()
    found = layer_at(path, tmp_path / "cache", "image").read((0, 0, 0), (70, 66, 20))
    wanted = level.copy()
    wanted[:32, :16, :8] = 0
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("dtype", "channels", "kind", "reason"),
    [
        ("uint16", 1, "image", "holds uint16; image must be uint8"),
        ("float32", 1, "labels", "holds float32; labels must be uint"),
        ("int32", 1, "labels", "holds int32; labels must be uint"),
        ("uint8", 3, "image", "has 3 channels; one is needed"),
    ],
)
def test_a_volume_of_another_kind_is_refused(
    tmp_path: Path, dtype: str, channels: int, kind: Literal["labels", "image"], reason: str
) -> None:
    path, _ = stored(tmp_path / "volume", [(10.0, 10.0, 10.0)], dtype, channels)
    with pytest.raises(ConnectomeBenchError, match=re.escape(reason)):
        layer_at(path, tmp_path / "cache", kind)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_labels_of_any_width_come_back(tmp_path: Path, dtype: str) -> None:
    path, (level,) = stored(tmp_path / "volume", [(10.0, 10.0, 10.0)], dtype)
    layer = layer_at(path, tmp_path / "cache")
    for _ in range(2):
        found = layer.read((0, 0, 0), layer.shape)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, level)


def test_a_volume_that_is_not_there_is_named(server: ReplayServer, tmp_path: Path) -> None:
    for path in (f"precomputed://{server.url}/data/nothing", f"precomputed://file://{tmp_path}/nothing"):
        with pytest.raises(ConnectomeBenchError, match=re.escape(f"no volume (info file) at {path}")):
            layer_at(path, tmp_path / "cache")


def test_a_voxel_size_that_is_zero_is_not_assumed(server: ReplayServer, tmp_path: Path) -> None:
    path, _ = stored(tmp_path / "volume", [(10.0, 10.0, 10.0)])
    file = tmp_path / "volume" / "info"
    info = json.loads(file.read_text())
    info["scales"][0]["resolution"] = [0, 10, 10]
    file.write_text(json.dumps(info))
    with pytest.raises(ConnectomeBenchError, match="does not state its voxel size"):
        layer_at(path, tmp_path / "cache", "image")


def test_the_voxel_size_of_a_graph_is_read_from_its_info(
    own_server: ReplayServer, tmp_path: Path, labels: np.ndarray
) -> None:
    answer = own_server.answer
    info = json.loads(answer(Request("GET", INFO, (), b"")).body)
    info["scales"][0]["resolution"] = [5, 6, 45]
    own_server.answer = lambda request: json_answer(info) if request.path == INFO else answer(request)
    layer = layer_at(graphene(own_server), tmp_path)
    assert layer.voxel_size_nm == (5.0, 6.0, 45.0)
    np.testing.assert_array_equal(layer.read((0, 0, 0), (9, 9, 9)), labels[:9, :9, :9])


# ------------------------------------------------------------------ labels as they were


@pytest.mark.parametrize("name", ["before_first_operation", "after_half", "final"])
def test_roots_lie_where_they_lay(server: ReplayServer, warm: CloudLayer, truth: Truth, name: str) -> None:
    when = truth.told["read_times"][name]
    config = CaveConfig(server=server.url, graph_table=TABLE, image="none", requests=QUICK)
    graph = connect(config, get_species("fly")).graph
    layer = RootLayer(warm, lambda ids: graph.roots(ids, datetime.fromtimestamp(when, UTC)))
    assert (layer.shape, layer.offset_vx, layer.voxel_size_nm) == (SHAPE, OFFSET, (10.0, 10.0, 10.0))
    found = layer.read((30, 40, 50), (110, 120, 130))
    points = truth.table["inner_point_voxel"].astype(int) - OFFSET
    inside = ((points >= (30, 40, 50)) & (points < (110, 120, 130))).all(axis=1)
    x, y, z = (points[inside] - (30, 40, 50)).T
    assert inside.sum() > 50
    assert np.array_equal(found[x, y, z], truth.roots_at(when)[inside])


def test_a_layer_in_memory_is_read_by_its_own_voxels() -> None:
    held = np.arange(60, dtype=np.uint64).reshape(3, 4, 5)
    layer = InMemoryLayer(held, (4.0, 4.0, 40.0), (100, 200, 300))
    assert (layer.shape, layer.offset_vx, layer.voxel_size_nm) == ((3, 4, 5), (100, 200, 300), (4.0, 4.0, 40.0))
    np.testing.assert_array_equal(layer.read((1, 0, 2), (3, 4, 4)), held[1:3, :, 2:4])


LABELS = st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]).flatmap(
    lambda kind: arrays(
        kind,
        array_shapes(min_dims=3, max_dims=3, max_side=7),
        elements=st.integers(0, min(int(np.iinfo(kind).max), 5)) | st.integers(0, int(np.iinfo(kind).max)),
    )
)


@given(values=LABELS, order=st.sampled_from("CF"))
@settings(max_examples=200, deadline=None)
def test_distinct_labels_and_their_codes_give_the_labels(values: np.ndarray, order: Literal["C", "F"]) -> None:
    labels = np.array(values, order=order)
    ids, codes = distinct(labels)
    assert ids.dtype == labels.dtype and codes.shape == labels.shape
    assert ids.tolist() == sorted({0, *labels.ravel().tolist()})
    assert codes.dtype.kind == "u" and codes.dtype.itemsize == 1  # fewer than 256 labels in so small a box
    np.testing.assert_array_equal(ids[codes], labels)
    np.testing.assert_array_equal(labels, values)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(("most", "width"), [(200, 1), (255, 2), (256, 2), (60_000, 2), (65_535, 4), (65_536, 4)])
def test_codes_hold_as_many_labels_as_there_are(most: int, width: int, background: bool) -> None:
    first = 0 if background else 1
    labels = (np.arange(first, most + 1, dtype=np.uint64) << np.uint64(40)).reshape(-1, 1, 1)
    ids, codes = distinct(labels)
    assert len(ids) == most + 1
    assert codes.dtype.kind == "u" and codes.dtype.itemsize <= width
    np.testing.assert_array_equal(ids[codes], labels)


@given(values=LABELS, seed=st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_relabelled_voxels_have_the_root_of_their_label(values: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    roots = {label: int(rng.integers(1, 2**63)) for label in np.unique(values).tolist()} | {0: 99}
    asked: list[list[int]] = []

    def root_of(ids: np.ndarray) -> np.ndarray:
        asked.append(ids.tolist())
        assert ids.dtype == np.uint64
        return np.asarray([roots[i] for i in ids.tolist()], np.uint64)

    found = relabel(values, root_of)
    # each label is looked up once; background stays so, whatever the look-up says
    assert asked == [sorted({0, *values.ravel().tolist()})]
    assert found.dtype == np.uint64
    wanted = [roots[v] if v else 0 for v in values.ravel().tolist()]
    assert found.ravel().tolist() == wanted


def test_an_answer_of_a_look_up_is_not_changed() -> None:
    answer = np.asarray([5, 6], np.uint64)
    relabel(np.asarray([[[0, 1]]], np.uint64), lambda ids: answer)
    assert answer.tolist() == [5, 6]
