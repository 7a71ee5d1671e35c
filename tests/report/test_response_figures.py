"""Files and page on what models write, from the command on."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from lxml import html
from PIL import Image

from connectomebench.cli import main
from connectomebench.evaluation.results import result_path, write_results

LEXICON = """\
version: 1
negation: {before: ["no"], reach: 5}
cues:
  gap: {title: gap or break, words: [gap*]}
  loop: {title: loop, words: [loop*]}
"""


def write(folder: Path, model: str, affirm: float, seed: int, reply: bool = True, species: str = "fly") -> None:
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(80):
        truth = "yes" if i % 2 else "no"
        said = truth if generator.random() < 0.7 else ("no" if truth == "yes" else "yes")
        words = "There is a gap & <img src=x> here." if generator.random() < affirm else "There is no gap to see."
        rows.append(
            {
                "sample_id": f"s{i:03d}",
                "task": "merge_action",
                "species": species,
                "partition": "test",
                "model": model,
                "model_revision": "r1",
                "dataset_fingerprint": "f",
                "code_version": "0",
                "question": "?",
                "prediction": said,
                "answer": truth,
                "group": f"g{i}",
                "reply": f"<analysis>{words}</analysis><answer>{said}</answer>" if reply else None,
            }
        )
    write_results(result_path(folder, model, "merge_action", species, "test"), rows)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write(folder, "run-checkpoint-20", 0.2, 1)
    write(folder, "run-checkpoint-100", 0.8, 2)
    write(folder, "probe", 0, 3, reply=False)
    return folder


@pytest.fixture(scope="module")
def analysed(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("analysed")
    (out / "lexicon.yaml").write_text(LEXICON)
    assert main(["replies", str(results), "--out", str(out / "a"), "--lexicon", str(out / "lexicon.yaml")]) == 0
    return out / "a"


def test_numbers_agree_in_all_files(analysed: Path):
    document = json.loads((analysed / "replies.json").read_text(), parse_constant=pytest.fail)
    assert document["without_replies"] == ["probe merge_action/fly/test"]
    assert document["series"] == [["run-checkpoint-20", "run-checkpoint-100"]]
    rows = list(csv.DictReader((analysed / "cues.csv").open()))
    assert len(rows) == 2 * 2 * 3
    stored = {(one["model"], cue["cue"], cue["use"]): cue for one in document["replies"] for cue in one["cues"]}
    for row in rows:
        cue = stored[row["model"], row["cue"], row["use"]]
        assert float(row["share"]) == cue["share"]["value"]
        assert row["replies"] == "80"
    changes = {(row["cue"], row["use"]): row for row in csv.DictReader((analysed / "changes.csv").open())}
    share = {model: stored[model, "gap", "affirmed"]["share"]["value"] for model in document["series"][0]}
    difference = float(changes["gap", "affirmed"]["difference"])
    assert math.isclose(difference, share["run-checkpoint-100"] - share["run-checkpoint-20"])
    assert changes["gap", "affirmed"]["verdict"] == "more often"
    assert changes["loop", "affirmed"]["holm_p"] == ""


def test_the_page_tells_what_there_is_and_shows_replies_as_text(analysed: Path):
    page = html.fromstring((analysed / "index.html").read_text(encoding="utf-8"))
    text = " ".join(page.text_content().split())
    assert "160 replies in 2 files of results" in text
    assert "1 file keeps no replies" in text
    assert "run-checkpoint-20 → run-checkpoint-100" in text
    assert "gap & <img src=x> here" in text  # from a reply, not as markup
    assert not page.xpath("//img[@src='x']")
    assert {mark.text_content() for mark in page.xpath("//mark")} == {"gap"}
    for file in [*page.xpath("//img/@src"), *page.xpath("//a/@href")]:
        assert file.startswith("#") or (analysed / file).is_file()


def test_the_figure_shows_more_where_more_is_said(analysed: Path):
    with Image.open(analysed / "cues.png") as figure:
        pixels = np.asarray(figure.convert("RGB")).astype(int)
    assert 800 < pixels.shape[1] < 2000
    colours = {"first": (0xD5, 0x5E, 0x00), "last": (0x00, 0x72, 0xB2)}
    half = pixels[:, : pixels.shape[1] // 2]  # the panel of shares; that of changes stands beside it
    right = {
        name: np.flatnonzero((abs(half - colour).sum(axis=2) < 12).any(axis=0)).max()
        for name, colour in colours.items()
    }
    assert right["last"] > right["first"] + 50


def test_the_same_records_give_the_same_bytes(analysed: Path, results: Path, tmp_path: Path):
    again = tmp_path / "again"
    assert main(["replies", str(results), "--out", str(again), "--lexicon", str(analysed.parent / "lexicon.yaml")]) == 0
    assert {path.name for path in again.iterdir()} == {
        "index.html",
        "replies.json",
        "cues.csv",
        "changes.csv",
        "cues.png",
    }
    for path in again.iterdir():
        assert path.read_bytes() == (analysed / path.name).read_bytes(), path.name


def test_an_order_given_by_hand_is_followed_or_refused(analysed: Path, results: Path, tmp_path: Path, capsys):
    command = [
        "replies",
        str(results),
        "--out",
        str(tmp_path / "o"),
        "--lexicon",
        str(analysed.parent / "lexicon.yaml"),
    ]
    assert main([*command, "--order", "run-checkpoint-100", "run-checkpoint-20"]) == 0
    changes = {(row["cue"], row["use"]): row for row in csv.DictReader((tmp_path / "o" / "changes.csv").open())}
    assert changes["gap", "affirmed"]["verdict"] == "less often"
    assert main([*command, "--order", "run-checkpoint-100", "probe"]) == 2
    assert "no replies of 'probe'" in capsys.readouterr().err
    write(tmp_path / "other", "elsewhere", 0.5, 4, species="human")
    command[2:2] = [str(tmp_path / "other")]
    assert main([*command, "--order", "run-checkpoint-100", "elsewhere"]) == 2
    assert "share no sample with replies from both" in capsys.readouterr().err
