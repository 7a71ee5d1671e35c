"""Differences between stated numbers and the answers beside them: found where they are, silent where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published_files import CONFIDENCE, TASK, TRUTH, files, open_bins, vlm_votes, write_file, write_published

from connectomebench.reproduction.accuracy_differences import accuracy_differences
from connectomebench.reproduction.calibration_differences import calibration_differences
from connectomebench.reproduction.differences import PublishedDifference
from connectomebench.reproduction.results_folder import Published, read_published
from connectomebench.reproduction.sources import trace_totals

EVALUATION = "final_data/eval_merge_action_vlm_votes3.json"
VLM = "VLM (with confidence), split error correction"


def found(published: Published) -> dict[str, PublishedDifference]:
    return {d.key: d for d in (*accuracy_differences(published), *calibration_differences(published))}


@pytest.fixture(scope="module")
def differences(published: Published) -> dict[str, PublishedDifference]:
    return found(published)


def changed(folder: Path, name: str, **values: Any) -> dict[str, PublishedDifference]:
    write_published(folder)
    write_file(folder / name, files()[name] | values)
    return found(read_published(folder))


def test_one_answer_is_not_the_majority(differences: dict[str, PublishedDifference]) -> None:
    rows = {row[0]: row for row in differences["votes"].rows}
    # three first answers are wrong of twelve, and two majorities
    assert rows[VLM] == (VLM, "3", "75.00%", "83.33%")
    assert rows["GPT-5, split error correction"][2:] == ("50.00%", "50.00%")
    assert ("vlm", TASK) in differences["votes"].places


def test_the_majority_goes_by_the_name_of_balanced_accuracy(differences: dict[str, PublishedDifference]) -> None:
    rows = differences["two_names"].rows
    assert len(rows) == 2
    assert {row[2:4] for row in rows} == {("75.00% (first answer)", "83.33% (majority)")}


def test_votes_without_an_answer_are_left_out(differences: dict[str, PublishedDifference]) -> None:
    right = sum(v == t for votes, t in zip(vlm_votes(), TRUTH, strict=True) for v in votes)
    ((name, count, stated, ours),) = differences["unparsed"].rows
    assert (name, count) == (VLM, "1 of 36")
    assert (stated, ours) == (f"{100 * right / 35:.2f}%", f"{100 * right / 36:.2f}%")


def test_other_samples(differences: dict[str, PublishedDifference]) -> None:
    rows = differences["samples"].rows
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("1", "GPT-5, VLM (with confidence)", "12"),
        ("2", "Person 1, Person 2", "8"),
    ]
    assert rows[0][4] == "0 with set 2"


def test_people(differences: dict[str, PublishedDifference]) -> None:
    (row,) = differences["people"].rows
    assert row[1:] == ("8", "3 yes, 5 no", "87.50% ± 11.69%", "83.33%", "yes")


def test_two_files_disagree_and_one_value_is_another_methods(differences: dict[str, PublishedDifference]) -> None:
    (row,) = differences["totals"].rows
    assert row[0] == "ResNet-50 (fine-tuned), split error correction"
    assert row[1].startswith("88.00%") and row[2].startswith("66.00%")
    assert row[3] == "one is the value of ResNet-50 (512 samples)"


def test_numbers_of_samples(differences: dict[str, PublishedDifference]) -> None:
    (row,) = differences["counts"].rows
    assert row[1] == "96 (resnet_train_samples.json), 99 (model_metadata.json)"
    assert row[2:] == ("100", "50, 100")


def test_the_stated_error_mixes_one_answer_with_the_majority(differences: dict[str, PublishedDifference]) -> None:
    (row,) = differences["mixed"].rows
    votes = vlm_votes()
    first = [c / 100 for c in CONFIDENCE]
    assert row[1] == f"{open_bins(first, [v.count(t) >= 2 for v, t in zip(votes, TRUTH, strict=True)]):.4f}"
    # the one confidence of zero lies in the lowest of our bins: its answer was right, an error of 1 in 12
    own = open_bins(first, [v[0] == t for v, t in zip(votes, TRUTH, strict=True)]) + 1 / 12
    assert row[2] == f"{own:.4f}"


def test_a_confidence_of_zero_lies_in_no_bin(differences: dict[str, PublishedDifference]) -> None:
    rows = {row[0].split(": ")[1]: row[1:] for row in differences["zeros"].rows}
    assert rows["all votes pooled"][0] == "3 of 35" and rows["first confidences"][0] == "1 of 12"
    for _, stated, whole in rows.values():
        assert float(whole) > float(stated)


def test_the_brier_score_is_of_any_answer(differences: dict[str, PublishedDifference]) -> None:
    ((_, stated, ours, count),) = differences["brier"].rows
    answers = [
        (c / 100, v, t)
        for c, votes, t in zip(CONFIDENCE, vlm_votes(), TRUTH, strict=True)
        for v in votes
        if v is not None
    ]
    assert count == "35"
    assert stated == f"{sum((c - t) ** 2 for c, _, t in answers) / 35:.4f}"
    assert ours == f"{sum(((c if v else 1 - c) - t) ** 2 for c, v, t in answers) / 35:.4f}"


def test_calibration_of_another_resnet(differences: dict[str, PublishedDifference]) -> None:
    ((cell, error, beside, results),) = differences["other_accuracy"].rows
    assert (cell, error, beside, results) == ("Split error correction, fly", "0.3000", "80.00%", "90.00%")


def test_what_totals_stem_from(published: Published) -> None:
    difference = trace_totals(published)
    assert difference is not None
    found_rows = {(row[0], row[2]): row[4] for row in difference.rows}
    mean = "mean of 2 repeats at 64 training samples (data_sweep_merge_action.json)"
    assert found_rows["linear_probe_cross_species_results.json", "balanced_accuracy"] == mean
    assert found_rows["calibration_cross_species_results.json", "ece"].startswith(
        ("mean of 2", "stated confidences of 35")
    )
    assert len(difference.rows) == 5


def test_an_accuracy_that_the_answers_do_not_give_is_told(
    tmp_path: Path, differences: dict[str, PublishedDifference]
) -> None:
    assert "not_reproduced" not in differences
    told = changed(tmp_path, EVALUATION, accuracy=0.99)
    assert told["not_reproduced"].rows == ((VLM, "accuracy", "99.00%", "75.00%"),)
    assert VLM not in {row[0] for row in told["votes"].rows}


def test_nothing_is_claimed_that_the_folder_does_not_show(tmp_path: Path) -> None:
    told = changed(tmp_path, EVALUATION, calibration={"ece": 0.5})
    assert "mixed" not in told
    assert [row[0].split(": ")[1] for row in told["zeros"].rows] == ["all votes pooled"]
    for name in files():
        if not name.startswith("final_data/eval"):
            (tmp_path / name).unlink()
    alone = found(read_published(tmp_path))
    assert set(alone) == {"votes", "unparsed"}
