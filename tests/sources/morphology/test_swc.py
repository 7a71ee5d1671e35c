"""Neurons from a folder of SWC files, and the geometry under them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from line_neurons import SMALL, write_line

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.core.site import Part, Site
from connectomebench.sources.morphology.morphology_source import MorphologySource, SimulationConfig
from connectomebench.sources.morphology.neurites import chains, resample
from connectomebench.sources.morphology.proximity import between, close_pairs, patches, yield_to_neighbours
from connectomebench.sources.morphology.swc import read_swc, read_swc_folder
from connectomebench.sources.morphology.tubes import cones_between, tube_mesh


@pytest.fixture
def folder(tmp_path):
    write_line(tmp_path / "101.swc", 0.0)
    write_line(tmp_path / "neuron b.swc", 0.35)
    return tmp_path


def test_folder_of_neurons_works(folder):
    source = MorphologySource(SMALL, "mouse", folder, 1000.0, license="cc0-1.0", citation="Us (2026).")
    found = source.corrections()
    assert source.info.license == "cc0-1.0" and source.info.species == "mouse"
    assert 101 in np.unique(source.reconstruction.bodies).tolist()
    assert found.counts["bodies"] == 2 and found.counts["cuts"] >= 6 and found.counts["splits"] >= 1
    assert len(found.merges) + found.counts["excluded_tangles"] == found.counts["cuts"]
    split = found.splits[0]
    site = Site(
        "merge_error_identification",
        split.location_nm,
        3000.0,
        (Part(split.segment, "base"),),
        "yes",
        (),
        (),
        "simulated",
    )
    assert not source.meshes(site)[0].is_empty
    assert (source.em_slices(site, 64)["em_xy"].segments == np.uint64(split.segment)).any()


def test_neurons_too_short_to_cut_give_no_corrections(tmp_path):
    (tmp_path / "1.swc").write_text("1 0 0 0 0 0.1 -1\n2 0 1 0 0 0.1 1\n")
    found = MorphologySource(SimulationConfig(), "fly", tmp_path, 1000.0).corrections()
    assert found.merges == () and found.splits == () and found.counts["segments"] == 1


def test_unit_scales_everything(folder):
    small, large = read_swc_folder(folder, 8.0)[0].skeleton, read_swc_folder(folder, 1000.0)[0].skeleton
    np.testing.assert_allclose(small.nodes_nm * 125, large.nodes_nm, rtol=1e-5)
    np.testing.assert_allclose(small.radii_nm * 125, large.radii_nm, rtol=1e-5)


def test_points_in_any_order_and_more_columns_are_read(tmp_path):
    (tmp_path / "7.swc").write_text("9 0 2 0 0 0.1 4 extra\r\n4 0 1 0 0 0.1 2 extra\r\n2 1 0 0 0 0.1 -1 extra\r\n")
    neuron = read_swc(tmp_path / "7.swc", 1.0)
    assert neuron.body == 7
    assert sorted(map(tuple, np.sort(neuron.skeleton.edges, axis=1).tolist())) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 points"),
        ("1 0 0 0 0 1 -1\n2 0 one 0 0 1 1\n", "cannot read"),
        ("1 0 0 0 0 1 -1\n2 0 1 0 0 1 5\n", "parent 5"),
        ("1 0 0 0 0 1 -1\n1 0 1 0 0 1 -1\n", "number"),
        ("1 0 0 0 0 1 2\n2 0 1 0 0 1 1\n", "circle"),
        ("1 0 0 0 0 0 -1\n2 0 1 0 0 0 1\n", "radius"),
        ("1 0 0 0 0 1 -1\n2 0 nan 0 0 1 1\n", "not finite"),
        ("1 0 0 0 0 1 -1\n2 0 10,5 0 0 1 1\n", "'10,5' is no number"),
        ("1 0 0 0 0 1 -1\n2 0 20,000 0 0 1 1\n", "'20,000' is no number"),
        ("1;0;0;0;0;1;-1\n2;0;10,5;0;0;1;1\n", "'10,5' is no number"),
        ("1 0 0 0 0 1 -1\n2 0 1_0 0 0 1 1\n", "'1_0' is no number"),
        ("1 0 0 0 0 1 -1\n2 0 ١٠ 0 0 1 1\n", "is no number"),
        ("1 0 0 0 0 1 -1\nn T X Y Z R P\n2 0 1 0 0 1 1\n", "'n' is no number"),
    ],
)
def test_bad_files_get_one_line(tmp_path, text, message):
    (tmp_path / "n.swc").write_text(text)
    with pytest.raises(ConnectomeBenchError, match=message) as error:
        read_swc(tmp_path / "n.swc", 1.0)
    assert "\n" not in str(error.value)


def straight(radii, first=1):
    """Lines of a straight neurite along x, one unit a point."""
    rows = [f"{first + i} 0 {i} 0 0 {r} {first + i - 1 if i else -1}" for i, r in enumerate(radii)]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("unknown", [-1, 0, "nan", -9.5])
def test_unknown_radii_are_interpolated_along_the_neurite(tmp_path, unknown):
    (tmp_path / "n.swc").write_text(straight([3, unknown, unknown, unknown] * 3))
    neuron = read_swc(tmp_path / "n.swc", 100.0)
    np.testing.assert_allclose(neuron.skeleton.radii_nm, 300.0, rtol=1e-5)
    assert neuron.interpolated_radii == 9
    (tmp_path / "n.swc").write_text(straight([unknown, 2, unknown, unknown, unknown, 6, unknown]))
    radii = read_swc(tmp_path / "n.swc", 1.0).skeleton.radii_nm
    np.testing.assert_allclose(radii, [2, 2, 3, 4, 5, 6, 6], rtol=1e-5)


@st.composite
def trees_with_gaps(draw):
    n = draw(st.integers(3, 25))
    parents = [-1] + [draw(st.integers(0, i - 1)) for i in range(1, n)]
    radii = [draw(st.floats(0.1, 10) | st.just(-1.0)) for _ in range(n)]
    radii[draw(st.integers(0, n - 1))] = draw(st.floats(0.1, 10))
    return parents, radii


@given(trees_with_gaps())
@settings(max_examples=60, deadline=None)
def test_interpolated_radii_stay_between_those_given(tmp_path_factory, tree):
    parents, radii = tree
    path = tmp_path_factory.mktemp("swc") / "n.swc"
    rows = [
        f"{i + 1} 0 {i} {i % 3} 0 {r} {p + 1 if p >= 0 else -1}"
        for i, (p, r) in enumerate(zip(parents, radii, strict=True))
    ]
    path.write_text("\n".join(rows))
    neuron = read_swc(path, 1.0)
    given_radii = [r for r in radii if r > 0]
    assert neuron.interpolated_radii == len(radii) - len(given_radii)
    found = neuron.skeleton.radii_nm
    assert found.min() >= min(given_radii) * (1 - 1e-5) and found.max() <= max(given_radii) * (1 + 1e-5)
    kept = np.asarray(radii) > 0
    np.testing.assert_allclose(found[kept], np.asarray(radii)[kept], rtol=1e-6)


def test_a_tree_without_any_radius_is_refused_with_the_count(tmp_path):
    (tmp_path / "n.swc").write_text(straight([1, 1]) + straight([-1, -1, -1], first=11))
    with pytest.raises(ConnectomeBenchError, match="3 points without a radius above zero, and 1 of its 2 trees"):
        read_swc(tmp_path / "n.swc", 1.0)


def test_interpolated_radii_are_counted(folder):
    path = folder / "101.swc"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.replace(" 0.15 ", " -1 ") if i % 4 else line for i, line in enumerate(lines)))
    counts = MorphologySource(SMALL, "mouse", folder, 1000.0).corrections().counts
    unknown = sum(neuron.interpolated_radii for neuron in read_swc_folder(folder, 1000.0))
    assert counts["points whose radius was unknown and is interpolated"] == unknown > 30


@pytest.mark.parametrize("header", ["", "id,type,x,y,z,radius,parent\n", "# made by hand\nn T X Y Z R P\n"])
@pytest.mark.parametrize("between", [",", ", ", ";", " ; ", "\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_columns_may_lie_between_commas_and_have_names(tmp_path, header, between, end):
    text = (header + straight([3, -1, 5]).replace(" ", between)).replace("\n", end)
    (tmp_path / "n.swc").write_bytes(text.encode())
    neuron = read_swc(tmp_path / "n.swc", 1.0)
    np.testing.assert_allclose(neuron.skeleton.radii_nm, [3, 4, 5])
    assert neuron.skeleton.nodes_nm.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert neuron.skeleton.edges.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16", "cp1252"])
def test_comments_may_be_in_any_encoding(tmp_path, encoding):
    path = tmp_path / "n.swc"
    path.write_bytes(("# Zürich, 5 µm\n" + straight([1, 1, 1])).encode(encoding))
    assert len(read_swc(path, 1.0).skeleton.edges) == 2


@pytest.mark.parametrize("first", [2**53 - 1, 2**53, 2**60 + 1, 2**64 - 3])
def test_numbers_of_points_are_exact(tmp_path, first):
    (tmp_path / "n.swc").write_text(straight([1, 1, 1], first=first))
    edges = np.sort(read_swc(tmp_path / "n.swc", 1.0).skeleton.edges, axis=1)
    assert edges.tolist() == [[0, 1], [1, 2]]


def test_numbers_of_points_that_were_rounded_are_refused(tmp_path):
    (tmp_path / "n.swc").write_text("1.0 0 0 0 0 1 -1.0\n2.0 0 1 0 0 1 1.0\n")
    assert len(read_swc(tmp_path / "n.swc", 1.0).skeleton.edges) == 1
    (tmp_path / "n.swc").write_text("1 0 0 0 0 1 -1\n9007199254740994.0 0 1 0 0 1 1\n")
    with pytest.raises(ConnectomeBenchError, match=r"line 2: point 9007199254740994\.0 went through a floating"):
        read_swc(tmp_path / "n.swc", 1.0)


def test_files_are_found_whatever_the_case_of_their_suffix(folder):
    (folder / "101.swc").rename(folder / "101.SWC")
    (folder / "neuron b.swc").rename(folder / "neuron b.Swc")
    (folder / "._101.SWC").write_bytes(b"\0\5\x16\7")  # what a Mac leaves beside a file
    assert {n.body for n in read_swc_folder(folder, 8.0)} >= {101}
    assert len(read_swc_folder(folder, 8.0)) == 2


def test_bad_arguments_get_one_line(folder, tmp_path):
    with pytest.raises(ConnectomeBenchError, match="unit_nm"):
        MorphologySource(SMALL, path=folder)
    with pytest.raises(ConnectomeBenchError, match="no folder"):
        MorphologySource(SMALL, path=tmp_path / "nowhere", unit_nm=8.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConnectomeBenchError, match=r"no \.swc file"):
        MorphologySource(SMALL, path=tmp_path / "empty", unit_nm=8.0)
    with pytest.raises(ConnectomeBenchError, match="unknown species"):
        MorphologySource(SMALL, "flie", folder, 8.0)
    with pytest.raises(ConnectomeBenchError, match="would not touch"):
        SimulationConfig(max_cut_gap_nm=200.0)
    with pytest.raises(ConnectomeBenchError, match="at least twice"):
        SimulationConfig(cut_spacing_nm=1000.0)


@st.composite
def forests(draw):
    n = draw(st.integers(2, 30))
    parents = [draw(st.integers(0, i - 1)) for i in range(1, n)]
    nodes = np.array(draw(st.lists(st.tuples(*[st.integers(0, 5000)] * 3), min_size=n, max_size=n, unique=True)))
    edges = np.stack([parents, np.arange(1, n)], axis=1).astype(np.int32)
    return Skeleton(nodes.astype(np.float32), edges, np.full(n, 100, np.float32))


@given(forests())
@settings(max_examples=50, deadline=None)
def test_resampling_keeps_ends_branch_points_and_length(skeleton):
    degree = skeleton.degrees()
    covered = np.concatenate([np.sort(np.stack([c[:-1], c[1:]], 1), 1) for c in chains(skeleton.edges, len(degree))])
    assert sorted(map(tuple, covered)) == sorted(map(tuple, np.sort(skeleton.edges, axis=1)))
    fine = resample(skeleton, 100.0)
    assert len(fine.edges) == len(fine.nodes_nm) - 1
    kept = {tuple(p) for p in fine.nodes_nm.tolist()}
    assert {tuple(p) for p in skeleton.nodes_nm[degree != 2].tolist()} <= kept
    assert np.array_equal(np.sort(fine.degrees()[fine.degrees() != 2]), np.sort(degree[degree != 2]))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_close_pairs_agree_with_all_pairs(seed):
    rng = np.random.default_rng(seed)
    nodes, radii = rng.uniform(0, 2000, (60, 3)), rng.uniform(20, 400, 60)
    owners = rng.integers(0, 3, 60).astype(np.uint64)
    pairs, gaps = close_pairs(nodes, radii, owners, 50.0)
    distance = np.linalg.norm(nodes[:, None] - nodes, axis=2) - radii[:, None] - radii
    a, b = np.nonzero(np.triu((distance <= 50.0) & (owners[:, None] != owners), 1))
    assert pairs.tolist() == np.stack([a, b], axis=1).tolist()
    np.testing.assert_allclose(gaps, distance[a, b], atol=1e-6)
    thinner = yield_to_neighbours(nodes, radii, owners, 50.0, 1.0)
    assert (thinner <= radii).all()
    left = np.linalg.norm(nodes[:, None] - nodes, axis=2) - thinner[:, None] - thinner
    free = (owners[:, None] != owners) & (np.linalg.norm(nodes[:, None] - nodes, axis=2) > 52.0)
    assert left[free].min(initial=50.0) > 50.0 - 2.1


def test_place_between_spheres_lies_midway_between_their_surfaces():
    place = between(np.array([[0.0, 0, 0], [1000, 0, 0]]), np.array([100.0, 500]), np.array([[0, 1]]))
    np.testing.assert_allclose(place, [[300, 0, 0]])


def test_patches_link_neighbours_of_one_key_only():
    points = np.array([[0.0, 0, 0], [90, 0, 0], [180, 0, 0], [5000, 0, 0], [90, 10, 0]])
    groups = patches(points, np.array([0, 0, 0, 0, 1]), 100.0)
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[0], groups[3], groups[4]}) == 3


@given(st.floats(60, 400), st.floats(0, 1500), st.tuples(*[st.floats(-1, 1)] * 3))
@example(60.0, 2.7e-159, (0.0, 0.0, 0.0))
@settings(max_examples=20, deadline=None)
def test_tube_has_the_volume_of_a_capsule_and_round_ends(radius, length, direction):
    direction = np.array(direction) + np.array([0, 0, 1.5])
    end = direction / np.linalg.norm(direction) * length
    cones = cones_between(np.zeros((1, 3)), end[None], np.array([radius]), np.array([radius]))
    mesh = tube_mesh(cones, Box.around((0.0, 0.0, 0.0), 6000.0), 30.0)
    a, b, c = (mesh.vertices_nm[mesh.faces[:, k]].astype(float) for k in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(np.pi * radius**2 * (length + 4 / 3 * radius), rel=0.35)
    along = mesh.vertices_nm @ (direction / np.linalg.norm(direction))
    assert along.max() == pytest.approx(length + radius, abs=30 + 25)  # a cap like that at the other end
    assert along.min() == pytest.approx(-radius, abs=30 + 25)
