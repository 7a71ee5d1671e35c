from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripted import follow
from stored_rows import write_dataset

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.subsample import balanced_sample
from connectomebench.human_eval import rating
from connectomebench.human_eval.agreement_report import kappa_lines
from connectomebench.human_eval.app import page_state
from connectomebench.human_eval.rating import Rater, rate, summary_line
from connectomebench.human_eval.session import Item, RatingSession


def always(answer: str, sure: str = "4"):
    return lambda item: (answer, sure)


def test_a_whole_partition_is_a_result_like_that_of_any_model(rows: Rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    path = rate(rows, Rater("ada"), tmp_path)
    assert path == tmp_path / "person-ada" / "merge_action" / "fly" / "test.parquet"
    frame = read_results(tmp_path)
    assert sorted(frame["sample_id"]) == sorted(rows.dataset["sample_id"])
    truth = dict(zip(rows.dataset["sample_id"], rows.dataset["answer"], strict=True))
    assert [truth[sample] for sample in frame["sample_id"]] == frame["answer"].tolist()
    assert set(frame["condition"]) == {"default"}
    assert set(frame["latency_s"]) == {2.5}
    assert frame["probability"].tolist() == pytest.approx([0.9] * 4)
    line = summary_line(path)
    assert "balanced accuracy 0.500 [0.500, 0.500]" in line
    assert "n=4, 4 groups, median 2.5 s" in line


def test_a_sample_is_named_as_one_and_what_was_exported_before_its_end_goes(rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rating, "show", follow(always("no"), stop_after=1))
    rater = Rater("ada", 2, 7)
    with pytest.raises(ConnectomeBenchError, match="has no ratings"):
        rate(rows, rater, tmp_path, export=True)
    with pytest.raises(KeyboardInterrupt):
        rate(rows, rater, tmp_path)
    part = rate(rows, rater, tmp_path, export=True)
    assert part.name == "test@sample2-seed7-first1.parquet"
    assert len(read_results(tmp_path)) == 1
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    whole = rate(rows, rater, tmp_path)
    assert whole.name == "test@sample2-seed7.parquet"
    assert sorted(tmp_path.rglob("*.parquet")) == [whole]
    frame = read_results(whole)
    assert sorted(frame["answer"]) == ["no", "yes"]
    assert frame["prediction"].tolist() == ["no", "yes"]


def test_what_is_rated_already_is_not_shown_again(rows: Rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    first = rate(rows, Rater("ada"), tmp_path).read_bytes()
    monkeypatch.setattr(rating, "show", None)
    assert rate(rows, Rater("ada"), tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("change", "told"),
    [({"fingerprint": "0" * 32}, "dataset_fingerprint"), ({}, "seed")],
)
def test_ratings_of_another_build_or_draw_are_not_gone_on_with(change, told, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    rate(rows, Rater("ada"), tmp_path)
    other = Rows(rows.dataset, replace(rows.data, **change))
    with pytest.raises(ConnectomeBenchError, match=told):
        rate(other, Rater("ada", seed=0 if change else 1), tmp_path)


@pytest.mark.parametrize("name", ["../ada", "", "a/b", "a" * 41, ".hidden"])
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConnectomeBenchError, match="rater's name"):
        Rater(name)


def test_the_page_is_told_nothing_but_what_a_model_is_told(rows: Rows) -> None:
    class Kept:
        records: dict = {}  # noqa: RUF012

    sitting = RatingSession([Item("secret", 0, rows.dataset[0]["question"])], (), Kept())  # type: ignore[arg-type]
    state = page_state(sitting, rows.dataset)
    assert set(state) == {"number", "total", "question", "texts", "offered", "seconds", "columns"}
    pictures = [picture for column in state["columns"] for picture in column]
    assert [p["name"] for p in pictures] == ["front view (xy plane)", "side view (yz plane)", "top view (xz plane)"]
    assert all(set(picture) == {"name", "view", "source", "overlay"} for picture in pictures)
    assert all(picture["source"].startswith("data:image/png;base64,") for picture in pictures)
    # the overlay is laid over the picture by the page: the pixels are those that a model sees
    assert all(picture["overlay"].startswith("<svg") for picture in pictures)
    sent = base64.b64decode(pictures[0]["source"].partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(sent)))
    np.testing.assert_array_equal(shown, np.asarray(rows.dataset[0]["images"][0].convert("RGB")))
    row = rows.dataset[0]
    told = json.dumps(state | {"columns": []})
    assert not any(str(row[name]) in told for name in ("sample_id", "group", "edit_id", "source_version", "species"))
    assert "secret" not in told


def test_kappa_of_people_who_rated_the_same_rows(rows, tmp_path, monkeypatch, capsys) -> None:
    answers = {"ada": ["yes", "no", "yes", "no"], "bob": ["yes", "no", "no", "no"], "eve": ["no", "yes", "no", "yes"]}
    for name, given in answers.items():
        monkeypatch.setattr(rating, "show", follow(lambda item, given=given: (given[item.row], "3")))
        rate(rows, Rater(name), tmp_path)
    assert main(["human-eval", "--kappa", str(tmp_path), "ada", "bob"]) == 0
    assert "person-ada and person-bob on merge_action/fly/test: kappa 0.500 [" in capsys.readouterr().out
    lines = kappa_lines(tmp_path)
    assert len(lines) == 3
    assert "kappa -1.000" in lines[1]
    assert "n=4, 4 groups" in lines[1]
    with pytest.raises(ConnectomeBenchError, match=r"zoe has no records there; there are ada, bob, eve"):
        kappa_lines(tmp_path, ["ada", "zoe"])
    with pytest.raises(ConnectomeBenchError, match="name two"):
        kappa_lines(tmp_path, ["ada"])


def test_people_who_drew_other_rows_have_no_kappa(rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    answers = rows.dataset["answer"]
    other = next(
        seed
        for seed in range(1, 50)
        if not set(balanced_sample(answers, 2, seed)) & set(balanced_sample(answers, 2, 0))
    )
    for seed in (0, other):
        rate(rows, Rater(f"r{seed}", 2, seed), tmp_path)
    with pytest.raises(ConnectomeBenchError, match="no row in common"):
        kappa_lines(tmp_path)


def test_the_command_says_what_is_missing(tmp_path: Path, capsys) -> None:
    assert main(["human-eval", "--species", "fly"]) == 2
    assert "--dataset is missing" in capsys.readouterr().err
    given = ["human-eval", "--dataset", "d", "--species", "fly", "--rater", "ada"]
    assert main([*given, "--models", "a"]) == 2
    assert "go together" in capsys.readouterr().err
    assert main([*given, "--one-by-one"]) == 2
    assert "--analyses" in capsys.readouterr().err


def test_people_rate_the_rows_that_models_are_asked_about_with_the_same_sample() -> None:
    answers = ["yes", "no", "no"] * 20
    assert Rater("ada", 10, 3).draw(answers) == balanced_sample(answers, 10, 3)
    assert sorted(Rater("ada", 100).draw(answers)) == sorted(Rater("ada").draw(answers)) == list(range(60))


def test_other_tasks_have_their_own_views(tmp_path: Path, monkeypatch) -> None:
    folder = write_dataset(tmp_path, "endpoint_error_identification_with_em")
    shown = load_rows(str(folder), "fly", "test", cache=tmp_path / "cache")
    monkeypatch.setattr(rating, "show", follow(always("yes")))
    path = rate(shown, Rater("ada"), tmp_path / "out")
    assert path.parent.parent.name == "endpoint_error_identification_with_em"
