"""Two segments that touch do not flicker into each other, in either engine, on noise and on real segmentations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from islets import count_islets
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from connectomebench.core.geometry import Mesh
from connectomebench.rendering.colours import BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine, Engine
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels

FIB25 = Path(__file__).parents[3] / "shared/data/fib25_cube/fib25_cube.npz"
VOXEL_NM = 10.0
EDGE_VX = 50
MOST = 5


def rough_pair(seed: int, size: int = 62) -> NDArray[np.uint8]:
    """A blue body with an orange one let into its surface, the border between them and both surfaces full of noise."""
    rng = np.random.default_rng(seed)
    grid = np.indices((size,) * 3) - size / 2
    rough = gaussian_filter(rng.normal(size=(size,) * 3), 1.5)
    rough *= 3 / rough.std()
    labels = np.zeros((size,) * 3, np.uint8, order="F")
    labels[np.hypot(grid[0], grid[1]) + 0.5 * rough < 20] = 1
    cap = (grid[0] > 8 + rough) & (np.abs(grid[2]) < 12 + 2 * rough)
    labels[(labels == 1) & cap] = 2
    labels[(rng.random(labels.shape) < 0.03) & (labels > 0)] = 2
    return labels


def most_islets(engine: Engine, meshes: list[Mesh], center_nm: tuple[float, float, float], pixels: int = 384) -> int:
    drawn = engine.render(meshes, (BLUE, ORANGE), center_nm, EDGE_VX * VOXEL_NM, pixels)
    alone = CpuEngine().render(meshes[:1], (BLUE,), center_nm, EDGE_VX * VOXEL_NM, pixels)
    return max(count_islets(picture, alone[view]) for view, picture in drawn.items())


def test_islets_are_counted() -> None:
    picture = np.full((40, 40, 3), 255, np.uint8)
    picture[5:35, 5:35] = BLUE
    alone = picture.copy()
    picture[8:10, 8:10] = picture[20, 20] = ORANGE
    picture[30:, 30:] = ORANGE  # at the edge of blue: no islet
    assert count_islets(picture, alone) == 2
    alone[8:10, 8:10] = 255  # a hole of blue
    assert count_islets(picture, alone) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rough_border_gives_no_islets(seed: int) -> None:
    labels, ends = rough_pair(seed), np.zeros((3, 2), bool)
    corner, voxel, middle = (0, 0, 0), (VOXEL_NM,) * 3, (labels.shape[0] * VOXEL_NM / 2,) * 3
    apart = MeshConfig(smoothing=0, dust_voxels=1)
    assert most_islets(CpuEngine(), mesh_labels(labels, 2, corner, voxel, ends, MeshConfig()), middle) <= MOST
    # each label by itself, as they used to be made: the count does notice
    alone = [mesh_labels((labels == k).astype(np.uint8, order="F"), 1, corner, voxel, ends, apart)[0] for k in (1, 2)]
    assert most_islets(CpuEngine(), alone, middle) > MOST


def test_octarine_shows_no_islets_either(octarine_engine: Engine) -> None:
    labels = rough_pair(1)
    meshes = mesh_labels(labels, 2, (0, 0, 0), (VOXEL_NM,) * 3, np.zeros((3, 2), bool), MeshConfig())
    assert most_islets(octarine_engine, meshes, (labels.shape[0] * VOXEL_NM / 2,) * 3) <= MOST


def touching_pairs(labels: NDArray[np.integer], most: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Pairs of labels with the largest contacts, and a voxel in the middle of each contact."""
    faces: Counter[tuple[int, int]] = Counter()
    places: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for axis in range(3):
        a, b = (np.moveaxis(labels, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        meet = np.argwhere((a != b) & (a > 0) & (b > 0))
        pairs = np.sort(np.stack([a[tuple(meet.T)], b[tuple(meet.T)]], 1).astype(np.int64), axis=1)
        place = np.insert(meet[:, 1:], axis, meet[:, 0], axis=1)  # back to x, y, z
        unique, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        for k in np.argsort(-counts)[: 4 * most]:
            pair = (int(unique[k, 0]), int(unique[k, 1]))
            faces[pair] += int(counts[k])
            places.setdefault(pair, []).append(place[inverse.ravel() == k])
    found = []
    for (first, second), _ in faces.most_common(most):
        where = np.concatenate(places[first, second])
        middle = where[np.argmin(((where - np.median(where, axis=0)) ** 2).sum(axis=1))]
        found.append((first, second, middle))
    return found


@pytest.mark.skipif(not FIB25.exists(), reason="needs the FIB-25 cube in ../shared/data")
@pytest.mark.parametrize(("name", "pairs"), [("ffn", 8), ("ws", 8)])
def test_real_segmentations_give_no_islets(name: str, pairs: int) -> None:
    """Flood-filled objects, and supervoxels of the watershed (what the recorded edit history is made of)."""
    with np.load(FIB25) as cube:
        labels = np.asfortranarray(cube[name].T)  # stored as z, y, x
    engine = CpuEngine()
    margin = MeshConfig().margin_vx
    for first, second, middle in touching_pairs(labels, pairs):
        low = np.maximum(middle - EDGE_VX // 2 - margin, 0)
        high = np.minimum(middle + EDGE_VX // 2 + margin, labels.shape)
        crop = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        painted = np.zeros(crop.shape, np.uint8, order="F")
        painted[crop == first], painted[crop == second] = 1, 2
        ends = np.stack([low == 0, high == labels.shape], axis=1)
        meshes = mesh_labels(painted, 2, low.tolist(), (VOXEL_NM,) * 3, ends, MeshConfig())
        for blue, orange in ((0, 1), (1, 0)):
            x, y, z = ((middle + 0.5) * VOXEL_NM).tolist()
            assert most_islets(engine, [meshes[blue], meshes[orange]], (x, y, z)) <= MOST, (first, second)
