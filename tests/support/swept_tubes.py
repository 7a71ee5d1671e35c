"""Meshes to draw: tubes swept along smooth paths, far from the origin as in a brain."""

from __future__ import annotations

import numpy as np

from connectomebench.core.geometry import Mesh

CENTER = (20_000.0, 30_000.0, 40_000.0)
EXTENT = 6000.0


def tube(path, radii, sides=16):
    path = np.asarray(path, dtype=np.float64)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, (0.31, 0.52, 0.79))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    third = np.cross(along, across)
    angles = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(angles)[:, None] * across[:, None] + np.sin(angles)[:, None] * third[:, None]
    vertices = path[:, None] + np.broadcast_to(radii, len(path))[:, None, None] * ring
    start = np.arange(len(path) - 1)[:, None] * sides
    a = (start + np.arange(sides)).ravel()
    b = (start + (np.arange(sides) + 1) % sides).ravel()
    faces = np.concatenate([np.stack([a, b, a + sides], 1), np.stack([b, b + sides, a + sides], 1)])
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def crossing_tubes():
    """Two neurites that leave the cube: a swelling one and a smooth one that crosses it. Whole nm, below 2**16."""
    s = np.linspace(-1, 1, 300)
    swelling = np.stack([s * 6000, 900 * np.sin(s * 7), 700 * np.cos(s * 5)], 1) + CENTER
    smooth = np.stack([800 * np.cos(s * 4) - 300, s * 5000 + 500, s * 4000], 1) + CENTER
    meshes = [tube(swelling, 350 + 150 * np.sin(s * 20)), tube(smooth, 250.0)]
    return [Mesh(np.round(m.vertices_nm), m.faces) for m in meshes]
