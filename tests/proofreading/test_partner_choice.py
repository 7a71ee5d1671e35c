"""Partners of an end in one question, and a whole run whose merges are chosen so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_models import ToyModel, bodies_near, toy_models
from toy_segmentation import SPLIT_ERRORS, arrays, write_toy

from connectomebench.build.batch_files import not_rendered
from connectomebench.build.config import load_config
from connectomebench.core.site import Part, Site
from connectomebench.evaluation.resume_log import ResumeLog
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.deciders import ModelDecider
from connectomebench.proofreading.edit_log import read_edits
from connectomebench.proofreading.partner_choice import candidate_pictures, partner_choices
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.proposals import Candidate, Proposal
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.task_models import CHOICE_TASK, TaskModel, missing_steps
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.views import ViewConfig

END = Site("endpoint_error_identification", (500.0, 0.0, 0.0), 1000.0, (Part(1, "base"),), "no", (1,), (), "control")


def merge(partner: int, away_nm: float, end: Site = END) -> Proposal:
    at = (end.location_nm[0] + away_nm, 0.0, 0.0)
    parts = (Part(partner, "base"), Part(1, "candidate"))
    site = Site("merge_action", at, 1000.0, parts, "no", (partner, 1), (), "control")
    return Proposal("merge", Candidate("end", end, 50.0), site, (0,), (partner,), (at,), (at,), 0.1)


def test_the_four_nearest_partners_are_asked_about_and_each_letter_is_its_proposal():
    away = {12: 300.0, 11: 100.0, 13: 50.0, 14: 200.0, 15: 250.0, 16: 460.0}
    proposals = [merge(partner, far) for partner, far in away.items()]
    (choice,) = partner_choices(proposals)
    assert set(choice.site.choices) == {11, 13, 14, 15}
    assert choice.site.segment_ids == (1, *choice.site.choices) and choice.site.location_nm == END.location_nm
    assert [part.role for part in choice.site.parts] == ["base"] + ["candidate"] * 4
    for letter, number in zip("abcd", range(4), strict=True):
        assert proposals[choice.rows[letter]].site.segment_ids[0] == choice.site.choices[number]


def test_what_the_view_does_not_show_is_in_no_question():
    assert partner_choices([merge(11, 460.0)]) == []
    elsewhere = replace(END, location_nm=(5000.0, 0.0, 0.0))
    both = partner_choices([merge(11, 460.0), merge(12, 10.0), merge(11, 10.0, elsewhere)])
    assert [(choice.site.choices, list(choice.rows.values())) for choice in both] == [((12,), [1]), ((11,), [2])]


def test_letters_say_nothing_about_nearness():
    firsts = []
    for i in range(200):
        end = replace(END, location_nm=(float(i), 0.0, 0.0))
        (choice,) = partner_choices([merge(11, 10.0, end), merge(12, 20.0, end), merge(13, 30.0, end)])
        firsts.append(choice.site.choices[0])
    assert min(firsts.count(one) for one in (11, 12, 13)) > 40


def test_pictures_of_one_candidate():
    (choice,) = partner_choices([merge(11, 10.0), merge(12, 20.0)])
    images = {f"{letter}_{view}": f"{letter}{view}".encode() for letter in "ab" for view in ("front", "side", "top")}
    site, own = candidate_pictures(choice.site, "b", images)
    assert own == {"front": b"bfront", "side": b"bside", "top": b"btop"}
    assert site.segment_ids == (1, choice.site.choices[1]) and [p.segment_id for p in site.parts] == [
        1,
        *site.segment_ids[1:],
    ]


@dataclass
class ToyChooser:
    """Knows which segment continues the one body that is in pieces."""

    asked: int = 0
    name: str = "toy"
    revision: str = "1"

    def predict(self, batch: Batch) -> list[Answer]:
        made = arrays()
        answers = []
        for choices, views, at in zip(batch["choices"], batch["views"], batch["location_nm"], strict=True):
            assert len(views) == 3 * len(choices)
            self.asked += 1
            right = [
                bodies_near(at, 20) == {10} and set(np.unique(made["proofread"][made["automatic"] == one])) <= {10}
                for one in choices
            ]
            p = {"abcd"[k]: 0.96 if yes else 0.01 for k, yes in enumerate(right)}
            p["none"] = 1 - sum(p.values())
            answers.append(Answer(max(p, key=lambda name: p[name]), p))
        return answers


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ToyChooser]:
    folder = tmp_path_factory.mktemp("choice")
    chooser = ToyChooser()
    models = {CHOICE_TASK: TaskModel(CHOICE_TASK, chooser, ())}
    config = load_config(write_toy(folder), truth_needed=False)
    proofread(config, models, folder / "out", folder, ProofreadConfig(ablation=False), lambda line: None)
    return folder / "out", chooser


def test_a_model_of_choices_merges_what_belongs_together(run: tuple[Path, ToyChooser]):
    out, chooser = run
    scores = json.loads((out / "scores.json").read_text())
    assert chooser.asked > 0
    assert scores["before"]["split_errors"] == SPLIT_ERRORS and scores["after"]["split_errors"] == 0
    assert scores["edits"]["merge"]["added"] == 0


def test_a_person_decides_each_pair_where_a_choice_is_not_sure(tmp_path: Path):
    models = {CHOICE_TASK: TaskModel(CHOICE_TASK, Person(ToyChooser(), 0.97), ())}
    config = load_config(write_toy(tmp_path, truth=False), truth_needed=False)
    proofread(config, models, tmp_path / "out", tmp_path, ProofreadConfig(), lambda line: None)
    assert read_edits(tmp_path / "out/edits.jsonl") == []
    queue = read_edits(tmp_path / "out/queue.jsonl")
    # where one continues the end, that letter has 0.96 and the others 0.01; sure of none are those that have none
    assert {edit.correction for edit in queue} == {0.96, 0.01} and all(len(edit.evidence) == 3 for edit in queue)
    assert {tuple(sorted(edit.before)) for edit in queue if edit.correction == 0.96} == {(1, 2), (2, 3)}


def test_each_edit_keeps_the_pictures_of_its_pair(run: tuple[Path, ToyChooser]):
    out, _ = run
    edits = [json.loads(line) for line in (out / "edits.jsonl").read_text().splitlines()]
    assert len(edits) == SPLIT_ERRORS
    for edit in edits:
        assert [Path(path).name for path in edit["evidence"]] == ["front.png", "side.png", "top.png"]
        assert all((out / path).read_bytes().startswith(b"\x89PNG") for path in edit["evidence"])
        assert edit["correction"] == pytest.approx(0.96)


def test_with_several_models_of_merges_a_line_says_which_is_asked():
    models = toy_models("merge_action")
    assert not any("merge" in line and "is not asked" in line for line in missing_steps(models))
    models["merge_action_with_em"] = TaskModel("merge_action_with_em", ToyModel("merge_action"), ())
    assert "the model of merge_action_with_em judges merges: that of merge_action is not asked" in missing_steps(models)
    models[CHOICE_TASK] = TaskModel(CHOICE_TASK, ToyChooser(), ())
    first = f"the model of {CHOICE_TASK} chooses among partners: that of"
    assert {f"{first} merge_action is not asked", f"{first} merge_action_with_em is not asked"} <= {
        *missing_steps(models)
    }


@dataclass
class Asked:
    """Draws nothing, and keeps what it should have drawn."""

    sites: list[Site] = field(default_factory=list)

    def draw(self, sites, source):
        self.sites.extend(sites)
        return [not_rendered("no picture is needed here") for _ in sites]

    def decider(self, tasks: tuple[str, ...], out: Path) -> ModelDecider:
        self.sites.clear()
        models = {task: TaskModel(task, ToyModel("merge_action"), ()) for task in tasks}
        log = ResumeLog((out / f"{len(tasks)}{tasks[:1]}").open("w+b"), {})
        return ModelDecider(models, log, out, CpuEngine(), ViewConfig(), draw=self.draw)


NO_SOURCE: Any = None


@pytest.mark.parametrize("task", ["merge_action", "split_action", "merge_error_identification"])
def test_a_model_of_pictures_with_image_data_is_asked_with_them(task: str, tmp_path: Path):
    with_em, asked = f"{task}_with_em", Asked()
    made = merge(12, 10.0)
    if task == "split_action":
        made = replace(made, operation="split", site=replace(made.site, task=task))
    spot = replace(END, task="merge_error_identification")
    for tasks, chosen in (((task,), task), ((with_em,), with_em), ((task, with_em), with_em)):
        decider = asked.decider(tasks, tmp_path)
        if task == spot.task:
            (answer,) = decider.identify([spot], NO_SOURCE)
            assert answer.asked
        else:
            assert decider.can(made.operation)
            decider.correct([made], NO_SOURCE, NO_SOURCE)
        assert [site.task for site in asked.sites] == [chosen]
        lines = missing_steps({one: TaskModel(one, ToyModel("merge_action"), ()) for one in tasks})
        assert any(f"the model of {with_em} " in line and f"{task} is not asked" in line for line in lines) == (
            len(tasks) == 2
        )
        assert not any(line.startswith(f"no model of {task}") for line in lines)


def test_without_a_model_nobody_judges_places_of_merge_errors(tmp_path: Path):
    asked = Asked()
    (answer,) = asked.decider((), tmp_path).identify([replace(END, task="merge_error_identification")], NO_SOURCE)
    assert not answer.asked and not asked.sites
