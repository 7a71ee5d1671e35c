"""Surveys say what the volume and the tables of the fixture say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from cave_ground import OFFSET, VOXEL, VOXEL_NM, Ground
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts
from connectomebench.core.geometry import Box, Skeleton
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.cloud_volumes import InMemoryLayer
from connectomebench.sources.cave.history import JudgedOperation
from connectomebench.sources.cave.survey import Survey, pack_surveys, supervoxels_around, survey, unpack_surveys

# merges: plain, wrong and undone, across a gap; splits: plain, into three, at a corner of the volume, taken back
SOME = (1, 11, 50, 2, 28, 15, 38)
Ask = Callable[..., Survey | str]


@pytest.fixture(scope="module")
def edits(archive: Archive) -> dict[int, JudgedOperation]:
    return {j.operation.operation_id: j for j in archive.history.judged}


@pytest.fixture(scope="module")
def surveys(archive: Archive) -> list[Survey]:
    """All of them, read through the server."""
    return [survey for _, found in archive.survey_index.files() for survey in found.surveys]


@pytest.fixture(scope="module")
def held(ground: Ground) -> InMemoryLayer:
    return InMemoryLayer(ground.supervoxels, VOXEL, OFFSET)


@pytest.fixture(scope="module")
def ask(archive: Archive, ground: Ground, held: InMemoryLayer) -> Ask:
    """Survey from the volume and the tables, without a server."""
    spec = archive.spec

    def made(judged: JudgedOperation, **rules: float) -> Survey | str:
        changed = replace(spec.config.survey, **rules)
        return survey(judged, held, ground.lookup, spec.until, changed, spec.config.skeleton)

    return made


def surveyed(found: Survey | str) -> Survey:
    assert isinstance(found, Survey), found
    return found


def face_counts(
    segments: NDArray[np.uint64], corner_nm: NDArray[np.float64], inner: Box, sides: tuple[int, int]
) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """Faces of each pair with an edited segment, and of those the ones outside the inner cube (either voxel)."""
    total: Counter[tuple[int, int]] = Counter()
    outside: Counter[tuple[int, int]] = Counter()
    for axis in range(3):
        n = segments.shape[axis]
        a, b = np.take(segments, range(n - 1), axis), np.take(segments, range(1, n), axis)
        rows = np.argwhere((a != b) & (np.isin(a, sides) | np.isin(b, sides)))
        step = np.eye(3)[axis]
        near, far = (inner.contains(corner_nm + (rows + 0.5 + s) * VOXEL_NM) for s in (0 * step, step))
        for row, shown in zip(rows, near & far, strict=True):
            first, second = int(a[tuple(row)]), int(b[tuple(row)])
            pair = min(first, second), max(first, second)
            total[pair] += 1
            outside[pair] += not shown
    return total, outside


def test_every_survey_knows_the_segments_and_bodies_of_its_cube(
    archive: Archive, surveys: list[Survey], ground: Ground
) -> None:
    """All edits: supervoxels, the state just before, the final one, and voxels of pairs."""
    rules = archive.spec.config.survey
    edits = {j.operation.operation_id: j.operation for j in archive.history.judged}
    assert sorted(s.operation_id for s in surveys) == sorted(edits)
    for found in surveys:
        edit = edits[found.operation_id]
        rows = ground.rows[ground.crop(edit.place_nm, rules.cutout_nm)].ravel()
        known = ground.truth.table["supervoxel_id"]
        seeds = np.asarray([*edit.sources, *edit.sinks], np.uint64)
        expected = np.union1d(known[np.unique(rows)], seeds)
        np.testing.assert_array_equal(found.supervoxels[found.supervoxels != 0], expected)
        before, final = ground.segments(edit.before), ground.final
        at = np.searchsorted(known, expected)
        inside = found.supervoxels != 0
        np.testing.assert_array_equal(found.before[inside], before[at])
        np.testing.assert_array_equal(found.final[inside], final[at])
        assert not found.before[~inside].any() and not found.final[~inside].any()
        voxels: Counter[tuple[int, int]] = Counter()
        for row, count in enumerate(np.bincount(rows).tolist()):
            voxels[int(before[row]), int(final[row])] += count
        kept = set(found.segments.tolist())
        assert {(a, b): n for a, b, n in found.overlaps.tolist()} == {
            pair: n for pair, n in voxels.items() if n and pair[0] in kept
        }


def test_the_sides_are_the_segments_that_the_edit_replaced(archive: Archive, surveys: list[Survey]) -> None:
    edits = {j.operation.operation_id: j.operation for j in archive.history.judged}
    for found in surveys:
        edit = edits[found.operation_id]
        assert set(found.sides) == set(edit.roots_before)
        assert len(set(found.sides)) == (2 if edit.kind == "merge" else 1)
        assert set(found.sides) <= set(found.segments.tolist())


@pytest.mark.parametrize("number", SOME)
def test_the_server_changes_nothing(number: int, ask: Ask, archive: Archive, edits: dict[int, JudgedOperation]) -> None:
    """Blocks, caches and shared requests give what the volume in memory gives."""
    there = archive.survey_index.of_operation(number)
    assert there is not None
    assert_equal(there, surveyed(ask(edits[number])))


@pytest.mark.parametrize("number", SOME)
def test_contacts_are_all_faces_of_the_edited_segments_inside(
    number: int, ask: Ask, edits: dict[int, JudgedOperation], ground: Ground, archive: Archive
) -> None:
    found = surveyed(ask(edits[number], neighbours=10**6, min_contact_faces=1))
    edit, rules = edits[number].operation, archive.spec.config.survey
    box = ground.crop(edit.place_nm, rules.cutout_nm)
    segments = ground.segments(edit.before)[ground.rows[box]]
    corner = (np.asarray([s.start for s in box]) + OFFSET) * VOXEL_NM
    inner = Box.around(edit.place_nm, rules.inner_nm)
    faces, outside = face_counts(segments, corner, inner, found.sides)
    areas: dict[tuple[int, int], float] = defaultdict(float)
    for (a, b), area, point in zip(
        found.contacts.segments.tolist(), found.contacts.areas.tolist(), found.contacts.points_nm, strict=True
    ):
        areas[a, b] += area
        assert inner.contains(point[None])[0]
        at = np.round((point - corner) / VOXEL_NM - 0.5).astype(int)
        around = segments[tuple(slice(max(i - 1, 0), i + 2) for i in at)]
        assert {a, b} <= set(around.ravel().tolist()) and {a, b} & set(found.sides)
    assert len(faces) > 3
    assert all(area <= faces[pair] for pair, area in areas.items())
    whole = {pair: n for pair, n in faces.items() if not outside[pair]}
    assert {pair: areas.get(pair) for pair in whole} == whole


@pytest.mark.parametrize("number", [1, 35])
def test_the_neighbours_kept_are_those_that_touch_most(
    number: int, ask: Ask, edits: dict[int, JudgedOperation]
) -> None:
    def strangers(found: Survey) -> Counter[int]:
        areas: Counter[int] = Counter()
        for pair, area in zip(found.contacts.segments.tolist(), found.contacts.areas.tolist(), strict=True):
            for segment in set(pair) - set(found.sides):
                areas[segment] += area
        return areas

    every = strangers(surveyed(ask(edits[number], neighbours=10**6)))
    few = surveyed(ask(edits[number], neighbours=2))
    assert len(every) > 2
    assert sorted(strangers(few).values()) == sorted(every.values())[-2:]
    assert set(few.segments.tolist()) == set(strangers(few)) | set(few.sides)
    assert set(few.overlaps[:, 0].tolist()) == set(few.segments.tolist())


def test_small_contacts_are_left_out(ask: Ask, edits: dict[int, JudgedOperation]) -> None:
    areas = {n: surveyed(ask(edits[1], min_contact_faces=n)).contacts.areas for n in (1, 50)}
    assert areas[1].min() < 50 <= areas[50].min()


@pytest.mark.parametrize("number", SOME)
def test_skeletons_lie_inside_their_segments(number: int, archive: Archive, ground: Ground) -> None:
    found = archive.survey_index.of_operation(number)
    assert found is not None and found.skeletons
    edit = next(j.operation for j in archive.history.judged if j.operation.operation_id == number)
    segments = ground.segments(edit.before)[ground.rows]
    step = archive.spec.config.skeleton.downsample[0]
    box = Box.around(edit.place_nm, archive.spec.config.survey.cutout_nm + step * VOXEL_NM)
    for segment, skeleton in found.skeletons.items():
        assert segment in found.segments and box.contains(skeleton.nodes_nm).all()
        at = np.round(skeleton.nodes_nm / VOXEL_NM - OFFSET - 0.5).astype(int)
        # some voxels became one, so a node lies in the segment or beside it
        beside = [
            (segments[tuple(slice(max(i - step // 2, 0), i + step // 2 + 1) for i in p)] == np.uint64(segment)).any()
            for p in at
        ]
        assert all(beside)


def test_an_edit_outside_the_volume_gives_a_reason(ask: Ask, edits: dict[int, JudgedOperation]) -> None:
    edit = edits[1].operation
    away = tuple((x + 10_000.0, y, z) for x, y, z in edit.sources_nm)
    moved = replace(edits[1], operation=replace(edit, sources_nm=away, sinks_nm=away))
    assert ask(moved) == "the edit lies outside the volume"


def test_a_state_that_does_not_fit_gives_a_reason(ask: Ask, edits: dict[int, JudgedOperation]) -> None:
    """Just before a merge there are two segments, and just before a split there is one."""
    merge, split = edits[1].operation, edits[2].operation
    one_side = replace(merge, sinks=merge.sources)
    split_of_two = replace(merge, kind="split", roots_after=split.roots_after)
    for odd in (one_side, split_of_two):
        assert ask(replace(edits[1], operation=odd)) == "the state before the edit does not fit it"


def test_supervoxels_that_the_labels_do_not_show_give_a_reason(ask: Ask, edits: dict[int, JudgedOperation]) -> None:
    """Labels of another dataset, missing chunks, or a merge across a gap wider than the cube."""
    unknown = replace(edits[1].operation, sources=(72057594037999999,))
    far = replace(edits[2].operation, sinks=edits[10].operation.sources)
    for odd in (replace(edits[1], operation=unknown), replace(edits[2], operation=far)):
        assert ask(odd, cutout_nm=600.0) == "the edited supervoxels are not in the labels there"
    # in a cube of a few voxels some edits have seeds of one side alone
    small = [ask(edit, cutout_nm=40.0) for edit in edits.values() if edit.operation.kind == "merge"]
    assert "the edited supervoxels are not in the labels there" in small


@pytest.mark.parametrize("number", SOME)
def test_what_a_group_asks_for_is_what_each_survey_needs(
    number: int, ask: Ask, edits: dict[int, JudgedOperation], held: InMemoryLayer, archive: Archive
) -> None:
    around = supervoxels_around(edits[number], held, archive.spec.config.survey)
    np.testing.assert_array_equal(around, surveyed(ask(edits[number])).supervoxels)


def assert_equal(a: Survey, b: Survey) -> None:
    for name in (f.name for f in fields(Survey) if f.name not in ("contacts", "skeletons")):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("segments", "points_nm", "areas"):
        np.testing.assert_array_equal(getattr(a.contacts, name), getattr(b.contacts, name), err_msg=name)
    assert list(a.skeletons) == list(b.skeletons)
    for segment, skeleton in a.skeletons.items():
        for name in ("nodes_nm", "edges", "radii_nm"):
            first, second = getattr(skeleton, name), getattr(b.skeletons[segment], name)
            np.testing.assert_array_equal(first, second, err_msg=name)
            assert first.dtype == second.dtype


def test_real_surveys_come_back_as_they_were(surveys: list[Survey]) -> None:
    again = unpack_surveys(pack_surveys(surveys))
    assert len(again) == len(surveys) > 40
    for a, b in zip(surveys, again, strict=True):
        assert_equal(a, b)


@given(data=st.data(), count=st.integers(0, 12))
@settings(max_examples=50, deadline=None)
def test_any_surveys_come_back_as_they_were(data: st.DataObject, count: int) -> None:
    """More than ten, with and without contacts and skeletons, ids up to 64 bits."""
    ids = st.integers(0, 2**64 - 1)

    def drawn(rows: int, columns: int) -> NDArray[np.uint64]:
        values = data.draw(st.lists(ids, min_size=rows * columns, max_size=rows * columns))
        return np.asarray(values, np.uint64).reshape(rows, columns)

    surveys = []
    for number in range(count):
        n, k = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
        skeletons = {
            segment: Skeleton(
                np.full((size, 3), segment % 1000, np.float32),
                np.full((max(size - 1, 0), 2), size, np.int32),
                np.arange(size, dtype=np.float32),
            )
            for segment, size in data.draw(st.dictionaries(ids, st.integers(0, 4), max_size=3)).items()
        }
        rows = drawn(n, 3)
        contacts = Contacts(drawn(k, 2), np.full((k, 3), number, np.float32), np.arange(k, dtype=np.float32))
        center = data.draw(st.tuples(*[st.floats(-1e7, 1e7)] * 3))
        sides = data.draw(st.tuples(ids, ids))
        interface = np.full((n, 3), number, np.float32)
        surveys.append(
            Survey(number, center, *rows.T, sides, drawn(n, 1)[:, 0], contacts, drawn(k, 3), skeletons, interface)  # pyright: ignore
        )
    for a, b in zip(surveys, unpack_surveys(pack_surveys(surveys)), strict=True):
        assert_equal(a, b)
