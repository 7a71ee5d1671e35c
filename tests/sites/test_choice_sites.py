"""Choices among candidates: which are offered does not depend on the truth, and which is right does on nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_labels import Double, contacts, line, truth
from toy_segmentation import OFFSET, VOXEL, arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.core.correction import Corrections, MergeCorrection
from connectomebench.core.site import Site
from connectomebench.core.tasks import get_task
from connectomebench.execution.runner import SerialRunner
from connectomebench.sites.candidates import CandidateConfig, find_candidates
from connectomebench.sites.choices import (
    MOST,
    NO_CANDIDATE,
    SEVERAL,
    TASK,
    UNLOCALISED,
    UNSURE,
    WITHHELD_SHARE,
    choice_sites,
)
from connectomebench.sites.labels import LabelledSites, SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sources.factory import open_source

RULES = SiteConfig(extent_nm=(2000, 2000), min_segment_voxels=100)
CONTROLS = ControlConfig(pool_per_case=1000)
STUB = np.linspace(0, 1000, 6)  # from the border to the end that is asked about
TOUCHING = contacts(*(((1, s), (1000 - 50 * s, 0, 0)) for s in (2, 3, 4, 5, 6, 7)), ((1, 8), (900, 0, 0)))
SIZES = dict.fromkeys(range(1, 8), 5000) | {8: 50}
BODIES = {1: 10} | {s: 10 + s for s in range(2, 9)}
AT_THE_END = MergeCorrection("n", (1, 3), 10, (900, 0, 0), 9)


class Bordered(Double):
    """The neurite begins at the border."""

    def at_border(self, segment_ids, points_nm):
        return np.asarray(points_nm)[:, 0] < 1


def found(corrections: Corrections, touching=TOUCHING, skeletons=None, controls=CONTROLS) -> LabelledSites:
    skeletons = {1: line(*STUB)} if skeletons is None else skeletons
    ends = find_candidates(skeletons.items(), CandidateConfig())
    return choice_sites(Bordered(), corrections, touching, ends, skeletons, RULES, controls)


def one(labelled: LabelledSites) -> Site:
    (site,) = labelled.sites
    assert site.task == TASK and site.segment_ids == (1, *site.choices) and site.location_nm == (1000.0, 0.0, 0.0)
    assert [(p.segment_id, p.role) for p in site.parts] == [(1, "base"), *((s, "candidate") for s in site.choices)]
    return site


def test_the_nearest_in_contact_are_offered_and_the_truth_names_the_right_one() -> None:
    site = one(found(truth(SIZES, BODIES | {3: 10}, merges=[AT_THE_END])))
    assert {*site.choices} == {2, 3, 4, 5} and site.choices["abcd".index(site.answer)] == 3
    assert (site.edit_id, site.origin) == ("n", "edit")
    # with another truth the same is shown, in the same order
    other = one(found(truth(SIZES, BODIES | {5: 10}, merges=[replace(AT_THE_END, segments=(1, 5))])))
    assert other.choices == site.choices and other.choices["abcd".index(other.answer)] == 5
    assert other.sample_id("fly", "x") == site.sample_id("fly", "x")
    none = one(found(truth(SIZES, BODIES)))
    assert (none.choices, none.answer, none.edit_id, none.origin) == (site.choices, "none", None, "control")


@pytest.mark.parametrize(
    ("bodies", "fused", "merges", "reason"),
    [
        ({2: 10, 3: 10}, {}, [AT_THE_END], SEVERAL),
        ({3: 10}, {}, [], UNLOCALISED),
        ({3: 10}, {}, [replace(AT_THE_END, location_nm=(-500.0, 0, 0))], UNLOCALISED),
        ({1: None, 3: 10}, {1: (10, 11)}, [], "segment fused or without a sure body"),
    ],
)
def test_what_has_no_sure_answer_is_left_out(bodies, fused, merges, reason) -> None:
    body_of = {segment: body for segment, body in (BODIES | bodies).items() if body is not None}
    labelled = found(truth(SIZES, body_of, fused=fused, merges=merges))
    assert not labelled.sites and labelled.dropped[reason] == 1


def test_a_fused_candidate_is_a_wrong_one_only_if_nothing_of_the_body_is_in_it() -> None:
    body_of = {segment: body for segment, body in BODIES.items() if segment != 4}
    corrections = truth(SIZES, body_of, fused={4: (14, 15)})
    assert one(found(corrections)).answer == "none"
    table = corrections.overlaps
    held = replace(
        table, segments=np.append(table.segments, [4]).astype(np.uint64), bodies=np.append(table.bodies, [10])
    )
    held = replace(held, voxels=np.append(table.voxels, 1), core_voxels=np.append(table.core_voxels, 0))
    labelled = found(replace(corrections, overlaps=held))
    assert not labelled.sites and labelled.dropped[UNSURE] == 1


def test_others_are_offered_where_few_touch_and_the_truth_of_all_is_known() -> None:
    near = {1: line(*STUB), 2: line(800, 1200, y=300.0), 3: line(900, 1200, y=-400.0), 4: line(0, 5000, y=950.0)}
    touching = contacts(((1, 5), (1000, 0, 0)))
    labelled = found(truth(SIZES, BODIES), touching, near)
    site = next(s for s in labelled.sites if s.segment_ids[0] == 1)
    assert {*site.choices} == {5, 2, 3}  # the fourth is too far out to be seen whole
    known = replace(truth(SIZES, BODIES), complete=frozenset({10}))
    assert one(found(known, touching, near)).choices == (5,)
    assert not found(replace(known, complete=frozenset({11})), touching, near).sites
    alone = found(truth(SIZES, BODIES), contacts(((6, 7), (0, 0, 0))))
    assert not alone.sites and alone.dropped[NO_CANDIDATE] == 1


def test_one_place_is_no_two_candidates() -> None:
    """Segments of two times of one history lie at one place."""
    touching = contacts(((1, 2), (950, 0, 0)), ((1, 3), (955, 0, 0)), ((1, 4), (900, 0, 0)))
    assert {*one(found(truth(SIZES, BODIES), touching)).choices} == {3, 4}


def many(n: int = 600, seed: int = 0) -> LabelledSites:
    """Many neurites that end at four others each, one of which continues it."""
    skeletons, rows, merges, body_of, sizes = {}, [], [], {}, {}
    for i in range(n):
        y, base = 20_000.0 * i, 10 * i + 1
        skeletons[base] = line(*STUB, y=y)
        for k in range(6):
            body_of[base + k], sizes[base + k] = (base, base + k)[k != 3], 5000
            if k:
                rows.append(((base, base + k), (1000 - 50 * k, y, 0)))
        merges.append(MergeCorrection(f"m{i:04d}", (base, base + 3), base, (850, y, 0), 9))
        body_of[base + 3] = base
    corrections = truth(sizes, body_of, merges=merges)
    return found(corrections, contacts(*rows), skeletons, replace(CONTROLS, seed=seed))


def test_letters_are_drawn_by_lot_and_some_right_ones_are_withheld() -> None:
    labelled = many()
    answers = Counter(site.answer for site in labelled.sites)
    assert answers.total() == 600 and set(answers) == set(get_task(TASK).labels)
    assert abs(answers["none"] / 600 - WITHHELD_SHARE) < 4 * np.sqrt(WITHHELD_SHARE * (1 - WITHHELD_SHARE) / 600)
    each = (600 - answers["none"]) / 4
    assert all(abs(answers[letter] - each) < 4 * np.sqrt(each * 0.75) for letter in "abcd")
    for site in labelled.sites:
        base = site.segment_ids[0]
        right = [letter for letter, s in zip("abcd", site.choices, strict=False) if s == base + 3]
        assert ([site.answer], len(site.choices)) == (right or ["none"], MOST)
        assert (site.edit_id is None) == (site.answer == "none")
        # the next nearest takes the place of the one that is withheld
        assert {*site.choices} == {base + k for k in ((1, 2, 3, 4) if right else (1, 2, 4, 5))}
    assert [s.choices for s in many().sites] == [s.choices for s in labelled.sites]
    assert [s.choices for s in many(seed=1).sites] != [s.choices for s in labelled.sites]


def test_volumes_say_the_same_voxel_by_voxel(tmp_path: Path) -> None:
    """From the raw arrays: the body of the base, and the segments of which something lies in the cube shown."""
    config = load_config(write_toy(tmp_path))
    source = open_source(config.source, config.species, tmp_path / "cache", tmp_path, SerialRunner())
    corrections = source.corrections()
    skeletons = dict(source.skeletons(sorted(corrections.overlaps.segment_sizes())))
    ends = find_candidates(skeletons.items(), config.candidates)
    labelled = choice_sites(source, corrections, source.contacts(), ends, skeletons, config.sites, CONTROLS)
    made = arrays()
    automatic, proofread = made["automatic"], made["proofread"]
    body_of = {s: Counter(proofread[automatic == s].tolist()).most_common(1)[0][0] for s in (1, 2, 3, 5)}
    assert {site.segment_ids[0] for site in labelled.sites} >= {1, 2, 3}
    for site in labelled.sites:
        base, *shown = site.segment_ids
        right = [letter for letter, s in zip("abcd", shown, strict=False) if body_of.get(s) == body_of[base]]
        assert [site.answer] == (right or ["none"]) or (site.answer == "none" and not right)
        middle = (np.array(site.location_nm) / VOXEL - OFFSET).astype(int)
        half = int(site.extent_nm / VOXEL[0] / 2)
        low, high = np.maximum(middle - half, 0), middle + half
        seen = set(np.unique(automatic[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]).tolist()) - {0}
        assert {base, *shown} <= seen
    assert sum(site.is_case for site in labelled.sites) >= 3
