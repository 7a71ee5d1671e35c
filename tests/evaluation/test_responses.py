"""Cues in replies, their negation, and the numbers that follow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.responses.changes import checkpoint_series, find_changes, given_series
from connectomebench.evaluation.responses.cues import USES, collect_replies
from connectomebench.evaluation.responses.lexicon import find_mentions, read_lexicon
from connectomebench.evaluation.responses.summary import median_statistic, summarise_replies
from connectomebench.evaluation.results import read_results, result_path, write_results

SMALL = """\
version: 1
negation: {before: ["no", not, without], after: [absent], except: [not only], ends: [but, and], reach: 20}
cues:
  gap: {title: gap, words: [gap*]}
  continuity: {title: continuity, words: [continu*], opposite: [discontinu*]}
"""


@pytest.fixture(scope="module")
def lexicon():
    return read_lexicon()


@pytest.fixture
def small(tmp_path: Path):
    (tmp_path / "small.yaml").write_text(SMALL)
    return read_lexicon(tmp_path / "small.yaml")


def readings(text: str, lexicon, cue: str) -> list[str]:
    return [m.reading for m in find_mentions(text, lexicon) if m.cue == cue]


@pytest.mark.parametrize(
    ("text", "cue", "expected"),
    [
        ("There is a clear gap between them.", "gap", ["affirmed"]),
        ("There is no clear gap between them.", "gap", ["denied"]),
        ("No clear continuity is visible.", "continuity", ["denied"]),
        ("They aren't continuous.", "continuity", ["denied"]),
        ("The two cannot be continuous.", "continuity", ["denied"]),
        ("Continuity is absent here.", "continuity", ["denied"]),
        ("The shaft is discontinuous.", "continuity", ["denied"]),
        ("There are no discontinuities.", "continuity", ["affirmed"]),
        ("Not only continuous but aligned.", "continuity", ["affirmed"]),
        ("There is no doubt about the gap.", "gap", ["affirmed"]),
        ("There is no gap, and the shaft is continuous.", "continuity", ["affirmed"]),
        ("It has no gap but a branch.", "branching", ["affirmed"]),
        ("no gaps, breaks, or branches", "branching", ["denied"]),
        ("no gaps, breaks and a branch", "branching", ["affirmed"]),
        ("This is crossing rather than branching.", "branching", ["denied"]),
        ("No gap. A branch follows.", "branching", ["affirmed"]),
        ("They show no artefacts (such as gaps or branches).", "branching", ["denied"]),
        ("1. **Continuity**: none of it\n2. **Gap:** seen", "continuity", ["named"]),
        ("A cross-section through it.", "crossing", []),
        ("An X-shaped crossing.", "crossing", ["affirmed", "affirmed"]),
        ("They have a similar apparent diameter.", "calibre_alike", ["affirmed"]),
        ("There are no abrupt changes in diameter.", "calibre_differs", ["denied"]),
        ("It tapers; the diameter is similar.", "calibre_alike", ["affirmed"]),
        ("In all three views they meet.", "several_views", ["affirmed"]),
        ("In the first view they meet.", "several_views", []),
    ],
)
def test_mentions_are_affirmed_denied_or_only_named(text, cue, expected, lexicon):
    assert readings(text, lexicon, cue) == expected


def test_mentions_tell_where_they_stand(lexicon):
    text = "Ein Café: the shaft isn't continuous — “gap”!"
    found = {m.cue: text[m.start : m.end] for m in find_mentions(text, lexicon)}
    assert found == {"continuity": "continuous", "gap": "gap"}


def test_a_negation_reaches_as_far_as_the_lexicon_says(tmp_path: Path):
    (tmp_path / "near.yaml").write_text(SMALL.replace("reach: 20", "reach: 1"))
    near = read_lexicon(tmp_path / "near.yaml")
    assert readings("no clear gap", near, "gap") == ["denied"]
    assert readings("no clear and", near, "gap") == []
    assert readings("no clear wide gap", near, "gap") == ["affirmed"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version: 1", "version: 2"), "version is 2"),
        (('["no", not, without]', "[no]"), "must be a list of words (put yes and no in quotes)"),
        (("reach: 20", "reach: far"), "reach must be a whole number"),
        (("words: [gap*]", "words: []"), "cue gap: words names nothing"),
        (("words: [gap*]", "words: ['(a+)+b']"), "is no pattern"),
        (("words: [gap*]", "words: ['~ gap']"), "is no pattern"),
        (("title: gap,", "titel: gap,"), "knows no 'titel'"),
        (("  gap:", "  Gap!:"), "the name 'Gap!'"),
        (("cues:", "cue:"), "knows no 'cue'"),
        (("version: 1", "version: [1"), "is not YAML"),
    ],
)
def test_a_damaged_lexicon_is_refused(change, message, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(SMALL.replace(*change))
    with pytest.raises(ConnectomeBenchError) as error:
        read_lexicon(tmp_path / "bad.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_lexicon_is_refused(tmp_path: Path):
    with pytest.raises(ConnectomeBenchError, match="cannot read the lexicon"):
        read_lexicon(tmp_path / "none.yaml")


def row(i: int, **changes):
    return {
        "sample_id": f"s{i:03d}",
        "task": "merge_action",
        "species": "fly",
        "partition": "test",
        "model": "m",
        "model_revision": "r",
        "dataset_fingerprint": "f",
        "code_version": "0",
        "question": "?",
        "prediction": "yes",
        "answer": "yes" if i % 2 else "no",
        "group": f"g{i // 2}",
    } | changes


def written(folder: Path, rows) -> pd.DataFrame:
    first = rows[0]
    place = (first[key] for key in ("model", "task", "species", "partition"))
    return read_results(write_results(result_path(folder, *place), rows))


def test_every_vote_is_a_reply_and_tags_are_no_words(small, tmp_path: Path):
    rows = [
        row(
            0,
            votes=["yes", None, "no"],
            replies=[
                "<analysis>One two three four gap.</analysis><answer>yes</answer><confidence>80</confidence>",
                "cut off",
                "<answer>no</answer>",
            ],
            tokens=30,
        ),
        row(1, reply="<think>no gap</think><answer>yes</answer>", tokens=7),
        row(2),
    ]
    [replies], silent = collect_replies(written(tmp_path, rows), small)
    assert silent == []
    assert replies.sample_id.tolist() == ["s000"] * 3 + ["s001"]
    assert replies.prediction.tolist() == ["yes", "", "no", "yes"]
    assert replies.words.tolist() == [5, 2, 0, 2]
    assert replies.reasoned.tolist() == [True, False, False, False]
    assert replies.tokens.tolist() == [10, 10, 10, 7]
    assert replies.uses[USES.index("affirmed"), 0].tolist() == [True, False, False, False]
    assert replies.uses[USES.index("denied"), 0].tolist() == [False, False, False, True]
    assert replies.uses[USES.index("mentioned"), 0].tolist() == [True, False, False, True]


def test_records_without_replies_are_named_or_refused(small, tmp_path: Path):
    spoken, scored = [row(0, reply="gap"), row(1)], [row(0, model="probe"), row(1, model="probe")]
    frame = pd.concat([written(tmp_path, spoken), written(tmp_path, scored)])
    found, silent = collect_replies(frame, small)
    assert [one.name for one in found] == ["m"]
    assert silent == ["probe merge_action/fly/test"]
    with pytest.raises(ConnectomeBenchError, match="keep no replies"):
        collect_replies(frame[frame["model"] == "probe"], small)
    with pytest.raises(ConnectomeBenchError, match="has not one vote a reply"):
        collect_replies(written(tmp_path / "odd", [row(0, replies=["a", "b"], votes=["yes"])]), small)


def argued(n: int = 120, seed: int = 0, model: str = "m", affirm: float = 0.5, skill=(0.9, 0.6)):
    """Rows whose replies affirm a gap at random; with it they are right more often, with the same answers."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        gap = generator.random() < affirm
        right = generator.random() < skill[0 if gap else 1]
        truth = "yes" if i % 2 else "no"
        said = truth if right else ("no" if truth == "yes" else "yes")
        text = "I see a gap in the middle" if gap else "I see no gap in the middle"
        reply = f"<analysis>{text}</analysis><answer>{said}</answer>"
        rows.append(row(i, model=model, prediction=said, answer=truth, reply=reply, group=f"g{i}"))
    return rows


