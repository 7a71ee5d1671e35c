"""Places as text: one form, read back as written, and nodes listed in questions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.places import MOST_PLACES, PlaceAnswer, list_nodes, nodes_in, read_places, write_places
from connectomebench.core.tasks import get_task
from connectomebench.models.reply_parsing import parse_answer

whole = st.integers(-(10**7), 10**7).map(float)
point = st.tuples(whole, whole, whole)
place = st.one_of(st.integers(1, 9999), point)
side = st.lists(place, min_size=1, max_size=MOST_PLACES).map(tuple)


@settings(max_examples=80, deadline=None)
@given(answer=st.one_of(place.map(lambda one: PlaceAnswer((one,))), st.builds(PlaceAnswer, side, side)))
def test_what_is_written_is_read_back_and_parsed_to_itself(answer: PlaceAnswer) -> None:
    text = write_places(answer)
    assert read_places(text) == answer
    task = get_task("split_proposal" if answer.sinks else "endpoint_localization")
    assert parse_answer(f"<answer>{text}</answer>", task) == text


@settings(max_examples=80, deadline=None)
@given(text=st.text(alphabet="0123456789()[];=,. -sourceinkd", max_size=40))
def test_nothing_else_is_read(text: str) -> None:
    answer = read_places(text)
    assert answer is None or write_places(answer) == text or "+" in text or "0" in text


@pytest.mark.parametrize(
    "text", [None, "", "1, 2", "(1, 2, 3)", "1,2,3", "sources=[];sinks=[node 1]", "sources=[node 1]", "node 12345", "7"]
)
def test_other_forms_are_not_read(text: str | None) -> None:
    assert read_places(text) is None


def test_a_side_has_a_largest_number_of_places() -> None:
    most = ", ".join(f"node {n + 1}" for n in range(MOST_PLACES))
    assert read_places(f"sources=[{most}];sinks=[node 1]") is not None
    assert read_places(f"sources=[{most}, node 99];sinks=[node 1]") is None


@settings(max_examples=60, deadline=None)
@given(nodes=st.lists(point, min_size=1, max_size=12), center=point)
def test_listed_nodes_are_found_in_the_question(nodes: list[tuple[float, float, float]], center: tuple) -> None:
    question = f"Where is 3: (1, 2, 3) wrong?\nNodes:\n{list_nodes(nodes, center)}\nAnswer 7: never."
    found = nodes_in(question)
    assert list(found) == list(range(1, len(nodes) + 1))
    for number, node in enumerate(nodes, 1):
        assert found[number] == tuple(a - b for a, b in zip(node, center, strict=True))


def test_numbers_of_nodes_become_points() -> None:
    nodes = {1: (0.0, 0.0, 0.0), 2: (5.0, 0.0, 0.0)}
    answer = PlaceAnswer((2, (1.0, 1.0, 1.0)), (1,))
    assert answer.points(nodes) == PlaceAnswer(((5.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((0.0, 0.0, 0.0),))
    assert PlaceAnswer((3,)).points(nodes) is None
