"""Rows of `split_mask_generation` from volumes, against a projection of the voxels of the truth."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.build.render_worker import render_site_or_reason
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry_channels import GEOMETRY_PREFIX, GEOMETRY_PX
from connectomebench.core.part_masks import MASK, NOTHING, TAKEN, TARGET_PREFIX, stored_masks
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.dataset.schema import make_row, read_geometry, write_partition
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import BACKGROUND
from connectomebench.rendering.engines import CpuEngine
from connectomebench.sites.candidates import find_candidates
from connectomebench.sites.site_rules import SITE_RULES, SiteRequest
from connectomebench.sources.factory import open_source

TASK = "split_mask_generation"
# axes of columns and rows, axis of depth and its direction away from the viewer
LOOKS = {"front": (0, 1, 2, 1), "side": (1, 2, 0, 1), "top": (0, 2, 1, -1)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("toy")
    config = load_config(write_toy(folder))
    source = open_source(config.source, config.species, folder / "cache", folder, SerialRunner())
    corrections = source.corrections()
    skeletons = dict(source.skeletons([4]))
    candidates = find_candidates(skeletons.items(), config.candidates)
    request = SiteRequest(
        source, corrections, skeletons, candidates, config.sites, config.controls, config.candidates, config.proposals
    )
    labelled = SITE_RULES[TASK](request)
    return config, source, labelled.sites


def projected(site, bodies, pixels: int, view: str):
    """The body of the nearest voxel of segment 4 along every line of sight, 0 where there is none."""
    made = arrays()
    body = np.where(made["automatic"] == 4, made["proofread"], 0)
    column, row, depth, away = LOOKS[view]
    steps = (np.arange(pixels) + 0.5) / pixels - 0.5

    def voxel(axis):
        place = (site.location_nm[axis] + steps * site.extent_nm) / VOXEL[axis] - OFFSET[axis]
        return np.floor(place).astype(int)

    columns, rows = voxel(column), voxel(row)
    low, high = (
        (site.location_nm[depth] + sign * site.extent_nm / 2) / VOXEL[depth] - OFFSET[depth] for sign in (-1, 1)
    )
    order = [k for k in range(body.shape[depth]) if low <= k + 0.5 <= high][::away]
    found, filled = np.zeros((pixels, pixels), np.int64), np.ones((pixels, pixels), np.bool_)
    for k in reversed(order):
        layer = np.moveaxis(body, (column, row, depth), (0, 1, 2))[:, :, k]
        inside = (rows >= 0) & (rows < layer.shape[1])
        across = (columns >= 0) & (columns < layer.shape[0])
        seen = np.zeros_like(found)
        seen[np.ix_(inside, across)] = layer[np.ix_(columns[across], rows[inside])].T
        found = np.where(seen > 0, seen, found)
        filled &= seen > 0
    # along an object that fills the whole depth of the cube there is no surface to see
    return np.where(filled, 0, found)


def test_masks_of_written_rows_agree_with_projected_voxels(toy):
    config, source, sites = toy
    [site] = sites
    assert site.answer == MASK and set(site.body_ids) == {20, 30} and site.target_cut is not None
    drawn = render_site_or_reason(site, source, CpuEngine(1), config.views)
    assert drawn.summary.problem is None
    row = make_row(site, drawn.images, "group", source.info)
    assert row["views"] == list(MESH_VIEWS) and len(row["images"]) == len(row["target_images"]) == 3
    assert (row["answer"], row["label"], row["task"]) == (MASK, None, TASK)
    masks = stored_masks(row["views"], row["target_images"])
    agreed = total = overlap = union = 0
    truth = {view: projected(site, site.body_ids, config.views.image_px, view) for view in MESH_VIEWS}
    counts = {body: sum(int((t == body).sum()) for t in truth.values()) for body in (20, 30)}
    taken = min(counts, key=counts.__getitem__)
    for view, mask in masks.items():
        both = (mask != NOTHING) & (truth[view] > 0)
        # surfaces are smoothed: the outlines of mesh and voxels differ by a pixel
        assert both.sum() > 0.7 * max((mask != NOTHING).sum(), (truth[view] > 0).sum()), view
        agreed += int(((mask == TAKEN) == (truth[view] == taken))[both].sum())
        total += int(both.sum())
        overlap += int(((mask == TAKEN) & (truth[view] == taken)).sum())
        union += int(((mask == TAKEN) | (truth[view] == taken)).sum())
    assert agreed / total > 0.95 and overlap / union > 0.8


def test_the_picture_shows_nothing_of_the_split(toy):
    """Without the split the same picture is drawn, and the sample has the same id."""
    config, source, [site] = toy[0], toy[1], toy[2]
    drawn = render_site_or_reason(site, source, CpuEngine(1), config.views)
    without = replace(site, target_cut=None)
    plain = render_site_or_reason(without, source, CpuEngine(1), config.views)
    assert all(drawn.images[view] == plain.images[view] for view in MESH_VIEWS)
    assert source.info.sample_id(site) == source.info.sample_id(without)
    assert set(drawn.images) - set(plain.images) == {TARGET_PREFIX + view for view in MESH_VIEWS}
    with pytest.raises(ConnectomeBenchError, match="lacks the masks"):
        make_row(without, plain.images, "group", source.info)


def test_geometry_channels_show_nothing_of_the_split(toy, tmp_path):
    """The channels of a row are written, come back, and are those of the same site without its right split."""
    config, source, [site] = toy[0], toy[1], toy[2]
    rules = replace(config.views, geometry=True, image_px=GEOMETRY_PX)
    drawn = render_site_or_reason(site, source, CpuEngine(1), rules)
    plain = render_site_or_reason(replace(site, target_cut=None), source, CpuEngine(1), rules)
    names = [GEOMETRY_PREFIX + view for view in MESH_VIEWS]
    assert [drawn.images[name] for name in names] == [plain.images[name] for name in names]
    row = make_row(site, drawn.images, "group", source.info)
    write_partition(tmp_path, TASK, "train", [row], 1, drawn.summary.size, geometry=True)
    [stored] = pq.read_table(tmp_path / "train-00000-of-00001.parquet").to_pylist()
    channels = read_geometry(stored["geometry"])
    assert channels.shape == (3, 7, GEOMETRY_PX, GEOMETRY_PX)
    assert not channels[:, 6].any() and (channels[:, 5] == channels[:, 0]).all()
    for picture, own in zip(stored["images"], channels, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(picture["bytes"])))
        assert ((pixels != BACKGROUND).any(axis=2) == (own[0] > 0)).all()


def test_a_split_that_is_hardly_seen_is_left_out(toy):
    """Away from the bridge there is one of the two neurons alone."""
    config, source, [site] = toy[0], toy[1], toy[2]
    lonely = tuple(float((offset + voxel) * 10) for offset, voxel in zip(OFFSET, (100, 36, 16), strict=True))
    drawn = render_site_or_reason(
        replace(site, location_nm=lonely, extent_nm=150.0), source, CpuEngine(1), config.views
    )
    assert drawn.summary.problem == "one part of the split is hardly to be seen" and not drawn.images
