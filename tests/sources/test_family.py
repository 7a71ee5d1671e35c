"""Several segmentations of one volume: shared corrections once, a held-out half, rows that name their segmentation."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from connectomebench.build.collect_sites import collect_sites
from connectomebench.build.config import BuildConfig, parse_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import read_small_columns
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import open_source
from connectomebench.sources.family import SegmentationFamily

VOXEL_NM = 10.0
LENGTH, WIDTH, ROWS = 160, 12, 5
# where each segmentation cuts its tubes, by tube number modulo 3: the first cut is the same in both
CUTS = {"coarse": {0: (40,), 1: (110,)}, "fine": {0: (42, 90), 1: (110,), 2: (60,)}}


def tubes() -> dict[str, np.ndarray]:
    """Make square tubes side by side along x, each a body; the segmentations cut some of them."""
    edge = WIDTH * ROWS
    y, z = np.indices((edge, edge)) // WIDTH
    body = (1 + y * ROWS + z).astype(np.uint32)
    proofread = np.repeat(body[None], LENGTH, axis=0)
    volumes = {"proofread": proofread, "image": np.full(proofread.shape, 150, np.uint8)}
    x = np.arange(LENGTH)[:, None, None]
    for name, cuts in CUTS.items():
        piece = np.zeros_like(proofread)
        for kind, places in cuts.items():
            for place in places:
                piece += ((proofread % 3 == kind) & (x >= place)).astype(np.uint32)
        # the two number their segments alike, so that an id alone says nothing
        volumes[name] = proofread * 10 + piece
    return volumes


def configuration(**changes: object) -> BuildConfig:
    spec = {"path": "tubes.npz", "axes": "xyz", "voxel_size_nm": [VOXEL_NM] * 3, "offset_vx": [0, 0, 0]}
    volumes = {
        "name": "tubes",
        "version": "1",
        "automatic": {name: spec | {"key": name} for name in CUTS},
        "proofread": spec | {"key": "proofread"},
        "image": spec | {"key": "image"},
        "corrections": {"min_core_voxels": 50, "erosion_vx": 1},
        "skeleton": {"dust_voxels": 100},
        "border_nm": 50,
        "same_place_nm": 60,
    }
    data = {
        "species": "fly",
        "source": {"volumes": volumes},
        "tasks": ["merge_action"],
        "sites": {"extent_nm": [140, 140], "min_segment_voxels": 100, "merge_match_nm": 100},
        "candidates": {"radius_nm": 80, "merge_radius_nm": 80, "min_distance_nm": 20, "reach_nm": 80},
        "proposals": {"reach_nm": 400},
        "controls": {"caliper": 10.0},
        "partition": {"cube_nm": 140, "validation_fraction": 0.15, "test_fraction": 0.5, "test_half": "+z"},
        "views": {"image_px": 48, "engine": "cpu"},
    }
    return parse_config(data | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    np.savez(folder / "tubes.npz", **tubes())
    return folder


@pytest.fixture(scope="module")
def family(folder: Path) -> SegmentationFamily:
    config = configuration()
    opened = open_source(config.source, config.species, folder / "cache", folder, SerialRunner())
    assert isinstance(opened, SegmentationFamily)
    return opened


def test_members_share_what_is_the_same_and_have_versions_of_their_own(family: SegmentationFamily) -> None:
    assert {name: info.name for name, info in family.info.segmentations.items()} == {
        "coarse": "tubes/coarse",
        "fine": "tubes/fine",
    }
    assert len({info.version for info in (family.info, *family.info.segmentations.values())}) == 3
    one, two = family.members.values()
    assert one.proofread is two.proofread and one.image is two.image  # type: ignore[attr-defined]


def test_a_correction_of_two_segmentations_is_one_row(family: SegmentationFamily) -> None:
    gathered = collect_sites(family, configuration())
    cases = [site for site in gathered.sites if site.answer == "yes"]
    found = Counter((site.body_ids[0], round(site.location_nm[0] / VOXEL_NM / 10)) for site in cases)
    expected = {
        (body, round(place / 10))
        for cuts, body in itertools.product(CUTS.values(), range(1, ROWS**2 + 1))
        for place in cuts.get(body % 3, ())
    }
    assert set(found) == expected
    assert set(found.values()) == {1}
    # what both have is not always asked in the same one
    assert {site.segmentation for site in cases if site.body_ids[0] % 3 == 1} == set(CUTS)
    assert sum(gathered.dropped["merge_action"][k] for k in gathered.dropped["merge_action"] if "another seg" in k) > 10
    controls = [site for site in gathered.sites if site.answer == "no"]
    for one, two in itertools.combinations(controls, 2):
        if one.segmentation != two.segmentation and set(one.body_ids) == set(two.body_ids):
            assert np.linalg.norm(np.subtract(one.location_nm, two.location_nm)) > 60


def test_rows_name_their_segmentation_and_the_held_out_half_is_test(folder: Path, tmp_path: Path) -> None:
    build_datasets(configuration(), tmp_path / "out", base=folder)
    middle = WIDTH * ROWS * VOXEL_NM / 2
    volumes, seen = tubes(), Counter()
    for partition in PARTITIONS:
        for row in read_small_columns(tmp_path / "out/merge_action/fly", partition).to_pylist():
            assert (row["location_nm"][2] >= middle) == (partition == "test")
            name = row["source"].removeprefix("tubes/")
            for segment, body in zip(row["segment_ids"], row["body_ids"], strict=True):
                assert set(volumes["proofread"][volumes[name] == segment].tolist()) == {body}
            assert (len(set(row["body_ids"])) == 1) == (row["answer"] == "yes")
            assert row["group"].startswith("body-")
            seen[name, row["answer"]] += 1
    for name in CUTS:
        assert seen[name, "yes"] == seen[name, "no"] > 0
    entry = read_manifest(tmp_path / "out/merge_action")["species"]["fly"]
    assert {name: found["rows"] for name, found in entry["segmentations"].items()} == {
        name: 2 * seen[name, "yes"] for name in CUTS
    }
    assert entry["leaks"]["segments"] == entry["leaks"]["places"] == 0


@pytest.mark.parametrize(
    ("automatic", "words"),
    [
        ({}, "automatic"),
        ({"a b": {"path": "x.npz"}}, "cannot name a segmentation"),
        ({"a": {"path": "x.npz", "kye": "y"}}, "did you mean key"),
        ({"a": {"key": "y"}}, "automatic.a.path"),
        ({"path": "x.npz", "kye": "y"}, "did you mean key"),
        ({"path": "x.npz", "mip": "low"}, "automatic.mip"),
    ],
)
def test_wrong_segmentations_get_one_clear_line(automatic: dict, words: str) -> None:
    source = {"volumes": {"name": "n", "version": "1", "automatic": automatic, "proofread": {"path": "x.npz"}}}
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        parse_config({"species": "fly", "source": source})
    assert "\n" not in str(caught.value)
