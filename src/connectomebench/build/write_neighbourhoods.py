"""Write the neighbourhoods of a finished build: what one sees who looks around at the place of a row."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.build.collect_sites import collect_sites
from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box, Mesh
from connectomebench.core.site import Part, Site
from connectomebench.core.source import EMSlice, SiteSource
from connectomebench.core.tasks import EM_VIEWS, get_task
from connectomebench.core.volume import voxel_box
from connectomebench.dataset.neighbourhoods import (
    MOST_OBJECTS,
    NEIGHBOUR,
    NO_DATA,
    OTHER,
    Neighbourhood,
    neighbourhoods_path,
    write_neighbourhoods,
)
from connectomebench.dataset.schema import read_small_columns
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.clip import clip_mesh
from connectomebench.sources.factory import open_source
from connectomebench.sources.family import SegmentationFamily
from connectomebench.sources.volumes.volume_source import VolumeSource

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NeighbourhoodConfig:
    """How much of a place is stored.

    Attributes
    ----------
    reach
        Edge of the cube of meshes, in edges of the views.
    neighbours
        Segments beside those of the row, the nearest to the centre first.
    pages
        Slices in each plane, an odd number.
    page_share
        Distance of two pages, in edges of the views.
    slice_px
        Edge of a slice, pixels.
    """

    reach: float = 2.0
    neighbours: int = 4
    pages: int = 9
    page_share: float = 1 / 16
    slice_px: int = 128

    def __post_init__(self) -> None:
        if not 1 <= self.reach <= 8 or not 0 <= self.neighbours < MOST_OBJECTS:
            raise ConnectomeBenchError(f"reach must be from 1 to 8 and neighbours below {MOST_OBJECTS}")
        if self.pages % 2 == 0 or not 1 <= self.pages <= 65 or not 16 <= self.slice_px <= 512:
            raise ConnectomeBenchError("pages must be odd, at most 65, and slice_px from 16 to 512")


def write_dataset_neighbourhoods(
    config: BuildConfig,
    out: Path,
    base: Path,
    tasks: Sequence[str],
    partitions: Sequence[str] = ("test",),
    rules: NeighbourhoodConfig | None = None,
) -> list[Path]:
    """Write ``OUT/TASK/SPECIES/neighbourhoods-PARTITION-00000-of-00001.zip`` for tasks that are built.

    Parameters
    ----------
    config, out, base
        Of the build, as for :func:`connectomebench.build.pipeline.build_datasets`.
    tasks
        Tasks; those one cannot look around in are left out (:func:`can_look_around`), and files that exist are kept.
    partitions
        Whose rows get neighbourhoods.
    rules
        How much is stored; None for the defaults.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ConnectomeBenchError
        If the source no longer gives the sites of the rows.
    """
    chosen = rules or NeighbourhoodConfig()
    wanted = [(task, p) for task in tasks if can_look_around(task) for p in partitions]
    paths = {key: neighbourhoods_path(out / key[0], config.species, key[1]) for key in wanted}
    todo = [key for key in wanted if not paths[key].exists()]
    if not todo:
        return list(paths.values())
    source = open_source(config.source, config.species, out / ".cache" / "source", base, SerialRunner())
    info, names = source.info, {task for task, _ in todo}
    # all tasks of the configuration, since candidates are searched for together
    sites = {info.sample_id(site): site for site in collect_sites(source, config).sites if site.task in names}
    for task, partition in todo:
        ids = read_small_columns(out / task / config.species, partition, ["sample_id"])["sample_id"].to_pylist()
        if missing := [one for one in ids if one not in sites]:
            raise ConnectomeBenchError(
                f"the source no longer gives {len(missing)} rows of {task}; build it again before its neighbourhoods"
            )
        n = write_neighbourhoods(paths[task, partition], _neighbourhoods(ids, sites, source, chosen))
        _log.info("%s/%s: %d neighbourhoods written", task, config.species, n)
    return list(paths.values())


def can_look_around(task: str) -> bool:
    """Tell whether one can look around in a task: its answers are of a set, and it shows one place."""
    found = get_task(task)
    return bool(found.labels) and not found.whole and found.views[0] == "front"


def _neighbourhoods(
    ids: Sequence[str], sites: dict[str, Site], source: SiteSource | SegmentationFamily, rules: NeighbourhoodConfig
) -> Iterator[tuple[str, Neighbourhood]]:
    for sample in tqdm(ids, "neighbourhoods", unit="row", leave=False, delay=1):
        site = sites[sample]
        own = source.of(site) if isinstance(source, SegmentationFamily) else source
        yield sample, neighbourhood(site, own, rules)


def neighbourhood(site: Site, source: SiteSource, rules: NeighbourhoodConfig) -> Neighbourhood:
    """Collect what is to be seen at a site before the correction.

    Parameters
    ----------
    site
        Of a task of :func:`can_look_around`. Its answer and bodies are not read.
    source
        Segments as they were before the correction.
    rules
        How much is collected.
    """
    wide = replace(site, extent_nm=site.extent_nm * rules.reach)
    shown = list(dict.fromkeys(part.segment_id for part in site.parts))
    room = min(rules.neighbours, MOST_OBJECTS - len(site.parts))
    away = [(page - rules.pages // 2) * rules.page_share * site.extent_nm for page in range(rules.pages)]
    pages = source.em_pages(site, rules.slice_px, away)
    beside = [one for one in _nearest(_label_planes(site, source, pages)) if one not in shown][:room]
    parts = (*site.parts, *(Part(one, "base") for one in beside))
    meshes = source.meshes(replace(wide, parts=parts))
    letters = {segment: chr(ord("a") + i) for i, segment in enumerate(site.choices)}
    names = [letters.get(part.segment_id, part.role) for part in site.parts] + [NEIGHBOUR] * len(beside)
    # of a cut on slices one knows in the tasks alone whose rows show it there
    on_slices = get_task(site.task).has_em
    slices, labels = _slices(pages, [part.segment_id for part in parts], on_slices)
    return Neighbourhood(
        site.location_nm,
        site.extent_nm,
        wide.extent_nm,
        tuple(names),
        tuple(_around(mesh, wide) for mesh in meshes),
        slices,
        labels,
        site.extent_nm * rules.page_share,
    )


def _around(mesh: Mesh, site: Site) -> Mesh:
    """Clip a mesh to the cube of a site, relative to its centre."""
    seen = clip_mesh(mesh, site.location_nm, site.extent_nm)
    return Mesh((seen.points * np.float32(site.extent_nm / 2)).astype(np.float32), seen.faces)


_Plane = tuple[NDArray[np.uint64], tuple[float, float]]
"""Segment ids in a plane through the centre, and its edges along rows and columns, nm."""


def _nearest(planes: Sequence[_Plane]) -> list[int]:
    """List segments in planes through the centre, by their distance from it, then by id."""
    nearest: dict[int, float] = {}
    for plane, (height, width) in planes:
        rows, columns = np.indices(plane.shape, np.float64)
        away = np.hypot(
            ((rows + 0.5) / plane.shape[0] - 0.5) * height, ((columns + 0.5) / plane.shape[1] - 0.5) * width
        )
        ids, number = np.unique(plane, return_inverse=True)
        least = np.full(len(ids), np.inf)
        np.minimum.at(least, number.ravel(), away.ravel())
        for one, distance in zip(ids.tolist(), least.tolist(), strict=True):
            nearest[one] = min(distance, nearest.get(one, np.inf))
    nearest.pop(0, None)
    return sorted(nearest, key=lambda one: (nearest[one], one))


def _label_planes(site: Site, source: SiteSource, pages: Mapping[str, Sequence[EMSlice]] | None) -> list[_Plane]:
    """Return the three planes through the centre."""
    if pages is not None:
        edges = site.extent_nm, site.extent_nm
        return [(pages[view][len(pages[view]) // 2].segments, edges) for view in EM_VIEWS]
    if not isinstance(source, VolumeSource):
        return []
    # a volume of labels knows its neighbours without image data
    lower, upper = voxel_box(source.automatic, Box.around(site.location_nm, site.extent_nm))
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        return []
    block = source.automatic.read(lower, upper).astype(np.uint64)
    x, y, z = (np.subtract(upper, lower) * source.automatic.voxel_size_nm).tolist()
    middle = [n // 2 for n in block.shape]
    return [
        (block[:, :, middle[2]], (x, y)),
        (block[:, middle[1]], (x, z)),
        (block[middle[0]], (y, z)),
    ]


def _slices(
    pages: Mapping[str, Sequence[EMSlice]] | None, objects: Sequence[int], cut_on_slices: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return parallel slices in the three planes, with the object of each pixel; uint8, shape (3, pages, px, px)."""
    if pages is None:
        none = np.zeros((len(EM_VIEWS), 0, 1, 1), np.uint8)
        return none, none
    gray = [[np.where(one.inside, one.gray, np.uint8(0)) for one in pages[view]] for view in EM_VIEWS]
    return np.array(gray, np.uint8), np.array(
        [[_numbered(one, objects, cut_on_slices) for one in pages[view]] for view in EM_VIEWS]
    )


def _numbered(em: EMSlice, objects: Sequence[int], cut_on_slices: bool) -> NDArray[np.uint8]:
    """Replace ids by the number of their object.

    The sides of a cut are the first two objects. They share an id, and have the number of the first where slices do not
    show the cut; where they do, what lies on neither side is no object.
    """
    labels = np.where(em.segments != 0, np.uint8(OTHER), np.uint8(0))
    for number in range(len(objects), 0, -1):
        labels[em.segments == np.uint64(objects[number - 1])] = number
    if em.sides is not None and cut_on_slices:
        labels[em.segments == np.uint64(objects[0])] = OTHER
        labels[em.sides > 0] = em.sides[em.sides > 0]
    labels[~em.inside] = NO_DATA
    return labels
