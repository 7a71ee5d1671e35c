"""Volumes under the replayed server: made for the recorded graph, or the recorded ones where they are at hand.

The repository holds the recorded graph and its history, and no volume. Made volumes fill each chunk with Voronoi cells
around the voxels that the fixture names: one of every supervoxel of that chunk, and the seeds of edits. Ids, chunks,
history and the places of edits are the recorded ones, so that all that the server says fits the labels; only the shapes
are others. The image is bright in the middle of a supervoxel and dark at its border, as membranes are.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "chunkedgraph"
# the whole recording with its volumes, beside the checkout; not part of the repository
RECORDING = Path(__file__).resolve().parents[3] / "shared" / "data" / "chunkedgraph_recording"
NO_RECORDING = "needs ../shared/data/chunkedgraph_recording (the recorded volumes), which is not here"

SHAPE = (250, 250, 250)
OFFSET = (1024, 2048, 2600)
CHUNK = 64
VOXEL_NM = (10, 10, 10)
_JPEG_QUALITY = 70
_MEMBRANE, _INSIDE, _GRAIN = 60.0, 170.0, 12.0  # gray values, and the standard deviation around them
_LOCK = Lock()


@cache
def supervoxels(recording: Path | None = None) -> NDArray[np.uint64]:
    """Make or read the supervoxels; the same tables give the same voxels.

    Parameters
    ----------
    recording
        Folder with ``truth/volumes_xyz.npz``; None makes a volume.

    Returns
    -------
    NDArray[np.uint64]
        Shape ``SHAPE``, axes x, y, z; the first voxel lies at ``OFFSET``.
    """
    if recording is not None:
        return _recorded(recording, "supervoxels")
    ids, points = _known_voxels()
    volume = np.zeros(SHAPE, np.uint64)
    for chunk in np.ndindex(4, 4, 4):
        low = np.multiply(chunk, CHUNK)
        high = np.minimum(low + CHUNK, SHAPE)
        inside = ((points >= low) & (points < high)).all(axis=1)
        cells = np.zeros(high - low, np.uint64)
        cells[tuple((points[inside] - low).T)] = ids[inside]
        nearest: Any = ndimage.distance_transform_edt(cells == 0, return_distances=False, return_indices=True)
        volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = cells[tuple(nearest)]
    volume.setflags(write=False)
    return volume


def _known_voxels() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Supervoxels, and the voxels that they are known to hold: one of each, and the seeds of edits."""
    with np.load(FIXTURE / "truth.npz") as truth:
        ids: list[int] = truth["supervoxel_id"].tolist()
        points: list[list[int]] = truth["inner_point_voxel"].tolist()
    edits = json.loads((FIXTURE / "operations.json").read_text(encoding="utf-8"))["operations"]
    for seed in (seed for edit in edits for seed in (*edit["sources"], *edit["sinks"])):
        ids.append(seed["supervoxel_id"])
        points.append(seed["point_voxel"])
    return np.asarray(ids, np.uint64), np.asarray(points, np.int64) - OFFSET


@cache
def image(recording: Path | None = None) -> NDArray[np.uint8]:
    """Make or read the image data: shape ``SHAPE``; made ones have dark borders between supervoxels, and grain."""
    if recording is not None:
        return _recorded(recording, "gray")
    labels = supervoxels()
    gray = np.full(SHAPE, _INSIDE, np.float32)
    for axis in range(3):
        first, second = (tuple(s if a == axis else slice(None) for a in range(3)) for s in (slice(-1), slice(1, None)))
        border = labels[first] != labels[second]
        gray[first][border] = gray[second][border] = _MEMBRANE
    gray = ndimage.uniform_filter(gray, 2)
    gray += np.random.default_rng(0).standard_normal(SHAPE, np.float32) * np.float32(_GRAIN)
    return gray.round().clip(0, 255).astype(np.uint8)


def _recorded(recording: Path, name: str) -> NDArray[Any]:
    with np.load(recording / "truth" / "volumes_xyz.npz") as volumes:
        assert tuple(volumes["voxel_offset"].tolist()) == OFFSET and volumes[name].shape == SHAPE
        return volumes[name]


def layer_files(layer: Literal["ws", "em"], recording: Path | None = None) -> dict[str, bytes]:
    """Lay a volume out as a precomputed folder, written by cloud-volume; once a process.

    Parameters
    ----------
    layer
        ``ws``: supervoxels, raw, gzip (files with the ending ``.gz``). ``em``: image data, JPEG.
    recording
        As above.

    Returns
    -------
    dict
        Path below the folder -> content: ``info``, and chunks of 64³ voxels below ``10_10_10``.
    """
    with _LOCK:  # requests come side by side
        return _layer_files(layer, recording)


@cache
def _layer_files(layer: Literal["ws", "em"], recording: Path | None) -> dict[str, bytes]:
    from cloudvolume import CloudVolume

    voxels = supervoxels(recording) if layer == "ws" else image(recording)
    kind, encoding = ("segmentation", "raw") if layer == "ws" else ("image", "jpeg")
    info = CloudVolume.create_new_info(
        1, kind, str(voxels.dtype), encoding, VOXEL_NM, OFFSET, SHAPE, chunk_size=(CHUNK,) * 3
    )
    if layer == "em":
        info["scales"][0]["jpeg_quality"] = _JPEG_QUALITY
    with tempfile.TemporaryDirectory() as folder:
        cloud: Any = CloudVolume(f"precomputed://file://{folder}", info=info, progress=False, compress=False)
        cloud.commit_info()
        cloud[:, :, :] = voxels[..., None]
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if layer == "ws":  # quickly, where cloud-volume would take seconds
        chunks = [name for name in files if name != "info"]
        files |= {f"{name}.gz": gzip.compress(files.pop(name), 1, mtime=0) for name in chunks}
    return files
