"""The volumes of a replayed server, as cloud-volume reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from replay_server import ReplayServer
from replay_volumes import SHAPE


def read_volumes(server: ReplayServer) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Supervoxels and image data, whole."""
    from cloudvolume import CloudVolume

    clouds: list[Any] = [
        CloudVolume(f"precomputed://{server.url}/data/{layer}", progress=False, fill_missing=False)
        for layer in ("ws", "em")
    ]
    voxels, gray = (np.asarray(cloud[:])[..., 0] for cloud in clouds)
    assert voxels.shape == gray.shape == SHAPE and gray.dtype == np.uint8
    return voxels, gray


def darkness_of_borders(voxels: NDArray[np.uint64], gray: NDArray[np.uint8]) -> float:
    """How much darker voxels at the border of a supervoxel are than those inside, in a crop."""
    crop, shown = (volume[76:176, 52:152, 50:150] for volume in (voxels, gray))
    border = (crop[:-1] != crop[1:])[:, :-1, :-1]
    inner = shown[:-1, :-1, :-1]
    return float(inner[~border].mean() - inner[border].mean())
