"""Neighbourhoods of a built dataset show what its pictures show, and nothing that is true."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_segmentation import write_toy

from connectomebench.build.config import load_config
from connectomebench.build.write_neighbourhoods import (
    NeighbourhoodConfig,
    neighbourhood,
    write_dataset_neighbourhoods,
)
from connectomebench.core.site import Part, Site
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.neighbourhoods import NEIGHBOUR, OTHER, neighbourhoods_path, pack
from connectomebench.environment.camera import first_camera, moved
from connectomebench.environment.drawing import draw
from connectomebench.environment.samples import Samples, open_samples
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import BACKGROUND
from connectomebench.sources.factory import open_source

EM_TASK = "endpoint_error_identification_with_em"


@pytest.fixture(scope="module")
def surveyed(built_short: Path, short_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short build with neighbourhoods of one task."""
    out = tmp_path_factory.mktemp("surveyed") / "out"
    shutil.copytree(built_short, out)
    rules = NeighbourhoodConfig(pages=3, slice_px=64)
    write_dataset_neighbourhoods(load_config(short_config), out, short_config.parent, [EM_TASK], ["test"], rules)
    return out


@pytest.fixture(scope="module")
def samples(surveyed: Path) -> Samples:
    return open_samples(surveyed / EM_TASK, "fly", "test")


def test_first_views_are_the_pictures_of_the_rows(samples: Samples, surveyed: Path):
    for row in load_rows(str(surveyed / EM_TASK), "fly", "test").dataset:
        place = samples.place(samples.number(row["sample_id"]))
        assert place.center_nm == tuple(row["location_nm"]) and place.extent_nm == row["extent_nm"]
        for view, picture in zip(row["views"], row["images"], strict=True):
            stored = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture).astype(int)
            ours = draw(place, moved(first_camera(place), view, place), 64).astype(int)
            if view in MESH_VIEWS:
                seen, drawn = (np.abs(p - BACKGROUND).max(axis=2) > 40 for p in (stored, ours))
                assert (seen & drawn).sum() >= 0.9 * (seen | drawn).sum(), view
            else:
                assert view in EM_VIEWS and np.abs(stored - ours).max() <= 1, view


def test_stored_slices_are_those_of_the_source(samples: Samples, surveyed: Path, short_config: Path, tmp_path: Path):
    source = open_source(load_config(short_config).source, "fly", tmp_path, short_config.parent, SerialRunner())
    row = load_rows(str(surveyed / EM_TASK), "fly", "test").dataset[0]
    stored = samples.place(samples.number(row["sample_id"]))
    assert stored.slices.shape == (3, 3, 64, 64)
    for number, axis in enumerate((2, 1, 0)):  # xy, xz, yz
        for page in range(3):
            place = list(row["location_nm"])
            place[axis] += (page - 1) * stored.page_nm
            shown = Site(EM_TASK, (place[0], place[1], place[2]), row["extent_nm"], (Part(1, "base"),), "no", (1,),
                         (), "control")  # fmt: skip
            slices = source.em_slices(shown, 64)
            assert slices is not None
            cut = slices[EM_VIEWS[number]]
            labels = stored.labels[number, page]
            assert (stored.slices[number, page] == cut.gray).all() and ((labels == 0) == (cut.segments == 0)).all()
            assert all(len(np.unique(cut.segments[labels == one])) == 1 for one in np.unique(labels) if 0 < one < OTHER)


def test_nothing_stored_says_what_is_true(surveyed: Path):
    rows = load_rows(str(surveyed / EM_TASK), "fly", "test").dataset
    with zipfile.ZipFile(neighbourhoods_path(surveyed / EM_TASK, "fly", "test")) as archive:
        assert sorted(archive.namelist()) == sorted(f"{row['sample_id']}.npz" for row in rows)
        for row in rows:
            content = archive.read(f"{row['sample_id']}.npz")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                assert set(arrays.files) == {"center_nm", "sizes_nm", "names", "vertices", "faces", "vertex_starts",
                                             "face_starts", "slices", "labels"}  # fmt: skip
                assert set(arrays["names"].tolist()) <= {"base", NEIGHBOUR}
                assert arrays["labels"].max() <= 255 and arrays["slices"].shape[1] == 3
            for one in (*row["segment_ids"], *row["body_ids"]):
                assert np.uint64(one).tobytes() not in content


def test_files_that_exist_are_kept(surveyed: Path, short_config: Path):
    path = neighbourhoods_path(surveyed / EM_TASK, "fly", "test")
    before = path.stat().st_mtime_ns
    tasks = [EM_TASK, "endpoint_localization"]  # in the second one cannot look around
    assert write_dataset_neighbourhoods(load_config(short_config), surveyed, short_config.parent, tasks) == [path]
    assert path.stat().st_mtime_ns == before


def test_a_volume_of_labels_knows_its_neighbours(tmp_path: Path):
    config = load_config(write_toy(tmp_path))
    source = open_source(config.source, "fly", tmp_path / "cache", tmp_path, SerialRunner())
    # segments 1 and 2 are parts of body 10, in voxels of 10 nm with an offset
    site = Site("endpoint_error_identification", (700.0, 100.0, 200.0), 500.0, (Part(1, "base"),), "yes", (1, 2),
                (10, 10), "edit")  # fmt: skip
    place = neighbourhood(site, source, NeighbourhoodConfig(reach=1.5))
    assert place.names[:2] == ("base", NEIGHBOUR) and place.reach_nm == 750
    assert place.meshes[0].vertices_nm[:, 0].max() < 50 < place.meshes[1].vertices_nm[:, 0].max()
    other = neighbourhood(
        replace(site, answer="no", body_ids=(7,), segment_ids=(1,)), source, NeighbourhoodConfig(reach=1.5)
    )
    assert pack(place) == pack(other)  # it does not depend on what is true
