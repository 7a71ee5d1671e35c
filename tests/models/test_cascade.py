"""Two models one after the other, and the threshold between them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.cascade_threshold import choose_threshold, deferred_rows
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.runner import evaluate_model
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.models.base import Answer, Batch
from connectomebench.models.cascade import Cascade


def said(yes: float, **more: Any) -> Answer:
    return Answer("yes" if yes >= 0.5 else "no", {"no": 1 - yes, "yes": yes}, **more)


@dataclass
class Fixed:
    """Gives one answer to each question, and keeps what it was asked."""

    answers: dict[str, Answer]
    name: str = "fixed"
    revision: str = "1"
    pause_s: float = 0.0
    asked: list[list[str]] = field(default_factory=list)
    most: int = 0
    _now: int = 0

    def predict(self, batch: Batch) -> list[Answer]:
        self._now += 1
        self.most = max(self.most, self._now)
        time.sleep(self.pause_s)
        self.asked.append(list(batch["question"]))
        self._now -= 1
        return [self.answers[question] for question in batch["question"]]


def batch(questions: str) -> dict[str, list[Any]]:
    return {"question": list(questions), "views": [[q] for q in questions]}


FIRST = {
    "a": said(0.95),
    "b": said(0.6),
    "c": Answer(None, {}, reply="hm"),
    "d": said(0.1),
    "e": Answer("yes", {}),
    "f": said(0.9),
    "g": Answer(None, {"no": 0.05, "yes": 0.95}),
}
SECOND = {question: replace(said(0.2), reply=f"no to {question}", question=f"{question}?") for question in FIRST}


def test_only_unsure_rows_are_sent_on_in_order() -> None:
    first, second = Fixed(FIRST), Fixed(SECOND, "second")
    answers = Cascade(first, second, 0.9).predict(batch("abcdefg"))
    assert second.asked == [["b", "c", "e", "g"]]
    assert [answer.reply for answer in answers] == [None, "no to b", "no to c", None, "no to e", None, "no to g"]
    assert [answers[i] for i in (0, 3, 5)] == [replace(FIRST[q], cost_usd=0.0) for q in "adf"]
    assert answers[1].probabilities == SECOND["b"].probabilities and answers[1].question == "b?"
    assert answers[1].votes == ("yes", "no") and answers[1].replies == ("", "no to b")
    assert answers[2].votes == (None, "no") and answers[2].replies == ("hm", "no to c")


def test_where_all_are_sure_the_second_is_not_asked() -> None:
    second = Fixed(SECOND, "second")
    Cascade(Fixed(FIRST), second, 0.9).predict(batch("adf"))
    assert second.asked == []


def test_votes_of_the_second_are_kept() -> None:
    voted = said(2 / 3, reply="y", votes=("yes", "no", "yes"), replies=("y", "n", "y"))
    (answer,) = Cascade(Fixed(FIRST), Fixed({"b": voted}), 0.9).predict(batch("b"))
    assert answer.votes == ("yes", "yes", "no", "yes") and answer.replies == ("", "y", "n", "y")


def test_tokens_seconds_and_costs_are_those_of_both() -> None:
    spent = {"latency_s": 1.5, "prompt_tokens": 100, "tokens": 10, "cost_usd": 0.5}
    twice = {name: 2 * value for name, value in spent.items()}
    (both,) = Cascade(Fixed({"b": said(0.6, **spent)}), Fixed({"b": said(1, **spent)}), 0.9, local_first=False).predict(
        batch("b")
    )
    assert {name: getattr(both, name) for name in spent} == twice
    (counted,) = Cascade(Fixed({"b": said(0.6)}), Fixed({"b": said(1, **spent)}), 0.9, local_first=False).predict(
        batch("b")
    )
    assert (counted.prompt_tokens, counted.tokens) == (100, 10)
    assert (counted.latency_s, counted.cost_usd) == (None, None)


def test_a_first_model_of_this_machine_costs_nothing_and_is_asked_by_one_thread() -> None:
    first = Fixed({"a": said(0.99), "b": said(0.6)}, pause_s=0.01)
    second = Fixed({"b": said(1, cost_usd=0.5)}, "second", pause_s=0.2)
    cascade = Cascade(first, second, 0.9)
    assert [answer.cost_usd for answer in cascade.predict(batch("ab"))] == [0.0, 0.5]
    begin = threading.Barrier(4)

    def ask(_: int) -> None:
        begin.wait()
        cascade.predict(batch("ab"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert first.most == 1 and second.most > 1


def test_name_and_revision_hold_both_models_and_the_threshold() -> None:
    first, second = Fixed({}, "probe", "1"), Fixed({}, "org/vl", "2")
    cascade = Cascade(first, second, 0.9)
    assert cascade.name == "probe-then-org/vl-below-0.9"
    others = [
        Cascade(first, second, 0.8),
        Cascade(second, first, 0.9),
        Cascade(replace(first, revision="3"), second, 0.9),
        Cascade(first, replace(second, revision="3"), 0.9),
    ]
    assert len({one.revision for one in [cascade, *others]}) == 5
    assert Cascade(first, second, 0.9).revision == cascade.revision


@pytest.mark.parametrize("below", [0.0, -1.0, 1.01, float("nan")])
def test_thresholds_that_make_no_sense(below: float) -> None:
    with pytest.raises(ConnectomeBenchError, match="must lie in"):
        Cascade(Fixed({}), Fixed({}), below)


def test_the_records_tell_what_was_sent_on(tmp_path: Path) -> None:
    rows = [row(number, ("yes", "no")[number % 2]) for number in range(4)]
    for number, one in enumerate(rows):
        one["question"] = "abdf"[number]
    read = ("sample_id", "task", "species", "question", "answer", "group")
    dataset = Dataset.from_list([{name: one[name] for name in read} for one in rows])
    cascade = Cascade(Fixed(FIRST), Fixed(SECOND, "second"), 0.9)
    path = evaluate_model(cascade, dataset, "test", "f", tmp_path / "test.parquet")
    records = read_results(path)
    assert deferred_rows(records).tolist() == [False, True, False, False]
    assert list(records["question"]) == ["a", "b?", "d", "f"]


# the threshold


def records(yes: np.ndarray, truth: np.ndarray, **columns: Any) -> pd.DataFrame:
    known = ~np.isnan(yes)
    values = {
        "sample_id": [f"s{number}" for number in range(len(yes))],
        "model": "m",
        "condition": "default",
        "task": "merge_action",
        "species": "fly",
        "partition": "validation",
        "dataset_fingerprint": "f",
        "prediction": np.where(known, np.where(yes >= 0.5, "yes", "no"), None),
        "probability": yes,
        "answer": truth,
        "group": [f"g{number // 2}" for number in range(len(yes))],
    }
    return pd.DataFrame(values | columns)


@pytest.fixture(scope="module")
def two() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A first model that knows when it is unsure, with four rows it gave no answer to, and a better second one."""
    random = np.random.default_rng(0)
    truth = np.where(random.random(80) < 0.3, "yes", "no")
    sure = random.integers(50, 101, 80) / 100
    right = random.random(80) < sure
    yes = np.where((truth == "yes") == right, sure, 1 - sure)
    yes[[3, 30, 60]] = np.nan
    second = np.where((truth == "yes") == (random.random(80) < 0.85), 0.9, 0.1)
    first = records(yes, truth)
    first.loc[40, "prediction"] = None  # with a probability all the same
    # another order, as records of another run may have
    return first, records(second, truth).sample(frac=1, random_state=0)


