"""Scores of places in result records: from the rows alone, with intervals, beside chance and lazy rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.place_score import score_row, score_text, write_truth
from connectomebench.core.places import PlaceAnswer, list_nodes, write_places
from connectomebench.evaluation.console_summary import summary_lines
from connectomebench.evaluation.place_cues import score_place_cues
from connectomebench.evaluation.results import read_results, summarise, write_results
from connectomebench.evaluation.true_answers import dataset_answers, true_answers
from connectomebench.models.place_baselines import RULES, PlaceBaseline, best_score, chance_score

LOCATION = (10_000.0, 20_000.0, 30_000.0)


def place_row(number: int, task: str = "endpoint_localization") -> dict[str, Any]:
    rng = np.random.default_rng(number)
    nodes = rng.uniform(-2000, 2000, (6, 3)).round()
    targets = nodes[:1] if task == "endpoint_localization" else nodes[:2]
    sides = [tuple(map(float, one)) for one in targets]
    order = rng.permutation(6)
    question = f"Where?\n{list_nodes([tuple(n) for n in nodes[order] + LOCATION], LOCATION)}"
    return {
        "sample_id": f"s{number}",
        "task": task,
        "species": "fly",
        "question": question,
        "answer": write_places(PlaceAnswer(tuple(sides[:1]), tuple(sides[1:]))),
        "target_nm": (targets + LOCATION).tolist(),
        "location_nm": list(LOCATION),
        "extent_nm": 6000.0,
        "group": f"g{number // 2}",
    }


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("task", ["endpoint_localization", "split_proposal"])
def test_a_record_is_scored_as_its_row(task: str) -> None:
    rows = [place_row(n, task) for n in range(12)]
    truths = true_answers(columns(rows))
    assert truths == [write_truth(row) for row in rows] == dataset_answers(datasets.Dataset.from_list(rows))
    for rule in (*RULES, "centre"):
        for answer, row, truth in zip(PlaceBaseline(rule).predict(columns(rows)), rows, truths, strict=True):
            assert score_text(answer.prediction, truth) == pytest.approx(score_row(answer.prediction, row), abs=1e-3)
    assert all(score_text(row["answer"], truth) == 1 for row, truth in zip(rows, truths, strict=True))
    assert score_text(None, truths[0]) == score_text("yes", truths[0]) == 0
    with pytest.raises(ConnectomeBenchError, match="no true place"):
        score_text("1, 2, 3", "yes")
    with pytest.raises(ConnectomeBenchError, match="no column"):
        true_answers({"task": [task], "answer": ["1, 2, 3"]})


def test_summaries_have_mean_score_and_hit_rate_with_intervals_over_groups(tmp_path: Path) -> None:
    rows = [place_row(n) for n in range(20)]
    truths = true_answers(columns(rows))
    given = [row["answer"] if n % 4 else None for n, row in enumerate(rows)]
    constant = {
        **dict.fromkeys(("model", "partition", "model_revision", "dataset_fingerprint", "code_version"), "m"),
        "partition": "test",
    }
    same = ("sample_id", "task", "species", "question", "group")
    records = [
        {name: row[name] for name in same} | constant | {"prediction": one, "answer": truth}
        for row, one, truth in zip(rows, given, truths, strict=True)
    ]
    frame = read_results(write_results(tmp_path / "test.parquet", records))
    [summary] = summarise(frame)
    score = summary.estimates["place_score"]
    assert score.value == summary.estimates["hit_rate"].value == 0.75 and summary.unparsed == 5
    assert score.lower < 0.75 < score.upper and (score.n, score.n_groups) == (20, 10)
    assert np.isnan(summary.estimates["balanced_accuracy"].value)
    assert "place score 0.750" in summary_lines(frame)[0]


@pytest.mark.parametrize("task", ["endpoint_localization", "split_proposal"])
def test_chance_is_the_mean_over_all_nodes_and_the_best_is_reached(task: str) -> None:
    row = place_row(3, task)
    numbers = range(1, 7)
    if task == "endpoint_localization":
        scores = [score_row(f"node {n}", row) for n in numbers]
    else:
        scores = [score_row(f"sources=[node {a}];sinks=[node {b}]", row) for a in numbers for b in numbers if a != b]
    assert chance_score(row) == pytest.approx(np.mean(scores)) and best_score(row) == max(scores) == 1.0


def test_lazy_rules_score_what_they_should() -> None:
    rows = [place_row(n) for n in range(60)]
    cues = score_place_cues(datasets.Dataset.from_list(rows))
    by_name = {one.cue: one for one in cues.scores}
    assert 0 < cues.chance < cues.best == 1.0
    # places by lot: every rule is at chance, whatever it looks at
    for name in ("first_node", "central_node", "outermost_node", "lonely_node"):
        assert by_name[name].estimate.lower < cues.chance + 0.1
    assert by_name["lonely_node"].inherent and not by_name["central_node"].inherent
    # the middle of the view gives the place away
    for row in rows:
        row["target_nm"], row["answer"] = [list(LOCATION)], "0, 0, 0"
    given_away = {one.cue: one for one in score_place_cues(datasets.Dataset.from_list(rows)).scores}
    assert given_away["centre"].estimate.value == 1.0