def test_shares_and_differences_are_those_counted_by_hand(small, tmp_path: Path):
    rows = argued()
    [replies], _ = collect_replies(written(tmp_path, rows), small)
    summary = summarise_replies(replies, small)
    gap = np.array(["a gap" in r["reply"] for r in rows])
    right = np.array([r["prediction"] == r["answer"] for r in rows])
    said = np.array([r["prediction"] for r in rows])
    affirmed = next(use for use in summary.cues if (use.cue, use.use) == ("gap", "affirmed"))
    assert affirmed.share.value == pytest.approx(gap.mean())
    assert affirmed.share.n == 120
    # the interval of a share of independent samples is near that of the binomial
    half = 1.96 * math.sqrt(gap.mean() * (1 - gap.mean()) / 120)
    assert affirmed.share.upper - affirmed.share.lower == pytest.approx(2 * half, rel=0.15)
    assert affirmed.right is not None and affirmed.right_same_answer is not None
    assert affirmed.right.value == pytest.approx(right[gap].mean() - right[~gap].mean())
    above = below = 0.0
    for answer in ("yes", "no"):
        with_it, without = right[gap & (said == answer)], right[~gap & (said == answer)]
        weight = len(with_it) * len(without) / (len(with_it) + len(without))
        above += weight * (with_it.mean() - without.mean())
        below += weight
    assert affirmed.right_same_answer.value == pytest.approx(above / below)
    assert affirmed.right_same_answer.lower > 0
    assert affirmed.holm == pytest.approx(2 * affirmed.right_same_answer.p)
    assert summary.parsed.value == 1
    assert (summary.words.value, summary.n_samples) == (7, 120)
    assert math.isnan(summary.tokens.value)


