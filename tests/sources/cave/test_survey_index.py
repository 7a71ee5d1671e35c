"""When a segment is looked at: just before the edit of its survey, or in the final state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cave_ground import Ground

from connectomebench.core.errors import SiteUnavailable
from connectomebench.sources.cave.archive import Archive
from connectomebench.sources.cave.jobs import load_surveys
from connectomebench.sources.cave.survey import Survey, pack_surveys
from connectomebench.sources.cave.survey_index import SurveyIndex


def stored(
    path: Path, *surveys: Survey, without: dict[int, str] | None = None, failed: dict[int, str] | None = None
) -> Path:
    texts = {"without": np.array(json.dumps(without or {})), "failed": np.array(json.dumps(failed or {}))}
    np.savez(path, allow_pickle=False, **pack_surveys(surveys), **texts)
    return path


def test_every_edited_segment_is_looked_at_just_before_an_edit_when_it_existed(
    archive: Archive, ground: Ground
) -> None:
    """Two edits of one segment may lie apart: the survey nearest to the place is taken, of any time it existed."""
    own = {j.operation.operation_id: j.operation for j in archive.history.judged}
    for edit in own.values():
        for segment in edit.roots_before:
            state = archive.survey_index.state(segment, edit.place_nm)
            assert not state.final
            assert state.survey.operation_id == edit.operation_id
            assert archive.time_of(segment, edit.place_nm) == edit.before
            found = state.root_of(state.survey.supervoxels)
            members = state.survey.supervoxels[found == np.uint64(segment)]
            assert len(members)
            assert (ground.lookup(members, edit.before) == np.uint64(segment)).all()


def test_a_neighbour_is_looked_at_in_the_survey_that_knows_it(archive: Archive, ground: Ground) -> None:
    times = {j.operation.operation_id: j.operation.before for j in archive.history.judged}
    for _, group in archive.survey_index.files():
        for survey in group.surveys:
            for segment in survey.segments.tolist():
                state = archive.survey_index.state(segment, survey.center_nm)
                assert segment in state.survey.segments and not state.final
                assert state.survey.center_nm == survey.center_nm
                assert (ground.segments(times[state.survey.operation_id]) == np.uint64(segment)).any()


def test_a_final_root_is_looked_at_in_the_final_state(archive: Archive, ground: Ground) -> None:
    seen = {int(s) for survey in archive.survey_index.light() for s in survey.segments}
    ends = {b: j for j in archive.history.judged for b in j.bodies if b not in seen}
    assert len(ends) > 5
    for body, judged in ends.items():
        place = judged.operation.place_nm
        state = archive.survey_index.state(body, place)
        assert state.final and archive.time_of(body, place) == archive.spec.until
        assert state.survey.center_nm == place
        members = state.survey.supervoxels[state.root_of(state.survey.supervoxels) == np.uint64(body)]
        assert len(members) and (ground.lookup(members, archive.spec.until) == np.uint64(body)).all()


def test_of_several_times_one_is_taken_at_which_both_segments_existed(archive: Archive, ground: Ground) -> None:
    times = {j.operation.operation_id: j.operation.before for j in archive.history.judged}
    differs = 0
    for survey in archive.survey_index.light():
        for pair, place in zip(survey.contacts.segments.tolist(), survey.contacts.points_nm.tolist(), strict=True):
            for segment, other in (pair, pair[::-1]):
                state = archive.survey_index.state(segment, tuple(place), [other])
                then = ground.segments(times[state.survey.operation_id])
                assert np.isin(np.asarray(pair, np.uint64), then).all()
                alone = archive.survey_index.state(segment, tuple(place))
                differs += alone.survey.operation_id != state.survey.operation_id
    assert differs


def test_roots_of_supervoxels_outside_the_survey_are_asked_for(archive: Archive, ground: Ground) -> None:
    edit = archive.history.judged[0].operation
    nothing = np.zeros(1, np.uint64)
    every = np.concatenate([nothing, ground.truth.table["supervoxel_id"]])
    root_of = archive.lookup(edit.roots_before[0], edit.place_nm)
    expected = np.concatenate([nothing, ground.segments(edit.before)])
    np.testing.assert_array_equal(root_of(every), expected)


def test_the_state_says_nothing_of_what_it_did_not_see(archive: Archive) -> None:
    edit = archive.history.judged[0].operation
    state = archive.survey_index.state(edit.roots_before[0], edit.place_nm)
    largest = int(state.survey.supervoxels.max())
    strange = np.asarray([0, 1, largest + 1, 2**64 - 1], np.uint64)
    assert state.root_of(strange).tolist() == [0, 0, 0, 0]


def test_of_several_surveys_the_nearest_one_is_taken_and_the_own_one_for_skeletons(
    archive: Archive, tmp_path: Path
) -> None:
    first = archive.survey_index.of_operation(1)
    assert first is not None
    segment = first.sides[0]
    x, y, z = first.center_nm
    # a neighbour of an earlier edit, and the segment's own edit further on
    earlier = replace(first, operation_id=901, sides=(7, 8), center_nm=(x + 5000, y, z))
    paths = [stored(tmp_path / "a.npz", earlier), stored(tmp_path / "b.npz", first)]
    index = SurveyIndex(paths)
    assert len(index) == 2
    near, far = index.state(segment, (x + 100, y, z)), index.state(segment, (x + 4000, y, z))
    assert (near.survey.operation_id, far.survey.operation_id) == (1, 901)
    own, neighbour = index.of_segment(segment), index.of_segment(first.segments[-1].item())
    assert own is not None and own.operation_id == 1
    assert neighbour is not None and index.of_segment(123) is None
    center = index.center_of(segment)
    assert center is not None and tuple(center) == first.center_nm
    operation = index.of_operation(901)
    assert operation is not None and operation.center_nm == earlier.center_nm and index.of_operation(2) is None


def test_reasons_are_kept(archive: Archive, tmp_path: Path) -> None:
    first = archive.survey_index.of_operation(1)
    assert first is not None
    a = stored(tmp_path / "a.npz", first, without={5: "the edit lies outside the volume"})
    b = stored(tmp_path / "b.npz", failed={6: "roots: the server answered 500"})
    index = SurveyIndex([a, b])
    assert index.without == {5: "the edit lies outside the volume"}
    assert index.failed == {6: "roots: the server answered 500"}
    assert [(path, len(found.surveys)) for path, found in index.files()] == [(a, 1), (b, 0)]


def test_without_a_survey_no_place_can_be_looked_at(tmp_path: Path) -> None:
    index = SurveyIndex([stored(tmp_path / "a.npz")])
    assert len(index) == 0 and load_surveys(tmp_path / "a.npz").surveys == []
    with pytest.raises(SiteUnavailable, match="not surveyed"):
        index.state(1, (0.0, 0.0, 0.0))
    assert index.center_of(1) is None


def test_light_surveys_lack_only_what_is_large(archive: Archive) -> None:
    for light in archive.survey_index.light():
        whole = archive.survey_index.of_operation(light.operation_id)
        assert whole is not None
        assert not len(light.supervoxels) and not light.skeletons
        assert light.sides == whole.sides and light.center_nm == whole.center_nm
        np.testing.assert_array_equal(light.overlaps, whole.overlaps)
        np.testing.assert_array_equal(light.contacts.points_nm, whole.contacts.points_nm)
