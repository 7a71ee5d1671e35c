"""What replies are worth: bounds, the truth, distances, and confidences that pay when they are honest."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import PlaceAnswer, write_places
from connectomebench.core.tasks import TASKS
from connectomebench.finetuning.rewards import (
    REWARD_COLUMNS,
    REWARDS,
    calibration_reward,
    distance_reward,
    exact_reward,
    format_reward,
    make_rewards,
    place_reward,
    whole_replies,
)
from connectomebench.models.confidence import parse_confidence
from connectomebench.models.prompt import completion

PLACES = {"point": 1, "points": 2}
# a mask cannot be written as words
IN_WORDS = tuple(name for name, task in TASKS.items() if task.scoring != "masks")
coordinate = st.integers(-(10**6), 10**6).map(float)
place = st.tuples(coordinate, coordinate, coordinate)


@st.composite
def rows(draw: st.DrawFn, names: tuple[str, ...] = IN_WORDS) -> dict[str, Any]:
    task = TASKS[draw(st.sampled_from(names))]
    if task.labels:
        return row_of(task.name, draw(st.sampled_from(task.labels)))
    return place_row(task.name, *(draw(place) for _ in range(PLACES[task.answer_kind])))


def row_of(task: str, answer: str, target_nm: Any = ()) -> dict[str, Any]:
    return {
        "task": task,
        "question": "Which?",
        "answer": answer,
        "target_nm": [list(one) for one in target_nm],
        "location_nm": [1000.0, -50.0, 7.0],
        "extent_nm": 8000.0,
    }


def place_row(task: str, *places: Any) -> dict[str, Any]:
    """A row whose true places are these, relative to the centre of its views."""
    answer = write_places(PlaceAnswer(tuple(places[:1]), tuple(places[1:])))
    row = row_of(task, answer)
    row["target_nm"] = [[a + b for a, b in zip(one, row["location_nm"], strict=True)] for one in places]
    return row


def worth(reward: Any, reply: str, row: dict[str, Any], **options: float) -> float | None:
    """Call a reward as TRL does: lists of replies and columns, and more that it may ignore."""
    columns = {name: [value] for name, value in row.items()}
    replies = [[{"role": "assistant", "content": reply}]]
    (value,) = reward(completions=replies, prompts=[[]], completion_ids=[[1]], trainer_state=None, **columns, **options)
    return value


def at(*places: Any) -> str:
    return "<answer>" + "; ".join(", ".join(str(number) for number in one) for one in places) + "</answer>"


replies = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                "<answer>",
                "</answer>",
                "yes",
                "no",
                "a",
                "1, 2, 3",
                "; ",
                "<confidence>",
                "</confidence>",
                "0.7",
                "9",
                " ",
            ]
        ),
        max_size=9,
    ).map("".join),
    st.lists(place, min_size=1, max_size=2).map(lambda places: at(*places)),
)


@given(reply=replies, row=rows())
@settings(max_examples=80, deadline=None)
def test_every_reward_is_between_0_and_1(reply: str, row: dict[str, Any]):
    for name, reward in REWARDS.items():
        value = worth(reward, reply, row)
        silent = name in ("distance", "place") if TASKS[row["task"]].labels else name == "calibration"
        assert value is None if silent else isinstance(value, float) and 0 <= value <= 1


@given(row=rows(), confidence=st.sampled_from(["1", "1.0"]))
@settings(max_examples=60, deadline=None)
def test_the_truth_is_worth_1(row: dict[str, Any], confidence: str):
    reply = f"<confidence>{confidence}</confidence> {completion(row)}\n"
    assert all(worth(reward, reply, row) in (1.0, None) for reward in REWARDS.values())


@given(row=rows(tuple(name for name, task in TASKS.items() if task.labels)), data=st.data())
@settings(max_examples=60, deadline=None)
def test_another_label_is_worth_nothing(row: dict[str, Any], data: st.DataObject):
    other = data.draw(st.sampled_from([label for label in TASKS[row["task"]].labels if label != row["answer"]]))
    reply = f"It is {row['answer']}. <answer>{other}</answer>"
    assert (worth(exact_reward, reply, row), worth(format_reward, reply, row)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("reply", "sound"),
    [
        ("<answer>yes</answer>", True),
        ("They meet end to end.\n<answer>no</answer>\n", True),
        ("yes", False),
        ("<answer>yes", False),
        ("<answer>perhaps</answer>", False),
        ("<answer>yes</answer> I am sure.", False),
        ("<answer>no</answer><answer>yes</answer>", False),
        ("<answer><answer>yes</answer>", False),
        ("<Answer>yes</Answer>", False),
        ("</answer>yes<answer>", False),
        ("< answer >no</answer><answer>yes</answer>", False),
    ],
)
def test_form(reply: str, sound: bool):
    row = row_of("merge_action", "yes")
    assert worth(format_reward, reply, row) == float(sound)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("<answer>yes</answer> I am sure.", True),
        ("<answer>no</answer><answer>Yes</answer>", True),
        ("yes", False),
        ("<answer>yes", False),
        ("<answer>perhaps</answer>", False),
        ("<answer>yes</answer><answer>no</answer>", False),
    ],
)
def test_exact_reads_as_the_evaluation_does(reply: str, right: bool):
    row = row_of("merge_action", "yes")
    assert worth(exact_reward, reply, row) == float(right)


@given(row=rows(("endpoint_localization", "split_proposal")), data=st.data())
@settings(max_examples=100, deadline=None)
def test_nearer_places_are_worth_more(row: dict[str, Any], data: st.DataObject):
    truth = [[a - b for a, b in zip(one, row["location_nm"], strict=True)] for one in row["target_nm"]]
    moved = data.draw(st.integers(0, len(truth) - 1))
    axis = data.draw(st.integers(0, 2))
    near, far = sorted(data.draw(st.lists(st.integers(1, 3000), min_size=2, max_size=2, unique=True)))
    # away from all true places, so that every distance grows
    side = 1 if truth[moved][axis] >= max(one[axis] for one in truth) else -1

    def reply(distance: int) -> str:
        places = [list(one) for one in truth]
        places[moved][axis] += side * distance
        return at(*places)

    values = [worth(distance_reward, reply(d), row) for d in (0, near, far)]
    assert values[0] == 1.0 > values[1] > values[2] > 0
    share = 1 / len(truth)
    if len(truth) == 1:
        assert values[1] == pytest.approx(math.exp(-near / 1000))
    assert values[2] >= 1 - share


@given(first=place, second=place, given_first=place, given_second=place, scale=st.floats(1, 1e6))
@settings(max_examples=80, deadline=None)
def test_source_and_sink_may_change_places(first: Any, second: Any, given_first: Any, given_second: Any, scale: float):
    row = place_row("split_proposal", first, second)
    swapped = place_row("split_proposal", second, first)
    values = {
        worth(distance_reward, at(*order), one, scale_nm=scale)
        for order in ((given_first, given_second), (given_second, given_first))
        for one in (row, swapped)
    }
    assert max(values) == pytest.approx(min(values))


def test_the_best_match_counts_and_the_scale_is_in_nm():
    row = place_row("split_proposal", (0, 0, 0), (5000, 0, 0))
    # 300 and 500 nm away, named in the other order
    reply = at((5000, 300, 0), (0, 300, 400))
    expected = (math.exp(-0.3) + math.exp(-0.5)) / 2
    assert worth(distance_reward, reply, row) == pytest.approx(expected)
    assert worth(distance_reward, reply, row, scale_nm=500.0) == pytest.approx((math.exp(-0.6) + math.exp(-1)) / 2)
    # one place named twice is worth one place
    assert worth(distance_reward, at((0, 0, 0), (0, 0, 0)), row, scale_nm=10.0) == pytest.approx(0.5)
    # linear from 500 nm on
    assert worth(place_reward, reply, row) == 1.0
    assert worth(place_reward, at((0, 1250, 0), (5000, 2000, 0)), row) == pytest.approx(0.25)
    for unread in ("<answer>0, 0, 0</answer>", "<answer>yes</answer>", "0, 0, 0; 5000, 0, 0"):
        assert worth(distance_reward, unread, row) == worth(place_reward, unread, row) == 0.0


def test_nodes_are_worth_what_their_places_are():
    row = place_row("endpoint_localization", (0, 0, 0)) | {"question": "Where?\n1: (0, 1250, 0)\n2: (0, 0, 0)"}
    assert worth(place_reward, "<answer>node 1</answer>", row) == 0.5
    assert worth(place_reward, "<answer>2</answer>", row) == 1.0
    assert worth(distance_reward, "<answer>1</answer>", row) == pytest.approx(math.exp(-1.25))
    assert worth(place_reward, "<answer>node 3</answer>", row) == 0.0


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("<confidence>0.8</confidence>", 0.8),
        ("<confidence> 1 </confidence>", 1.0),
        ("<confidence>.25</confidence>", 0.25),
        ("<confidence>1.01</confidence>", None),
        ("<confidence>80%</confidence>", None),
        ("<confidence>-0.1</confidence>", None),
        ("<confidence>nan</confidence>", None),
        ("<confidence>0.2</confidence><confidence>0.9</confidence>", None),
        ("<confidence>0.2</confidence><confidence>high</confidence>", None),
        ("0.8", None),
    ],
)
def test_a_confidence_is_worth_what_it_is_read_as(reply: str, value: float | None):
    assert parse_confidence(reply) == value
    row = row_of("merge_action", "yes")
    expected = 0.0 if value is None else 1 - (value - 1) ** 2
    assert worth(calibration_reward, reply + "<answer>yes</answer>", row) == pytest.approx(expected)


def test_confidence_without_an_answer_is_worth_nothing():
    row = row_of("merge_action", "yes")
    assert worth(calibration_reward, "<confidence>0</confidence>", row) == 0.0
    assert worth(calibration_reward, "<answer>yes</answer>", row) == 0.0
    assert worth(calibration_reward, "<confidence>0</confidence><answer>no</answer>", row) == 1.0


def expected_worth(stated: float, probability: float, weight: float = 0.0) -> float:
    """What a stated confidence is worth on average where the answer `yes` is right with a probability."""
    reply = f"<confidence>{stated:.6f}</confidence><answer>yes</answer>"
    truths = (("yes", probability), ("no", 1 - probability))
    total = 0.0
    for answer, chance in truths:
        row = row_of("merge_action", answer)
        exact, calibration = worth(exact_reward, reply, row), worth(calibration_reward, reply, row)
        assert exact is not None and calibration is not None
        total += chance * (weight * exact + calibration)
    return total


@given(probability=st.floats(0, 1), stated=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_the_true_probability_is_worth_most(probability: float, stated: float):
    honest = expected_worth(probability, probability)
    assert honest + 1e-9 >= expected_worth(stated, probability)
    # a proper score: what is lost is the square of the error
    assert honest - expected_worth(stated, probability) == pytest.approx((stated - probability) ** 2, abs=1e-5)


@given(first=st.floats(0, 1), second=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_with_exact_the_more_probable_answer_is_worth_more(first: float, second: float):
    low, high = sorted((first, second))
    assert expected_worth(high, high, weight=1) + 1e-5 >= expected_worth(low, low, weight=1)


def test_rewards_of_a_batch_stay_in_their_order():
    rows = [
        row_of("merge_action", "yes"),
        place_row("endpoint_localization", (10, 20, 30)),
        row_of("segment_classification", "d"),
    ]
    columns = {name: [row[name] for row in rows] for name in REWARD_COLUMNS}
    texts = ["<answer>no</answer>", "<answer>10, 20, 30</answer>", "<answer>D</answer>"]
    turns = [[{"role": "assistant", "content": text}] for text in texts]
    assert exact_reward(turns, **columns) == [0.0, 1.0, 1.0]
    assert distance_reward(turns, **columns) == place_reward(turns, **columns) == [None, 1.0, None]


def test_rewards_are_chosen_for_a_task():
    functions, weights = make_rewards(["exact", "format", "calibration"], [1, 0.2, 0.5], TASKS["merge_action"])
    assert functions == [exact_reward, format_reward, calibration_reward] and weights == [1.0, 0.2, 0.5]
    functions, weights = make_rewards(["distance"], None, TASKS["endpoint_localization"], scale_nm=500)
    row = place_row("endpoint_localization", (0, 0, 0))
    assert worth(functions[0], at((500, 0, 0)), row) == pytest.approx(math.exp(-1)) and weights == [1.0]


def test_a_reply_that_was_cut_is_worth_nothing_whatever_it_says():
    row = {"task": ["merge_action"] * 3, "answer": ["yes"] * 3, "target_nm": [[]] * 3}
    turns = [[{"role": "assistant", "content": "<confidence>0</confidence><answer>yes</answer>"}]] * 3
    for reward, ended, cut in ((exact_reward, 1, 0), (format_reward, 1, 0), (calibration_reward, 0, 0)):
        whole = whole_replies(reward, {7, 8})
        assert whole(completions=turns, completion_ids=[[1, 7], [7, 1], []], **row) == [ended, cut, cut]
        assert whole.__name__ == reward.__name__
    [distance] = make_rewards(["distance"], None, TASKS["endpoint_localization"])[0]
    assert whole_replies(distance, {7}).__name__ == "distance_reward"


@pytest.mark.parametrize(
    ("names", "weights", "task", "scale", "message"),
    [
        (["exakt"], None, "merge_action", 1000, "exact"),
        ([], None, "merge_action", 1000, "one at least"),
        (["exact", "exact"], None, "merge_action", 1000, "each reward once"),
        (["exact"], [1, 2], "merge_action", 1000, "weight"),
        (["exact"], [0], "merge_action", 1000, "weight"),
        (["exact"], [float("nan")], "merge_action", 1000, "weight"),
        (["distance"], None, "split_proposal", 0, "scale"),
        (["distance"], None, "merge_action", 1000, "leave out the distance"),
        (["exact", "calibration"], None, "split_proposal", 1000, "leave out the calibration"),
        (["calibration"], None, "merge_action", 1000, "needs exact with"),
        (["exact", "calibration"], [0.5, 1], "merge_action", 1000, "needs exact with"),
    ],
)
def test_rewards_that_do_not_fit_are_refused(names: Any, weights: Any, task: str, scale: float, message: str):
    with pytest.raises(ConnectomeBenchError, match=message):
        make_rewards(names, weights, TASKS[task], scale)
