"""Published answers as result records, as every other part of the package reads them."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from published_files import CONFIDENCE, TASK, TRUTH, vlm_votes

from connectomebench.evaluation.results import compare, read_results, summarise
from connectomebench.reproduction.published_records import majority, stated_confidence, write_records
from connectomebench.reproduction.results_folder import Published

VLM = "qwen3-vl-4b-instruct-finetuned"


@pytest.fixture(scope="module")
def frame(published: Published, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return read_results(write_records(published.runs, tmp_path_factory.mktemp("records")))


def rows(frame: pd.DataFrame, model: str, condition: str) -> pd.DataFrame:
    return frame.loc[(frame["model"] == model) & (frame["condition"] == condition)].reset_index(drop=True)


def test_one_answer_and_the_majority_are_two_conditions(frame: pd.DataFrame) -> None:
    found = set(zip(frame["model"], frame["condition"], strict=True))
    assert found == {
        (VLM, "confidence"),
        (VLM, "votes3+confidence"),
        ("gpt-5", "default"),
        ("gpt-5", "votes3"),
        ("person-1", "default"),
        ("person-2", "default"),
    }


def test_the_first_answer_carries_its_confidence_as_probability_of_yes(frame: pd.DataFrame) -> None:
    first = rows(frame, VLM, "confidence")
    for number, votes in enumerate(vlm_votes()):
        stated = CONFIDENCE[number] / 100
        assert first["prediction"][number] == ("yes" if votes[0] else "no")
        assert math.isclose(first["probability"][number], stated if votes[0] else 1 - stated)
        assert first["answer"][number] == ("yes" if TRUTH[number] else "no")
    assert first["votes"].isna().all()


def test_the_majority_keeps_every_vote_and_the_words_of_the_winner(frame: pd.DataFrame) -> None:
    voted = rows(frame, VLM, "votes3+confidence")
    assert list(voted["votes"][7]) == ["no", None, "no"]
    assert voted["prediction"][7] == "no" and voted["probability"][7] == 0.0
    assert voted["prediction"][2] == "yes" and math.isclose(voted["probability"][2], 2 / 3)
    assert "<answer>yes</answer>" in voted["reply"][2] and len(voted["replies"][2]) == 3


def test_people_have_response_times(frame: pd.DataFrame) -> None:
    assert rows(frame, "person-1", "default")["latency_s"].tolist() == [5.0 + n for n in range(8)]
    assert rows(frame, "person-2", "default")["latency_s"].isna().all()


def test_other_commands_read_them(frame: pd.DataFrame) -> None:
    (comparison,) = compare(frame, f"{VLM}@votes3+confidence", "gpt-5@votes3", resamples=50)
    # two of twelve majorities are wrong, one of each answer; a model that always says yes is at chance
    assert math.isclose(comparison.difference.value, 10 / 12 - 0.5)
    person = next(s for s in summarise(frame, resamples=50) if s.model == "person-1")
    assert person.task == TASK and math.isclose(person.estimates["balanced_accuracy"].value, (2 / 3 + 1) / 2)


def test_a_tie_or_no_answer_is_no_majority() -> None:
    assert majority([True, False]) is None and majority([None, None]) is None and majority([]) is None
    assert majority([True, None, None]) is True and majority([False, True, False]) is False


def test_a_stated_confidence_is_read_as_percent() -> None:
    assert stated_confidence("<confidence>80</confidence>") == 0.8
    assert stated_confidence("<confidence> 62.5 % </confidence>") == 0.625
    assert stated_confidence("<confidence>120</confidence>") is None
    assert stated_confidence("sure") is None


def test_the_records_lie_where_evaluations_put_theirs(published: Published, tmp_path: Path) -> None:
    written = {path.relative_to(tmp_path).as_posix() for path in write_records(published.runs, tmp_path)}
    assert f"{VLM}/merge_action/mouse/test@votes3+confidence.parquet" in written
    assert "person-1/merge_action/mouse/unstated.parquet" in written
