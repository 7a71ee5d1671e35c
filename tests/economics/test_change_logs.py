"""Samples from change logs of the replayed server, against the fixture's own operations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_answers import TABLE
from replay_server import Faults, ReplayServer, replay_server
from replay_volumes import FIXTURE

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.change_logs import ChangeLogConfig, read_samples, sample_roots
from connectomebench.sources.cave.cave_config import CaveConfig, RequestConfig, RootsConfig

UNTIL = "2026-11-23T02:10:28"
SINCE = "2026-11-23T02:06:58.863"
UNKNOWN = 288230376159999999


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with replay_server(FIXTURE) as running:
        yield running


def rules(server: ReplayServer, **changes: Any) -> ChangeLogConfig:
    requests = RequestConfig(roots_per_request=4, attempts=2, wait_s=0.001, longest_wait_s=0.01)
    roots = RootsConfig(changed_since=SINCE)
    cave = CaveConfig(roots, UNTIL, server.url, graph_table=TABLE, image="none", requests=requests)
    return ChangeLogConfig("fly", **({"sizes": (5, 12), "filtered": False, "cave": cave} | changes))


def told(server: ReplayServer, root: int, filtered: bool) -> tuple[int, int]:
    """Merges and splits in the log of one root, as the fixture composes it."""
    log = json.loads(server.graph.change_logs([root], filtered)[str(root)])
    kinds = Counter(bool(kind) for kind in log["is_merge"].values())
    return kinds[True], kinds[False]


@pytest.mark.parametrize("filtered", [True, False])
def test_counts_are_those_of_the_logs(server: ReplayServer, tmp_path: Path, filtered: bool) -> None:
    found = read_samples(rules(server, filtered=filtered), tmp_path)
    assert [len(t) for t in found.tables] == [5, 12] and [t.failed for t in found.tables] == [0, 0]
    assert [t.name for t in found.tables] == ["fly n=5", "fly n=12"]
    assert found.population >= 12 and not found.reasons
    for table in found.tables:
        assert table.neurons.dtype == np.uint64 and not table.simulated
        for root, merges, splits in zip(table.neurons.tolist(), table.merges, table.splits, strict=True):
            assert (merges, splits) == told(server, root, filtered)
        assert table.edits.sum() > 0


def test_filtered_logs_hold_no_more(server: ReplayServer, tmp_path: Path) -> None:
    some, every = (read_samples(rules(server, filtered=f), tmp_path).tables[1] for f in (True, False))
    assert (some.neurons == every.neurons).all() and (some.edits <= every.edits).all()


def test_a_second_run_asks_for_nothing_and_gives_the_same(server: ReplayServer, tmp_path: Path) -> None:
    first = read_samples(rules(server), tmp_path)
    before = server.endpoints["tabular_change_log_many"]
    second = read_samples(rules(server), tmp_path)
    assert server.endpoints["tabular_change_log_many"] == before
    assert [t.edits.tolist() for t in first.tables] == [t.edits.tolist() for t in second.tables]


def test_an_interrupted_run_asks_only_for_what_is_missing(server: ReplayServer, tmp_path: Path) -> None:
    whole = read_samples(rules(server), tmp_path)
    files = sorted((tmp_path / "change-logs").iterdir())
    assert len(files) > 2
    files[0].unlink()
    before = server.endpoints["tabular_change_log_many"]
    again = read_samples(rules(server), tmp_path)
    assert server.endpoints["tabular_change_log_many"] == before + 1
    assert [t.edits.tolist() for t in again.tables] == [t.edits.tolist() for t in whole.tables]


def test_failures_are_counted_and_asked_again(server: ReplayServer, tmp_path: Path) -> None:
    plain = rules(server, sizes=(8,))
    whole = read_samples(plain, tmp_path / "whole")
    with replay_server(FIXTURE, faults=Faults(force={"tabular_change_log_many": 500})) as broken:
        cave = replace(plain.cave, server=broken.url)
        with pytest.raises(ConnectomeBenchError, match=r"no change log could be read .*server answered 500.*run again"):
            read_samples(replace(plain, cave=cave), tmp_path / "broken")
        broken.faults = Faults()
        later = read_samples(replace(plain, cave=cave), tmp_path / "broken")
    assert later.tables[0].edits.tolist() == whole.tables[0].edits.tolist()


def test_one_unreadable_log_is_left_out(server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectomebench.sources.cave.graph import Graph

    plain = rules(server, sizes=(8,))
    whole = read_samples(plain, tmp_path / "whole").tables[0]
    lost = int(whole.neurons[3])
    asked = Graph.change_logs

    def without_one(self: Graph, roots: Any, *, filtered: bool = False) -> Any:
        # the server knows no such root
        logs, failed = asked(self, [UNKNOWN if root == lost else root for root in roots], filtered=filtered)
        return logs, {lost if root == UNKNOWN else root: why for root, why in failed.items()}

    monkeypatch.setattr(Graph, "change_logs", without_one)
    found = read_samples(plain, tmp_path / "one")
    assert found.tables[0].failed == 1 and len(found.tables[0]) == 7
    assert set(found.reasons) == {lost} and "500" in found.reasons[lost]
    assert found.tables[0].edits.sum() == whole.edits.sum() - whole.edits[3]
    monkeypatch.setattr(Graph, "change_logs", asked)
    assert read_samples(plain, tmp_path / "one").tables[0].edits.tolist() == whole.edits.tolist()


def test_more_than_there_are(server: ReplayServer, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="cannot sample 5000 of"):
        read_samples(rules(server, sizes=(5000,)), tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 2**64 - 1), min_size=10, max_size=60), st.integers(0, 99), st.randoms())
def test_a_draw_depends_on_the_set_and_the_seed_alone(ids: set[int], seed: int, random: Any) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)
    drawn = sample_roots(np.array(shuffled, np.uint64), 10, seed)
    assert drawn.tolist() == sample_roots(np.array(sorted(ids), np.uint64), 10, seed).tolist()
    assert len(set(drawn.tolist())) == 10 and set(drawn.tolist()) <= ids
