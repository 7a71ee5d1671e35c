"""Clean and fused segments, and what each edit corrected, by hand-made surveys."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pytest
from cave_ground import Ground
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts, Corrections, Skipped
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.edit_corrections import classify, find_corrections, merge_overlaps
from connectomebench.sources.cave.history import JudgedOperation, Operation, Outcome
from connectomebench.sources.cave.survey import Survey

LEAST = 1000
Row = tuple[int, int, int]


def table(*rows: Row) -> NDArray[np.uint64]:
    return np.asarray(sorted(rows), np.uint64).reshape(-1, 3)


def edit(
    number: int, kind: Literal["merge", "split"], bodies: tuple[int, int], outcome: Outcome = "correction"
) -> JudgedOperation:
    place = (100.0 * number, 0.0, 0.0)
    operation = Operation(
        number, kind, datetime(2026, 1, 1, tzinfo=UTC), (1,), (2,), (place,), (place,), (11,), (12,), False
    )
    return JudgedOperation(operation, outcome, bodies)


def seen(number: int, sides: tuple[int, int], *overlaps: Row, contacts: Contacts | None = None) -> Survey:
    none = np.zeros(0, np.uint64)
    touching = contacts or Contacts(np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    rows = table(*overlaps)
    interface = np.asarray([[100 * number + 7, 0, 0]], np.float32)
    return Survey(
        number, (0.0, 0.0, 0.0), none, none, none, sides, np.unique(rows[:, 0]), touching, rows, {}, interface
    )


def found(
    edits: list[JudgedOperation], surveys: list[Survey], complete: frozenset[int], skipped: tuple[Skipped, ...] = ()
) -> Corrections:
    return find_corrections(edits, {s.operation_id: s for s in surveys}, complete, LEAST, Counter(), skipped)


@pytest.mark.parametrize(
    ("rows", "body", "fused"),
    [
        pytest.param([(1, 7, 5000)], 7, None, id="clean"),
        pytest.param([(1, 7, 5000), (1, 8, 199)], 7, None, id="a trace of another body"),
        pytest.param([(1, 7, 5000), (1, 8, 200)], None, None, id="ambiguous from a fifth on"),
        pytest.param([(1, 7, 5000), (1, 8, 999)], None, None, id="ambiguous up to the least"),
        pytest.param([(1, 7, 5000), (1, 8, 1000)], None, (7, 8), id="fused"),
        pytest.param([(1, 7, 5000), (1, 8, 1000), (1, 9, 300)], None, (7, 8), id="fused, a third body is too small"),
        pytest.param([(1, 9, 1000), (1, 7, 1000), (1, 8, 5000)], None, (7, 8, 9), id="three bodies"),
        pytest.param([(1, 7, 60)], 7, None, id="small"),
        pytest.param([(1, 7, 60), (1, 8, 59)], 7, None, id="small, the rest smaller"),
        pytest.param([(1, 7, 60), (1, 8, 60)], None, None, id="small, nobody has most"),
        pytest.param([(1, 0, 5000)], None, None, id="no body"),
        pytest.param([(1, 0, 5000), (1, 7, 100)], None, None, id="mostly no body"),
        pytest.param([(1, 0, 5000), (1, 7, 1000)], None, None, id="a body and nothing is no fusion"),
        pytest.param([(1, 0, 100), (1, 7, 1000)], 7, None, id="a trace of nothing"),
    ],
)
def test_a_segment_is_clean_or_fused_or_neither(rows: list[Row], body: int | None, fused: tuple[int, ...]) -> None:
    body_of, fusions = classify(table(*rows), LEAST)
    assert body_of.get(1) == body
    assert fusions.get(1) == fused


def test_without_surveys_there_is_nothing_to_classify() -> None:
    assert classify(merge_overlaps([]), LEAST) == ({}, {})


Cube = st.dictionaries(st.tuples(st.integers(1, 4), st.integers(0, 4)), st.integers(1, 9))
Table = st.dictionaries(
    st.tuples(st.integers(1, 4), st.integers(0, 4)),
    st.integers(1, 30) | st.sampled_from([199, 200, 201, 999, 1000, 1001]) | st.integers(1, 5000),
    min_size=1,
)


@given(entries=Table)
@settings(max_examples=300, deadline=None)
def test_classes_follow_the_rule(entries: dict[tuple[int, int], int]) -> None:
    """Written down once more, body by body: no segment is in two classes, and each follows from its own rows alone."""
    body_of, fused = classify(table(*[(s, b, n) for (s, b), n in entries.items()]), LEAST)
    for segment in {s for s, _ in entries}:
        own = {b: n for (s, b), n in entries.items() if s == segment}
        real = {b for b, n in own.items() if b != 0 and n >= LEAST}
        assert fused.get(segment) == (tuple(sorted(real)) if len(real) > 1 else None)
        winners = [b for b, n in own.items() if all(n > m and m < 0.2 * LEAST for c, m in own.items() if c != b)]
        assert ([body_of[segment]] if segment in body_of else []) == [b for b in winners if b != 0]
        assert not (segment in body_of and segment in fused)


@given(entries=Table, voxels=st.integers(1, 199))
@settings(max_examples=100, deadline=None)
def test_a_trace_of_another_body_changes_no_large_segment(entries: dict[tuple[int, int], int], voxels: int) -> None:
    before = classify(table(*[(s, b, n) for (s, b), n in entries.items()]), LEAST)
    large = {s for (s, _), n in entries.items() if n >= 200}
    traced = {**entries, **{(s, 99): voxels for s in large}}
    after = classify(table(*[(s, b, n) for (s, b), n in traced.items()]), LEAST)
    assert before == after


@given(entries=Table, cubes=st.lists(Cube))
@settings(max_examples=100, deadline=None)
def test_where_cubes_overlap_the_largest_count_stands(
    entries: dict[tuple[int, int], int], cubes: list[dict[tuple[int, int], int]]
) -> None:
    every = [entries, *cubes]
    surveys = [seen(i, (1, 1), *[(s, b, n) for (s, b), n in cube.items()]) for i, cube in enumerate(every)]
    joined = merge_overlaps(surveys)
    largest: Counter[tuple[int, int]] = Counter()
    for cube in every:
        largest |= Counter(cube)
    assert joined.tolist() == [[s, b, n] for (s, b), n in sorted(largest.items())]


def test_a_merge_of_two_clean_segments_is_a_correction() -> None:
    contacts = Contacts(
        np.asarray([[1, 2], [1, 3], [1, 2]], np.uint64),
        np.zeros((3, 3), np.float32),
        np.asarray([4, 8, 16], np.float32),
    )
    made = found(
        [edit(1, "merge", (7, 7))], [seen(1, (2, 1), (1, 7, 5000), (2, 7, 50), contacts=contacts)], frozenset({7})
    )
    assert [(m.edit_id, m.segments, m.body, m.location_nm) for m in made.merges] == [
        ("operation-1", (2, 1), 7, (100.0, 0.0, 0.0))
    ]
    assert made.merges[0].area == 20
    # the points of the proofreader, and what the survey saw
    assert set(made.merges[0].points_nm) == {(100.0, 0.0, 0.0), (107.0, 0.0, 0.0)}
    assert made.body_of == {1: 7, 2: 7} and not made.fused and not len(made.unresolved_nm)
    assert made.counts == {"merge operations, standing": 1, "merges": 1}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(1, 7, 5000), (1, 8, 5000), (2, 7, 5000)], id="fused"),
        pytest.param([(1, 7, 5000), (1, 8, 500), (2, 7, 5000)], id="ambiguous"),
        pytest.param([(1, 8, 5000), (2, 7, 5000)], id="of another body"),
        pytest.param([(2, 7, 5000)], id="not in the cube"),
    ],
)
def test_a_merge_of_a_segment_that_is_not_clean_is_a_tangle(rows: list[Row]) -> None:
    made = found([edit(1, "merge", (7, 7))], [seen(1, (1, 2), *rows)], frozenset({7, 8}))
    assert made.merges == ()
    assert made.counts == {"merge operations, standing": 1, "excluded_tangles": 1}
    assert np.unique(made.unresolved_nm, axis=0).tolist() == [[100, 0, 0], [107, 0, 0]]


def test_what_another_cube_shows_of_a_segment_counts_too() -> None:
    """Clean at its own edit, fused at the next one: a tangle at both."""
    near = seen(1, (1, 2), (1, 7, 5000), (2, 7, 5000))
    other = seen(2, (1, 1), (1, 7, 5000), (1, 8, 5000))
    made = found([edit(1, "merge", (7, 7)), edit(2, "split", (7, 8))], [near, other], frozenset({7, 8}))
    assert made.merges == () and made.fused == {1: (7, 8)}
    assert [(s.edit_id, s.segment, s.bodies) for s in made.splits] == [("operation-2", 1, (7, 8))]
    assert made.counts["excluded_tangles"] == 1 and made.counts["splits"] == 1


def test_a_split_needs_both_bodies_near() -> None:
    edits = [edit(1, "split", (7, 8)), edit(2, "split", (8, 7))]
    surveys = [seen(1, (1, 1), (1, 7, 5000), (1, 8, 900)), seen(2, (2, 2), (2, 7, 5000), (2, 8, 1000), (2, 9, 4000))]
    made = found(edits, surveys, frozenset({7, 8}))
    assert [(s.segment, s.bodies) for s in made.splits] == [(2, (8, 7))]
    assert made.counts == {"split operations, standing": 2, "splits": 1, "splits of a piece too small to count": 1}
    assert np.unique(made.unresolved_nm, axis=0).tolist() == [[100, 0, 0], [107, 0, 0]]


def test_edits_of_segments_that_nobody_proofread_are_left_out() -> None:
    edits = [edit(1, "merge", (7, 7)), edit(2, "split", (7, 8)), edit(3, "split", (8, 9))]
    rows = [(s, b, 5000) for s in (3,) for b in (8, 9)]
    surveys = [
        seen(1, (1, 2), (1, 7, 5000), (2, 7, 5000)),
        seen(2, (4, 4), (4, 7, 5000), (4, 8, 5000)),
        seen(3, (3, 3), *rows),
    ]
    made = found(edits, surveys, frozenset({9}))
    # one proofread side is enough
    assert made.merges == () and [s.edit_id for s in made.splits] == ["operation-3"]
    assert made.counts["edits of segments that are not proofread"] == 2
    assert np.unique(made.unresolved_nm[:, 0]).tolist() == [100, 107, 200, 207]
    assert made.complete == frozenset({9})


def test_what_was_taken_back_is_no_correction_and_no_unsure_place() -> None:
    """A control may be made there: the wrong partner of an undone merge."""
    edits = [edit(1, "merge", (7, 8), "inverted"), edit(2, "split", (7, 7), "inverted")]
    surveys = [seen(1, (1, 2), (1, 7, 5000), (2, 8, 5000)), seen(2, (3, 3), (3, 7, 5000))]
    made = found(edits, surveys, frozenset({7, 8}))
    assert made.merges == () and made.splits == () and not len(made.unresolved_nm)
    assert made.counts == {"merge operations, taken back": 1, "split operations, taken back": 1}
    assert made.body_of == {1: 7, 2: 8, 3: 7}


def test_a_place_without_a_survey_is_unsure_and_reasons_are_kept() -> None:
    skipped = (Skipped("operation-1", (1.0, 2.0, 3.0), "the server answered 500"),)
    made = found([edit(1, "merge", (7, 7))], [], frozenset({7}), skipped)
    assert made.merges == () and np.unique(made.unresolved_nm, axis=0).tolist() == [[100, 0, 0]]
    assert made.skipped == skipped


def test_of_the_recorded_edits_all_that_stand_are_corrections(archive: Archive, ground: Ground) -> None:
    made = archive.corrections
    standing = {j.operation.edit_id: j for j in archive.history.judged if j.outcome == "correction"}
    assert {m.edit_id for m in made.merges} | {s.edit_id for s in made.splits} == set(standing)
    # undone, and repaired by a split that was itself undone in the end
    assert {"operation-11", "operation-38"} & set(standing) == set() and "operation-31" in standing
    for merge in made.merges:
        rows = [np.flatnonzero(ground.segments(standing[merge.edit_id].operation.before) == s) for s in merge.segments]
        assert [body in ground.final[r] for r in rows for body in [np.uint64(merge.body)]] == [True, True]
    for split in made.splits:
        rows = ground.segments(standing[split.edit_id].operation.before) == np.uint64(split.segment)
        assert len(set(split.bodies)) == 2 and np.isin(np.asarray(split.bodies, np.uint64), ground.final[rows]).all()
    assert made.counts["merges"] == 35 and made.counts["splits"] == 8 and made.counts["proofread roots"] == 26
    assert made.complete == frozenset(archive.roots.ids.tolist())


def test_merges_that_were_taken_back_are_kept_with_their_place() -> None:
    wrong = edit(1, "merge", (7, 8), "inverted")
    unseen = edit(2, "merge", (7, 8), "inverted")
    cut = edit(3, "split", (7, 7), "inverted")
    made = found([wrong, unseen, cut], [seen(1, (1, 2), (1, 7, 5000), (2, 8, 5000))], frozenset({7, 8}))
    (only,) = made.taken_back
    assert (only.edit_id, only.segments) == ("operation-1", (1, 2))
    assert wrong.operation.place_nm in only.points_nm and (107.0, 0.0, 0.0) in only.points_nm
    assert not made.merges and not made.splits
