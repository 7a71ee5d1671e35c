"""Edits go to a ChunkedGraph as they were recorded, each once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import run_forked
from replay_answers import TABLE, Recording
from replay_server import FIXTURE, Faults, ReplayServer, replay_server

from connectomebench.cli import main
from connectomebench.proofreading.edit_log import Edit, read_edits
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.outputs import write_mapping
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels
from connectomebench.proofreading.submission import latest_edits
from connectomebench.sources.cave import connect
from connectomebench.sources.cave.cave_config import RequestConfig
from connectomebench.sources.cave.graph_edits import GraphEdits, Made, Seed

OPERATIONS = {o["operation_id"]: o for o in json.loads((FIXTURE / "operations.json").read_text())["operations"]}
Seeds = list[tuple[int, list[float]]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ReplayServer]:
    monkeypatch.setenv("HOME", str(tmp_path))  # no token
    with replay_server(edits=True) as running:
        yield running


def recorded(*operations: int) -> list[tuple[str, str, Seeds, Seeds]]:
    """Return recorded operations as edits: name, kind, seeds of both sides."""
    made = []
    for number in operations:
        told = OPERATIONS[number]
        sides = ([(s["supervoxel_id"], s["point_nm"]) for s in told[side]] for side in ("sources", "sinks"))
        made.append((f"{number:016d}", told["kind"], *sides))
    return made


def write_run(folder: Path, edits: list[tuple[str, str, Seeds, Seeds]], *, known: bool = True) -> Path:
    """Write what `submit` reads of a run: edits, and which supervoxel of the server each row is."""
    folder.mkdir(exist_ok=True)
    ids = [s for _, _, *sides in edits for side in sides for s, _ in side]
    rows = {s: i + 1 for i, s in enumerate(dict.fromkeys(ids))}
    n = len(rows)
    sources = np.array(list(rows) if known else [0] * n, np.uint64)
    none = np.zeros((0, 2), np.int32)
    pieces = Supervoxels(
        np.ones(n, np.uint64),
        np.zeros((n, 3), np.float32),
        np.ones(n, np.int64),
        none,
        np.zeros(0, np.float32),
        sources,
    )
    write_mapping(SegmentationGraph(pieces), folder)
    write_edges(SegmentationGraph(pieces), folder)
    lines = []
    for name, kind, a, b in edits:
        points = [tuple(tuple(p) for _, p in side) for side in (a, b)]
        own = [tuple(rows[s] for s, _ in side) for side in (a, b)]
        lines.append(
            Edit(name, kind, 1, points[0][0], *points, *own, (1,), 1.0, None, 0.9, 0.1, "end", after=(2,)).as_line()  # type: ignore[arg-type]
        )
    (folder / "edits.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def run(capsys: pytest.CaptureFixture[str], server: ReplayServer, out: Path, *words: str, code: int = 0) -> list[str]:
    assert main(["submit", str(out), "--server", server.url, "--table", TABLE, *words]) == code
    said = capsys.readouterr()
    if code:
        assert said.err.count("\n") == 1
    return (said.out + said.err).splitlines()


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "submission/log.jsonl").read_text().splitlines()[1:]]


def test_a_dry_run_changes_nothing(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1, 2, 3))
    lines = run(capsys, server, out)
    assert ["merge" in lines[1], "split" in lines[2], "merge" in lines[3]] == [True, True, True]
    assert all("would be sent" in line for line in lines[1:4])
    preview = Recording(FIXTURE)
    sides = next(
        json.loads(answer.body)["supervoxel_connected_components"]
        for request, answer in preview.requests
        if request.path.endswith("split_preview")
        and str(OPERATIONS[2]["sources"][0]["supervoxel_id"]) in str(request.body)
    )
    assert f"({len(sides[0])} and {len(sides[1])} supervoxels)" in lines[2]
    assert lines[-1].startswith(f"dry run: 3 would be sent to {TABLE} on {server.url}, 0 are there already")
    assert server.edits == [] and not (out / "submission").exists()


def test_what_is_sent_is_what_was_recorded_and_is_sent_once(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1, 2, 3, 5))
    assert run(capsys, server, out, "--yes")[-1].startswith("4 made in")
    known = {(r.path, r.body) for r, _ in Recording(FIXTURE, "edits.jsonl.gz").requests}
    assert len(server.edits) == 4 and all((r.path, r.body) in known for r in server.edits)
    assert [r.path.rsplit("/", 1)[1] for r in server.edits] == ["merge", "split", "merge", "merge"]
    made = [line for line in log_of(out) if line["status"] == "made"]
    assert [line["operation_id"] for line in made] == [1, 2, 3, 5]
    assert [line["roots"] for line in made] == [OPERATIONS[i]["new_root_ids"] for i in (1, 2, 3, 5)]
    assert run(capsys, server, out, "--yes")[-1].startswith("0 made in")
    assert len(server.edits) == 4 and "4 were sent before" in run(capsys, server, out)[-1]


def test_a_cut_that_separates_nothing_is_told(server: ReplayServer, tmp_path: Path, capsys):
    lines = run(capsys, server, write_run(tmp_path / "out", recorded(4)), "--yes")
    assert "the server made operation 4, which did not do it; look at it" in lines[1] and "1 to look at" in lines[-1]


def test_a_lost_answer_is_looked_up_and_not_sent_again(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1, 3))
    server.faults = Faults(force={"/merge": "truncated"})
    line = run(capsys, server, out, "--yes", code=2)[-1]
    assert "no answer" in line and "run again to see whether it was made" in line
    server.faults = Faults()
    lines = run(capsys, server, out, "--yes")
    assert "was made, as the graph shows" in lines[1] and lines[-1].startswith("2 made")
    assert len(server.edits) == 2  # the first one once


def test_what_got_no_answer_and_is_not_there_waits_for_a_person(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1))
    server.faults = Faults(force={"/merge": 503})
    assert "no answer (the server answered 503)" in run(capsys, server, out, "--yes", code=2)[-1]
    server.faults = Faults()
    lines = run(capsys, server, out, "--yes")
    assert "the graph does not show it" in lines[1] and "1 to look at" in lines[-1] and len(server.edits) == 1
    assert "was sent before, without an answer" in run(capsys, server, out)[1]
    assert run(capsys, server, out, "--yes", "--resend")[-1].startswith("1 made") and len(server.edits) == 2


def test_a_busy_server_and_a_refused_token_end_the_run(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1))
    server.faults = Faults(force={"/merge": 429})
    assert "it was not made, so run again later" in run(capsys, server, out, "--yes", code=2)[-1]
    assert len(server.edits) == 1  # no retries of its own
    server.faults = Faults(force={"/merge": 403})
    assert "the token has no permission" in run(capsys, server, out, "--yes", code=2)[-1]


def submit_until_killed(*words: str) -> None:
    """Kill this process when the server has made a merge; what is changed here is changed in it alone."""

    whole = GraphEdits.merge

    def merge(edits: GraphEdits, source: Seed, sink: Seed) -> Made:
        made = whole(edits, source, sink)
        os.kill(os.getpid(), signal.SIGKILL)
        return made

    pytest.MonkeyPatch().setattr(GraphEdits, "merge", merge)
    main([*words])


def test_a_kill_after_sending_does_not_send_twice(server: ReplayServer, tmp_path: Path, capsys):
    out = write_run(tmp_path / "out", recorded(1, 3))
    words = ["submit", str(out), "--server", server.url, "--table", TABLE, "--yes"]
    log = tmp_path / "killed.log"
    assert run_forked(lambda: submit_until_killed(*words), log) == -signal.SIGKILL, log.read_text()
    with (out / "submission/log.jsonl").open("ab") as stream:
        stream.write(b'{"edit_id": "00')  # cut short
    lines = run(capsys, server, out, "--yes")
    assert "was made, as the graph shows" in lines[1] and lines[-1].startswith("2 made")
    assert len(server.edits) == 2 and [line["status"] for line in log_of(out)] == ["sending", "made", "sending", "made"]


def test_each_refusal_is_one_line(server: ReplayServer, tmp_path: Path, capsys):
    server.moment = None  # the state in which these were refused
    cut = [(72057594037927956, [10335.0, 21075.0, 26535.0])], [(72057662757404678, [10305.0, 21155.0, 26365.0])]
    same = [(72057662891622445, [10775.0, 21505.0, 27325.0])]
    apart = [(72057594037927937, [10555.0, 20755.0, 26105.0])], [(72057594037927988, [10635.0, 20755.0, 26065.0])]
    edits = [("a" * 16, "split", *cut), ("b" * 16, "split", same, same), ("c" * 16, "split", *apart)]
    out = write_run(
        tmp_path / "out", [*edits, ("d" * 16, "merge", [(72128031636848643 + 10**9, [1.0, 2.0, 3.0])], same)]
    )
    lines = run(capsys, server, out, "--yes")
    assert any(line.startswith("b" * 16) and "both sides lie in supervoxel 72057662891622445" in line for line in lines)
    assert any("a" * 16 in line and "refused by the server: 400: Failed to find a cut" in line for line in lines)
    assert any("c" * 16 in line and "the graph is so already" in line for line in lines)
    assert any("d" * 16 in line and "the server does not know its supervoxels" in line for line in lines)
    assert len(server.edits) == 1 and "3 refused" in lines[-1]
    again = run(capsys, server, out)
    assert any("was refused by the server before" in line for line in again)
    unnamed = write_run(tmp_path / "unnamed", recorded(1), known=False)
    assert "proofread with source.volumes.supervoxels" in run(capsys, server, unnamed)[1]


def test_the_review_is_sent_until_the_run_has_gone_on_from_it(tmp_path: Path):
    out = write_run(tmp_path / "out", recorded(1))
    own, reviewed = out / "edits.jsonl", out / "review/edits.jsonl"
    assert latest_edits(out) == own
    (edit,) = read_edits(own)
    accepted = replace(edit, edit_id="f" * 16, confidence=1.0, decided_by="ada")
    reviewed.parent.mkdir()
    reviewed.write_text(own.read_text() + accepted.as_line() + "\n")
    assert latest_edits(out) == reviewed
    # the run took the decision in a round of its own
    own.write_text(own.read_text() + replace(accepted, round=3).as_line() + "\n")
    assert latest_edits(out) == own


def test_what_cannot_be_submitted_is_one_line(server: ReplayServer, tmp_path: Path, capsys):
    assert "proofread first" in run(capsys, server, tmp_path / "none", code=2)[-1]
    out = write_run(tmp_path / "out", recorded(1))
    run(capsys, server, out, "--yes")
    log = out / "submission/log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole.replace(TABLE.encode(), b"another"))
    assert "was submitted to another on" in run(capsys, server, out, "--yes", code=2)[-1]
    log.write_bytes(b"{}\n{}\n")
    assert "what was sent is not known; restore it" in run(capsys, server, out, "--yes", code=2)[-1]


def test_a_server_that_is_not_there_is_named_by_its_option(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    again = connect.with_retries
    hasty = RequestConfig(attempts=1, wait_s=0.001, longest_wait_s=0.01)
    monkeypatch.setattr(connect, "with_retries", lambda what, read, rules, login: again(what, read, hasty, login))
    out = write_run(tmp_path / "out", recorded(1))
    assert main(["submit", str(out), "--server", "http://127.0.0.1:9", "--table", TABLE]) == 2
    message = capsys.readouterr().err
    assert "http://127.0.0.1:9" in message and "--server" in message and "source.cave" not in message
