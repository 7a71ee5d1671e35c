"""The embedded neurons: corrections, contacts, meshes and simulated image data of the source `morphology`."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from line_neurons import SMALL, write_line
from scipy.spatial import KDTree
from scipy.stats import ks_2samp

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.core.site import Cut, Part, Site
from connectomebench.sources.morphology import hemibrain_neurons
from connectomebench.sources.morphology.morphology_source import MorphologySource, SimulationConfig
from connectomebench.sources.morphology.tubes import kept_apart, tube_grid


@pytest.fixture(scope="module")
def source():
    if find_spec("navis") is None:
        pytest.skip("the embedded neurons come with navis: pip install 'connectomebench[quickstart]'")
    return MorphologySource(SimulationConfig())


def site_at(place, parts, extent_nm=4000.0, cut=None):
    return Site("merge_action", tuple(map(float, place)), extent_nm, parts, "yes", (), (), "simulated", cut=cut)


def point(array):
    return tuple(float(c) for c in array)


def test_missing_navis_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(hemibrain_neurons, "find_spec", lambda name: None)
    with pytest.raises(ConnectomeBenchError, match=r"pip install 'connectomebench\[neurons\]'") as error:
        MorphologySource(SimulationConfig())
    assert "\n" not in str(error.value)


def test_navis_is_not_imported(source):
    import sys

    assert "navis" not in sys.modules


def test_info_says_what_is_simulated(source):
    info = source.info
    assert info.simulated_errors and info.simulated_em
    assert info.license == "cc-by-4.0" and "Scheffer" in info.citation
    assert info.bounds_nm.contains(source.reconstruction.nodes_nm).all()


def test_counts_are_large_enough_for_a_dataset(source):
    counts = source.corrections().counts
    assert counts["segments"] > 500
    assert counts["merges"] > 300
    assert counts["splits"] > 100
    assert counts["natural_ends"] > 2000 and counts["branch_points"] > 2000


def test_ids_are_unsigned_64_bit_and_tell_nothing(source):
    rec = source.reconstruction
    ids = np.unique(rec.segments)
    assert rec.segments.dtype == np.uint64 and rec.bodies.dtype == np.uint64
    assert (ids > 2**53).mean() > 0.99 and not np.isin(ids, rec.bodies).any()
    body_of = source.corrections().body_of
    bodies = np.array([body_of.get(int(s), 0) for s in ids])
    neighbours_agree = (bodies[1:] == bodies[:-1]).mean()
    assert neighbours_agree < 0.35  # sorted by id, bodies come in no order (5 of them: 0.2 by chance)


def test_corrections_agree_with_brute_force_set_difference(source):
    rec, found = source.reconstruction, source.corrections()
    bodies_of: dict[int, set[int]] = {}
    for segment, body in zip(rec.segments.tolist(), rec.bodies.tolist(), strict=True):
        bodies_of.setdefault(segment, set()).add(body)
    body_edges = {tuple(sorted(e)) for e in np.concatenate([rec.edges, rec.gaps]).tolist()}
    segment_edges = {tuple(sorted(e)) for e in np.concatenate([rec.edges, rec.bridges]).tolist()}
    merges, tangles = set(), 0
    for a, b in body_edges - segment_edges:
        pair = tuple(sorted((int(rec.segments[a]), int(rec.segments[b]))))
        if all(len(bodies_of[s]) == 1 for s in pair):
            merges.add((pair, int(rec.bodies[a])))
        else:
            tangles += 1
    splits = {
        (int(rec.segments[a]), tuple(sorted((int(rec.bodies[a]), int(rec.bodies[b])))))
        for a, b in segment_edges - body_edges
    }
    assert {(m.segments, m.body) for m in found.merges} == merges
    assert {(s.segment, s.bodies) for s in found.splits} == splits
    assert tangles == found.counts["excluded_tangles"] == len(found.unresolved_nm) / 3
    assert found.body_of == {s: next(iter(b)) for s, b in bodies_of.items() if len(b) == 1}
    assert found.fused == {s: tuple(sorted(b)) for s, b in bodies_of.items() if len(b) > 1}


def test_each_cut_is_one_merge_or_a_counted_tangle(source):
    found = source.corrections()
    tangles = len(found.unresolved_nm) / 3  # the place and the two ends of each
    assert len(found.merges) + tangles == found.counts["cuts"] == len(source.reconstruction.gaps)
    assert len({m.edit_id for m in found.merges}) == len(found.merges)
    assert [m.edit_id for m in found.merges] == sorted(m.edit_id for m in found.merges)


def test_fused_segments_have_two_bodies_and_one_split(source):
    found = source.corrections()
    assert all(len(bodies) == 2 for bodies in found.fused.values())
    assert sorted(found.fused) == sorted(s.segment for s in found.splits)


def test_overlaps_add_up_to_the_cable_volume(source):
    rec, overlaps = source.reconstruction, source.corrections().overlaps
    total = rec.volumes_nm3().sum() / source.info.voxel_nm3
    assert overlaps.voxels.sum() == pytest.approx(total, rel=1e-6)
    assert (overlaps.core_voxels == overlaps.voxels).all()
    order = np.lexsort((overlaps.bodies, overlaps.segments))
    assert (order == np.arange(len(order))).all()


def test_ends_of_cuts_resemble_natural_ends(source):
    rec = source.reconstruction
    degree = rec.degrees()
    # where a twig leaves its trunk, the trunk goes on
    assert (degree[rec.gaps].min(axis=1) == 1).all() and 0.1 < (degree[rec.gaps] > 1).any(axis=1).mean() < 0.5
    natural = np.flatnonzero(degree == 1)
    natural = natural[~np.isin(natural, rec.gaps)]
    ends = rec.gaps.ravel()[degree[rec.gaps.ravel()] == 1]
    # of the segments: bodies do not taper at cuts, as they do at natural ends
    statistic = ks_2samp(rec.radii_nm[ends], rec.radii_nm[natural]).statistic
    assert statistic < 0.2


def test_natural_ends_meet_other_neurons_as_cuts_do(source):
    rec, degree = source.reconstruction, source.reconstruction.degrees()
    assert (rec.bodies[rec.meetings[:, 0]] != rec.bodies[rec.meetings[:, 1]]).all()
    assert len(rec.meetings) > 300 and len(np.unique(rec.meetings[degree[rec.meetings] == 1])) > 400
    # end to side is the more common: sides are near most ends, other ends near few
    assert 0.25 < (degree[rec.meetings] > 1).any(axis=1).mean() < 0.75
    natural = np.setdiff1d(np.flatnonzero(degree == 1), rec.gaps)
    assert np.isin(natural, rec.meetings).mean() <= source.rules.meeting_fraction
    contacts = source.contacts()
    rows = {}
    for k, pair in enumerate(contacts.segments.tolist()):
        rows.setdefault(tuple(pair), []).append(k)
    apart = []
    for a, b in rec.meetings:
        pair = tuple(sorted((int(rec.segments[a]), int(rec.segments[b]))))
        if pair[0] != pair[1]:  # not fused
            middle = (rec.nodes_nm[a].astype(float) + rec.nodes_nm[b]) / 2
            apart.append(np.linalg.norm(contacts.points_nm[rows[pair]] - middle, axis=1).min())
    assert np.quantile(apart, 0.9) < 400


def test_what_is_hidden_is_drawn_around_a_face(source):
    rec = source.reconstruction
    assert len(rec.hidden) == len(rec.edges) and 0.05 < rec.hidden.mean() < 0.5
    # a trunk of which all twigs were cut off ends where it was, with a face on each stub and none of its own
    closed = np.concatenate([rec.edges[rec.hidden].ravel(), rec.flesh.nodes])
    assert np.isin(rec.gaps, closed).all()
    assert not np.isin(rec.edges[rec.tips[0]], rec.gaps[rec.degrees()[rec.gaps] == 1]).any()
    assert len(rec.flesh.cones) == len(rec.flesh.nodes) and (rec.flesh.cones[:, 16] >= 0).all()
    assert (rec.flesh.cones[:, 16] <= source.rules.max_cut_gap_nm / 2 + 1e-9).all()


def test_gaps_of_cuts_keep_to_the_rule(source):
    rec, rules = source.reconstruction, source.rules
    nodes, radii = rec.nodes_nm.astype(float), rec.radii_nm.astype(float)
    tree, gaps = KDTree(nodes), []
    for a, b in rec.gaps:
        if rec.segments[a] == rec.segments[b]:
            continue
        # ends side by side pass each other: other nodes than the last are nearest
        near = np.asarray(tree.query_ball_point(nodes[[a, b]].mean(axis=0), np.linalg.norm(nodes[a] - nodes[b]) + 1))
        one, two = (near[rec.segments[near] == rec.segments[end]] for end in (a, b))
        apart = np.linalg.norm(nodes[one, None] - nodes[two], axis=2) - radii[one, None] - radii[two]
        gaps.append(apart.min())
    assert len(gaps) > 900 and max(gaps) < rules.contact_gap_nm  # so that each is a contact
    halves = rec.flesh.cones[:, 16]
    assert halves.max() <= rules.max_cut_gap_nm / 2 and 0.3 < (halves == 0).mean() < 0.7


def test_contacts_hold_every_cut_at_its_place(source):
    contacts, found = source.contacts(), source.corrections()
    assert (contacts.segments[:, 0] < contacts.segments[:, 1]).all()
    rows = {}
    for k, (a, b) in enumerate(contacts.segments.tolist()):
        rows.setdefault((a, b), []).append(k)
    near = [
        np.linalg.norm(contacts.points_nm[rows[m.segments]] - np.array(m.location_nm), axis=1).min()
        for m in found.merges
    ]
    assert np.quantile(near, 0.9) < 250 and max(near) < 900  # a bulge next to a cut may be nearer than the ends
    bodies = [tuple(found.body_of.get(s, 0) for s in pair) for pair in contacts.segments.tolist()]
    assert sum(a != b and a > 0 and b > 0 for a, b in bodies) > 300  # negatives
    assert (contacts.areas > 0).all()


def test_skeletons_are_trees_and_hold_the_bridge(source):
    found = source.corrections()
    fused, pure = found.splits[0].segment, found.merges[0].segments[0]
    skeletons = dict(source.skeletons([fused, pure, 12345]))
    assert list(skeletons) == [fused, pure]
    for skeleton in skeletons.values():
        assert len(skeleton.edges) == len(skeleton.nodes_nm) - 1
    middle = skeletons[fused].nodes_nm[skeletons[fused].edges].mean(axis=1)
    assert np.linalg.norm(middle - np.array(found.splits[0].location_nm), axis=1).min() < 300


def test_border_is_at_thick_ends_and_somas_only(source):
    rec = source.reconstruction

    def at_border(nodes: np.ndarray) -> np.ndarray:
        return source.at_border(rec.segments[nodes], rec.nodes_nm[nodes])

    assert at_border(rec.border_nodes).all()
    assert at_border(np.array([rec.radii_nm.argmax()])).all()
    ends = np.flatnonzero(rec.degrees() == 1)
    assert 0.01 < at_border(ends).mean() < 0.15
    # the border of one segment is none of another
    node = rec.border_nodes[0]
    other = rec.segments[rec.segments != rec.segments[node]][:1]
    assert source.at_border(other, rec.nodes_nm[[node]]).tolist() == [False]


def test_cut_graph_counts_voxels_of_both_bodies(source):
    split = source.corrections().splits[0]
    graph = source.cut_graph(split.segment, split.location_nm, 5000.0)
    assert set(graph.bodies.tolist()) == set(split.bodies)
    assert graph.voxels.shape == (len(graph.points_nm), 2) and ((graph.voxels > 0).sum(axis=1) == 1).all()
    assert Box.around(split.location_nm, 5000.0).contains(graph.points_nm).all()
    assert graph.edges.max() < len(graph.points_nm) and (graph.capacities > 0).all()
    whole = source.cut_graph(split.segment, split.location_nm, 1e6)
    sizes = source.corrections().overlaps.segment_sizes()
    assert whole.voxels.sum() == pytest.approx(sizes[split.segment], rel=1e-4)


def assert_sound(mesh, box):
    assert not mesh.is_empty and np.isfinite(mesh.vertices_nm).all()
    assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices_nm)
    assert box.contains(mesh.vertices_nm).all()
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, shared = np.unique(edges, axis=0, return_counts=True)
    assert (shared % 2 == 0).all()  # closed
    a, b, c = (mesh.vertices_nm[mesh.faces[:, k]].astype(float) - np.array(box.lower_nm) for k in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0  # faces look outwards


def test_meshes_are_closed_and_stay_near_the_cube(source):
    for merge in source.corrections().merges[::40]:
        parts = (Part(merge.segments[0], "base"), Part(merge.segments[1], "candidate"))
        meshes = source.meshes(site_at(merge.location_nm, parts))
        for mesh in meshes:
            assert_sound(mesh, Box.around(merge.location_nm, 4000.0 * 1.06 + 4 * 44))


def test_both_ends_of_a_cut_reach_its_place(source):
    gap = []
    for merge in source.corrections().merges[::25]:
        parts = (Part(merge.segments[0], "base"), Part(merge.segments[1], "candidate"))
        for mesh in source.meshes(site_at(merge.location_nm, parts)):
            gap.append(np.linalg.norm(mesh.vertices_nm - np.array(merge.location_nm), axis=1).min())
    assert np.median(gap) < 60 and max(gap) < 250


def test_sides_of_the_right_cut_are_the_two_bodies(source):
    rec = source.reconstruction
    for a, b in rec.bridges[:5]:
        segment = int(rec.segments[a])
        place = point((rec.nodes_nm[a] + rec.nodes_nm[b]) / 2)
        cut = Cut((point(rec.nodes_nm[a]),), (point(rec.nodes_nm[b]),), place, 8000.0)
        parts = (Part(segment, "source"), Part(segment, "sink"))
        for mesh, node in zip(source.meshes(site_at(place, parts, cut=cut)), (a, b), strict=True):
            assert_sound(mesh, Box.around(place, 4000.0 * 1.06 + 4 * 44))
            # from the surfaces of the two bodies: a soma is thicker than any distance that a neurite keeps
            distance = []
            for part in (rec.bodies == rec.bodies[node], rec.bodies != rec.bodies[node]):
                rows = np.flatnonzero((rec.segments == segment) & part)
                centres = np.linalg.norm(mesh.vertices_nm[::200, None] - rec.nodes_nm[rows].astype(float), axis=2)
                distance.append((centres - rec.radii_nm[rows]).min(axis=1))
            assert np.quantile(distance[0], 0.9) < 300
            assert (distance[0] <= distance[1]).mean() > 0.85


def test_sides_of_a_cut_part_at_a_face_right_or_wrong(source):
    """No voxel near the cut in both, whether two bodies are parted or one neurite is cut across."""
    rec = source.reconstruction
    degree = rec.degrees()
    right = [(int(a), int(b)) for a, b in rec.bridges[:4]]
    fused = {int(rec.segments[a]) for a, _ in right}
    inner = [e for e in rec.edges.tolist() if int(rec.segments[e[0]]) in fused and (degree[e] == 2).all()]
    for a, b in [*right, *inner[:: max(1, len(inner) // 4)]]:
        segment, place = int(rec.segments[a]), point((rec.nodes_nm[a] + rec.nodes_nm[b]) / 2)
        cut = Cut((point(rec.nodes_nm[a]),), (point(rec.nodes_nm[b]),), place, 8000.0)
        parts = (Part(segment, "source"), Part(segment, "sink"))
        sides = source._sides(site_at(place, parts, cut=cut), segment)
        first = np.floor(np.array(place) / 20).astype(np.int64) - 20
        one, other = (tube_grid(cones, first, (40, 40, 40), 20.0) for cones in sides)
        inside = [kept_apart(one, other) < 0, kept_apart(other, one) < 0]
        assert inside[0].any() and inside[1].any()
        near = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0) < 8  # 160 nm
        assert not (inside[0] & inside[1]).any()
        # neither loses more than the gap between them: what either has by itself one of them keeps
        either = (one < 0) | (other < 0)
        assert ((inside[0] | inside[1]) & near).sum() >= 0.99 * (either & near).sum()


def test_slices_show_the_sides_of_a_cut(source):
    rec = source.reconstruction
    own, kept = [], []
    for a, b in rec.bridges[:5]:
        segment = int(rec.segments[a])
        place = point((rec.nodes_nm[a] + rec.nodes_nm[b]) / 2)
        cut = Cut((point(rec.nodes_nm[a]),), (point(rec.nodes_nm[b]),), place, 8000.0)
        parts = (Part(segment, "source"), Part(segment, "sink"))
        for number, node in ((1, a), (2, b)):
            for slices in source.em_slices(site_at(point(rec.nodes_nm[node]), parts, 2000.0, cut=cut), 64).values():
                own.append(slices.sides[32, 32] == number)
                inside = slices.segments == np.uint64(segment)
                kept.append(((slices.sides > 0) == inside).mean())
    # the sides share out the segment; where two segments overlap each pixel shows one of them
    assert np.mean(own) > 0.8 and min(kept) > 0.9 and np.mean(kept) > 0.98
    assert source.em_slices(site_at(place, parts[:1], 2000.0), 64)["em_xy"].sides is None


def test_unknown_segment_and_missing_cut_are_told(source):
    merge = source.corrections().merges[0]
    with pytest.raises(ConnectomeBenchError, match="no segment 5"):
        source.meshes(site_at(merge.location_nm, (Part(5, "base"),)))
    with pytest.raises(ConnectomeBenchError, match="no cut"):
        source.meshes(site_at(merge.location_nm, (Part(merge.segments[0], "source"),)))


def test_em_is_deterministic_and_a_function_of_the_place(source):
    merge = source.corrections().merges[3]
    parts = (Part(merge.segments[0], "base"),)
    place = tuple(float(round(c)) for c in merge.location_nm)
    here = source.em_slices(site_at(place, parts, 4096.0), 128)
    again = source.em_slices(site_at(place, parts, 4096.0), 128)
    shifted = source.em_slices(site_at((place[0] + 320.0, place[1], place[2]), parts, 4096.0), 128)  # 10 pixels
    for name in ("em_xy", "em_xz"):
        assert (here[name].gray == again[name].gray).all()
        assert (here[name].gray[:, 10:] == shifted[name].gray[:, :-10]).mean() > 0.999
        assert (here[name].segments[:, 10:] == shifted[name].segments[:, :-10]).mean() > 0.999
    assert here["em_xy"].gray.std() > 15 and here["em_yz"].inside.all()


def test_em_labels_lie_in_the_segments_and_cytoplasm_goes_on_in_gaps(source):
    rec = source.reconstruction
    dark, gap_dark, own = [], [], []
    for a, b in rec.gaps[np.linalg.norm(np.diff(rec.nodes_nm[rec.gaps], axis=1)[:, 0], axis=1) > 250][:30]:
        parts = (Part(int(rec.segments[a]), "base"),)
        end = source.em_slices(site_at(rec.nodes_nm[a], parts, 2000.0), 64)["em_xy"]
        own.append(end.segments[32, 32] == rec.segments[a])
        share = rec.radii_nm[a] / (rec.radii_nm[a] + rec.radii_nm[b])
        middle = rec.nodes_nm[a] + share * (rec.nodes_nm[b] - rec.nodes_nm[a])
        gap = source.em_slices(site_at(middle, parts, 2000.0), 64)["em_xy"]
        gap_dark.append(gap.gray[31:34, 31:34].mean())
        dark.append(np.quantile(gap.gray, 0.05))
    assert np.mean(own) > 0.9  # a ragged face may pass the node of an end that lies beside the other
    assert np.mean(np.array(gap_dark) > np.array(dark) + 20) > 0.8  # no membrane across a cut


def test_same_rules_same_source_other_seed_other_source(tmp_path):
    write_line(tmp_path / "1.swc", 0.0)
    write_line(tmp_path / "2.swc", 0.35)
    first, again, other = (MorphologySource(replace(SMALL, seed=seed), "fly", tmp_path, 1000.0) for seed in (0, 0, 1))
    assert again.info == first.info
    assert (again.reconstruction.segments == first.reconstruction.segments).all()
    assert [m.edit_id for m in again.corrections().merges] == [m.edit_id for m in first.corrections().merges]
    assert other.info.version != first.info.version
    assert {m.location_nm for m in other.corrections().merges} != {m.location_nm for m in first.corrections().merges}


def test_a_renamed_file_is_another_version_since_its_name_is_the_body(tmp_path):
    write_line(tmp_path / "1.swc", 0.0)
    write_line(tmp_path / "2.swc", 0.35)
    first = MorphologySource(SMALL, "fly", tmp_path, 1000.0)
    (tmp_path / "2.swc").rename(tmp_path / "7.swc")
    other = MorphologySource(SMALL, "fly", tmp_path, 1000.0)
    assert set(other.reconstruction.bodies.tolist()) == {1, 7}
    assert other.info.version != first.info.version


def test_no_end_at_a_cut_is_sure_however_thick_the_neurite_is(source):
    """Every node at a cut goes on; the answer elsewhere is that of a second look at all nodes."""
    rec = source.reconstruction
    ends = rec.gaps.ravel()
    at_cuts = source.surroundings(rec.segments[ends], rec.nodes_nm[ends], 1.0)
    assert at_cuts.goes_on.all()
    natural = np.setdiff1d(np.flatnonzero(rec.degrees() == 1), ends)[::10]
    found = source.surroundings(rec.segments[natural], rec.nodes_nm[natural], 400.0)
    for node, goes_on in zip(natural.tolist(), found.goes_on.tolist(), strict=True):
        apart = np.linalg.norm(rec.nodes_nm.astype(np.float64) - rec.nodes_nm[node], axis=1) - rec.body_radii_nm
        own = rec.segments == rec.segments[node]
        body = np.isin(rec.bodies, rec.bodies[own])
        near_cut = np.isin(np.flatnonzero(own & (apart <= 400)), ends).any()
        assert goes_on == bool(near_cut or (body & ~own & (apart <= 400)).any())
    assert 0 < found.goes_on.mean() < 0.5


def test_the_second_neuron_is_near_its_fusion_and_nowhere_else(source):
    rec = source.reconstruction
    nodes = rec.bridges[:, 0]
    assert source.surroundings(rec.segments[nodes], rec.nodes_nm[nodes], 500.0).second_body.all()
    sound = np.flatnonzero(~np.isin(rec.segments, list(source.corrections().fused)))[::500]
    assert not source.surroundings(rec.segments[sound], rec.nodes_nm[sound], 500.0).second_body.any()


def test_ids_of_fused_segments_are_as_large_as_others(source):
    ids = np.unique(source.reconstruction.segments)
    fused = np.isin(ids, np.array(list(source.corrections().fused), np.uint64))
    share = ids.astype(np.float64) / 2**64
    # the mean of so many uniform numbers lies within four standard errors of a half
    for group in (share[fused], share[~fused]):
        assert abs(group.mean() - 0.5) < 4 / (12 * len(group)) ** 0.5
