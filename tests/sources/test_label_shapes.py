"""Bounding boxes, meshes and skeletons lie where the labels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_reference import MemoryVolume
from scipy.ndimage import binary_dilation

from connectomebench.sources.label_shapes import (
    MeshConfig,
    SkeletonConfig,
    find_extents,
    mesh_labels,
    read_mask,
    skeletonize,
)
from connectomebench.sources.volumes.arrays import StoredVolume, VolumeSpec, open_volume

VOXEL = (8.0, 10.0, 20.0)
OFFSET = (50, -7, 1000)
OPEN = np.zeros((3, 2), np.bool_)


def volume_of(labels: np.ndarray, folder: Path) -> StoredVolume:
    np.save(folder / "labels.npy", labels)
    return open_volume(VolumeSpec("labels.npy", None, "xyz", VOXEL, OFFSET), kind="labels", base=folder)


def tube(shape: tuple[int, int, int] = (60, 17, 15), radius: float = 4) -> np.ndarray:
    """A tube along x whose axis runs through the middle of voxel y=8, z=7."""
    y, z = np.mgrid[: shape[1], : shape[2]]
    cross = (y - 8) ** 2 + (z - 7) ** 2 <= radius**2
    mask = np.zeros(shape, np.bool_)
    mask[5:55] = cross
    return mask


@given(block=st.integers(1, 9), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_extents_do_not_depend_on_blocks(block: int, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 3, 2**60 + 1, 2**60 + 3], np.uint64), (7, 6, 5), p=[0.7, 0.1, 0.1, 0.1])
    found = find_extents(volume_of(labels, tmp_path_factory.mktemp("v")), block)
    assert found.ids.tolist() == [i for i in np.unique(labels).tolist() if i]
    for row, label in enumerate(found.ids.tolist()):
        where = np.argwhere(labels == label)
        assert found.box(label) == (tuple(where.min(0)), tuple(where.max(0) + 1))
        assert found.voxels[row] == len(where)
    assert found.box(4) is None


def test_mask_is_taken_together_by_majority(tmp_path: Path) -> None:
    labels = np.zeros((5, 4, 3), np.uint16)
    labels[0:2, 0:2, 0] = 9  # 4 of 8: half
    labels[2:4, 0:2, 0] = 9
    labels[2, 0, 0] = 0  # 3 of 8
    labels[4, 3, 2] = 9  # 1 of the 2 voxels left at the corner
    mask = read_mask(volume_of(labels, tmp_path), 9, (0, 0, 0), (5, 4, 3), (2, 2, 2))
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [2, 1, 1]]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    order=st.sampled_from("CF"),
    threshold=st.floats(0, 1),
)
def test_a_merged_voxel_is_filled_where_at_least_half_of_it_is(seed, shape, factor, order, threshold):
    labels = np.where(np.random.default_rng(seed).random(shape) < threshold, 2**40, 3).astype(np.uint64, order=order)
    mask = read_mask(MemoryVolume(labels), 2**40, (0, 0, 0), shape, factor)
    for place in np.ndindex(mask.shape):
        group = labels[tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factor, strict=True))]
        assert mask[place] == (2 * (group == 2**40).sum() >= group.size)


@pytest.mark.parametrize("factor", [(1, 1, 1), (2, 2, 1)])
def test_skeleton_runs_along_the_axis_in_world_coordinates(factor: tuple[int, int, int], tmp_path: Path) -> None:
    volume = volume_of(tube().astype(np.uint8), tmp_path)
    rules = SkeletonConfig(dust_voxels=100, downsample=factor)
    mask = read_mask(volume, 1, (0, 0, 0), volume.shape, factor)
    skeleton = skeletonize(mask, OFFSET, VOXEL, rules)
    assert skeleton is not None
    index = skeleton.nodes_nm / VOXEL - OFFSET
    inner = (index[:, 0] > 12) & (index[:, 0] < 48)
    # the middle of voxel (y, z) = (8, 7), within the grid that the skeleton was found on
    assert np.abs(index[inner][:, 1:] - [8.5, 7.5]).max() <= max(factor) / 2
    near = binary_dilation(tube(), iterations=max(factor) - 1) if max(factor) > 1 else tube()
    assert near[tuple(np.floor(index).astype(int).T)].all()
    assert (skeleton.degrees() == 1).sum() == 2
    assert index[:, 0].min() < 5 + 2 * factor[0] + 0.5
    assert index[:, 0].max() > 55 - 2 * factor[0] - 0.5
    assert skeleton.radii_nm[inner] == pytest.approx(4.5 * 10, abs=12)  # the smaller half axis, y


def test_dust_has_no_skeleton() -> None:
    mask = np.zeros((9, 9, 9), np.bool_)
    mask[4, 4, 2:7] = True
    assert skeletonize(mask, OFFSET, VOXEL, SkeletonConfig(dust_voxels=6)) is None
    assert skeletonize(mask, OFFSET, VOXEL, SkeletonConfig(dust_voxels=5)) is not None


def test_voxels_without_smoothing_give_the_surface_between_voxels() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 4:9, 5:7] = 2
    absent, mesh = mesh_labels(labels, 2, OFFSET, VOXEL, OPEN, MeshConfig(smoothing=0, dust_voxels=1))
    assert absent.is_empty
    index = mesh.vertices_nm.astype(np.float64) / VOXEL - OFFSET
    assert index.min(0) == pytest.approx([3, 4, 5], abs=1e-2)
    assert index.max(0) == pytest.approx([8, 9, 7], abs=1e-2)


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_mesh_follows_the_surface_within_half_a_voxel_and_faces_outwards() -> None:
    grid = np.indices((40, 40, 40)) - 19.5
    labels = ((grid**2).sum(0) < 14**2).astype(np.uint8)
    rough, smooth = (mesh_labels(labels, 1, (0, 0, 0), (10, 10, 10), OPEN, MeshConfig(smoothing=s))[0] for s in (0, 30))
    spread = [np.linalg.norm(m.vertices_nm - 200, axis=1) for m in (rough, smooth)]
    assert np.abs(spread[1] - 140).max() <= 2  # the voxels' own rounding is evened out
    assert spread[1].std() < spread[0].std()
    assert signed_volume(smooth.vertices_nm - 200, smooth.faces) == pytest.approx(4 / 3 * np.pi * 140**3, rel=0.03)


def test_objects_are_capped_only_where_the_data_end() -> None:
    labels = np.zeros((10, 9, 9), np.uint8)
    labels[:, 3:6, 3:6] = 1
    ends = OPEN.copy()
    ends[0, 0] = True
    (mesh,) = mesh_labels(labels, 1, (0, 0, 0), (10, 10, 10), ends, MeshConfig(smoothing=0, dust_voxels=1))
    x = mesh.vertices_nm[mesh.faces][:, :, 0]
    assert (x.max(axis=1) <= 1).any()  # a face of the cap at x = 0, where the data end
    assert mesh.vertices_nm[:, 0].max() == pytest.approx(100)  # open: up to the end of the last voxel read
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    border = unique[count == 1]
    assert len(border)
    assert mesh.vertices_nm[border][..., 0].min() == pytest.approx(100)