def test_a_cue_that_only_goes_with_the_answer_is_no_sign_of_being_right(small, tmp_path: Path):
    """Who says no affirms a gap, and no is more often right: that shows among all replies, not within one answer."""
    counts = {("no", True, True): 64, ("no", True, False): 16, ("no", False, True): 16, ("no", False, False): 4}
    counts |= {("yes", True, True): 8, ("yes", True, False): 32, ("yes", False, True): 12, ("yes", False, False): 48}
    rows = []
    for said, right, gap in (key for key, n in counts.items() for _ in range(n)):
        truth = said if right else {"yes": "no", "no": "yes"}[said]
        reply = "there is a gap right here" if gap else "there is nothing right here"
        rows.append(row(len(rows), prediction=said, answer=truth, reply=reply, group=f"g{len(rows)}"))
    [replies], _ = collect_replies(written(tmp_path, rows), small)
    affirmed = next(u for u in summarise_replies(replies, small).cues if (u.cue, u.use) == ("gap", "affirmed"))
    assert affirmed.right is not None and affirmed.right_same_answer is not None
    assert affirmed.right.value == pytest.approx(0.24)
    assert affirmed.right.lower > 0
    assert affirmed.right_same_answer.value == pytest.approx(0)
    assert affirmed.holm > 0.5


def test_few_wrong_answers_are_not_compared(small, tmp_path: Path):
    [replies], _ = collect_replies(written(tmp_path, argued(skill=(1.0, 0.6))), small)
    affirmed = next(u for u in summarise_replies(replies, small).cues if (u.cue, u.use) == ("gap", "affirmed"))
    assert affirmed.right is None
    assert math.isnan(affirmed.holm)


def test_the_median_is_that_of_numpy():
    values = np.random.default_rng(0).integers(0, 50, 31).astype(float)
    for n in (30, 31):
        weights = np.ones((1, n))
        assert median_statistic(values[:n])(weights)[0] == np.median(values[:n])
    twice = np.array([[2.0, 0.0, 1.0, 0.0]])
    assert median_statistic(np.array([4.0, 1.0, 9.0, 5.0]))(twice)[0] == np.median([4, 4, 9])


def test_checkpoints_are_ordered_by_number(small, tmp_path: Path):
    names = ["a-checkpoint-1000", "a-checkpoint-200", "a/checkpoint-9", "b-checkpoint-1", "plain"]
    frames = [written(tmp_path, [row(0, model=name, reply="gap")]) for name in names]
    replies, _ = collect_replies(pd.concat(frames), small)
    assert checkpoint_series(replies) == [("a-checkpoint-200", "a-checkpoint-1000")]
    assert given_series(replies, ["plain", "b-checkpoint-1"]) == ("plain", "b-checkpoint-1")
    for order, message in ((["plain"], "two or more"), (["plain", "plain"], "two or more"), (["plain", "x"], "'x'")):
        with pytest.raises(ConnectomeBenchError, match=message):
            given_series(replies, order)


def changed(tmp_path: Path, lexicon, first, last):
    replies, _ = collect_replies(pd.concat([written(tmp_path, first), written(tmp_path, last)]), lexicon)
    found = find_changes(replies, (first[0]["model"], last[0]["model"]), lexicon)
    return {(change.cue, change.use): change for change in found}


def test_what_comes_up_more_often_is_found_and_what_does_not_change_is_not(small, tmp_path: Path):
    first, last = argued(model="m-1", affirm=0.3), argued(model="m-2", affirm=0.8, seed=1)
    found = changed(tmp_path, small, first, last[20:])
    gap = found["gap", "affirmed"]
    counts = [np.mean(["a gap" in r["reply"] for r in rows[20:]]) for rows in (first, last)]
    assert gap.difference.value == pytest.approx(counts[1] - counts[0])
    assert (gap.n_samples, gap.difference.n, gap.verdict) == (100, 200, "more often")
    assert found["gap", "denied"].verdict == "less often"
    assert gap.holm == pytest.approx(2 * gap.difference.p)  # nothing else was tested
    assert found["continuity", "affirmed"].verdict == "undecided"
    assert math.isnan(found["continuity", "affirmed"].holm)


def test_few_changed_groups_stay_undecided(small, tmp_path: Path):
    first = [row(i, model="m-1", reply="nothing to see", group=f"g{i}") for i in range(60)]
    last = [row(i, model="m-2", reply="a gap" if i < 9 else "nothing", group=f"g{i}") for i in range(60)]
    gap = changed(tmp_path, small, first, last)["gap", "affirmed"]
    assert gap.difference.lower > 0
    assert gap.verdict == "undecided"


def test_two_models_that_saw_other_data_are_not_compared(small, tmp_path: Path):
    first = [row(i, model="m-1", reply="gap") for i in range(4)]
    last = [row(i, model="m-2", reply="gap", answer="yes") for i in range(4)]
    with pytest.raises(ConnectomeBenchError, match="saw different data"):
        changed(tmp_path, small, first, last)
    elsewhere = [row(i, model="m-2", reply="gap") for i in range(10, 12)]
    assert changed(tmp_path / "apart", small, first, elsewhere) == {}
