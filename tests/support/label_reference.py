"""Plain numpy and scipy versions of what the compiled kernels do, for comparison on small volumes."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from connectomebench.core.correction import CorrectionConfig

Face = tuple[int, int, int]


@dataclass
class MemoryVolume:
    """A volume in memory, which remembers what was read."""

    array: NDArray
    voxel_size_nm: tuple[float, float, float] = (10.0, 10.0, 10.0)
    offset_vx: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self):
        self.shape = self.array.shape
        self.reads = []

    def read(self, lower, upper):
        self.reads.append((lower, upper))
        return self.array[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]


def core(bodies: NDArray, rounds: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where a body is, eroded by crosses, each body by itself; nothing is eroded at the border."""
    out = np.zeros(bodies.shape, bool)
    for body in np.unique(bodies):
        mask = bodies == body
        for done in range(max(rounds)):
            cross = np.zeros((3, 3, 3), bool)
            cross[1, 1, 1] = True
            for axis, number in enumerate(rounds):
                if number > done:
                    cross[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
            mask = ndimage.binary_erosion(mask, cross, border_value=1)
        out |= mask
    return out


def overlaps(segments: NDArray, bodies: NDArray, inside: NDArray) -> dict[tuple[int, int], tuple[int, int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for a, g, c in zip(segments.ravel().tolist(), bodies.ravel().tolist(), inside.ravel().tolist(), strict=True):
        if a and g:
            found[a, g][0] += 1
            found[a, g][1] += c
    return {key: (n, m) for key, (n, m) in found.items()}


def lines(shape: tuple[int, ...]):
    """Every line of a volume along each axis, as lists of voxel indices."""
    for axis in range(3):
        others = [range(n) for a, n in enumerate(shape) if a != axis]
        for rest in itertools.product(*others):
            yield [(*rest[:axis], along, *rest[axis:]) for along in range(shape[axis])]


def error_faces(segments: NDArray, bodies: NDArray, parts: set[tuple[int, int]], max_gap: int):
    """Contact faces between parts of one error: pair of parts -> list of places."""
    faces: dict[tuple, list[Face]] = defaultdict(list)
    for line in lines(segments.shape):
        labels = [(int(segments[v]), int(bodies[v])) for v in line]
        for i, j in itertools.combinations(range(len(line)), 2):
            if j - i - 1 > max_gap or labels[i] not in parts or labels[j] not in parts or labels[i] == labels[j]:
                continue
            (a1, g1), (a2, g2) = labels[i], labels[j]
            between = labels[i + 1 : j]
            if (g1 == g2 and all(x == (0, g1) for x in between)) or (a1 == a2 and all(x == (a1, 0) for x in between)):
                faces[tuple(sorted((labels[i], labels[j])))].append(line[(i + j) // 2])
    return faces


def segment_faces(segments: NDArray, bodies: NDArray, max_gap: int):
    """Contact faces between any two segments where there are bodies."""
    faces: dict[tuple, list[Face]] = defaultdict(list)
    known = np.where(bodies != 0, segments, 0)
    for line in lines(known.shape):
        labels = [int(known[v]) for v in line]
        for i, j in itertools.combinations(range(len(line)), 2):
            if (
                j - i - 1 <= max_gap
                and labels[i]
                and labels[j]
                and labels[i] != labels[j]
                and not any(labels[i + 1 : j])
            ):
                faces[tuple(sorted((labels[i], labels[j])))].append(line[(i + j) // 2])
    return faces


def patches(faces: list[Face], cell: int) -> list[tuple[int, Face, list[Face]]]:
    """Group contact faces into (area, point, faces), where the point is chosen among one candidate a cell."""
    points = np.array(faces)
    grid = np.zeros(points.max(axis=0) // cell + 1, bool)
    grid[tuple((points // cell).T)] = True
    number, count = ndimage.label(grid, np.ones((3, 3, 3)))
    out = []
    for patch in range(1, count + 1):
        mine = [f for f in faces if number[tuple(np.array(f) // cell)] == patch]
        total, area = np.sum(mine, axis=0).tolist(), len(mine)
        by_cell = defaultdict(list)
        for face in mine:
            by_cell[tuple(np.array(face) // cell)].append(face)
        candidates = [nearest_to_middle(group, cell) for group in by_cell.values()]
        # area * (distance to the centroid), in exact integers
        point = min(
            candidates,
            key=lambda f, n=area, t=total: (sum((n * c - s) ** 2 for c, s in zip(f, t, strict=True)), f),
        )
        out.append((area, point, mine))
    return out


def nearest_to_middle(faces: list[Face], cell: int) -> Face:
    return min(faces, key=lambda f: (sum((2 * (c % cell) - cell + 1) ** 2 for c in f), f))


def corrections(segments: NDArray, bodies: NDArray, rules: CorrectionConfig):
    """(kind, parts, point, area) of every localised pair of parts, before tangles are left out; and the overlaps."""
    inside = core(bodies, rules.erosion)
    table = overlaps(segments, bodies, inside)
    real = {key for key, (_, n) in table.items() if n >= rules.min_core_voxels}
    per_segment, per_body = Counter(a for a, _ in real), Counter(g for _, g in real)
    parts = {(a, g) for a, g in real if per_segment[a] > 1 or per_body[g] > 1}
    near = rules.core_cell_vx
    reach = -(-rules.local_radius_vx // near)
    found = []
    for (one, two), faces in error_faces(segments, bodies, parts, rules.max_gap_vx).items():
        faces = [
            f
            for area, _, group in patches(faces, rules.patch_cell_vx)
            if area >= rules.min_contact_faces
            for f in group
        ]
        if not faces:
            continue
        by_cell = defaultdict(list)
        for face in faces:
            by_cell[tuple(np.array(face) // rules.patch_cell_vx)].append(face)
        local = {}
        for cell, group in by_cell.items():
            middle = np.array(nearest_to_middle(group, rules.patch_cell_vx)) // near
            box = tuple(slice(max(0, (c - reach) * near), (c + reach + 1) * near) for c in middle.tolist())
            local[cell] = min(
                int(((segments[box] == a) & (bodies[box] == g) & inside[box]).sum()) for a, g in (one, two)
            )
        best = max(local.values())
        if best < rules.min_local_fraction * rules.min_core_voxels:
            continue
        keep = [f for cell, group in by_cell.items() if local[cell] >= rules.patch_fraction * best for f in group]
        groups = patches(keep, rules.patch_cell_vx)
        scored = [
            (-area, -max(local[tuple(np.array(f) // rules.patch_cell_vx)] for f in group), point)
            for area, point, group in groups
        ]
        taken: list[Face] = []
        for area, _, point in sorted(scored):
            if all(max(abs(a - b) for a, b in zip(point, t, strict=True)) > rules.local_radius_vx for t in taken):
                taken.append(point)
                found.append(("merge" if one[1] == two[1] else "split", one, two, point, -area))
    return found, table, real
