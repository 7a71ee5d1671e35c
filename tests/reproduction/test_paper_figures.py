"""Figures from published scores and from our own records, through the same functions."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from published_files import SWEEP, TASK

from connectomebench.cards.plotting import dark, render
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.results import read_results, result_path, write_results
from connectomebench.reproduction import paper_figures
from connectomebench.reproduction.captions import species_caption
from connectomebench.reproduction.drawing import draw_scaling, draw_species, one_each
from connectomebench.reproduction.published_scores import stated_scores, sweep_scores, train_samples
from connectomebench.reproduction.reproduce import report_figures
from connectomebench.reproduction.results_folder import Published
from connectomebench.reproduction.score_table import Score, record_scores, swept_scores

OTHER = "split_action"


def score(method: str, value: float, **more: Any) -> Score:
    given: dict[str, Any] = {"task": TASK, "species": "mouse", "metric": "balanced_accuracy", "n": 10}
    return Score(method=method, value=value, how="invented", source=method, **(given | more))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result records of two models of ours on 40 samples, as an evaluation writes them."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    truth = rng.permutation([True, False] * 20)
    for model, skill in (("probe", 0.9), ("trivial", 0.5)):
        for task in (TASK, OTHER):
            right = rng.random(40) < skill
            rows = [
                {
                    "sample_id": str(n),
                    "task": task,
                    "species": "fly",
                    "partition": "test",
                    "model": model,
                    "model_revision": "1",
                    "dataset_fingerprint": "f",
                    "code_version": "0",
                    "question": "?",
                    "prediction": "yes" if t == r else "no",
                    "probability": 0.8 if t == r else 0.2,
                    "answer": "yes" if t else "no",
                    "group": str(n // 2),
                }
                for n, (t, r) in enumerate(zip(truth, right, strict=True))
            ]
            write_results(result_path(folder, model, task, "fly", "test"), rows)
    return folder


def test_the_marks_stand_where_the_scores_say(published: Published) -> None:
    scores = [*sweep_scores(published), score("vlm", 0.8, train_samples=90, lower=0.7, upper=0.85, interval="95%")]
    figure = draw_scaling(scores, [TASK], "balanced_accuracy")
    (axes,) = figure.axes
    lines = [c.lines[0] for c in axes.containers]
    probe, vlm = lines
    assert list(probe.get_xdata()) == list(SWEEP)
    np.testing.assert_allclose(np.array(probe.get_ydata(), float), [np.mean(a) for a in SWEEP.values()])
    bars = axes.containers[0].lines[2][0].get_segments()
    # the standard deviation of two repeats is their distance over the square root of two
    assert math.isclose(bars[1][1][1] - bars[1][0][1], 2 * (0.78 - 0.70) / math.sqrt(2))
    assert list(vlm.get_xdata()) == [90] and list(vlm.get_ydata()) == [0.8]
    (whisker,) = axes.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose(whisker[:, 1], [0.7, 0.85])


def test_single_marks_that_meet_are_moved_apart_and_others_are_not() -> None:
    scores = [score("vlm", 0.8, train_samples=100), score("resnet_finetuned", 0.7, train_samples=104)]
    scores.append(score("resnet_small", 0.6, train_samples=500))
    (axes,) = draw_scaling(scores, [TASK], "balanced_accuracy").axes
    places = {round(c.lines[0].get_ydata()[0], 2): c.lines[0].get_xdata()[0] for c in axes.containers}
    assert places[0.6] == 500 and places[0.7] != 104 and places[0.8] != 100
    assert abs(math.log2(places[0.7] / 104)) < 0.1 and abs(math.log2(places[0.8] / 100)) < 0.1


def test_bars_are_as_high_as_the_scores_and_named_in_the_legend() -> None:
    scores = [score("vlm", 0.8), score("vlm", 0.6, species="fly"), score("linear_probe", 0.7)]
    figure = draw_species(scores, [TASK, OTHER], "balanced_accuracy")
    axes, empty = figure.axes
    assert sorted(round(p.get_height(), 2) for p in axes.patches) == [0.6, 0.7, 0.8]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["mouse", "fly"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Linear probe", "VLM (with confidence)"]
    assert [t.get_text() for t in empty.texts] == ["no records"]
    assert "0.5 is guessing" in axes.get_ylabel()


def test_a_species_of_a_lab_is_drawn_after_ours() -> None:
    scores = [score("vlm", 0.8, species="worm"), score("vlm", 0.6, species="fly")]
    (axes,) = draw_species(scores, [TASK], "balanced_accuracy").axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["fly", "worm"]
    assert [round(p.get_height(), 2) for p in axes.patches] == [0.6, 0.8]
    assert "(fly 10, worm 10)" in species_caption(scores, [TASK], "balanced_accuracy")
    (alone,) = draw_species(scores[:1], [TASK], "balanced_accuracy").axes
    assert [t.get_text() for t in alone.get_xticklabels()] == ["worm"]


def test_one_of_several_scores_is_drawn() -> None:
    first, second = score("resnet_finetuned", 0.7), score("resnet_finetuned", 0.6)
    sure = score("resnet_finetuned", 0.5, lower=0.4, upper=0.6)
    assert one_each([first, second]) == [first]
    assert one_each([first, second, sure]) == [sure]


def test_stated_totals_keep_their_samples_and_training_samples(published: Published) -> None:
    stated = {(s.method, s.species, s.value): s for s in stated_scores(published) if s.metric == "balanced_accuracy"}
    assert stated["resnet_finetuned", "mouse", 0.88].n == 100
    assert stated["resnet_finetuned", "mouse", 0.66].train_samples == 96
    assert stated["resnet_small", "mouse", 0.66].train_samples == 8
    assert stated["resnet_finetuned", "fly", 0.6].train_samples is None
    assert train_samples(published, "vlm", TASK) == 99
    assert train_samples(published, "gpt-5", TASK) is None


def test_our_own_records_go_through_the_same_functions(own: Path, tmp_path: Path) -> None:
    frame = read_results(own)
    frame = frame.loc[frame["task"] == TASK]
    remark = "Simulated samples, invented for a test."
    figures = report_figures(
        frame, tmp_path, train_samples={("probe", TASK): 64}, remark=remark, resamples=50, totals=[score("vlm", 0.9)]
    )
    assert [f.plan.name for f in figures] == ["scaling", "cross_species", "ece_scaling", "ece_cross_species"]
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{f.plan.name}.{e}" for f in figures for e in ("png", "pdf", "txt")
    }
    caption = (tmp_path / "cross_species.txt").read_text()
    assert caption.startswith(remark)
    assert "Samples tested, split error correction: Probe (fly 40); Trivial features (fly 40)" in caption.replace(
        "VLM (with confidence) (mouse 10); ", ""
    )
    with Image.open(tmp_path / "cross_species.png") as picture:
        assert picture.width == 900 and len(picture.convert("L").getcolors() or []) > 20
    assert (tmp_path / "scaling.pdf").read_bytes().startswith(b"%PDF")


@pytest.fixture(scope="module")
def swept(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a sweep of the probe: two sizes with three seeds each, and one plain evaluation."""
    folder = tmp_path_factory.mktemp("swept")
    frame = read_results(own)
    rows = frame.loc[(frame["model"] == "probe") & (frame["task"] == TASK)].dropna(axis="columns").to_dict("records")
    turned = {"yes": "no", "no": "yes"}
    for size, wrong in ((16, (20, 16, 12)), (64, (4, 3, 2))):
        for seed, count in enumerate(wrong):
            condition = f"train{size}-seed{seed}"
            answered = [
                row | {"condition": condition, "prediction": turned[row["answer"]] if n < count else row["answer"]}
                for n, row in enumerate(rows)
            ]
            write_results(result_path(folder, "probe", TASK, "fly", "test", condition), answered)
    write_results(result_path(folder, "trivial", TASK, "fly", "test"), [row | {"model": "trivial"} for row in rows])
    return folder


