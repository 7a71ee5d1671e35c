"""What is read once and kept: counts over groups of roots, ids that are followed, and servers that give no answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from cave_configs import CAVE, EVERY_ROOT
from graph_truth import FIXTURE, Truth
from replay_answers import Answer, Request, error_answer
from replay_server import Faults, ReplayServer, replay_server

from connectomebench.build.config import parse_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import NOT_STATED_CITATION, NOT_STATED_LICENSE
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.cave import archive as archives
from connectomebench.sources.cave.archive import Archive, final_state
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.cave.cave_source import CaveSource
from connectomebench.sources.cave.history import UNREADABLE_DETAILS, UNREADABLE_ROOTS
from connectomebench.sources.cave.jobs import HistoryJob, JobSpec, read_history

UNKNOWN_ROOT = 288230376159999999


def config_of(url: str, roots: str = EVERY_ROOT, **settings: Any) -> CaveConfig:
    config = parse_config(yaml.safe_load(CAVE.replace("ROOTS", roots).replace("SERVER", url)))
    assert config.source.cave is not None
    return replace(config.source.cave, **settings)


def archive_of(config: CaveConfig, folder: Path) -> Archive:
    return Archive(JobSpec(config, "fly", folder, final_state(config, "fly", folder)), folder, SerialRunner())


@contextmanager
def answering(server: ReplayServer, instead: Callable[[Request], Answer | None]) -> Iterator[None]:
    """Let a server give other answers where a function has one."""
    answer = server.answer
    server.answer = lambda request: instead(request) or answer(request)
    try:
        yield
    finally:
        server.answer = answer


def test_operations_count_once_however_the_roots_are_grouped(
    server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = archive_of(config_of(server.url), tmp_path / "whole").history
    monkeypatch.setattr(archives, "_ROOTS_PER_JOB", 3)
    parts = archive_of(config_of(server.url), tmp_path / "parts").history
    assert len(list((tmp_path / "parts" / "history").iterdir())) == 9
    assert parts == whole
    assert Counter(parts.left_out.values()) == {"without an effect": 6, "undo or redo of another operation": 3}
    # several groups did see the same ones
    seen = [json.loads(path.read_text())["left_out"] for path in (tmp_path / "parts" / "history").iterdir()]
    assert sum(map(len, seen)) > len(parts.left_out)


def asks_for(number: int) -> Callable[[Request], bool]:
    def check(request: Request) -> bool:
        asked = json.loads(unquote(request.param("operation_ids") or "[]"))
        return request.path.endswith("/operation_details") and number in asked

    return check


@pytest.mark.parametrize("answer", [error_answer(500, "no"), Answer(200, "text/html", b"<html>maintenance</html>")])
def test_an_operation_that_cannot_be_read_spoils_no_other(server: ReplayServer, tmp_path: Path, answer: Answer) -> None:
    whole = archive_of(config_of(server.url), tmp_path / "whole").history
    spoilt = whole.judged[7].operation.operation_id
    check = asks_for(spoilt)
    with answering(server, lambda request: answer if check(request) else None):
        found = archive_of(config_of(server.url), tmp_path / "spoilt").history
    assert found.left_out == whole.left_out | {spoilt: UNREADABLE_DETAILS}
    assert [j for j in whole.judged if j.operation.operation_id != spoilt] == list(found.judged)


def test_a_supervoxel_without_an_answer_spoils_no_other_operation(server: ReplayServer, tmp_path: Path) -> None:
    whole = archive_of(config_of(server.url), tmp_path / "whole").history
    spoilt = whole.judged[5].operation
    (poison,) = set(spoilt.sources[:1])

    def instead(request: Request) -> Answer | None:
        if not request.path.endswith("/roots_binary"):
            return None
        return error_answer(500, "no") if poison in np.frombuffer(request.body, np.uint64) else None

    with answering(server, instead):
        found = archive_of(config_of(server.url, max_failed_share=0.5), tmp_path / "spoilt").history
    wanted = {j.operation.operation_id for j in whole.judged if poison in (*j.operation.sources, *j.operation.sinks)}
    assert {n for n, reason in found.left_out.items() if reason == UNREADABLE_ROOTS} == wanted
    assert len(found.judged) == len(whole.judged) - len(wanted)


@pytest.mark.parametrize(
    ("force", "words"),
    [
        ({"operation_details": 500}, "operation details: the server answered 500"),
        ({"operation_details": 503}, "operation details: the server answered 503"),
        ({"roots_binary": 503}, "roots: the server answered 503"),
        ({"roots_binary": 500}, "500"),
        ({"tabular_change_log": 502}, "a change log: the server answered 502"),
    ],
)
def test_a_server_that_answers_nothing_is_one_line(tmp_path: Path, force: dict[str, int], words: str) -> None:
    with replay_server(FIXTURE, faults=Faults(force=force)) as server:
        with pytest.raises(ConnectomeBenchError) as caught:
            _ = archive_of(config_of(server.url), tmp_path).history
        assert server.requests < 400
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert "run" in message and not list((tmp_path / "history").glob("*.json"))


def test_a_server_that_goes_away_is_one_line_that_names_the_waits(tmp_path: Path) -> None:
    with replay_server(FIXTURE) as server:
        archive = archive_of(config_of(server.url), tmp_path)
        archive.spec.open()
    with pytest.raises(
        ConnectomeBenchError, match=r"ConnectionError; run the same command again .*attempts, wait_s"
    ) as e:
        _ = archive.history
    assert "\n" not in str(e.value)
    with pytest.raises(ConnectomeBenchError, match=r"edit history cannot be read: .*ConnectionError; run the same"):
        read_history(HistoryJob(archive.spec, (1,)))


def test_meshes_that_are_not_there_are_told_at_opening(server: ReplayServer, tmp_path: Path) -> None:
    before = server.endpoints.copy()
    with pytest.raises(ConnectomeBenchError, match=r"does not state where its meshes are; set source\.cave\.meshes"):
        CaveSource(config_of(server.url, meshes="level2"), "fly", tmp_path, tmp_path, SerialRunner())
    assert not {"tabular_change_log_many", "operation_details", "delta_roots"} & set(server.endpoints - before)


def test_licence_and_citation_are_never_those_of_another_dataset(server: ReplayServer, tmp_path: Path) -> None:
    stated = CaveSource(config_of(server.url), "fly", tmp_path, tmp_path, SerialRunner()).info
    assert stated.license == "cc-by-4.0" and "FIB-25" in stated.citation
    bare = config_of(server.url, license=None, citation=None)
    info = CaveSource(bare, "fly", tmp_path, tmp_path, SerialRunner()).info
    assert (info.license, info.citation) == (NOT_STATED_LICENSE, NOT_STATED_CITATION)


def test_image_data_that_are_not_there_are_told_at_opening(server: ReplayServer, tmp_path: Path) -> None:
    image = f"precomputed://{server.url}/data/nothing"
    with pytest.raises(ConnectomeBenchError, match="data/nothing"):
        CaveSource(config_of(server.url, image=image), "fly", tmp_path, tmp_path, SerialRunner())


def test_given_ids_that_are_followed_or_unknown_are_kept_by_name(
    server: ReplayServer, truth: Truth, tmp_path: Path
) -> None:
    first, final = truth.table["initial_root"], truth.table["final_root"]
    stale = next(int(r) for r in np.unique(first) if len(ends := np.unique(final[first == r])) == 1 and ends[0] != r)
    (now,) = np.unique(final[first == stale]).tolist()
    archive = archive_of(config_of(server.url, f"ids: [{stale}, {UNKNOWN_ROOT}]", max_failed_share=0.6), tmp_path)
    assert archive.roots.ids.tolist() == [now]
    assert archive.roots.followed == {stale: now} and set(archive.roots.failed) == {UNKNOWN_ROOT}
    given = archive.corrections.given_ids
    assert given.followed == {stale: now} and set(given.left_out) == {UNKNOWN_ROOT}


def test_another_content_of_the_file_of_roots_gives_other_roots(
    server: ReplayServer, truth: Truth, tmp_path: Path
) -> None:
    one, two = np.unique(truth.table["final_root"])[:2].tolist()
    config = config_of(server.url, "file: roots.txt")
    for root in (one, two):
        (tmp_path / "roots.txt").write_text(f"root_id\n{root}\n")
        assert archive_of(config, tmp_path).roots.ids.tolist() == [root]
