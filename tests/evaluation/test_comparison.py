"""Paired comparison of models, in Python and as a command."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from some_results import records, write

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.comparison import as_text, verdict, verdict_text
from connectomebench.evaluation.console_summary import summary_lines
from connectomebench.evaluation.results import compare, read_results, summarise
from connectomebench.evaluation.significance import holm
from connectomebench.evaluation.summary import only_answer


def test_models_are_compared_on_the_same_samples(tmp_path):
    write(tmp_path, records("probe", rows=120, skill=0.9))
    worse = records("trivial", rows=120, skill=0.55, seed=1)
    write(tmp_path, worse[::-1])  # the order in a file does not matter
    frame = read_results(tmp_path)
    (result,) = compare(frame, "probe", "trivial", resamples=500)
    probe, trivial = (summarise(frame[frame["model"] == m], resamples=10)[0] for m in ("probe", "trivial"))
    values = (s.estimates["balanced_accuracy"].value for s in (probe, trivial))
    assert result.difference.value == pytest.approx(next(values) - next(values))
    assert result.difference.lower > 0 and result.difference.p < 0.05 and result.mcnemar_p < 0.05
    assert (result.first, result.second, result.task) == ("probe", "trivial", "merge_action")
    assert result.difference.n_groups == 60


def test_comparing_different_samples_is_refused(tmp_path):
    write(tmp_path, records("probe"))
    write(tmp_path, records("fewer", rows=30))
    write(tmp_path, records("other_build", dataset_fingerprint="beef"))
    write(tmp_path, records("elsewhere", species="mouse"))
    frame = read_results(tmp_path)
    refused = {
        "fewer": "different samples",
        "other_build": "different data",
        "elsewhere": "same partition",
        "absent": "no results of absent",
    }
    for name, words in refused.items():
        with pytest.raises(ConnectomeBenchError, match=words):
            compare(frame, "probe", name)


def test_values_and_agreement_are_those_of_the_models(tmp_path):
    write(tmp_path, records("probe", skill=0.9))
    write(tmp_path, records("trivial", skill=0.6, seed=1))
    frame = read_results(tmp_path)
    (found,) = compare(frame, "probe", "trivial", resamples=100)
    summaries = {s.model: s for s in summarise(frame, resamples=100)}
    assert found.values == tuple(summaries[name].estimates["balanced_accuracy"] for name in ("probe", "trivial"))
    from sklearn.metrics import cohen_kappa_score

    said = [frame.loc[frame["model"] == name, "prediction"] for name in ("probe", "trivial")]
    assert found.kappa.value == pytest.approx(cohen_kappa_score(*said))


def test_conditions_are_models_of_their_own(tmp_path):
    write(tmp_path, records("probe", rows=120, skill=0.9))
    write(tmp_path, records("probe", rows=120, skill=0.5, seed=1, condition="blank_images"))
    frame = read_results(tmp_path)
    (found,) = compare(frame, "probe", "probe@blank_images", resamples=200)
    assert verdict(found) == "ahead" and found.second == "probe@blank_images"
    with pytest.raises(ConnectomeBenchError, match="no results of probe@generated; there are results of probe, "):
        compare(frame, "probe", "probe@generated")
    with pytest.raises(ConnectomeBenchError, match="with itself"):
        compare(frame, "probe", "probe")


def test_each_condition_is_held_against_its_own_answers(tmp_path):
    usual = records("probe", rows=120, skill=0.9)
    turned = {"yes": "no", "no": "yes"}
    write(tmp_path, usual)
    write(tmp_path, [r | {"condition": "shuffled_labels", "answer": turned[r["answer"]]} for r in usual])
    frame = read_results(tmp_path)
    (found,) = compare(frame, "probe", "probe@shuffled_labels", resamples=100)
    first, second = (estimate.value for estimate in found.values)
    assert (
        first > 0.8 and second == pytest.approx(1 - first) and found.difference.value == pytest.approx(first - second)
    )
    assert found.mcnemar_p < 1e-6 and found.kappa.value == 1


def test_shared_samples_alone_can_be_compared(tmp_path):
    write(tmp_path, records("probe"))
    write(tmp_path, records("person-a", seed=3)[10:30])
    frame = read_results(tmp_path)
    (found,) = compare(frame, "probe", "person-a", shared=True, resamples=50)
    assert found.difference.n == 20
    here = frame[frame["sample_id"].isin([f"s{i:03d}" for i in range(10, 30)])]
    expected = {s.model: s.estimates["balanced_accuracy"].value for s in summarise(here, resamples=10)}
    assert found.difference.value == pytest.approx(expected["probe"] - expected["person-a"])


def test_the_verdict_comes_from_the_paired_interval(tmp_path):
    write(tmp_path, records("good", rows=120, skill=0.95))
    write(tmp_path, records("bad", rows=120, skill=0.5, seed=1))
    write(tmp_path, records("like_good", rows=120, skill=0.95, seed=2))
    frame = read_results(tmp_path)
    told = [verdict_text(compare(frame, *pair, resamples=300)[0]) for pair in (("good", "bad"), ("bad", "good"))]
    assert told == ["good is better than bad", "bad is worse than good"]
    (close,) = compare(frame, "good", "like_good", resamples=300)
    assert close.difference.lower < 0 < close.difference.upper
    assert verdict_text(close) == "good and like_good cannot be distinguished at n = 120"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": "yes"}, "cannot be compared: only one answer is right in all samples"),
        ({"group": "one"}, "cannot be distinguished: all samples are of one group"),
    ],
)
def test_what_cannot_be_decided_is_said_and_not_decided(tmp_path, changes, words):
    for seed, name in enumerate(("a", "b")):
        write(tmp_path, records(name, seed=seed, skill=(0.9, 0.5)[seed], **changes))
    (found,) = compare(read_results(tmp_path), "a", "b", resamples=20)
    assert verdict(found) == "undecided" and words in verdict_text(found)


def test_a_model_that_always_answers_the_same_is_told(tmp_path):
    """Chance with an interval of no width, and no error of calibration: both say nothing, so the answer is named."""
    constant = [row | {"prediction": "no", "probability": 0.5} for row in records("constant", rows=120)]
    write(tmp_path, constant)
    write(tmp_path, records("probe", rows=120, skill=0.8))
    frame = read_results(tmp_path)
    summaries = {s.model: s for s in summarise(frame, resamples=50)}
    assert summaries["constant"].always == "no" and summaries["probe"].always is None
    assert summaries["constant"].estimates["balanced_accuracy"].value == 0.5
    (found,) = compare(frame, "probe", "constant", resamples=50)
    assert found.always == (None, "no")
    text = as_text([found])
    assert re.search(r"^  constant .*, always answers no$", text, re.MULTILINE)
    assert not re.search(r"^  probe .*always", text, re.MULTILINE)
    (line, *_) = summary_lines(frame[frame["model"] == "constant"])
    assert line.endswith("it always answers no")
    unread = [row | {"prediction": ""} for row in records("silent", rows=12)]
    assert only_answer(np.asarray([row["prediction"] for row in unread])) is None
    assert only_answer(np.asarray(["no"])) is None


@pytest.mark.parametrize(("groups", "few"), [(19, True), (20, False)])
def test_a_verdict_from_under_twenty_groups_carries_a_warning(tmp_path, groups, few):
    for model, skill in (("probe", 0.9), ("trivial", 0.5)):
        rows = records(model, rows=120, skill=skill, seed=len(model))
        write(tmp_path, [row | {"group": f"g{i % groups}"} for i, row in enumerate(rows)])
    (found,) = compare(read_results(tmp_path), "probe", "trivial", resamples=50)
    assert ("too narrow" in verdict_text(found)) == few


def test_few_groups_are_warned_of(tmp_path):
    for seed, name in enumerate(("a", "b")):
        write(tmp_path, [row | {"group": f"g{i % 3}"} for i, row in enumerate(records(name, seed=seed))])
    (found,) = compare(read_results(tmp_path), "a", "b", resamples=20)
    assert verdict_text(found).endswith("; with only 3 groups, the interval is too narrow")


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
    corrected = holm([math.nan, 0.02])
    assert math.isnan(corrected[0]) and corrected[1] == 0.02


def test_the_command_says_what_the_function_finds(tmp_path, capsys):
    write(tmp_path, records("probe", rows=120, skill=0.9))
    for species in ("fly", "mouse"):
        for seed, name in enumerate(("probe", "trivial"), 5):
            write(tmp_path, records(name, rows=120, skill=(0.9, 0.6)[seed - 5], seed=seed, species=species))
    assert main(["compare", str(tmp_path), "probe", "trivial"]) == 0
    text = capsys.readouterr().out
    found = compare(read_results(tmp_path), "probe", "trivial")
    corrected = holm([c.difference.p for c in found])
    assert len(found) == 2 and len(text.split("\n\n")) == 2
    for block, c, p in zip(text.split("\n\n"), found, corrected, strict=True):
        d = c.difference
        assert block.startswith(f"merge_action, {c.species}, test: 120 samples in 60 groups\n")
        for e in c.values:
            assert f"{e.value:.3f} [{e.lower:.3f}, {e.upper:.3f}]" in block
        assert f"{d.value:+.3f} [{d.lower:+.3f}, {d.upper:+.3f}]" in block
        assert f"p = {d.p:.2g} by bootstrap over groups ({p:.2g} by Holm over 2 comparisons)" in block
        assert f"{c.mcnemar_p:.2g} by McNemar" in block and "probe is better than trivial" in block
    assert main(["compare", str(tmp_path), "probe", "trivial", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["species"], r["p_holm"], r["verdict"]) for r in rows] == [
        (c.species, p, "probe is better than trivial") for c, p in zip(found, corrected, strict=True)
    ]
    assert rows[0]["difference"]["value"] == found[0].difference.value
    assert main(["compare", str(tmp_path), "probe", "nobody"]) == 2
    assert "no results of nobody; there are results of probe, trivial" in capsys.readouterr().err


def test_folds_are_counted_together(tmp_path, capsys):
    halves = [tmp_path / "east", tmp_path / "west"]
    for number, half in enumerate(halves):
        for name, skill in (("probe", 0.8), ("trivial", 0.5)):
            rows = records(name, rows=40, skill=skill, seed=number + len(name))
            own = {"dataset_fingerprint": str(number), "model_revision": str(number)}
            # a body may lie in both halves
            write(half, [row | own | {"sample_id": f"{number}-{row['sample_id']}"} for row in rows])
    folds = ["--fold", str(halves[1]), "--json"]
    assert main(["compare", str(halves[0]), "probe", "trivial", *folds]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    frames = [read_results(half) for half in halves]
    groups = {group for frame in frames for group in frame["group"]}
    assert found["difference"]["n"] == 80 and found["difference"]["n_groups"] == len(groups)
    both = {name: [frame[frame["model"] == name] for frame in frames] for name in ("probe", "trivial")}
    for value, name in zip(found["values"], ("probe", "trivial"), strict=True):
        pairs = [(t, p) for frame in both[name] for t, p in zip(frame["answer"], frame["prediction"], strict=True)]
        recalls = [np.mean([p == answer for t, p in pairs if t == answer]) for answer in ("yes", "no")]
        assert value["value"] == pytest.approx(np.mean(recalls))
    assert main(["compare", str(halves[0]), "probe", "trivial", "--fold", str(halves[0])]) == 2
    assert "occurs twice for one model" in capsys.readouterr().err


def test_json_has_no_nan(tmp_path, capsys):
    for seed, name in enumerate(("a", "b")):
        write(tmp_path, records(name, seed=seed, answer="yes"))
    assert main(["compare", str(tmp_path), "a", "b", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert row["difference"]["value"] is None and row["p_holm"] is None