def test_a_sweep_of_ours_is_drawn_beside_the_published_figures(
    swept: Path, published_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the captions say what the figures hold; that they are written as files is shown above
    monkeypatch.setattr(paper_figures, "save", lambda figure, path: path)
    monkeypatch.setattr(paper_figures, "render", lambda figure, kind: b"")
    figures = {f.plan.name: f for f in report_figures(read_results(swept), tmp_path, published=published_folder)}
    assert set(figures) == {"scaling", "cross_species", "ece_scaling", "ece_cross_species"}
    caption = (tmp_path / "scaling.txt").read_text()
    assert "Probe (ours): mean of 3 seeds." in caption and "Linear probe: mean of 2 repeats" in caption
    assert re.search(
        r"Samples tested, split error correction: .*Linear probe \(mouse \d+\).*Probe \(ours\) \(fly 40\)", caption
    )
    assert "Trivial features (ours)" in (tmp_path / "cross_species.txt").read_text()


def test_a_sweep_is_the_mean_of_its_seeds_for_each_size(swept: Path) -> None:
    frame = read_results(swept)
    found = {s.train_samples: s for s in swept_scores(frame) if s.metric == "balanced_accuracy"}
    assert list(found) == [16, 64]
    for size, score in found.items():
        runs = [frame.loc[frame["condition"] == f"train{size}-seed{seed}"] for seed in range(3)]
        values = [
            np.mean([(r["prediction"] == r["answer"])[r["answer"] == a].mean() for a in ("yes", "no")]) for r in runs
        ]
        assert math.isclose(score.value, np.mean(values)) and score.n == 40
        assert math.isclose(score.upper - score.value, np.std(values, ddof=1))
        assert (score.method, score.interval) == ("probe", "standard deviation of 3 seeds")


def test_own_scores_are_those_of_the_summaries(own: Path) -> None:
    frame = read_results(own)
    scores = {(s.method, s.task, s.metric): s for s in record_scores(frame, resamples=50)}
    rows = frame.loc[(frame["model"] == "probe") & (frame["task"] == TASK)]
    right = (rows["prediction"] == rows["answer"]).mean()
    assert math.isclose(scores["probe", TASK, "balanced_accuracy"].value, right)  # both answers are equally common
    assert scores["probe", TASK, "balanced_accuracy"].n_groups == 20
    assert ("probe", TASK, "vote_share") not in scores


def test_there_must_be_something_to_draw(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="no score of the partition 'validation'"):
        report_figures(read_results(own), tmp_path, partition="validation")


def test_the_same_scores_give_the_same_bytes_and_a_dark_page_other_colours() -> None:
    pictures = [render(draw_species([score("vlm", 0.8)], [TASK], "balanced_accuracy"), "svg") for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert b"#1c2128" in pictures[0] and b"#1c2128" not in dark(pictures[0])
    assert pictures[0].count(b"#d55e00") == dark(pictures[0]).count(b"#d55e00") > 0
    with Image.open(io.BytesIO(render(draw_species([score("vlm", 0.8)], [TASK], "ece"), "png"))) as picture:
        assert picture.format == "PNG"
