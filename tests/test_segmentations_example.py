"""The family of segmentations of `examples/segmentations.py`, on a small image of tubes with membranes between them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

EXAMPLE = Path(__file__).parents[1] / "examples/segmentations.py"
SHAPE, TUBE = (40, 48, 48), 16


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Run the script as a user does; the given watershed cuts the volume in four along the tubes."""
    folder = tmp_path_factory.mktemp("segmentations")
    rng = np.random.default_rng(0)
    y, x = np.indices(SHAPE)[1:]
    membrane = (y % TUBE == 0) | (x % TUBE == 0)
    # between two tubes the membrane is faint, so that they are merged before the others
    faint = (y == TUBE) & (x < TUBE)
    gray = np.where(membrane & ~faint, 40.0, 160.0) + 4 * rng.standard_normal(SHAPE)
    gray = np.clip(ndi.gaussian_filter(gray, 0.7), 0, 255).astype(np.uint8)
    watershed = (1 + np.indices(SHAPE)[0] // 10).astype(np.uint32)
    np.savez(folder / "cube.npz", gray=gray, ws=watershed)
    arguments = ["--cube", str(folder / "cube.npz"), "--out", str(folder / "out/family.npz")]
    thresholds = ["--thresholds", "0.4", "0.1", "0.2", "--widths", "1", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(EXAMPLE), *arguments, *thresholds])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    with np.load(folder / "out/family.npz") as stored:
        return dict(stored)


def test_every_object_is_made_of_whole_supervoxels(family: dict[str, np.ndarray]) -> None:
    names = {f"s{width}-t{threshold}" for width in (1, 2) for threshold in (10, 20, 40)}
    assert set(family) == names | {"supervoxels"}
    supervoxels = family["supervoxels"]
    for name in names:
        pairs = np.unique(np.stack([supervoxels.ravel(), family[name].ravel()]), axis=1)
        assert len(pairs[0]) == supervoxels.max()
        assert family[name].shape == SHAPE and family[name].min() == 1
        # numbered without gaps, and no two numbers for one object
        assert len(np.unique(family[name])) == family[name].max()


def test_a_higher_threshold_merges_what_a_lower_one_left(family: dict[str, np.ndarray]) -> None:
    for width in (1, 2):
        fine, middle, coarse = (family[f"s{width}-t{threshold}"] for threshold in (10, 20, 40))
        for one, two in ((fine, middle), (middle, coarse)):
            pairs = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1)
            assert len(pairs[0]) == one.max() >= two.max()


def test_tubes_stay_apart_at_their_membranes_and_come_together_along_their_length(
    family: dict[str, np.ndarray],
) -> None:
    middles = [(20, y, x) for y in (8, 24, 40) for x in (8, 24, 40)]
    labels = family["s2-t20"]
    assert len({labels[place] for place in middles}) >= 8
    # the given watershed cut each tube in four; no membrane lies there
    for _, y, x in middles:
        assert labels[5, y, x] == labels[15, y, x] == labels[35, y, x]
