"""The source over an automatic and a proofread segmentation, from small volumes with real errors, and on FIB-25."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from cloudvolume import CloudVolume

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Cut, Part, Site
from connectomebench.sources.label_shapes import MeshConfig, SkeletonConfig
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.volume_source import VolumesConfig, VolumeSource

FIB25 = Path(__file__).parents[3].parent / "shared/data/fib25_cube/fib25_cube.npz"
VOXEL, OFFSET = (10.0, 10.0, 20.0), (30, 0, -4)
SHAPE = (64, 40, 24)
RULES = CorrectionConfig(min_core_voxels=50, erosion_vx=1)
# bodies: 10 (a tube cut into segments 1 and 2 at x = 30) and 20, 30 (two tubes that touch, fused in segment 3)


def arrays() -> dict[str, np.ndarray]:
    proofread = np.zeros(SHAPE, np.uint64)
    proofread[:, 4:12, 8:16] = 10
    proofread[4:60, 20:27, 8:16] = 20
    proofread[4:60, 27:34, 8:16] = 30
    automatic = np.zeros(SHAPE, np.uint32)
    automatic[:30, 4:12, 8:16], automatic[30:, 4:12, 8:16] = 1, 2
    automatic[4:60, 20:34, 8:16] = 3
    gray = np.where(proofread > 0, 150, 60).astype(np.uint8)
    gray[:, 26:28] = 70  # a membrane between bodies 20 and 30
    x = np.arange(SHAPE[0], dtype=np.uint64)[:, None, None] // 8
    supervoxels = np.where(proofread > 0, proofread * 100 + x, 0).astype(np.uint64)
    return {"automatic": automatic, "proofread": proofread, "image": gray, "supervoxels": supervoxels}


def in_npz(folder: Path) -> dict[str, VolumeSpec]:
    np.savez(folder / "all.npz", **{k: a.transpose(2, 0, 1) for k, a in arrays().items()})
    return {k: VolumeSpec("all.npz", k, "zxy", VOXEL, OFFSET) for k in arrays()}


def in_mixed_containers(folder: Path) -> dict[str, VolumeSpec]:
    made = arrays()
    with h5py.File(folder / "a.h5", "w") as file:
        for key in ("automatic", "image"):
            file[key] = made[key].T
    specs = {k: VolumeSpec("a.h5", k, "zyx", VOXEL, OFFSET) for k in ("automatic", "image")}
    for key in ("proofread", "supervoxels"):
        CloudVolume.from_numpy(
            made[key],
            f"file://{folder}/{key}",
            resolution=[10, 10, 20],
            voxel_offset=OFFSET,
            layer_type="segmentation",
            progress=False,
        )
        specs[key] = VolumeSpec(f"precomputed://file://{key}")
    return specs


def config(specs: dict[str, VolumeSpec], **more) -> VolumesConfig:
    skeleton = SkeletonConfig(dust_voxels=100)
    return VolumesConfig(
        "tubes", "1", **{"corrections": RULES, "skeleton": skeleton, "border_nm": 50.0, **specs, **more}
    )


@pytest.fixture
def source(tmp_path: Path) -> VolumeSource:
    return VolumeSource(config(in_npz(tmp_path)), "fly", tmp_path / "cache", tmp_path)


def nm(x: float, y: float, z: float) -> tuple[float, float, float]:
    """World coordinates of a voxel coordinate of the arrays."""
    return tuple(float(v) for v in (np.array([x, y, z]) + OFFSET) * VOXEL)  # type: ignore[return-value]


def site(
    parts: tuple[Part, ...], at: tuple[float, float, float], extent_nm: float = 200, cut: Cut | None = None
) -> Site:
    return Site("merge_action", at, extent_nm, parts, "yes", (1,), (10,), "edit", cut=cut)


def cached_files(source_cache: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in source_cache.rglob("*.npz")}


def test_corrections_and_contacts_are_found_in_the_world_and_kept(source: VolumeSource, tmp_path: Path) -> None:
    found, contacts = source.corrections(), source.contacts()
    assert [(m.segments, m.body) for m in found.merges] == [((1, 2), 10)]
    assert np.abs(np.array(found.merges[0].location_nm) - nm(30, 8, 12)).max() <= 40
    assert [(s.segment, s.bodies) for s in found.splits] == [(3, (20, 30))]
    assert [1, 2] in contacts.segments.tolist()
    before = cached_files(tmp_path / "cache")
    again, contacts_again = source.corrections(), source.contacts()
    assert cached_files(tmp_path / "cache") == before
    for name in ("merges", "splits", "body_of", "fused", "counts"):
        assert getattr(again, name) == getattr(found, name)
    for mine, theirs in ((again.overlaps, found.overlaps), (contacts_again, contacts)):
        for field in dataclasses.fields(mine):
            assert np.array_equal(getattr(mine, field.name), getattr(theirs, field.name))
    assert np.array_equal(again.unresolved_nm, found.unresolved_nm)


def test_every_container_gives_the_same_source(source: VolumeSource, tmp_path: Path) -> None:
    other = VolumeSource(config(in_mixed_containers(tmp_path)), "fly", tmp_path / "other", tmp_path)
    assert other.info.bounds_nm == source.info.bounds_nm
    assert other.corrections().merges == source.corrections().merges
    parts = (Part(1, "base"), Part(2, "candidate"))
    for mine, theirs in zip(
        source.meshes(site(parts, nm(30, 8, 12))), other.meshes(site(parts, nm(30, 8, 12))), strict=True
    ):
        assert np.array_equal(mine.vertices_nm, theirs.vertices_nm)
    mine, theirs = (s.cut_graph(3, nm(30, 27, 12), 400) for s in (source, other))
    assert np.array_equal(mine.capacities, theirs.capacities)
    em = [s.em_slices(site(parts, nm(30, 8, 12)), 32) for s in (source, other)]
    assert em[0] is not None and em[1] is not None
    assert all(np.array_equal(em[0][k].gray, em[1][k].gray) for k in em[0])


def test_skeletons_lie_inside_and_are_computed_once(source: VolumeSource, tmp_path: Path) -> None:
    found = dict(source.skeletons([1, 2, 3]))
    assert list(found) == [1, 2, 3]
    labels = arrays()["automatic"]
    for segment, skeleton in found.items():
        index = np.floor(skeleton.nodes_nm / VOXEL - OFFSET).astype(int)
        assert (labels[tuple(index.T)] == segment).all()
    assert (found[1].degrees() == 1).sum() == 2
    before = cached_files(tmp_path / "cache")
    again = dict(source.skeletons([1, 2, 3]))
    assert cached_files(tmp_path / "cache") == before
    assert all(np.array_equal(again[s].nodes_nm, found[s].nodes_nm) for s in found)
    with pytest.raises(ConnectomeBenchError, match="segment 99 is not"):
        list(source.skeletons([99]))


def test_meshes_cover_the_cube_shown_and_no_more_than_a_margin(source: VolumeSource, tmp_path: Path) -> None:
    shown = site((Part(1, "base"), Part(2, "candidate"), Part(77, "candidate")), nm(30, 8, 12))
    base, candidate, absent = source.meshes(shown)
    assert absent.is_empty
    margin = MeshConfig().margin_vx
    for mesh, low, high in ((base, 20, 30), (candidate, 30, 40)):
        x = mesh.vertices_nm[:, 0] / 10 - OFFSET[0]
        assert x.min() <= low + 0.5
        assert x.max() >= high - 0.5
        assert x.min() >= low - margin and x.max() <= high + margin
    y = base.vertices_nm[:, 1] / 10
    assert abs(y.min() - 4) <= 0.6 and abs(y.max() - 12) <= 0.6
    before = cached_files(tmp_path / "cache")
    again = source.meshes(shown)
    assert cached_files(tmp_path / "cache") == before
    assert np.array_equal(again[0].vertices_nm, base.vertices_nm)


def test_a_place_outside_the_volume_has_no_mesh_and_no_image(source: VolumeSource) -> None:
    away = site((Part(1, "base"),), (-9000.0, -9000.0, -9000.0))
    assert source.meshes(away)[0].is_empty
    slices = source.em_slices(away, 16)
    assert slices is not None
    assert not any(s.inside.any() or s.gray.any() or s.segments.any() for s in slices.values())


@pytest.mark.parametrize("with_supervoxels", [True, False])
def test_the_sides_of_a_cut_are_its_bodies(with_supervoxels: bool, tmp_path: Path) -> None:
    specs = in_npz(tmp_path)
    if not with_supervoxels:
        del specs["supervoxels"]
    source = VolumeSource(config(specs), "fly", tmp_path / "cache", tmp_path)
    middle = nm(30, 27, 12)
    graph = source.cut_graph(3, middle, 500.0)
    assert graph.bodies.tolist() == [20, 30]
    assert len(graph.points_nm) > 4
    first = graph.voxels[:, 0] > graph.voxels[:, 1]
    seeds = [[tuple(map(float, p)) for p in graph.points_nm[rows]] for rows in (first, ~first)]
    if with_supervoxels:  # one seed a side must do: the cut follows the membrane
        seeds = [side[:1] for side in seeds]
    cut = Cut(tuple(seeds[0]), tuple(seeds[1]), middle, 500.0)
    parts = (Part(3, "source"), Part(3, "sink"))
    one, two = source.meshes(site(parts, middle, 160.0, cut))
    assert not one.is_empty and not two.is_empty
    if with_supervoxels:
        assert one.vertices_nm[:, 1].max() / 10 == pytest.approx(27, abs=0.6)
        assert two.vertices_nm[:, 1].min() / 10 == pytest.approx(27, abs=0.6)
    else:
        assert one.vertices_nm[:, 1].mean() < two.vertices_nm[:, 1].mean()


def test_em_slices_show_each_plane_the_right_way_round(tmp_path: Path) -> None:
    """A ramp along one axis must grow along that axis of the picture, and segments must lie where they are."""
    made = arrays()
    labels = np.zeros(SHAPE, np.uint32)
    labels[32:, 20:, 12:] = 5
    for axis, name in enumerate("xyz"):
        gray = np.broadcast_to((np.indices(SHAPE)[axis] * 4).astype(np.uint8), SHAPE)
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "a.npz", a=labels, p=made["proofread"], g=gray)
        specs = {
            k: VolumeSpec("a.npz", i, "xyz", VOXEL, OFFSET)
            for k, i in (("automatic", "a"), ("proofread", "p"), ("image", "g"))
        }
        source = VolumeSource(config(specs), "fly", folder / "cache", folder)
        center = (32, 20, 12)
        slices = source.em_slices(site((Part(1, "base"),), nm(*center), 160.0), 64)
        assert slices is not None
        for key, (column, row) in {"em_xy": (0, 1), "em_xz": (0, 2), "em_yz": (1, 2)}.items():
            image = slices[key]
            steps = {column: np.diff(image.gray[32].astype(int)), row: np.diff(image.gray[:, 32].astype(int))}
            for shown, step in steps.items():
                assert step.min() >= 0
                # 160 nm across: 16 voxels, of which 63/64 lie between the middles of the first and last pixel
                span = 160 / VOXEL[shown] * 4 * 63 / 64
                assert step.sum() == pytest.approx(span if shown == axis else 0, abs=1.01)
            middle = center[axis] * 4
            assert image.gray[32, 32] == pytest.approx(middle, abs=3)
            assert image.inside.all()
            expected = np.zeros((64, 64))
            expected[32:, 32:] = 5
            assert np.array_equal(image.segments, expected)


def test_em_beyond_the_volume_is_marked(source: VolumeSource) -> None:
    slices = source.em_slices(site((Part(1, "base"),), nm(0, 20, 12), 200.0), 40)
    assert slices is not None
    xy = slices["em_xy"]
    assert not xy.inside[:, :20].any() and xy.inside[:, 20:].all()
    assert not xy.gray[:, :20].any() and xy.gray[:, 20:].all()
    assert xy.gray[20, 20] == pytest.approx(60, abs=2)  # no dark rim at the border


def test_finer_image_data_show_the_same(tmp_path: Path) -> None:
    specs = in_npz(tmp_path)
    fine = arrays()["image"].repeat(2, 0).repeat(2, 1)
    np.save(tmp_path / "fine.npy", fine)
    offset = (OFFSET[0] * 2, OFFSET[1] * 2, OFFSET[2])
    finer = VolumeSpec("fine.npy", None, "xyz", (5.0, 5.0, 20.0), offset)
    sources = [
        VolumeSource(config({**specs, "image": image}), "fly", tmp_path / "cache", tmp_path)
        for image in (specs["image"], finer)
    ]
    graphs = [s.cut_graph(3, nm(30, 27, 12), 500.0) for s in sources]
    assert np.array_equal(graphs[0].capacities, graphs[1].capacities)
    em = [s.em_slices(site((Part(1, "base"),), nm(30, 8, 12)), 40) for s in sources]
    assert em[0] is not None and em[1] is not None
    difference = np.abs(em[0]["em_xy"].gray.astype(int) - em[1]["em_xy"].gray)
    assert np.median(difference) == 0 and difference.mean() < 4
    with pytest.raises(ConnectomeBenchError, match="whole numbers"):
        odd = dataclasses.replace(finer, voxel_size_nm=(7.0, 7.0, 20.0))
        VolumeSource(config({**specs, "image": odd}), "fly", tmp_path / "cache", tmp_path)
    with pytest.raises(ConnectomeBenchError, match="do not cover automatic"):
        moved = dataclasses.replace(finer, offset_vx=OFFSET)
        VolumeSource(config({**specs, "image": moved}), "fly", tmp_path / "cache", tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"axes": "zyx"}, "shape"),
        ({"voxel_size_nm": (8.0, 10.0, 20.0)}, "voxel_size_nm"),
        ({"offset_vx": (0, 0, 0)}, "offset_vx"),
    ],
)
def test_volumes_must_lie_at_the_same_place(change: dict, what: str, tmp_path: Path) -> None:
    specs = in_npz(tmp_path)
    specs["proofread"] = dataclasses.replace(specs["proofread"], **change)
    with pytest.raises(ConnectomeBenchError, match=f"automatic and proofread differ in {what}"):
        VolumeSource(config(specs), "fly", tmp_path / "cache", tmp_path)


def test_border_and_version(source: VolumeSource, tmp_path: Path) -> None:
    points = np.array([nm(4, 20, 12), nm(6, 20, 12), nm(6, 20, 22), nm(-5, 20, 12)])
    assert source.at_border(np.ones(len(points), np.uint64), points).tolist() == [True, False, True, True]
    other = VolumeSource(config(in_npz(tmp_path), border_nm=60.0), "fly", tmp_path / "cache", tmp_path)
    assert source.info.version.startswith("1+")
    assert other.info.version != source.info.version


def test_no_image_no_slices(tmp_path: Path) -> None:
    source = VolumeSource(config({**in_npz(tmp_path), "image": None}), "fly", tmp_path / "cache", tmp_path)
    assert source.em_slices(site((Part(1, "base"),), nm(30, 8, 12)), 16) is None


@pytest.mark.skipif(not FIB25.exists(), reason="needs ../shared/data/fib25_cube (the FIB-25 cube), which is not here")
def test_fib25(tmp_path: Path) -> None:
    def volume(key: str) -> VolumeSpec:
        return VolumeSpec(str(FIB25), key, "zyx", (10.0, 10.0, 10.0), (0, 0, 0))

    fib25 = VolumesConfig(
        "fib25",
        "1",
        automatic=volume("ffn"),
        proofread=volume("gt"),
        image=volume("gray"),
        supervoxels=volume("ws"),
        skeleton=SkeletonConfig(downsample=(2, 2, 2)),
        border_nm=100.0,
    )
    source = VolumeSource(fib25, "fly", tmp_path)
    found = source.corrections()
    assert found.counts["merge_errors"] == 15
    assert found.counts["extra_fragments"] == 68
    merge, split = found.merges[0], found.splits[0]
    parts = (Part(merge.segments[0], "base"), Part(merge.segments[1], "candidate"))
    shown = site(parts, merge.location_nm, 1000.0)
    assert not any(m.is_empty for m in source.meshes(shown))
    slices = source.em_slices(shown, 128)
    assert slices is not None
    assert slices["em_xy"].gray[slices["em_xy"].inside].std() > 5
    graph = source.cut_graph(split.segment, split.location_nm, 2500.0)
    assert set(split.bodies) <= set(graph.bodies.tolist())
    assert graph.voxels.sum() > 10_000
    skeletons = dict(source.skeletons(merge.segments))
    assert set(skeletons) == set(merge.segments)
    for segment, skeleton in skeletons.items():
        index = np.clip(np.floor(skeleton.nodes_nm / 10).astype(int), 0, 249)
        near = [(source.automatic.read(tuple(np.maximum(i - 1, 0)), tuple(i + 1)) == segment).any() for i in index]
        assert np.mean(near) > 0.99
