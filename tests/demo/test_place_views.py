"""Answers that are places or masks in the demo: shown, read and scored, without a browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from place_rows import EXTENT, HIDDEN, NODES, partition_place_rows, place_row
from stored_rows import write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import encode_masks, stored_masks
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.demo.answer_scores import recorded_score, visitor_score
from connectomebench.demo.html import models_table
from connectomebench.demo.place_views import (
    GIVEN,
    TRUE,
    drawn_nodes,
    node_list,
    place_pictures,
    place_words,
    read_typed,
    right_places,
)
from connectomebench.demo.recorded_answers import RecordedAnswer, RecordedAnswers
from connectomebench.demo.sample_answers import answered_html, asked_html, models_masks, read_answer, verdict_html
from connectomebench.demo.stored_samples import StoredSamples, open_samples
from connectomebench.demo.visitor_state import VisitorState
from connectomebench.models.node_probe import node_positions

PLACE, CUT, MASKS = ("endpoint_localization", "fly"), ("split_proposal", "fly"), ("split_mask_generation", "fly")
LOOP = json.dumps({"front": [[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]]})


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> StoredSamples:
    out = tmp_path_factory.mktemp("places")
    for task, _ in (PLACE, CUT):
        write_dataset(out, task, rows=partition_place_rows(task))
    write_dataset(out, MASKS[0])
    return open_samples(out)


def first(samples: StoredSamples, key: tuple[str, str]) -> int:
    return samples.shown(key)[0]


@pytest.mark.parametrize(
    ("task", "typed", "stored", "score"),
    [
        ("endpoint_localization", "node 2", "node 2", 1.0),
        ("endpoint_localization", " #2 ", "node 2", 1.0),
        ("endpoint_localization", "520, -450, 300", "520, -450, 300", 1.0),
        ("endpoint_localization", "node 3", "node 3", 0.0),
        # half way between full credit at 200 nm and none at 800 nm
        ("endpoint_localization", "(1020, -450, 300) nm", "1020, -450, 300", 0.5),
        ("split_proposal", "node 3; node 2", "sources=[node 3];sinks=[node 2]", 1.0),
        ("split_proposal", "source: 2, sink: 4", "sources=[node 2];sinks=[node 4]", 0.5),
    ],
)
def test_what_is_chosen_or_typed_is_read_and_scored(samples, task, typed, stored, score) -> None:
    key = (task, "fly")
    number = first(samples, key)
    given = read_answer(samples, key, number, typed)
    assert given == stored and visitor_score(samples, key, number, given) == pytest.approx(score)
    visit = VisitorState(key, 1, {key: 0}).answer(samples, given)
    assert visit.score(samples, RecordedAnswers())[0].startswith(
        f"You: mean score {score:.2f}; {int(score)} of 1 right"
    )


@pytest.mark.parametrize(
    ("task", "typed", "words"),
    [
        ("endpoint_localization", "", "choose a node, or type a place, such as"),
        ("endpoint_localization", "node 2; node 3", "choose a node, or type a place"),
        ("endpoint_localization", "node 9", "there is no such node here; they have the numbers 1 to 4"),
        ("endpoint_localization", "</answer>node 2", "choose a node"),
        ("endpoint_localization", "2" * 500, "choose a node"),
        ("split_proposal", "node 2", "choose a node on either side of the cut"),
    ],
)
def test_what_is_no_answer_gets_one_line(task: str, typed: str, words: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        read_typed(typed, place_row(1, task))
    assert "\n" not in str(caught.value)


def test_nodes_are_chosen_where_they_are_drawn() -> None:
    row = place_row(3)
    files = [image["bytes"] for image in row["images"]]
    for view, file in zip(MESH_VIEWS, files, strict=True):
        shares = node_positions(np.array(NODES), EXTENT, view)
        assert [i + 1 for i in np.flatnonzero(drawn_nodes(file, shares))] == [
            n for n in (1, 2, 3, 4) if (view, n) != ("top", HIDDEN)
        ]
        # beside the dots there is none, in particular not in the blue of the segment
        assert not drawn_nodes(file, np.array([[0.42, 0.02], [1.2, 0.5]])).any()
    html = str(place_pictures(row, files))
    assert 'data-wanted="1"' in html and html.count('data-seen="[1, 2, 3, 4]"') == 2 and "[1, 2, 4]" in html
    assert json.loads(re.findall('data-nodes="([^"]*)"', html)[0].replace("&#34;", '"'))["2"] == list(NODES[1])
    frame = json.loads(re.findall('data-frame="([^"]*)"', html)[1])
    at = np.array(frame) @ np.array(NODES).T + 0.5
    assert pytest.approx(node_positions(np.array(NODES), EXTENT, "side")) == at.T
    listed = str(node_list(row))
    assert listed.count("cb-node") == 5 and "Node 2: x 500, y -450, z 300 nm" in listed


def test_nothing_of_the_answer_is_shown_before_it(samples: StoredSamples) -> None:
    number = first(samples, PLACE)
    row = samples.row(PLACE, number)
    before = str(asked_html(samples, PLACE, number))
    assert row["answer"] not in before and "520" not in before and "cb-mark-true" not in before
    assert "Within 200 nm of a right place the score is 1, from 800 nm on 0" in before
    after = str(answered_html(samples, PLACE, number, "node 4"))
    assert "data-nodes" not in after
    x, y = (100 * c for c in node_positions(np.array(right_places(row)), EXTENT, "front")[0])
    assert f'<circle class="cb-mark-true" cx="{x:.2f}" cy="{y:.2f}"' in after and after.count("cb-mark-given") == 4
    assert "Score 0.00 of 1. The right place is (520, -450, 300) nm, nearest to node 2" in verdict_html(row, 0.0)
    assert place_words(samples.row(CUT, first(samples, CUT))["answer"], row).endswith("nearest to node 3")
    assert str(place_pictures(row, samples.pictures(PLACE, number), [(GIVEN, []), (TRUE, [])])).count("circle") == 0


def test_models_of_places_and_masks_have_scores(samples: StoredSamples) -> None:
    number = first(samples, PLACE)
    row = samples.row(PLACE, number)
    said = RecordedAnswer("probe", "node 2", None, 0.75, False, None)
    found = RecordedAnswers(by_sample={(*PLACE, row["sample_id"]): (said,)})
    table = str(models_table(found, row))
    assert "node 2" in table and "0.75" in table and "Probability" not in table
    number = first(samples, MASKS)
    row = samples.row(MASKS, number)
    true = encode_masks(stored_masks(row["views"], samples.masks(MASKS, number)))
    assert recorded_score(MASKS[0], true, true) == 1.0 and recorded_score(MASKS[0], None, true) < 0.5
    own = RecordedAnswer("mask_unet", true, None, 1.0, True, None)
    table = str(models_table(RecordedAnswers(by_sample={(*MASKS, row["sample_id"]): (own,)}), row))
    assert "masks" in table and true[:40] not in table
    assert str(models_masks(samples, MASKS, number, [own])).count("<img") == 3


def test_loops_become_masks_that_are_scored_by_their_overlap(samples: StoredSamples) -> None:
    number = first(samples, MASKS)
    assert "cb-loops" in asked_html(samples, MASKS, number)
    given = read_answer(samples, MASKS, number, LOOP)
    assert 0 < visitor_score(samples, MASKS, number, given) < 1
    row = samples.row(MASKS, number)
    true = encode_masks(stored_masks(row["views"], samples.masks(MASKS, number)))
    assert visitor_score(samples, MASKS, number, true) == 1.0
    assert str(answered_html(samples, MASKS, number, given)).count("<img") == 6
    assert "Overlap 0.62 of 1" in verdict_html(row, 0.62)
    for text, words in (("", "draw a loop"), ("{}", "draw one"), ('{"back": [[[0,0],[1,0],[1,1]]]}', "draw one")):
        with pytest.raises(ConnectomeBenchError, match=words):
            read_answer(samples, MASKS, number, text)
