"""`connectomebench proofread` on the command line: one line for what the user can mend, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_segmentation import write_toy

from connectomebench.cli import main
from connectomebench.proofreading.edit_log import read_edits
from connectomebench.review.review_session import ReviewSession


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "none"], "there is no none; give a folder of models"),
        (["--models", "."], "holds no model of"),
        (["--models", ".", "--trusted", "ids.txt"], "ids.txt: '-4' is no segment id"),
        (["--models", ".", "--trusted", "missing.txt"], "cannot read missing.txt"),
        (["--models", ".", "--min-confidence", "2"], "--min-confidence is 2.0; it must lie between 0 and 1"),
    ],
)
def test_one_line_and_no_output(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
):
    write_toy(tmp_path)
    (tmp_path / "ids.txt").write_text("12\n-4\n")
    monkeypatch.chdir(tmp_path)
    assert main(["proofread", "--config", "toy.yaml", "--out", "out", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_what_waits_for_a_person_ends_the_command_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_toy(tmp_path, truth=False)
    (tmp_path / "models.yaml").write_text("merge_action: person\n")
    monkeypatch.chdir(tmp_path)
    command = ["proofread", "--config", "toy.yaml", "--models", ".", "--out", "out"]
    assert main(command) == 0
    queue = read_edits(tmp_path / "out/queue.jsonl")
    said = capsys.readouterr().out.splitlines()
    assert (
        said[-1] == f"{len(queue)} corrections wait for a person: connectomebench review out, then this command again"
    )
    # nobody was asked before: every one is as sure as the next
    assert {(edit.confidence, edit.identification, edit.correction) for edit in queue} == {(1.0, None, None)}
    session = ReviewSession(tmp_path / "out")
    for edit in queue:
        assert session.decide("ada", edit.edit_id, "reject", 1.0)
    assert main(command) == 0 and read_edits(tmp_path / "out/queue.jsonl") == []
    said = capsys.readouterr().out
    assert f"people accepted 0 corrections and rejected {len(queue)}; 0 accepted ones could not be applied" in said
    assert "wait for a person" not in said


def test_other_commands_still_want_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_toy(tmp_path, truth=False)
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--config", "toy.yaml", "--out", "out"]) == 2
    assert "add `proofread` (the truth) or `simulated`" in capsys.readouterr().err
