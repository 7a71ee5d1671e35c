"""What all steps know of a task: views, question, classes of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectomebench.core.site import Part, SecondPlace, Site
from connectomebench.core.tasks import MESH_VIEWS, NONE, TASKS, candidate_view, get_task

CHOICE = "merge_action_multiple_choice"
SITE = Site(
    "merge_action", (1.0, 2.0, 3.0), 500.0, (Part(7, "base"), Part(9, "candidate")), "yes", (7, 9), (1, 1), "edit"
)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_answer_has_a_class_and_a_count(name: str) -> None:
    task = get_task(name)
    assert (task.scoring in ("places", "masks")) == (not task.labels) == (task.balance == "free")
    classes = {task.class_of(label) for label in task.labels}
    if task.answer_kind == "yes_no":
        assert classes == {"no", "yes"} and task.is_case("yes") and not task.is_case("no")
    elif task.has_candidates:
        assert classes == {"choice", NONE} and task.is_case("a") and not task.is_case(NONE)
    elif task.labels:
        assert classes == set(task.labels)
    else:
        assert task.class_of("1, 2, 3") == "" and task.counted_as("1, 2, 3") == "any" and task.is_case("1, 2, 3")
    assert all(task.counted_as(label) == label for label in task.labels)


def test_a_choice_has_the_views_and_the_letters_that_there_are() -> None:
    task = get_task(CHOICE)
    for n in (1, 2, 3, 4):
        views = task.views_of(n)
        assert len(views) == 3 * n == len(set(views))
        assert [candidate_view(view) for view in views] == [(a, v) for a in "abcd"[:n] for v in MESH_VIEWS]
        asked = task.ask(n)
        assert f"Answer {', '.join('abcd'[:n])} or none." in asked
        assert ("each" in asked) == (n > 1)
    assert task.ask(4) != task.question
    assert get_task("merge_action").views_of(0) == MESH_VIEWS == get_task("merge_action").views
    assert get_task("merge_action").ask() == get_task("merge_action").question


def test_the_name_of_a_sample_depends_on_what_is_shown_and_never_on_the_answer() -> None:
    # names of samples that are published stay as they are
    assert SITE.sample_id("fly", "cube@1") == "b62107c22556580b"
    name = SITE.sample_id("fly", "cube@1")
    second = SecondPlace(9, (5.0, 5.0, 5.0), 300.0, (0.0, 0.0, 1.0))
    hidden = [replace(SITE, answer="no"), replace(SITE, target_nm=((1.0, 1.0, 1.0),)), replace(SITE, edit_id="x")]
    shown = [
        replace(SITE, nodes_nm=((1.0, 1.0, 1.0),)),
        replace(SITE, nodes_nm=((1.0, 1.0, 2.0),)),
        replace(SITE, second=second),
        replace(SITE, second=replace(second, extent_nm=301.0)),
        replace(SITE, parts=(*SITE.parts, Part(11, "candidate"))),
    ]
    assert {one.sample_id("fly", "cube@1") for one in hidden} == {name}
    assert len({one.sample_id("fly", "cube@1") for one in shown} | {name}) == len(shown) + 1


def test_a_site_knows_its_views_question_and_places() -> None:
    site = replace(SITE, task=CHOICE, answer=NONE, choices=(9,))
    assert site.views == ("a_front", "a_side", "a_top") and site.answer_class == NONE and not site.is_case
    assert "one candidate (orange; a)" in site.asked and replace(site, question="Which?").asked == "Which?"
    assert site.places == ((site.location_nm, 500.0),)
    second = SecondPlace(9, (5.0, 5.0, 5.0), 300.0, (0.0, 0.0, 1.0))
    assert replace(site, second=second).places[1] == ((5.0, 5.0, 5.0), 300.0)
