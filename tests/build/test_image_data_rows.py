"""Rows with slices of image data from volumes, against the voxels themselves."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.build.render_worker import render_site_or_reason
from connectomebench.build.write_neighbourhoods import NeighbourhoodConfig, neighbourhood
from connectomebench.core.site import Site
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.cuts.min_cut import apply_cut
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import EM_OUTLINE, ORANGE
from connectomebench.rendering.em_slices import TINT, draw_em
from connectomebench.rendering.engines import CpuEngine
from connectomebench.sites.candidates import find_candidates
from connectomebench.sites.site_rules import SITE_RULES, SiteRequest
from connectomebench.sources.factory import open_source
from connectomebench.sources.volumes.volume_source import VolumeSource

PLANES = {"em_xy": (0, 1, 2), "em_xz": (0, 2, 1), "em_yz": (1, 2, 0)}  # columns, rows, depth


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("toy")
    config = load_config(write_toy(folder))
    source = open_source(config.source, config.species, folder / "cache", folder, SerialRunner())
    skeletons = dict(source.skeletons([1, 2, 3, 4, 5]))
    candidates = find_candidates(skeletons.items(), config.candidates)
    rules = (config.sites, config.controls, config.candidates, config.proposals)
    return config, source, SiteRequest(source, source.corrections(), skeletons, candidates, *rules)


def seen_at(volume: np.ndarray, site: Site, view: str, pixels: int) -> np.ndarray:
    """The voxel of a volume at the middle of each pixel of a slice, 0 outside."""
    shown = np.zeros((pixels, pixels), volume.dtype)
    column, row, depth = PLANES[view]
    for i in range(pixels):
        for j in range(pixels):
            place = [0.0, 0.0, 0.0]
            place[column] = site.location_nm[column] + ((j + 0.5) / pixels - 0.5) * site.extent_nm
            place[row] = site.location_nm[row] + ((i + 0.5) / pixels - 0.5) * site.extent_nm
            place[depth] = site.location_nm[depth]
            x, y, z = (int(np.floor(place[a] / VOXEL[a])) - OFFSET[a] for a in range(3))
            if all(0 <= v < n for v, n in zip((x, y, z), volume.shape, strict=True)):
                shown[i, j] = volume[x, y, z]
    return shown


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def sides_of(site: Site, source: VolumeSource) -> np.ndarray:
    """The side of each voxel, 1 source and 2 sink, voxel by voxel from the pieces of the cut."""
    assert site.cut is not None
    pieces = source.pieces(site.segment_ids[0], site.cut.center_nm, site.cut.cutout_nm)
    sides = apply_cut(pieces.graph, site.cut)
    where = np.zeros(source.automatic.shape, np.int64)
    for x, y, z in np.argwhere(pieces.labels).tolist():
        side = sides[pieces.labels[x, y, z] - 1]
        where[x + pieces.lower[0], y + pieces.lower[1], z + pieces.lower[2]] = {1: 1, -1: 2, 0: 0}[int(side)]
    return where


def test_places_of_merge_errors_show_the_segment_outlined_on_slices(toy):
    config, source, request = toy
    plain = SITE_RULES["merge_error_identification"](request)
    found = SITE_RULES["merge_error_identification_with_em"](request)
    assert found.sites == [replace(site, task="merge_error_identification_with_em") for site in plain.sites]
    assert found.dropped == plain.dropped
    site = next(site for site in found.sites if site.answer == "yes")
    drawing = render_site_or_reason(site, source, CpuEngine(), config.views)
    assert drawing.summary.problem is None and list(drawing.images) == [*MESH_VIEWS, *EM_VIEWS]
    for view in EM_VIEWS:
        inside = seen_at(arrays()["automatic"], site, view, config.views.em_px) == site.segment_ids[0]
        padded = np.pad(inside, 1, mode="edge")
        beside = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
        border = np.any([inside != one for one in beside], axis=0)
        drawn = picture(drawing.images[view])
        np.testing.assert_array_equal((drawn == EM_OUTLINE).all(axis=2), border)
        # what lies inside keeps its grey: a membrane there is to be seen
        assert inside.any() and (np.ptp(drawn[inside & ~border], axis=1) == 0).all()


def test_both_sides_of_a_cut_are_tinted_on_slices(toy):
    config, source, request = toy
    plain, found = (SITE_RULES[task](request) for task in ("split_action", "split_action_with_em"))
    assert found.sites == [replace(site, task="split_action_with_em") for site in plain.sites]
    assert found.dropped == plain.dropped and {site.answer for site in found.sites} == {"no", "yes"}
    for site in found.sites:
        drawing = render_site_or_reason(site, source, CpuEngine(), config.views)
        assert drawing.summary.problem is None and list(drawing.images) == [*MESH_VIEWS, *EM_VIEWS]
        where = sides_of(site, source)
        slices = source.em_slices(replace(site, cut=None), config.views.em_px)
        for view in EM_VIEWS:
            # without a cut and without a segment nothing is marked
            expected = draw_em(slices[view], {}, config.views.em_px).astype(float)
            side = seen_at(where, site, view, config.views.em_px)
            for number, colour in ((1, EM_OUTLINE), (2, ORANGE)):
                expected[side == number] = expected[side == number] * (1 - TINT) + np.array(colour) * TINT
            np.testing.assert_array_equal(picture(drawing.images[view]), np.round(expected))
        for number, mesh in enumerate(source.meshes(site), 1):
            voxels = np.argwhere(where == number)
            low, high = ((np.array(end) + OFFSET) * VOXEL for end in (voxels.min(axis=0), voxels.max(axis=0) + 1))
            assert (mesh.vertices_nm >= low - VOXEL).all() and (mesh.vertices_nm <= high + VOXEL).all()
        assert {1, 2} <= set(np.unique([seen_at(where, site, view, 32) for view in EM_VIEWS]))
    good = next(site for site in found.sites if site.answer == "yes")
    bodies = [set(np.unique(arrays()["proofread"][sides_of(good, source) == side]).tolist()) for side in (1, 2)]
    assert sorted(map(sorted, bodies)) == [[20], [30]]


def test_pages_and_neighbourhoods_show_the_sides_of_a_cut(toy):
    _, source, request = toy
    plain, found = (SITE_RULES[task](request).sites[0] for task in ("split_action", "split_action_with_em"))
    pages, slices = source.em_pages(found, 64, [0.0]), source.em_slices(found, 64)
    rules = NeighbourhoodConfig(pages=1, slice_px=64)
    place, other = (neighbourhood(site, source, rules) for site in (found, plain))
    assert place.names[:2] == other.names[:2] == ("source", "sink")
    where = sides_of(found, source)
    for number, view in enumerate(EM_VIEWS):
        side = seen_at(where, found, view, 64)
        np.testing.assert_array_equal(slices[view].sides, side)
        np.testing.assert_array_equal(pages[view][0].sides, side)
        labels = place.labels[number, 0]
        np.testing.assert_array_equal(np.where(labels < 3, labels, 0), side)
        # a task without image data does not show there where its cut runs
        np.testing.assert_array_equal(other.labels[number, 0] == 1, slices[view].segments == found.segment_ids[0])
        assert not (other.labels[number, 0] == 2).any()
