"""Labels without truth as a source: objects are cut and fused, and the labels count as the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import crackle
import numpy as np
import pytest

from connectomebench.core.correction import CorrectionConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sites.labels import SiteConfig, merge_action_sites
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sources.label_shapes import SkeletonConfig
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.simulated_rules import LabelErrorConfig
from connectomebench.sources.volumes.volume_source import VolumesConfig, VolumeSource

SHAPE, VOXEL = (220, 48, 48), (16.0, 16.0, 16.0)
ERRORS = LabelErrorConfig(
    min_object_voxels=8000, max_object_voxels=100_000, cut_voxels=12_000, min_fragment_voxels=1500, fused_fraction=0.4
)


def labels() -> np.ndarray:
    """Nine round neurites along x, a voxel of background between them, and a speck."""
    made = np.zeros(SHAPE, np.uint32)
    y, z = np.indices(SHAPE[1:])
    for number, (cy, cz) in enumerate([(a, b) for a in (8, 24, 40) for b in (8, 24, 40)]):
        made[:, np.hypot(y - cy, z - cz) <= 7.6] = 1000 + 7 * number
    made[0, 15:17, 15:17] = 5
    return made


def opened(folder: Path, **rules) -> VolumeSource:
    (folder / "labels.ckl").write_bytes(crackle.compress(np.asfortranarray(labels())))
    config = VolumesConfig(
        "objects",
        "1",
        VolumeSpec("labels.ckl", axes="xyz", voxel_size_nm=VOXEL, offset_vx=(0, 0, 0)),
        simulated=LabelErrorConfig(**{**vars(ERRORS), **rules}),
        corrections=CorrectionConfig(min_core_voxels=200),
        skeleton=SkeletonConfig(dust_voxels=100),
        border_nm=50.0,
    )
    return VolumeSource(config, "mouse", folder / "cache", folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> VolumeSource:
    return opened(tmp_path_factory.mktemp("labels"))


def both(source: VolumeSource) -> tuple[np.ndarray, np.ndarray]:
    volumes = (source.automatic, source.proofread)
    automatic, truth = (v.read((0, 0, 0), v.shape) for v in volumes)
    return automatic, truth


def test_the_labels_are_the_truth_and_all_is_said_to_be_simulated(source):
    assert (both(source)[1] == labels()).all()
    assert source.info.simulated_errors and not source.info.simulated_em and source.info.species == "mouse"


def test_segments_are_parts_of_one_object_or_two_whole_ones(source):
    automatic, truth = both(source)
    pairs = np.unique(np.stack([automatic, truth])[:, (automatic > 0) & (truth > 0)], axis=1)
    segments, counts = np.unique(pairs[0], return_counts=True)
    assert set(counts.tolist()) == {1, 2}
    for segment in segments[counts == 2]:
        for body in pairs[1, pairs[0] == segment]:
            assert (automatic[truth == body] == segment).all()
    # new ids say nothing of the old ones
    assert not np.isin(segments, np.unique(truth)).any() and len(np.unique(segments)) == len(segments)


def test_little_is_taken_from_objects_and_only_bridges_are_added(source):
    automatic, truth = both(source)
    gaps = (automatic == 0) & (truth > 0)
    assert 0 < gaps.sum() < 0.12 * (truth > 0).sum()
    fused = source.corrections().fused
    added = (automatic > 0) & (truth == 0)
    assert set(np.unique(automatic[added]).tolist()) == set(fused) and len(fused) == 2
    for segment in fused:
        spread = np.ptp(np.argwhere(added & (automatic == segment)) * VOXEL, axis=0)
        assert (spread <= 2 * ERRORS.bridge_nm).all()


def test_corrections_are_the_difference_recounted_by_hand(source):
    automatic, truth = both(source)
    found = source.corrections()
    assert len(found.merges) >= 4 and len(found.splits) == round(0.4 * 9 / 2)
    fragments = {b: np.unique(automatic[(truth == b) & (automatic > 0)]) for b in np.unique(truth[truth > 5])}
    # fragments of an object hang together like beads on a string
    assert sum(len(f) - 1 for f in fragments.values()) == len({m.segments for m in found.merges})
    for merge in found.merges:
        assert set(merge.segments) <= set(fragments[merge.body].tolist())
        # both fragments are there within the gap and a voxel or two
        place = np.array(merge.location_nm) / VOXEL
        for segment in merge.segments:
            nearest = np.linalg.norm((np.argwhere(automatic == segment) + 0.5 - place) * VOXEL, axis=1).min()
            assert nearest <= ERRORS.max_gap_nm + 3 * max(VOXEL)
    assert all(np.sum(automatic == s) >= ERRORS.min_fragment_voxels for f in fragments.values() for s in f)


def test_every_site_is_simulated(source):
    found = source.corrections()
    ids = found.overlaps.segments.tolist()
    skeletons = dict(source.skeletons(sorted({int(s) for s in ids})))
    rules = SiteConfig((600.0, 800.0), 1000, 300.0)
    sites = merge_action_sites(source, found, source.contacts(), skeletons, rules, ControlConfig()).sites
    assert {s.answer for s in sites} == {"yes", "no"} and {s.origin for s in sites} == {"simulated"}


def test_same_seed_same_voxels_other_seed_others(source, tmp_path):
    again = opened(tmp_path)
    assert again.info.version == source.info.version
    assert (both(again)[0] == both(source)[0]).all()
    other = opened(tmp_path, seed=1)
    assert other.info.version != source.info.version and (both(other)[0] != both(source)[0]).any()


def test_contradictions_get_one_line(tmp_path):
    spec = VolumeSpec("labels.ckl", axes="xyz", voxel_size_nm=VOXEL, offset_vx=(0, 0, 0))
    np.save(tmp_path / "labels.npy", np.ones((4, 4, 4), np.uint8))
    neither = VolumesConfig("objects", "1", replace(spec, path="labels.npy"))
    with pytest.raises(ConnectomeBenchError, match="exactly one of `proofread`"):
        VolumeSource(neither, "fly", tmp_path / "cache", tmp_path)
    assert len(VolumeSource(neither, "fly", tmp_path / "cache", tmp_path, truth_needed=False).corrections().merges) == 0
    with pytest.raises(ConnectomeBenchError, match="exactly one of `proofread`"):
        VolumesConfig("objects", "1", spec, spec, ERRORS)
    with pytest.raises(ConnectomeBenchError, match="raise min_object_voxels"):
        LabelErrorConfig(min_object_voxels=100)
    with pytest.raises(ConnectomeBenchError, match="no object has between"):
        opened(tmp_path, min_object_voxels=90_000)
    (tmp_path / "labels.ckl").write_bytes(b"crkl and no more")
    config = VolumesConfig("objects", "1", spec, simulated=ERRORS)
    with pytest.raises(ConnectomeBenchError, match=r"labels\.ckl") as error:
        VolumeSource(config, "mouse", tmp_path / "cache2", tmp_path)
    assert "\n" not in str(error.value)
