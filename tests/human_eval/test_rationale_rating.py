from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import follow

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.results import result_path, write_results
from connectomebench.human_eval import rationale_rating as analyses
from connectomebench.human_eval.rating import Rater
from connectomebench.human_eval.rationale_rating import analysis_of, judge_analyses, read_analyses

GOOD, POOR = "The orange part goes on where the blue one ends.", "There is a soma."


@pytest.fixture
def results(rows: Rows, tmp_path: Path) -> Path:
    """Replies of a model that describes well, one that does not, and one that says nothing."""
    folder = tmp_path / "results"
    says = {"org/good": f"<analysis>{GOOD}</analysis>", "poor": f"<analysis>{POOR}", "silent": ""}
    for model, text in says.items():
        records = [
            {name: row[name] for name in ("sample_id", "task", "species", "question", "answer", "group")}
            | {
                "partition": "test",
                "model": model,
                "model_revision": "1",
                "dataset_fingerprint": rows.data.fingerprint,
                "code_version": "1",
                "prediction": "yes",
                "reply": f"{text}<answer>yes</answer>",
            }
            for row in rows.dataset.remove_columns("images")
        ]
        write_results(result_path(folder, model, "merge_action", "fly", "test"), records)
    return folder


@pytest.mark.parametrize(
    ("reply", "analysis"),
    [
        ("<analysis>a tip\n here</analysis><answer>yes</answer>", "a tip here"),
        ("<analysis>a tip <answer>yes</answer> more</analysis>", "a tip more"),
        ("<Analysis>cut off before its en", "cut off before its en"),
        ("Blunt tip. <confidence>0.8</confidence><answer>no</answer>", "Blunt tip."),
        ("Blunt tip. <answer>no", "Blunt tip."),
        ("<answer>yes</answer>", ""),
    ],
)
def test_only_what_was_seen_is_judged(reply: str, analysis: str) -> None:
    assert analysis_of(reply) == analysis


def test_the_better_description_wins_whichever_side_it_is_on(rows, results, tmp_path, monkeypatch) -> None:
    sides: list[tuple[str, ...]] = []

    def prefer_good(item):
        sides.append(item.texts)
        assert "answer" not in "".join(item.texts)
        return ("left",) if item.texts[0] == GOOD else ("right",)

    monkeypatch.setattr(analyses, "show", follow(prefer_good))
    said = read_analyses(results, ["org/good", "poor"], rows)
    path = judge_analyses(rows, said, Rater("ada"), "pairs", tmp_path / "out")
    found = json.loads(path.read_text())
    assert (found["rated"], found["of"], found["rows_with_analyses"]) == (4, 4, 4)
    good, poor = found["models"]["org/good"], found["models"]["poor"]
    assert (good["won"], good["lost"], poor["won"], poor["lost"]) == (4, 0, 0, 4)
    assert good["strength"]["value"] > 1 > -1 > poor["strength"]["value"]
    assert good["elo"] > 1500 > poor["elo"]
    assert found["simulated"]


def test_sides_and_order_are_drawn(rows: Rows, results: Path) -> None:
    said = read_analyses(results, ["org/good", "poor"], rows)
    asked = [analyses._pairs(said, ["org/good", "poor"], seed) for seed in range(12)]
    left = [names[0] for one in asked for _, names in one]
    assert 12 < left.count("poor") < 36
    assert len({tuple(item.row for item, _ in one) for one in asked}) > 4
    assert asked[0] == analyses._pairs(said, ["org/good", "poor"], 0)


def test_one_by_one_gives_each_model_its_mean(rows, results, tmp_path, monkeypatch, capsys) -> None:
    marks = iter(["5", "4", "5", "4"])
    monkeypatch.setattr(analyses, "show", follow(lambda item: (next(marks) if item.texts[0] == GOOD else "2",)))
    said = read_analyses(results, ["org/good", "poor"], rows)
    path = judge_analyses(rows, said, Rater("ada"), "single", tmp_path / "out")
    found = json.loads(path.read_text())["models"]
    assert found["org/good"]["mean_rating"]["value"] == 4.5
    assert found["org/good"]["ratings"] == {"1": 0, "2": 0, "3": 0, "4": 2, "5": 2}
    assert 4 <= found["org/good"]["mean_rating"]["lower"] < 4.5
    assert found["poor"]["mean_rating"]["value"] == found["poor"]["mean_rating"]["upper"] == 2


def test_the_command_prints_a_table_of_what_is_judged_so_far(
    rows, rated_dataset, results, tmp_path, monkeypatch, capsys
) -> None:
    words = ["human-eval", "--dataset", str(rated_dataset), "--species", "fly", "--rater", "ada", "--out"]
    words += [str(tmp_path / "out"), "--analyses", str(results), "--models", "org/good", "poor"]
    monkeypatch.setattr(analyses, "show", follow(lambda item: ("tie",), stop_after=3))
    assert main(words) == 130
    assert main([*words, "--export"]) == 0
    out = capsys.readouterr().out
    assert "3 of 4 rated by ada" in out
    assert out.splitlines()[1].split() == [
        "model",
        "strength",
        "95%",
        "interval",
        "Elo",
        "won",
        "lost",
        "tie",
        "both",
        "bad",
    ]


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (["org/good", "nobody"], "nobody has no records"),
        (["org/good", "silent"], "no row has an analysis"),
        (["poor", "poor"], "name each model once"),
    ],
)
def test_what_cannot_be_judged_is_refused(models, told, rows, results) -> None:
    with pytest.raises(ConnectomeBenchError, match=told):
        read_analyses(results, models, rows)


def test_a_pair_takes_two(rows: Rows, results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="at least two models"):
        judge_analyses(rows, read_analyses(results, ["poor"], rows), Rater("ada"), "pairs", tmp_path)
