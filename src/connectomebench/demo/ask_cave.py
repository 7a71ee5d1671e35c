"""Fetch current meshes of a place in a CAVE dataset, for a demo whose owner has a token."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.geometry import Box, Mesh
from connectomebench.core.site import Point
from connectomebench.core.species import SPECIES, Species
from connectomebench.demo.demo_data import cache_folder
from connectomebench.sources.cave.tokens import read_token

if TYPE_CHECKING:
    from connectomebench.sources.cave.cave_config import CaveConfig
    from connectomebench.sources.cave.jobs import WorkerContext

WIDEST_NM = 8000.0
"""Edge of the largest cube that is read for a visitor, nm."""

_CACHE_GB = 5.0

_log = logging.getLogger(__name__)


def species_with_token() -> list[Species]:
    """Return the species whose CAVE token is stored on this machine, where caveclient keeps it."""
    return [
        species
        for species in SPECIES.values()
        if species.datastack and species.server and not read_token(species.server).problem
    ]


def root_ids(text: str, count: int) -> list[int]:
    """Parse root ids that a visitor typed.

    Raises
    ------
    ConnectomeBenchError
        If they are not ``count`` different unsigned 64-bit integers.
    """
    words = re.findall(r"[^\s,;]+", text)
    known = [word for word in words if re.fullmatch(r"[0-9]{1,20}", word) and 0 < int(word) < 2**64]
    if len(known) != len(words) or len(set(known)) != count:
        wanted = "one root id" if count == 1 else f"{count} different root ids with a comma between them"
        raise ConnectomeBenchError(f"give {wanted}, each a whole number as the dataset has them")
    return [int(word) for word in known]


def meshes_now(species: str, roots: Sequence[int], point_nm: Point, extent_nm: float) -> list[Mesh]:
    """Fetch meshes from the CAVE server of a species, with the token of this machine.

    Tested against a recorded server, not against a public one.

    Parameters
    ----------
    species
        Name of one of `species_with_token`.
    roots, point_nm, extent_nm
        As for :func:`meshes_at`; at most `WIDEST_NM`.

    Raises
    ------
    ConnectomeBenchError
        If the place is unavailable; the message names no address and no path.
    """
    if species not in {known.name for known in species_with_token()}:
        raise ConnectomeBenchError("there is no token for this dataset here; choose another")
    if not 0 < extent_nm <= WIDEST_NM:
        raise ConnectomeBenchError(f"a place in CAVE is shown at most {WIDEST_NM / 1000:g} micrometres wide")
    with _from_the_server():
        place = _place(species)
    return meshes_at(place, roots, point_nm, extent_nm, datetime.now(UTC))


def meshes_at(
    place: WorkerContext, roots: Sequence[int], point_nm: Point, extent_nm: float, when: datetime
) -> list[Mesh]:
    """Fetch the level-2 meshes of segments around a point.

    Parameters
    ----------
    place
        The opened dataset.
    roots
        Root ids that are valid at ``when``.
    point_nm, extent_nm
        Centre and edge of the cube, nm.
    when
        Time, UTC.

    Returns
    -------
    list of Mesh
        In the order of ``roots``; nm, the faces that touch the cube.

    Raises
    ------
    ConnectomeBenchError
        If the point lies outside, a segment does not reach the cube or has no mesh, or the server fails.
    """
    from connectomebench.core.volume import voxel_box
    from connectomebench.sources.cave.meshes import level2_meshes, segment_mesh

    shown, layer, connection = Box.around(point_nm, extent_nm), place.supervoxels, place.connection
    lower, upper = voxel_box(layer, shown)
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        raise ConnectomeBenchError("the point lies outside the dataset; points are in nm")
    with _from_the_server():
        supervoxels = np.unique(layer.read(lower, upper)).astype(np.uint64)
        supervoxels = supervoxels[supervoxels != 0]
        owners = connection.graph.roots(supervoxels, when)
    meshes = []
    for root in roots:
        own = supervoxels[owners == np.uint64(root)]
        if not len(own):
            raise ConnectomeBenchError(
                f"segment {root} is not at this point now; it may have been edited since you noted its id"
            )
        with _from_the_server():
            nodes = np.unique(connection.graph.roots(own, when, level2=True))
            ids = nodes[nodes != 0].tolist()
            found = level2_meshes(layer.cloud, ids, place.blobs, connection.segmentation, connection.login)
        meshes.append(segment_mesh(found.values(), shown))
        if meshes[-1].is_empty:
            raise ConnectomeBenchError(f"the server has no mesh of segment {root} at this point; try another place")
    return meshes


@contextmanager
def _from_the_server() -> Iterator[None]:
    """Log errors of the server and raise one that names no address and no token."""
    try:
        yield
    except (ConnectomeBenchError, SiteUnavailable) as error:
        _log.warning("a place in CAVE cannot be shown: %s", error)
        raise ConnectomeBenchError("the dataset's server does not give this place at present; try later") from None


@lru_cache(maxsize=8)
def _place(species: str) -> WorkerContext:
    from connectomebench.sources.cave.jobs import JobSpec

    return JobSpec(_settings(), species, cache_folder() / "cave", datetime.now(UTC)).open()


def _settings() -> CaveConfig:
    """Return settings for interactive use: few retries, and no image data, which is not shown."""
    from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig

    requests = RequestConfig(attempts=2, timeout_s=20.0, read_s=60.0)
    return CaveConfig(image="none", cache_gb=_CACHE_GB, requests=requests)
