"""Proofread a segmentation end to end: open, loop, score, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.version import __version__
from connectomebench.evaluation.resume_log import ResumeLog, open_resume_log
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.calibration import Calibration
from connectomebench.proofreading.deciders import ModelDecider
from connectomebench.proofreading.drawing import make_drawer
from connectomebench.proofreading.edit_log import open_edit_log
from connectomebench.proofreading.evidence import remove_scenes
from connectomebench.proofreading.face_affinities import pair_affinities
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.loop import run_loop
from connectomebench.proofreading.neuroglancer_links import link
from connectomebench.proofreading.outputs import (
    write_csv,
    write_mapping,
    write_queue,
    write_segmentation,
    write_supervoxels,
)
from connectomebench.proofreading.people import People
from connectomebench.proofreading.people_records import people_sentence, read_rated_rows
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.place import Place, open_place
from connectomebench.proofreading.report_page import write_page
from connectomebench.proofreading.run_options import DEFAULT_OPTIONS, ProofreadConfig
from connectomebench.proofreading.run_scores import score_run
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.proofreading.task_models import CORRECTION_TASKS, TaskModel, missing_steps, trained_here
from connectomebench.proofreading.validation import calibrate_on, check_apart
from connectomebench.rendering.engines import choose_engine
from connectomebench.rendering.rasterizer import available_threads

_log = logging.getLogger(__name__)


def proofread(
    config: BuildConfig,
    models: dict[str, TaskModel],
    out: Path,
    base: Path,
    options: ProofreadConfig = DEFAULT_OPTIONS,
    echo: Callable[[str], None] = print,
) -> Path:
    """Proofread a segmentation; the same call resumes an interrupted run.

    Parameters
    ----------
    config
        Source (`volumes`; truth is optional) and rules of sites, candidates and cuts.
    models
        Task -> model; steps without one are left out.
    out
        Output folder.
    base
        Base folder for relative paths in the configuration.
    options
        See :class:`ProofreadConfig`.
    echo
        Receives each line of output.

    Returns
    -------
    Path
        ``OUT/report/index.html``.

    Raises
    ------
    ConnectomeBenchError
        If the data cannot be opened, no model judges a correction, a model was trained on the place, or ``out`` holds
        another run.
    """
    for line in missing_steps(models):
        echo(line)
    judging = [task for tasks in CORRECTION_TASKS.values() for task in tasks]
    if not set(judging) & set(models):
        raise ConnectomeBenchError(f"no model judges a correction; give one of {', '.join(judging)}")
    if options.max_usd is not None and not options.max_usd > 0:
        raise ConnectomeBenchError(f"the budget is {options.max_usd} USD; it must be above 0")
    with open_runner(options.scheduler, available_threads()) as runner:
        return _proofread(config, models, out, base, options, echo, runner)


def _proofread(
    config: BuildConfig,
    models: dict[str, TaskModel],
    out: Path,
    base: Path,
    options: ProofreadConfig,
    echo: Callable[[str], None],
    runner: Runner,
) -> Path:
    cache = out / ".cache" / "source"
    place = open_place(config, base, cache, options.segmentation, options.box_nm, options.block_vx, runner)
    info = place.source.info
    notes: list[str] = []
    boxes = {"the place to proofread": place.box}
    if options.validation_box_nm is not None:
        boxes["the validation box"] = check_apart(place, options.validation_box_nm)
    for words, box in boxes.items():
        known = trained_here(models, info.name, info.version, info.bounds_nm, box, words)
        if known and not options.allow_trained_here:
            raise ConnectomeBenchError(f"{known[0]}; use another model or box, or --allow-trained-here")
        notes += known
    for line in notes:
        echo(f"warning: {line}")
    # a map that cannot be used is found before any model is asked
    affinities = None if place.truth is None else pair_affinities(place, runner)
    rated = None
    if options.people_records is not None and options.people_data is not None:
        if place.truth is None:
            raise ConnectomeBenchError("--people needs truth: the configuration names no `proofread` volume")
        rated = read_rated_rows(options.people_records, options.people_data)
    with open_edit_log(out) as log:
        trusted = (*options.trusted, *config.trusted.segments)
        _claim(out, _identity(place, models, options, trusted))
        decider, answers = _open_decider(place, models, out, options, runner)
        with answers as stored:
            asked = decider(stored)
            if options.validation_box_nm is not None:
                apart = open_place(
                    config, base, cache, options.segmentation, options.validation_box_nm, options.block_vx, runner
                )
                found = calibrate_on(
                    apart,
                    asked,
                    runner,
                    options.rules.min_identification,
                    options.max_density,
                    options.precision,
                    options.contacts,
                )
                options = replace(options, rules=replace(options.rules, calibration=found))
                for line in _thresholds(found):
                    echo(line)
            graph = SegmentationGraph(place.supervoxels, trusted, place.anchors)
            finder = BlockFinder(place, runner, options.max_density, options.contacts)
            people = People(out)
            result = run_loop(
                finder,
                graph,
                asked,
                options.rules,
                tuple(log.edits),
                log.add,
                lambda edit: link(place, options.serve_url, edit),
                people,
            )
            edits = list(log.edits)
            ranked = sorted(result.pending, key=lambda one: (-one.value, one.proposal.edit_id))
            queue = [_with_link(one.as_edit(graph), place, options.serve_url) for one in ranked]
            write_csv(edits, out / "edits.csv")
            write_queue(queue, place, options.serve_url, out)
            write_mapping(graph, out)
            write_edges(graph, out)
            write_supervoxels(place, out)
            write_segmentation(place, graph, out)
            scores, curves = None, {}
            by_people = None
            if people.decided or any(isinstance(one.model, Person) for one in models.values()):
                by_people = {"waiting": result.waiting, **people.summary()}
                options = replace(options, ablation=False)  # it asks what nobody would decide
            if place.truth is not None:
                scores, curves = score_run(
                    place,
                    finder,
                    graph,
                    result,
                    edits,
                    options,
                    trusted,
                    asked,
                    runner,
                    out,
                    by_people,
                    affinities,
                    rated,
                )
            # the ablation asks about corrections that nobody reviews
            remove_scenes(out, [*edits, *queue])
        if scores is not None:
            write_json(out / "scores.json", scores)
        page = write_page(
            out, place, result, edits, queue, scores, curves, [*missing_steps(models), *notes], models, by_people
        )
    untaken = people.waiting_decisions()
    echo(f"{len(edits)} edits applied, {len(queue)} corrections left to decide; stopped: {result.stopped}")
    if scores is not None:
        for name in ("before", "after", "oracle"):
            own = scores[name]
            echo(
                f"{name}: VI split {own['vi_split']:.4f}, merge {own['vi_merge']:.4f}; adapted Rand error "
                f"{own['adapted_rand']:.4f}; ERL {own['erl_nm']:.0f} nm; {own['errors']} errors"
            )
        if "people_records" in scores:
            echo(people_sentence(scores["people_records"]))
        if scores["ablation"]:
            step, own = max(scores["ablation"].items(), key=lambda one: one[1]["fall_bits"])
            if own["fall_bits"] > 0:
                echo(f"most is lost by {step}: with the oracle there VI falls by {own['fall_bits']:.4f} bits more")
    if by_people is not None and people.decided:
        echo(
            f"people accepted {by_people['accepted']} corrections and rejected {by_people['rejected']}; "
            f"{len(by_people['refused'])} accepted ones could not be applied"
        )
    if untaken:
        echo(f"{untaken} decisions of people are not taken yet: run this again, with a larger limit if one was reached")
    echo(str(page))
    if result.waiting:
        echo(f"{result.waiting} corrections wait for a person: connectomebench review {out}, then this command again")
    return page


def _thresholds(found: Calibration) -> list[str]:
    """Say what was learnt on the validation place, a line for each operation."""
    lines = []
    for operation, own in (("merges", found.merge), ("splits", found.split)):
        if own is None:
            lines.append(
                f"{operation}: too few corrections in the validation box to learn from; none is applied by itself"
            )
        elif own.threshold is None:
            lines.append(
                f"{operation}: no threshold reaches a precision of {found.wanted_precision:g} in the validation box "
                f"({own.right} of {own.corrections} corrections are right); none is applied by itself"
            )
        else:
            lines.append(
                f"{operation}: applied from a confidence of {own.threshold:.3f}, where {own.precision:.3f} of "
                f"{own.edits} edits of the validation box are right"
            )
    return lines


def _with_link(edit: Any, place: Place, url: str) -> Any:
    return replace(edit, neuroglancer=link(place, url, edit, edit.before))


def _identity(
    place: Place, models: dict[str, TaskModel], options: ProofreadConfig, trusted: Sequence[int]
) -> dict[str, Any]:
    return {
        "code_version": __version__,
        "place": place.fingerprint,
        "config": place.config.fingerprint(),
        "box_nm": [list(place.box.lower_nm), list(place.box.upper_nm)],
        "segmentation": options.segmentation,
        "models": {task: [one.model.name, one.model.revision] for task, one in sorted(models.items())},
        "min_confidence": options.rules.min_confidence,
        "min_identification": options.rules.min_identification,
        "trusted": sorted(set(trusted)),
        "somas": {str(row + 1): name for row, name in sorted(place.anchors.items())},
        "max_density": options.max_density,
        "contacts": options.contacts,
        "validation_box_nm": options.validation_box_nm,
        "precision": options.precision,
    }


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Record what the run is of, and refuse to mix two."""
    path = out / "run.json"
    if path.exists():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            raise ConnectomeBenchError(f"{path} is damaged; choose another --out or delete {out}") from None
        other = [name for name in identity if found.get(name) != json.loads(json.dumps(identity[name]))]
        if other:
            raise ConnectomeBenchError(
                f"{out} holds another run (different: {', '.join(other)}); choose another --out or delete it"
            )
    write_json(path, identity)


def _open_decider(
    place: Place, models: dict[str, TaskModel], out: Path, options: ProofreadConfig, runner: Runner
) -> tuple[Callable[[ResumeLog], ModelDecider], AbstractContextManager[ResumeLog]]:
    """Open the log of answers, and return how a decider is made over it."""
    identity = {task: [one.model.name, one.model.revision] for task, one in sorted(models.items())}
    answers = open_resume_log(
        out / ".cache" / "answers.jsonl", {"models": identity, "place": place.fingerprint, "code": __version__}
    )
    views = place.config.views
    engine = choose_engine(views.engine)

    def make(stored: ResumeLog) -> ModelDecider:
        draw = make_drawer(runner, engine, views)
        return ModelDecider(models, stored, out, engine, views, options.max_usd, draw)

    return make, answers
