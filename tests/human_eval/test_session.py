from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.resume_log import open_resume_log
from connectomebench.human_eval.session import Choice, Item, Rating, RatingSession, Step

STEPS = (
    Step("answer", (Choice("y", "yes", "yes"), Choice("n", "no", "no"))),
    Step("sure", (Choice("1", "1", "guess"), Choice("5", "5", "certain"))),
)
ITEMS = tuple(Item(f"s{i}", i, "?") for i in range(4))
ACTS = st.lists(
    st.one_of(st.sampled_from(["undo", "reopen"]), st.tuples(st.sampled_from(["yes", "no"]), st.integers(0, 9)))
)


@settings(max_examples=60, deadline=None)
@given(ACTS)
def test_ratings_are_those_given_and_not_taken_back_however_often_it_was_closed(acts: list) -> None:
    expected: list[Rating] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        while acts is not None:
            with open_resume_log(path, {"rater": "ada"}) as journal:
                sitting = RatingSession(ITEMS, STEPS, journal)
                assert sitting.ratings == expected
                rest = None
                for at, act in enumerate(acts):
                    if act == "reopen":
                        rest = acts[at + 1 :]
                        break
                    if act == "undo":
                        assert sitting.undo(sitting.done) == bool(expected)
                        expected = expected[:-1]
                    else:
                        kept = sitting.rate(sitting.done, (act[0], "1"), float(act[1]))
                        assert kept == (len(expected) < len(ITEMS))
                        if kept:
                            expected.append(Rating(f"s{len(expected)}", (act[0], "1"), float(act[1])))
                assert sitting.ratings == expected
            acts = rest  # type: ignore[assignment]


def test_a_second_window_rates_nothing_twice(tmp_path: Path) -> None:
    with open_resume_log(tmp_path / "j", {}) as journal:
        sitting = RatingSession(ITEMS, STEPS, journal)
        assert sitting.rate(0, ("yes", "5"), 1.0)
        assert not sitting.rate(0, ("no", "5"), 1.0)
        assert not sitting.undo(0)
        assert sitting.ratings == [Rating("s0", ("yes", "5"), 1.0)]


def test_the_time_before_a_rating_was_taken_back_is_not_forgotten(tmp_path: Path) -> None:
    with open_resume_log(tmp_path / "j", {}) as journal:
        sitting = RatingSession(ITEMS, STEPS, journal)
        sitting.rate(0, ("yes", "5"), 7.0)
        sitting.undo(1)
        assert sitting.seconds(0) == 7.0
        assert sitting.seconds(1) == 0.0


@pytest.mark.parametrize(
    ("choices", "seconds"),
    [(("perhaps", "1"), 1.0), (("yes",), 1.0), (("yes", "1"), float("nan")), (("yes", "1"), -1.0), (("yes", "1"), 1e9)],
)
def test_what_is_not_on_offer_is_refused(tmp_path: Path, choices: tuple[str, ...], seconds: float) -> None:
    with open_resume_log(tmp_path / "j", {}) as journal:
        sitting = RatingSession(ITEMS, STEPS, journal)
        with pytest.raises(ConnectomeBenchError, match="invalid rating"):
            sitting.rate(0, choices, seconds)
        assert sitting.done == 0


def test_ratings_of_other_items_are_not_taken_over(tmp_path: Path) -> None:
    with open_resume_log(tmp_path / "j", {}) as journal:
        RatingSession(ITEMS, STEPS, journal).rate(0, ("yes", "5"), 1.0)
        with pytest.raises(ConnectomeBenchError, match="other items"):
            RatingSession(ITEMS[::-1], STEPS, journal)
