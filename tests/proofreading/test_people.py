"""A person answers in place of a model: the run waits, takes the decisions, and goes on to the same end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from forked import run_forked
from toy_models import RULES, ToyModel, toy_models
from toy_segmentation import write_toy

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading import people as people_module
from connectomebench.proofreading.decision_log import DecisionLog, Entry, Taken, read_taken, write_taken
from connectomebench.proofreading.edit_log import Edit, EditLog, read_edits
from connectomebench.proofreading.loop import LoopConfig
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.task_models import TaskModel
from connectomebench.review.review_files import write_review
from connectomebench.review.review_session import ReviewSession

Models = dict[str, TaskModel]
FILES = ("edits.jsonl", "edits.csv", "queue.jsonl", "mapping.parquet", "scores.json", "report/index.html")


def config_of(folder: Path, **options: bool) -> BuildConfig:
    return load_config(write_toy(folder, **options), truth_needed=False)


def run(folder: Path, config: BuildConfig, models: Models, options: ProofreadConfig | None = None) -> list[str]:
    lines: list[str] = []
    proofread(config, models, folder / "out", folder, options or ProofreadConfig(ablation=False), lines.append)
    return lines


def with_person(*tasks: str) -> Models:
    """Return the toy models with a person in place of some."""
    return toy_models() | {task: TaskModel(task, Person(), ()) for task in tasks}


def is_right(edit: Edit) -> bool:
    """Answer as the toy model of the task would."""
    return RULES[f"{edit.operation}_action"](list(edit.location_nm))


def decide(out: Path, verdict: Callable[[Edit], str] = lambda edit: "", reviewer: str = "ada") -> list[Edit]:
    """Decide what waits as a review writes it, and return it; without a verdict, rightly."""
    session = ReviewSession(out)
    queue = session.read(lambda state: list(state.queue.values()))
    for edit in queue:
        decision = verdict(edit) or ("accept" if is_right(edit) else "reject")
        if decision != "leave":
            assert session.decide(reviewer, edit.edit_id, decision, 1.0)  # type: ignore[arg-type]
    return queue


def parts(out: Path) -> set[frozenset[int]]:
    mapping = pq.read_table(out / "mapping.parquet").to_pandas()
    return {frozenset(rows) for rows in mapping.groupby("object")["supervoxel"].agg(frozenset)}


def sides(edit: Edit) -> tuple[str, frozenset[int]]:
    return edit.operation, frozenset([*edit.source_supervoxels, *edit.sink_supervoxels])


@pytest.fixture(scope="module")
def by_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    run(folder, config_of(folder), toy_models())
    return folder / "out"


@pytest.mark.parametrize("tasks", [("merge_action",), ("merge_action", "split_action")])
def test_a_person_who_answers_as_a_model_leads_to_the_same_end(by_models: Path, tmp_path: Path, tasks: tuple[str, ...]):
    config, out = config_of(tmp_path), tmp_path / "out"
    asked: set[tuple[str, frozenset[int]]] = set()
    ends: list[int] = []
    for _ in range(5):
        models = with_person(*tasks)
        lines = run(tmp_path, config, models)
        ends.append(models["endpoint_error_identification"].model.asked)  # type: ignore[attr-defined]
        queue = read_edits(out / "queue.jsonl")
        waiting = [edit for edit in queue if edit.correction is None]
        if not waiting:
            break
        assert lines[-1] == (
            f"{len(waiting)} corrections wait for a person: connectomebench review {out}, then this command again"
        )
        assert not asked & {sides(edit) for edit in queue}
        asked |= {sides(edit) for edit in decide(out)}
    else:
        pytest.fail("the questions do not end")
    assert "wait for a person" not in lines[-1]
    # what models answered before is asked again only where something changed
    assert len(ends) > 1 and max(ends[1:]) < ends[0]
    assert parts(out) == parts(by_models)
    own, theirs = (json.loads((folder / "scores.json").read_text()) for folder in (out, by_models))
    for name in ("before", "after", "oracle", "share_of_oracle"):
        assert own[name] == theirs[name]
    edits, known = read_edits(out / "edits.jsonl"), read_edits(by_models / "edits.jsonl")
    assert {edit.edit_id for edit in edits} == {edit.edit_id for edit in known}
    for edit in edits:
        of_person = f"{edit.operation}_action" in tasks
        assert edit.decided_by == ("ada" if of_person else "") and len(edit.evidence) == 3
        assert (edit.confidence, edit.correction) == (1.0, None) if of_person else edit.correction is not None
        assert (out / edit.evidence[0]).with_name("scene.glb").exists()
    said = own["people"]
    decided = {edit.edit_id: "ada" for edit in edits if edit.decided_by}
    assert said["decided_by"] == decided and said["waiting"] == 0 and said["accepted"] == len(decided)
    assert said["reviewers"] == {"ada": said["accepted"] + said["rejected"]} and said["refused"] == {}
    assert (said["edits"]["merge"]["corrected"], said["edits"]["merge"]["added"]) == (2, 0)
    page = (out / "report/index.html").read_text()
    assert "accepted by ada" in page and "Decisions of people" in page
    # the same command once more changes nothing
    left = {
        name: (out / name).read_bytes() for name in ("edits.jsonl", "queue.jsonl", "scores.json", "mapping.parquet")
    }
    run(tmp_path, config, with_person(*tasks))
    assert left == {name: (out / name).read_bytes() for name in left}


def test_what_was_decided_is_never_asked_again_and_skips_wait(tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    run(tmp_path, config, with_person("merge_action"))

    def pieces(edit: Edit) -> set[int]:
        """Return the segments of the two supervoxels of a merge, whatever objects they belong to now."""
        rows = [one - 1 for one in (*edit.source_supervoxels, *edit.sink_supervoxels)]
        return {int(segments[row]) for row in rows}

    segments = pq.read_table(out / "mapping.parquet")["segment"].to_numpy()
    first = decide(out, lambda edit: "accept" if pieces(edit) == {1, 2} else "skip")
    assert {1, 2} in map(pieces, first) and {2, 3} in map(pieces, first)
    run(tmp_path, config, with_person("merge_action"))
    # 1 and 2 are one now: what was skipped about either is asked of the larger object, the rest still waits
    (merge,) = [edit for edit in read_edits(out / "edits.jsonl") if edit.operation == "merge"]
    assert merge.decided_by == "ada" and pieces(merge) == {1, 2}
    second = decide(out, lambda edit: "reject" if pieces(edit) == {2, 3} else "leave")
    assert {1, 2} not in map(pieces, second)
    (asked,) = [edit for edit in second if pieces(edit) == {2, 3}]
    assert merge.after[0] in asked.before
    untouched = {edit.edit_id for edit in first if not {1, 2} & pieces(edit)}
    assert untouched <= {edit.edit_id for edit in second}
    run(tmp_path, config, with_person("merge_action"))
    # 3 grows: that it is no part of 2 holds of the larger object too, so that nothing is left to ask
    third = decide(out, lambda edit: "accept" if pieces(edit) == {3, 5} else "leave")
    assert {3, 5} in map(pieces, third) and {2, 3} not in map(pieces, third)
    lines = run(tmp_path, config, with_person("merge_action"))
    held = [{int(segments[row - 1]) for row in own} for own in parts(out)]
    assert {1, 2} in held and {3, 5} in held
    assert read_edits(out / "queue.jsonl") == [] and "wait for a person" not in lines[-1]


def until_killed(folder: Path, config: BuildConfig, when: str) -> None:
    """Kill this process while it takes decisions or makes what they say; what is changed here stays in it."""
    whole = EditLog.add

    def add(log: EditLog, edit: Edit) -> None:
        if edit.decided_by and any(one.decided_by for one in log.edits):
            log._stream.write(edit.as_line().encode()[:100])
            log._stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        whole(log, edit)

    def take(out: Path, taken: list[Taken]) -> None:
        if when == "taken":
            write_taken(out, taken)
        os.kill(os.getpid(), signal.SIGKILL)

    patch = pytest.MonkeyPatch()
    if when == "making":
        patch.setattr(EditLog, "add", add)
    else:
        patch.setattr(people_module, "write_taken", take)
    run(folder, config, with_person("merge_action"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    config = config_of(folder)
    for decides in (True, False):
        run(folder, config, with_person("merge_action"))
        if decides:
            decide(folder / "out")
    return folder / "out"


@pytest.mark.parametrize("when", ["taking", "taken", "making"])
def test_a_run_killed_while_it_goes_on_ends_as_if_it_had_not_been(unbroken: Path, tmp_path: Path, when: str):
    config, out = config_of(tmp_path), tmp_path / "out"
    run(tmp_path, config, with_person("merge_action"))
    decide(out)
    log = tmp_path / "killed.log"
    assert run_forked(lambda: until_killed(tmp_path, config, when), log) == -signal.SIGKILL, log.read_text()
    assert len(read_taken(out)) == (when != "taking")
    assert (out / "edits.jsonl").read_bytes().count(b"\n") == (2 if when == "making" else 1)
    run(tmp_path, config, with_person("merge_action"))
    for name in (*FILES, "review/taken.jsonl", "review/earlier.jsonl"):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


@dataclass
class Unsure(ToyModel):
    """Is sure only of what lies left of the middle, and says little of the rest."""

    def predict(self, batch: Batch) -> list[Answer]:
        answers = super().predict(batch)
        unsure = Answer("yes", {"no": 0.4, "yes": 0.6}, cost_usd=self.cost_usd)
        return [answer if at[0] < 900 else unsure for answer, at in zip(answers, batch["location_nm"], strict=True)]


def test_a_person_decides_where_a_cascade_is_not_sure(by_models: Path, tmp_path: Path):
    config, out = config_of(tmp_path), tmp_path / "out"
    first = Unsure("merge_action")
    models = toy_models() | {"merge_action": TaskModel("merge_action", Person(first, 0.9), ())}
    assert models["merge_action"].model.name == "toy-then-person-below-0.9"
    run(tmp_path, config, models)
    (sure,) = [edit for edit in read_edits(out / "edits.jsonl") if edit.operation == "merge"]
    assert sure.location_nm[0] < 900 and sure.decided_by == "" and sure.correction == pytest.approx(0.97)
    waiting = [edit for edit in read_edits(out / "queue.jsonl") if edit.correction == 0.6]
    assert waiting and all(edit.location_nm[0] >= 900 for edit in waiting)
    assert all(edit.confidence == pytest.approx(0.6 * (edit.identification or 1)) for edit in waiting)
    asked = first.asked
    decide(out)
    run(tmp_path, config, models)
    assert parts(out) == parts(by_models)
    said = {edit.edit_id: (edit.decided_by, edit.correction) for edit in read_edits(out / "edits.jsonl")}
    assert said[sure.edit_id] == ("", sure.correction) and list(said.values()).count(("ada", 0.6)) == 1
    # what the model was asked since is about the object that the person made
    made = next(edit for edit in read_edits(out / "edits.jsonl") if edit.decided_by)
    assert first.asked - asked <= 4 and made.round > sure.round
    # kappa compares with the model, which said 0.6 of each
    assert ReviewSession(out, empty_queue=True).read(lambda state: len(state.decided())) == len(waiting)


def test_limits_keep_decisions_for_later(tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    one = ProofreadConfig(rules=LoopConfig(max_decisions=1), ablation=False)
    run(tmp_path, config, with_person("merge_action"), one)
    assert [edit.operation for edit in read_edits(out / "edits.jsonl")] == ["split"]
    n = len(decide(out))
    lines = run(tmp_path, config, with_person("merge_action"), one)
    assert any(line.startswith(f"{n} decisions of people are not taken yet") for line in lines)
    assert len(read_edits(out / "edits.jsonl")) == 1 and not read_taken(out)
    two = ProofreadConfig(rules=LoopConfig(max_decisions=2), ablation=False)
    run(tmp_path, config, with_person("merge_action"), two)
    made = read_edits(out / "edits.jsonl")
    assert [edit.operation for edit in made] == ["split", "merge"] and made[1].decided_by == "ada"
    # a larger limit goes on with what was accepted, without a new decision
    run(tmp_path, config, with_person("merge_action"))
    assert [edit.operation for edit in read_edits(out / "edits.jsonl")] == ["split", "merge", "merge"]
    assert read_edits(out / "edits.jsonl")[:2] == made and len(read_taken(out)) == 1


def test_more_rounds_later_change_nothing_of_what_was_decided(by_models: Path, tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    made: list[Edit] = []
    for most in (1, 1, 10, 2):
        run(tmp_path, config, with_person("merge_action"), ProofreadConfig(rules=LoopConfig(max_rounds=most)))
        assert read_edits(out / "edits.jsonl")[: len(made)] == made
        made = read_edits(out / "edits.jsonl")
        if read_edits(out / "queue.jsonl"):
            decide(out)
    assert read_taken(out)[0].round == 2 and parts(out) == parts(by_models)


def test_smaller_limits_later_change_nothing_of_what_was_done(tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    run(tmp_path, config, with_person("merge_action"))
    decide(out)
    run(tmp_path, config, with_person("merge_action"))
    taken, made = read_taken(out), read_edits(out / "edits.jsonl")
    held = parts(out)
    assert taken[0].round > 2 and any(edit.decided_by for edit in made)
    for rules in (LoopConfig(max_rounds=1), LoopConfig(max_decisions=1), LoopConfig()):
        run(tmp_path, config, with_person("merge_action"), ProofreadConfig(rules=rules))
        assert read_taken(out) == taken and read_edits(out / "edits.jsonl") == made and parts(out) == held


def test_people_cost_nothing_and_models_keep_to_the_budget(tmp_path: Path):
    config = config_of(tmp_path, truth=False)
    models = {
        "merge_action": TaskModel("merge_action", Person(), ()),
        "split_action": TaskModel("split_action", ToyModel("split_action", cost_usd=0.01), ()),
    }
    lines = run(tmp_path, config, models, ProofreadConfig(max_usd=0.015, ablation=False))
    # the free questions come first, and say nothing of the price of the others
    assert models["split_action"].model.asked == 1  # type: ignore[attr-defined]
    assert any("the budget in USD is spent" in line for line in lines) and "wait for a person" in lines[-1]


def test_a_decision_that_cannot_be_made_is_named_and_does_not_wait(tmp_path: Path):
    config, out = config_of(tmp_path), tmp_path / "out"
    options = ProofreadConfig(trusted=(1, 3), ablation=False)
    for _ in range(5):
        run(tmp_path, config, with_person("merge_action"), options)
        if not [edit for edit in read_edits(out / "queue.jsonl") if edit.correction is None]:
            break
        queue = read_edits(out / "queue.jsonl")
        log = DecisionLog(out)
        with log.locked():  # the review hides what cannot be made, but two windows may be open
            for edit in queue:
                log.append(Entry("accept" if is_right(edit) else "reject", "bob", edit.edit_id))
    said = json.loads((out / "scores.json").read_text())["people"]
    assert list(said["refused"].values()) == ["two trusted bodies would be joined"] and said["waiting"] == 0
    assert "two trusted bodies would be joined" in (out / "report/index.html").read_text()
    assert [edit.operation for edit in read_edits(out / "edits.jsonl")].count("merge") == 1


def test_two_people_lose_nothing_while_the_run_goes_on(tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    run(tmp_path, config, with_person("merge_action"))
    stale = ReviewSession(out)
    queue = {edit.edit_id: edit for edit in read_edits(out / "queue.jsonl")}
    right, wrong = ([one for one in queue.values() if is_right(one) is yes] for yes in (True, False))
    assert stale.decide("ada", right[0].edit_id, "accept", 1.0)
    run(tmp_path, config, with_person("merge_action"))
    # bob's window is from before: his decisions count, also about objects that have become others
    assert stale.decide("bob", right[1].edit_id, "accept", 1.0) and stale.decide("bob", wrong[0].edit_id, "reject", 1.0)
    assert stale.decide("bob", right[0].edit_id, "reject", 1.0)  # for their agreement
    assert stale.undo("ada") is None and stale.undo("bob") is not None
    with pytest.raises(ConnectomeBenchError, match="start the review again"):
        write_review(stale)
    fresh = ReviewSession(out)
    assert fresh.read(lambda state: state.decided())[right[1].edit_id] == "accept"
    assert right[1].edit_id not in {one.edit.edit_id for one in fresh.read(lambda state: state.waiting())}
    assert write_review(fresh)["accepted"] == 2
    run(tmp_path, config, with_person("merge_action"))
    merges = [edit for edit in read_edits(out / "edits.jsonl") if edit.operation == "merge"]
    assert [(edit.edit_id, edit.decided_by) for edit in merges] == [
        (right[0].edit_id, "ada"),
        (right[1].edit_id, "bob"),
    ]


def test_people_are_asked_about_corrections_alone():
    for task in ("endpoint_error_identification", "merge_action_multiple_choice"):
        with pytest.raises(ConnectomeBenchError, match=task):
            TaskModel(task, Person(), ())
    assert TaskModel("merge_action_multiple_choice", Person(ToyModel("merge_action"), 0.9), ()).records == ()


def test_edits_of_earlier_versions_are_read(by_models: Path, tmp_path: Path):
    old, now = tmp_path / "edits.jsonl", by_models / "edits.jsonl"
    lines = [json.loads(line) for line in now.read_text().splitlines()]
    new = ("decided_by", "chance")
    old.write_text("".join(json.dumps({k: v for k, v in one.items() if k not in new}) + "\n" for one in lines))
    assert lines and all(set(new) < set(one) for one in lines)
    assert read_edits(old) == [replace(edit, decided_by="", chance=None) for edit in read_edits(now)]


def test_decisions_of_another_run_are_one_line(tmp_path: Path):
    config, out = config_of(tmp_path, truth=False), tmp_path / "out"
    run(tmp_path, config, with_person("merge_action"))
    decide(out)
    run(tmp_path, config, with_person("merge_action"))
    lines = (out / "review/decisions.jsonl").read_bytes().splitlines(keepends=True)
    (out / "review/decisions.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConnectomeBenchError, match="has lost decisions that the run took"):
        run(tmp_path, config, with_person("merge_action"))
    (out / "review/decisions.jsonl").write_bytes(b"".join(lines))
    log = DecisionLog(out)
    with log.locked():
        log.append(Entry("accept", "ada", "f" * 16))
    with pytest.raises(ConnectomeBenchError, match="never proposed; they are of another run"):
        run(tmp_path, config, with_person("merge_action"))
