"""Write the scenes of a finished build: what each row shows in 3D, and what is really there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from connectomebench.build.collect_sites import collect_sites
from connectomebench.build.config import BuildConfig
from connectomebench.build.truth_sentence import truth_sentence
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SiteSource
from connectomebench.dataset.scene_shards import RowScenes, scenes_path, write_scenes
from connectomebench.dataset.schema import read_small_columns
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import BLUE, ORANGE, RGB, ROLE_COLOURS
from connectomebench.rendering.scene_file import write_scene
from connectomebench.sources.factory import open_source
from connectomebench.sources.family import SegmentationFamily
from connectomebench.sources.volumes.volume_source import VolumeSource

_log = logging.getLogger(__name__)

WIDER = 3.0
"""Edge of the cube of the truth, in edges of the views."""

# of Okabe and Ito (2008), as the colours of parts are
SEVERAL_COLOURS: tuple[RGB, ...] = (BLUE, ORANGE, (0, 158, 115), (204, 121, 167), (213, 94, 0))


def write_dataset_scenes(
    config: BuildConfig, out: Path, base: Path, tasks: Sequence[str], partition: str = "test"
) -> dict[str, Path]:
    """Write ``OUT/TASK/SPECIES/scenes-PARTITION-00000-of-00001.zip`` for tasks that are built.

    Parameters
    ----------
    config, out, base
        Of the build, as for :func:`connectomebench.build.pipeline.build_datasets`.
    tasks
        Tasks; scenes that are there already are kept.
    partition
        Whose rows get scenes.

    Returns
    -------
    dict
        Task -> file.

    Raises
    ------
    ConnectomeBenchError
        If the source no longer gives the sites of the rows.
    """
    paths = {task: scenes_path(out / task, config.species, partition) for task in tasks}
    todo = [task for task in tasks if not paths[task].exists()]
    if not todo:
        return paths
    source = open_source(config.source, config.species, out / ".cache" / "source", base, SerialRunner())
    info = source.info
    sites = {info.sample_id(site): site for site in collect_sites(source, config).sites if site.task in todo}
    for task in todo:
        ids = read_small_columns(out / task / config.species, partition, ["sample_id"])["sample_id"].to_pylist()
        if missing := [one for one in ids if one not in sites]:
            raise ConnectomeBenchError(
                f"the source no longer gives {len(missing)} rows of {task}; build it again before its scenes"
            )
        n = write_scenes(paths[task], _scenes(ids, sites, source))
        _log.info("%s/%s: %d scenes written", task, config.species, n)
    return paths


def _scenes(ids: Sequence[str], sites: dict[str, Site], source: SiteSource | SegmentationFamily) -> Iterator[RowScenes]:
    for sample in tqdm(ids, "scenes", unit="row", leave=False, delay=1):
        site = sites[sample]
        own = source.of(site) if isinstance(source, SegmentationFamily) else source
        yield RowScenes(sample, view_scene(site, own), truth_scene(site, own))


def view_scene(site: Site, source: SiteSource) -> bytes:
    """Make the scene of what the views of a site show, without the ids of its segments.

    Of several candidates, which the views show one by one, each is named by its letter and has a colour of its own.
    """
    names, colours = [(part.role, "") for part in site.parts], [ROLE_COLOURS[part.role] for part in site.parts]
    if site.choices:
        letters = {segment: chr(ord("a") + i) for i, segment in enumerate(site.choices)}
        names = [(letters.get(part.segment_id, part.role), "") for part in site.parts]
        colours = [SEVERAL_COLOURS[i % len(SEVERAL_COLOURS)] for i in range(len(names))]
    return write_scene(source.meshes(site), names, colours, site.location_nm, site.extent_nm)


def truth_scene(site: Site, source: SiteSource) -> bytes:
    """Make the scene of the truth at a site, :data:`WIDER` than its views.

    A sentence goes with it (:func:`connectomebench.build.truth_sentence.truth_sentence`). Each body has a colour of its
    own, and the segments are hidden at first. Where a source has no meshes of bodies, its
    segments have the colours of their bodies: two in one colour are one neuron.
    """
    wide = replace(site, extent_nm=site.extent_nm * WIDER, cut=site.cut)
    segments = list(dict.fromkeys(site.segment_ids))
    shown = replace(wide, parts=tuple(Part(one, "base") for one in segments), cut=None)
    meshes: list[Mesh] = list(source.meshes(shown))
    text = truth_sentence(site, source.meshes(site), source.automatic if isinstance(source, VolumeSource) else None)
    bodies = list(dict.fromkeys(site.body_ids)) or [0]
    colour_of = {body: SEVERAL_COLOURS[i % len(SEVERAL_COLOURS)] for i, body in enumerate(bodies)}
    if isinstance(source, VolumeSource) and site.body_ids:
        over = source.over(source.proofread, source.proofread, None, source.proofread)
        whole = over.meshes(replace(shown, parts=tuple(Part(body, "base") for body in bodies)))
        names = [
            *(("body", str(body)) for body in bodies),
            *((f"hidden segment {i}", str(s)) for i, s in enumerate(segments, 1)),
        ]
        grey: RGB = (140, 144, 152)
        colours = [*(colour_of[body] for body in bodies), *(grey for _ in segments)]
        return write_scene([*whole, *meshes], names, colours, site.location_nm, wide.extent_nm, text)
    names = [(f"segment {i}", str(one)) for i, one in enumerate(segments, 1)]
    own = list(site.body_ids) if len(site.body_ids) == len(site.segment_ids) else [bodies[0]] * len(site.segment_ids)
    by_segment = dict(zip(site.segment_ids, own, strict=True))
    colours = [colour_of[by_segment[one]] for one in segments]
    return write_scene(meshes, names, colours, site.location_nm, wide.extent_nm, text)
