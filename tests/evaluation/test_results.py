"""Result records: writing, reading, summaries and comparisons."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from some_results import records, write

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import write_truth
from connectomebench.evaluation.calibration import brier_score, expected_calibration_error, maximum_calibration_error
from connectomebench.evaluation.results import (
    DEFAULT,
    METRICS,
    default_rows,
    label,
    read_results,
    result_path,
    result_schema,
    stated_events,
    stated_probability,
    summarise,
    write_results,
)
from connectomebench.evaluation.statistics import balanced_accuracy


def test_written_records_come_back(tmp_path):
    rows = records()
    rows[3] |= {"prediction": None, "probability": None, "reply": "I cannot say", "votes": ["yes", "no"], "tokens": 17}
    path = write(tmp_path, rows)
    assert path == tmp_path / "probe" / "merge_action" / "fly" / "test.parquet"
    assert pq.read_schema(path).equals(result_schema())
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    frame = read_results(path)
    assert list(frame.columns) == result_schema().names
    assert frame["sample_id"].tolist() == [row["sample_id"] for row in rows]
    assert frame.loc[3, "prediction"] is None and math.isnan(frame.loc[3, "probability"])
    assert list(frame.loc[3, "votes"]) == ["yes", "no"] and frame.loc[3, "tokens"] == 17
    assert frame.loc[0, "votes"] is None and frame["cost_usd"].isna().all()


def test_a_slash_in_a_model_name_is_no_folder(tmp_path):
    assert result_path(tmp_path, "Qwen/Qwen3-VL", "t", "s", "test") == tmp_path / "Qwen--Qwen3-VL" / "t/s/test.parquet"


def test_folders_and_lists_of_files_read_alike(tmp_path):
    paths = [write(tmp_path, records(model)) for model in ("a", "b")]
    from_folder, from_list = read_results(tmp_path), read_results(paths)
    assert from_folder.equals(from_list) and len(from_folder) == 80


def test_files_written_before_there_were_conditions_still_read(tmp_path):
    path = write(tmp_path, records())
    before = read_results(path)
    pq.write_table(pq.read_table(path).drop_columns(["condition", "replies", "derived", "prompt_tokens"]), path)
    frame = read_results(path)
    assert frame.equals(before) and set(frame["condition"]) == {DEFAULT}
    assert default_rows(frame).equals(frame)


def test_conditions_are_told_apart(tmp_path):
    write(tmp_path, records())
    path = write(tmp_path, records(skill=0.5, seed=1, condition="blank_images"))
    assert path.name == "test@blank_images.parquet"
    frame = read_results(tmp_path)
    blank, usual = summarise(frame, resamples=50)
    assert (blank.condition, usual.condition) == ("blank_images", DEFAULT)
    assert default_rows(frame)["prediction"].tolist() == [row["prediction"] for row in records()]
    assert (label("probe", DEFAULT), label("probe", "blank_images")) == ("probe", "probe@blank_images")


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write(tmp_path, records())
    before = path.read_bytes()
    with pytest.raises(ConnectomeBenchError):
        write(tmp_path, records(probability=2.0))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def without(rows, column):
    return [{k: v for k, v in row.items() if k != column} for row in rows]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no results"),
        (without(records(), "group"), "lacks 'group'"),
        (records(answer=None), "lacks 'answer'"),
        (records(propability=0.5), "no column 'propability'"),
        (records(probability=1.01), r"\[0, 1\]"),
        (records(probability="high"), "do not fit"),
        (records() + records(), "occurs twice"),
        (records() + records("trivial"), "several values of model"),
    ],
)
def test_bad_records_are_not_written(tmp_path, rows, message):
    with pytest.raises(ConnectomeBenchError, match=message):
        write_results(tmp_path / "out" / "test.parquet", rows)
    assert not (tmp_path / "out").exists()


def test_unreadable_results_are_named(tmp_path):
    with pytest.raises(ConnectomeBenchError, match="no result files"):
        read_results(tmp_path)
    with pytest.raises(ConnectomeBenchError, match=r"absent\.parquet"):
        read_results(tmp_path / "absent.parquet")
    path = write(tmp_path, records())
    pq.write_table(pq.read_table(path).drop_columns(["probability", "group"]), path)
    with pytest.raises(ConnectomeBenchError, match="lacks the columns probability, group"):
        read_results(tmp_path)
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(ConnectomeBenchError, match="cannot read"):
        read_results(tmp_path)


def test_a_column_of_another_type_is_refused(tmp_path):
    path = write(tmp_path, records())
    table = pq.read_table(path)
    where = table.column_names.index("probability")
    pq.write_table(table.set_column(where, "probability", pa.array(["high"] * len(table))), path)
    with pytest.raises(ConnectomeBenchError, match="does not fit"):
        read_results(path)


def test_summary_is_what_the_plain_functions_say(tmp_path):
    write(tmp_path, records("probe"))
    write(tmp_path, records("grey", skill=0.5, seed=1))
    frame = read_results(tmp_path)
    grey, probe = summarise(frame, resamples=200)
    assert (grey.model, probe.model) == ("grey", "probe")
    assert (probe.task, probe.species, probe.partition) == ("merge_action", "fly", "test")
    assert (probe.n, probe.n_groups, probe.unparsed) == (40, 20, 0)
    assert tuple(probe.estimates) == METRICS
    rows = frame[frame["model"] == "probe"]
    p, y = rows["probability"].to_numpy(), (rows["answer"] == "yes").to_numpy(int)
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    said, sure = (rows["prediction"] == "yes").to_numpy(int), np.maximum(p, 1 - p)
    wrong = (said != y)[np.argsort(-sure)]

    expected = {
        "balanced_accuracy": balanced_accuracy(rows["prediction"], rows["answer"]),
        "ece": expected_calibration_error(p, y),
        "mce": maximum_calibration_error(p, y),
        "brier": brier_score(p, y),
        "auroc": roc_auc_score(y, p),
        "precision": precision_score(y, said),
        "recall": recall_score(y, said),
        "false_positive_rate": recall_score(1 - y, said),
        "f1": f1_score(y, said),
        "risk_at_50": wrong[:20].mean(),
        "risk_at_80": wrong[:32].mean(),
        "risk_at_90": wrong[:36].mean(),
        "aurc": np.mean(np.cumsum(wrong) / np.arange(1, 41)),
    }
    for name, estimate in probe.estimates.items():
        assert estimate.value == pytest.approx(expected[name], abs=1e-9), name
        assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1
        assert (estimate.n, estimate.n_groups) == (40, 20)


def test_unparsed_replies_count_as_wrong_and_carry_no_probability(tmp_path):
    rows = records(skill=1.0)
    for row, reply in zip(rows[:10], ["", "maybe"] * 5, strict=True):
        row |= {"prediction": reply or None, "probability": None}
    write(tmp_path, rows)
    frame = read_results(tmp_path)
    (summary,) = summarise(frame, resamples=100)
    truth = np.array([row["answer"] for row in rows])
    right = np.arange(40) >= 10
    by_hand = np.mean([right[truth == answer].mean() for answer in ("no", "yes")])
    assert summary.unparsed == 10
    assert summary.estimates["balanced_accuracy"].value == pytest.approx(by_hand)
    assert summary.estimates["balanced_accuracy"].n == 40
    assert summary.estimates["brier"].n == 30


def test_what_could_not_be_read_is_left_to_a_person_first(tmp_path):
    sure = {"yes": 0.6, "no": 0.4}
    rows = [row | {"prediction": row["answer"], "probability": sure[row["answer"]]} for row in records()]
    for row in rows[:10]:
        row |= {"prediction": None, "probability": 0.01}
    write(tmp_path, rows)
    (summary,) = summarise(read_results(tmp_path), resamples=20)
    risks = [summary.estimates[name].value for name in ("risk_at_50", "risk_at_80", "risk_at_90")]
    assert risks == pytest.approx([0, 2 / 32, 6 / 36])


def test_what_is_undefined_is_nan_and_not_a_number_that_looks_good(tmp_path):
    write(tmp_path, [r | {"answer": "yes", "prediction": "yes"} for r in records("one_class")])
    write(tmp_path, records("silent", probability=None))
    one_class, silent = summarise(read_results(tmp_path), resamples=50)
    assert math.isnan(one_class.estimates["balanced_accuracy"].value)
    assert math.isnan(one_class.estimates["auroc"].value)
    assert one_class.estimates["brier"].value > 0
    assert silent.estimates["balanced_accuracy"].value > 0.5 and silent.estimates["precision"].value > 0.5
    assert one_class.estimates["recall"].value == 1 and math.isnan(one_class.estimates["false_positive_rate"].value)
    assert math.isnan(silent.estimates["aurc"].value)
    assert math.isnan(silent.estimates["ece"].value) and silent.estimates["ece"].n == 0


def test_answers_other_than_yes_and_no(tmp_path):
    letters = ["a", "b", "none", "b"] * 10
    rows = [
        row | {"task": "merge_action_multiple_choice", "answer": letter, "prediction": letter, "probability": None}
        for row, letter in zip(records(), letters, strict=True)
    ]
    rows[0]["prediction"] = "b"
    write(tmp_path, rows)
    (summary,) = summarise(read_results(tmp_path), resamples=50)
    assert summary.estimates["balanced_accuracy"].value == pytest.approx((0.9 + 1 + 1) / 3)
    assert all(math.isnan(summary.estimates[name].value) for name in METRICS[1:]) and summary.unparsed == 0


def test_the_probability_of_a_choice_is_that_of_the_answer_given(tmp_path):
    generator = np.random.default_rng(3)
    letters = np.array(["a", "b", "c", "none"])
    answers, said = letters[generator.integers(0, 4, 80)], letters[generator.integers(0, 4, 80)]
    said[:40] = answers[:40]
    sure = generator.uniform(0.2, 1, 80)
    rows = [
        row | {"task": "merge_action_multiple_choice", "answer": str(a), "prediction": str(p), "probability": float(c)}
        for row, a, p, c in zip(records(rows=80), answers, said, sure, strict=True)
    ]
    # an answer that is right nowhere is an answer all the same
    rows[0]["prediction"], said[0] = "d", "d"
    write(tmp_path, rows)
    frame = read_results(tmp_path)
    (summary,) = summarise(frame, resamples=50)
    right = said == answers
    assert np.array_equal(stated_events(frame), right)
    assert summary.estimates["brier"].value == pytest.approx(np.mean((sure - right) ** 2))
    assert summary.estimates["ece"].value == pytest.approx(expected_calibration_error(sure, right.astype(int)))
    pairs = [(s > t) + 0.5 * (s == t) for s in sure[right] for t in sure[~right]]
    assert summary.estimates["auroc"].value == pytest.approx(np.mean(pairs))
    surest = np.argsort(-sure)[:40]
    assert summary.estimates["risk_at_50"].value == pytest.approx(1 - right[surest].mean())
    assert math.isnan(summary.estimates["precision"].value) and summary.unparsed == 0


def test_a_record_states_the_probability_of_yes_or_of_the_answer_given():
    assert stated_probability("no", {"no": 0.7, "yes": 0.3}) == 0.3
    assert stated_probability("b", {"a": 0.2, "b": 0.5, "none": 0.3}) == 0.5
    assert stated_probability(None, {}) is None and stated_probability(None, {"a": 1.0}) is None


def test_places_are_not_compared_as_text(tmp_path):
    place = {"answer": "1, 2, 3", "target_nm": [[1, 2, 3]], "location_nm": [0, 0, 0], "question": "?", "extent_nm": 3e3}
    own = {"task": "endpoint_localization", "answer": write_truth(place), "prediction": "1, 2, 4"}
    write(tmp_path, [r | own for r in records()])
    (summary,) = summarise(read_results(tmp_path), resamples=50)
    assert summary.estimates["place_score"].value == 1
    assert math.isnan(summary.estimates["balanced_accuracy"].value) and summary.unparsed == 0