def test_the_curve_is_what_a_cascade_would_do(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    first, second = two
    chosen = choose_threshold(first, second)

    def model(frame: pd.DataFrame) -> Fixed:
        answers = {}
        for one in frame.to_dict("records"):
            yes = one["probability"]
            answer = Answer(None, {}) if np.isnan(yes) else said(yes)
            answers[one["sample_id"]] = answer if one["prediction"] else replace(answer, prediction=None)
        return Fixed(answers)

    ids, truth = list(first["sample_id"]), list(first["answer"])
    assert len(chosen.curve) > 20
    for point in chosen.curve:
        answers = Cascade(model(first), model(second), point.min_confidence).predict({"question": ids})
        assert point.share == pytest.approx(np.mean([bool(answer.votes) for answer in answers]))
        told = [answer.prediction or "" for answer in answers]
        assert point.balanced_accuracy == pytest.approx(balanced_accuracy(told, truth))
    shares = [point.share for point in chosen.curve]
    assert shares[0] == pytest.approx(4 / 80) and shares == sorted(set(shares)) and shares[-1] > 0.9


def test_the_best_point_that_is_allowed(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    free, tight = choose_threshold(*two), choose_threshold(*two, max_share=0.3)
    assert free.point.balanced_accuracy == max(point.balanced_accuracy for point in free.curve)
    allowed = [point for point in free.curve if point.share <= 0.3]
    assert tight.point in allowed and tight.point.balanced_accuracy == max(p.balanced_accuracy for p in allowed)
    assert free.point.share > 0.3
    assert free.balanced_accuracy.value == pytest.approx(free.point.balanced_accuracy)
    assert (free.balanced_accuracy.n, free.balanced_accuracy.n_groups) == (80, 40)
    assert free.balanced_accuracy.lower < free.balanced_accuracy.value < free.balanced_accuracy.upper


def test_of_equals_the_one_that_sends_on_least() -> None:
    truth = np.array(["yes", "no"] * 4)
    first = records(np.where(truth == "yes", 0.8, 0.3), truth)
    chosen = choose_threshold(first, first)
    assert chosen.point.share == 0 and chosen.point.min_confidence == 0.7
    assert [(point.min_confidence, point.share) for point in chosen.curve] == [(0.7, 0.0), (0.75, 0.5), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"partition": "test"}, "not all of the validation partition"),
        ({"dataset_fingerprint": "other"}, "different builds"),
        ({"sample_id": [f"t{number}" for number in range(80)]}, "different rows"),
        ({"condition": ["default", "generated"] * 40}, "hold 2 evaluations"),
    ],
)
def test_records_that_do_not_belong_together(
    two: tuple[pd.DataFrame, pd.DataFrame], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConnectomeBenchError, match=told):
        choose_threshold(two[0], two[1].assign(**change))


def test_records_without_probabilities(two: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    first, second = two
    with pytest.raises(ConnectomeBenchError, match="gave no probabilities"):
        choose_threshold(first.assign(probability=np.nan), second)
    with pytest.raises(ConnectomeBenchError, match="5% of the rows have no probability"):
        choose_threshold(first, second, max_share=0.01)
