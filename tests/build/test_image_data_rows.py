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
from connectomebench.core.site import Site
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import EM_OUTLINE
from connectomebench.rendering.engines import CpuEngine
from connectomebench.sites.candidates import find_candidates
from connectomebench.sites.site_rules import SITE_RULES, SiteRequest
from connectomebench.sources.factory import open_source

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
