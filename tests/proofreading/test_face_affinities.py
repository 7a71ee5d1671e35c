"""Mean affinities of touching segments, and the order of decisions that they give."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import ToyModel, toy_models
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.execution.runner import SerialRunner
from connectomebench.proofreading.face_affinities import PairAffinities, join_sums, pair_affinities, sum_faces
from connectomebench.proofreading.place import open_place
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_comparison import as_text, compare_runs
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.task_models import TaskModel
from connectomebench.sources.volumes.arrays import ArrayVolume

generators = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


def volume(array: np.ndarray, kind) -> ArrayVolume:
    x, y, z = array.shape
    return ArrayVolume(array, (0, 1, 2), (x, y, z), (1.0, 1.0, 1.0), (0, 0, 0), kind, "", "made")


def plain_means(labels: np.ndarray, affinities: np.ndarray) -> dict[tuple[int, int], tuple[int, float]]:
    """Faces and mean affinity of each pair, voxel by voxel."""
    found = defaultdict(list)
    for at in itertools.product(*map(range, labels.shape)):
        for axis in range(3):
            before = list(at)
            before[axis] -= 1
            if before[axis] < 0:
                continue
            a, b = int(labels[tuple(before)]), int(labels[at])
            if a and b and a != b:
                found[min(a, b), max(a, b)].append(float(affinities[axis][at]))
    return {pair: (len(values), sum(values) / len(values)) for pair, values in found.items()}


@settings(max_examples=60, deadline=None)
@given(generators, st.sampled_from([np.uint8, np.float32, np.float64]), st.sampled_from([np.uint32, np.uint64]))
def test_means_are_those_of_a_loop_over_voxels_in_one_piece_and_in_blocks(rng, dtype, label_dtype):
    x, y, z = shape = tuple(rng.integers(1, 6, 3).tolist())
    labels = rng.integers(0, 4, shape).astype(label_dtype) * label_dtype(2**31)
    labels = np.asfortranarray(labels) if rng.integers(2) else labels
    affinities = rng.integers(0, 256, (3, *shape))
    affinities = affinities.astype(np.uint8) if dtype == np.uint8 else (affinities / 255).astype(dtype)
    objects, maps = volume(labels, "labels"), [volume(one, "affinity") for one in affinities]
    plain = plain_means(labels, affinities if dtype != np.uint8 else affinities / 255)

    whole = join_sums([sum_faces(objects, maps, (0, 0, 0), (x, y, z))], affinities.dtype)
    assert [tuple(pair) for pair in whole.pairs.tolist()] == sorted(plain)
    assert whole.faces.tolist() == [plain[pair][0] for pair in sorted(plain)]
    assert whole.means == pytest.approx([plain[pair][1] for pair in sorted(plain)], abs=1e-8)

    edges = rng.integers(1, 4, 3).tolist()
    blocks = []
    for a, b, c in itertools.product(*(range(0, n, e) for n, e in zip(shape, edges, strict=True))):
        upper = (min(a + edges[0], x), min(b + edges[1], y), min(c + edges[2], z))
        blocks.append(sum_faces(objects, maps, (a, b, c), upper))
    rng.shuffle(blocks)
    pieces = join_sums(blocks, affinities.dtype)
    # to the last bit: equal affinities must be ties whatever the blocks
    for name in ("pairs", "faces", "means"):
        assert np.array_equal(getattr(pieces, name), getattr(whole, name))


def test_pairs_without_a_face_have_no_mean():
    known = PairAffinities(np.array([[1, 5], [2, 3]], np.uint64), np.array([4, 1]), np.array([0.25, 0.75]))
    asked = np.array([[2, 3], [1, 2], [1, 5], [5, 9]], np.uint64)
    assert known.of(asked) == pytest.approx([0.75, np.nan, 0.25, np.nan], nan_ok=True)
    none = PairAffinities(np.zeros((0, 2), np.uint64), np.zeros(0, np.int64), np.zeros(0))
    assert np.isnan(none.of(asked)).all()


def made_affinities() -> np.ndarray:
    """Affinities along x, y, z of the toy volume: high between segments 2 and 3, middling between 1 and 2."""
    rng = np.random.default_rng(0)
    made = rng.uniform(0, 0.3, (3, *arrays()["automatic"].shape))
    made[0][80] = rng.uniform(0.8, 1, made[0][80].shape)
    made[0][40] = rng.uniform(0.4, 0.6, made[0][40].shape)
    return made.astype(np.float32)


def write_affinity_toy(folder: Path, affinities: np.ndarray, **options: bool) -> Path:
    path = write_toy(folder, **options)
    np.savez(folder / "affinity.npz", map=affinities[::-1].transpose(0, 3, 2, 1))  # channels z, y, x
    values = yaml.safe_load(path.read_text())
    values["source"]["volumes"]["affinity"] = {
        "path": "affinity.npz", "axes": "czyx", "voxel_size_nm": VOXEL, "offset_vx": OFFSET
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def fall_of(merges: list[tuple[int, int]]) -> float:
    """Compute by how many bits merges of segments lower the variation of information, from its definition."""
    made = arrays()
    both = (made["automatic"] > 0) & (made["proofread"] > 0)
    truth = made["proofread"][both].tolist()

    def variation(objects: list[int]) -> float:
        counts, one, other = Counter(zip(objects, truth, strict=True)), Counter(objects), Counter(truth)
        n = len(truth)
        return -sum(c / n * (np.log2(c / one[a]) + np.log2(c / other[b])) for (a, b), c in counts.items())

    segments = made["automatic"][both].tolist()
    joined = list(segments)
    for a, b in merges:
        joined = [a if segment == b else segment for segment in joined]
    return variation(segments) - variation(joined)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("affinity")
    config = load_config(write_affinity_toy(folder, made_affinities()), truth_needed=False)
    proofread(config, toy_models(), folder / "out", folder, ProofreadConfig(ablation=False))
    plain = folder / "plain"
    plain.mkdir()
    without = load_config(write_toy(plain), truth_needed=False)
    proofread(without, toy_models(), plain / "out", plain, ProofreadConfig(ablation=False))
    return folder


def test_a_run_says_what_pairs_by_affinity_are_worth(runs: Path):
    effort = json.loads((runs / "out/scores.json").read_text())["effort"]
    own, contact = effort["affinity"], effort["largest_contact"]
    # the same pairs in another order: first those of one body, then the one that touches them across background
    assert own["right"] == contact["right"] == 2 and own["decisions"] == contact["decisions"] > 2
    assert own["gain_bits"] == pytest.approx(fall_of([(2, 3), (2, 1)]))
    n = effort["expected_gain"]["decisions"]
    assert n == 3
    gains = [fall_of([(2, 3)]), own["gain_bits"], own["gain_bits"]]
    oracle = own["gain_bits"] / own["share_of_oracle"]
    assert own["area"] == pytest.approx(sum(gains) / n / oracle)
    assert own["share_in_first_30_percent"] == pytest.approx(0.9 * gains[0] / oracle)
    page = (runs / "out/report/index.html").read_text()
    assert '<th scope="row">affinity</th>' in page and "highest mean affinity first" in page
    assert "var(--bad-line)" in page and "no model sees affinities" in page


def test_without_a_map_there_is_no_such_order(runs: Path):
    scores = (runs / "plain/out/scores.json").read_text()
    page = (runs / "plain/out/report/index.html").read_text()
    assert "affinity" not in scores and "affinit" not in page


def test_runs_are_compared_with_it_where_all_have_it(runs: Path, tmp_path: Path):
    others = {task: TaskModel(task, ToyModel(task, revision="2"), ()) for task in toy_models()}
    config = load_config(write_affinity_toy(tmp_path, made_affinities()), truth_needed=False)
    proofread(config, others, tmp_path / "out", tmp_path, ProofreadConfig(ablation=False))
    found = compare_runs([runs / "out", tmp_path / "out"])
    own = [json.loads((one / "out/scores.json").read_text())["effort"] for one in (runs, tmp_path)]
    shares = [one["affinity"]["share_in_first_30_percent"] for one in own]
    leads = [one["expected_gain"]["share_in_first_30_percent"] - s for one, s in zip(own, shares, strict=True)]
    assert found.group.values["first_30_percent_affinity"] == pytest.approx(shares)
    assert found.group.values["first_30_percent_affinity_lead"] == pytest.approx(leads)
    assert "lead over highest affinity first" in as_text(found)
    # a map changes neither the place nor a dataset
    mixed = compare_runs([runs / "plain/out", tmp_path / "out"])
    assert not any("affinity" in name for name in mixed.group.values) and "highest affinity" not in as_text(mixed)


def test_the_truth_is_not_needed_and_a_box_is_cut_out_of_the_map(tmp_path: Path):
    affinities = made_affinities()
    config = load_config(write_affinity_toy(tmp_path, affinities, truth=False), truth_needed=False)
    box = (300 + 350, 0, 40, 300 + 900, 640, 360)  # voxels 35 to 90 along x
    whole, part = (
        pair_affinities(open_place(config, tmp_path, tmp_path / "cache", None, own, 64), SerialRunner())
        for own in (None, box)
    )
    assert whole is not None and part is not None
    labels = arrays()["automatic"]
    for found, rows in ((whole, slice(None)), (part, slice(35, 90))):
        plain = plain_means_at_faces(labels[rows], affinities[:, rows])
        assert {tuple(p): m for p, m in zip(found.pairs.tolist(), found.means.tolist(), strict=True)} == pytest.approx(
            plain, abs=1e-6
        )
    again = pair_affinities(open_place(config, tmp_path, tmp_path / "cache", None, box), SerialRunner())
    assert again is not None and np.array_equal(again.means, part.means)


def plain_means_at_faces(labels: np.ndarray, affinities: np.ndarray) -> dict[tuple[int, int], float]:
    """Compute the mean of each pair with whole arrays at once."""
    found = defaultdict(list)
    for axis in range(3):
        a, b = (np.moveaxis(labels, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        here = np.moveaxis(affinities[axis], axis, 0)[1:]
        touching = (a != b) & (a > 0) & (b > 0)
        for first, second, value in zip(a[touching], b[touching], here[touching], strict=True):
            found[min(first, second), max(first, second)].append(float(value))
    return {(int(a), int(b)): float(np.mean(values)) for (a, b), values in found.items()}


def test_a_map_that_cannot_be_used_is_found_before_any_model_is_asked(tmp_path: Path):
    bad = made_affinities()
    bad[1, 3, 4, 5] = np.nan
    config = load_config(write_affinity_toy(tmp_path, bad), truth_needed=False)
    with pytest.raises(ConnectomeBenchError, match="affinity: some voxels are no number"):
        proofread(config, toy_models(), tmp_path / "out", tmp_path)
    assert not (tmp_path / "out/run.json").exists()
