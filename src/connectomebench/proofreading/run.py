"""Proofread a segmentation end to end: open, loop, score, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.version import __version__
from connectomebench.evaluation.resume_log import ResumeLog, open_resume_log
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS, Runner
from connectomebench.proofreading.ablation import ablate
from connectomebench.proofreading.calibration import Calibration
from connectomebench.proofreading.deciders import ModelDecider, OracleDecider
from connectomebench.proofreading.drawing import make_drawer
from connectomebench.proofreading.edit_log import open_edit_log
from connectomebench.proofreading.edit_scores import edit_gains, edits_by_part, score_edits, score_steps
from connectomebench.proofreading.effort import Curve, value_against_effort
from connectomebench.proofreading.evidence import remove_scenes
from connectomebench.proofreading.face_affinities import PairAffinities, pair_affinities
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.intervals import variation_interval
from connectomebench.proofreading.loop import LoopConfig, LoopResult, best_of_candidates, run_loop
from connectomebench.proofreading.neuroglancer_links import link
from connectomebench.proofreading.outputs import (
    write_csv,
    write_mapping,
    write_queue,
    write_segmentation,
    write_supervoxels,
)
from connectomebench.proofreading.people import People
from connectomebench.proofreading.people_records import RatedRow, people_sentence, read_rated_rows, score_people
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.place import Place, open_place
from connectomebench.proofreading.report_page import write_page
from connectomebench.proofreading.score_files import changed_state, write_overlaps, write_states
from connectomebench.proofreading.scores import Scorer
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.task_models import CORRECTION_TASKS, TaskModel, missing_steps, trained_here
from connectomebench.proofreading.truth_table import TruthTable
from connectomebench.proofreading.validation import calibrate_on, check_apart
from connectomebench.rendering.engines import choose_engine
from connectomebench.rendering.rasterizer import available_threads

_log = logging.getLogger(__name__)

BACKGROUND = (
    "Voxels without a body and voxels without an object are left out of VI and adapted Rand error. Expected run length "
    "counts background as a gap."
)
# the oracle is sure, so its threshold only separates right from wrong
_ORACLE = LoopConfig(min_confidence=0.5)


@dataclass(frozen=True)
class ProofreadConfig:
    """Options of a run.

    Attributes
    ----------
    rules
        When an edit is applied, and when the loop stops.
    segmentation
        Which one, where the configuration names several.
    box_nm
        Box to proofread: lower x, y, z and upper x, y, z, nm; None takes all.
    trusted
        Segments that may not be joined with each other.
    max_usd
        Most that the models may cost; None sets no limit.
    serve_url
        Where the output folder will be served, for links.
    allow_trained_here
        Use models that were trained on the place; the report says so.
    block_vx
        Edge of the blocks, voxels; see :func:`connectomebench.proofreading.blocks.make_grid`.
    scheduler
        Where work on blocks is done; see :func:`connectomebench.execution.open_runner.open_runner`.
    max_density
        Most ends, most contacts, and most places of merge errors, in a cube of 1 µm; None sets no limit.
    contacts
        Whether every two objects that touch are candidates for a merge too, and not only ends.
    validation_box_nm
        A box with truth, apart from ``box_nm``, on which confidence and thresholds are learnt; None multiplies the
        answers of the models and takes ``rules.min_confidence``.
    precision
        Share of right edits for which the thresholds are chosen there.
    ablation
        Where there is truth, also run with the oracle in place of one step at a time. It asks the models more.
    people_records, people_data
        Result records of people, and the dataset whose rows they rated: what they said of the same corrections is
        scored beside what the models say. See :func:`connectomebench.proofreading.people_records.read_rated_rows`.
    """

    rules: LoopConfig = field(default_factory=LoopConfig)
    segmentation: str | None = None
    box_nm: tuple[float, float, float, float, float, float] | None = None
    trusted: tuple[int, ...] = ()
    max_usd: float | None = None
    serve_url: str = "http://127.0.0.1:8000"
    allow_trained_here: bool = False
    block_vx: int | None = None
    scheduler: str = IN_PROCESS
    max_density: float | None = 100.0
    contacts: bool = False
    validation_box_nm: tuple[float, float, float, float, float, float] | None = None
    precision: float = 0.9
    ablation: bool = True
    people_records: Path | None = None
    people_data: str | None = None

    def __post_init__(self) -> None:
        if (self.people_records is None) != (self.people_data is None):
            raise ConnectomeBenchError("--people and --people-data belong together: records, and the rows they are of")
        if self.max_density is not None and not self.max_density > 0:
            raise ConnectomeBenchError(f"--max-density is {self.max_density}; it must be above 0")
        if not 0 < self.precision < 1:
            raise ConnectomeBenchError(f"--precision is {self.precision}; it must be above 0 and below 1")


DEFAULT_OPTIONS = ProofreadConfig()


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
                scores, curves = _score(
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


def _score(
    place: Place,
    finder: BlockFinder,
    graph: SegmentationGraph,
    result: LoopResult,
    edits: Sequence[Any],
    options: ProofreadConfig,
    trusted: Sequence[int],
    decider: ModelDecider,
    runner: Runner,
    out: Path,
    by_people: dict[str, Any] | None,
    affinities: PairAffinities | None,
    rated: Sequence[RatedRow] | None,
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Score before, after and oracle, the steps, and orders of decisions; write what intervals over runs need."""
    assert place.truth is not None, "there is no truth"
    _log.info("scoring against the truth")
    table = TruthTable.of_place(place, runner)
    start = SegmentationGraph(place.supervoxels, trusted, place.anchors)
    perfect = start.copy()
    oracle = run_loop(finder, perfect, OracleDecider(table, decider.end_task), _ORACLE)
    scorer = Scorer(place, table)
    before, after, best = (scorer.score(one.objects) for one in (start, graph, perfect))

    def variation(own: dict[str, float | int]) -> float:
        return own["vi_split"] + own["vi_merge"]

    gain = variation(before) - variation(best)
    contacts = place.blind(start.objects).contacts()
    summary, curves, states = value_against_effort(
        start, result, contacts, place, table, gain, options.rules.calibration, affinities
    )
    oracle_edits = sum(len(one.applied) for one in oracle.rounds)
    write_overlaps(table, out)
    write_states([changed_state("oracle", oracle_edits, start.objects, perfect.objects), *states], out)
    gains = edit_gains(start, edits, table)
    counts = score_edits(edits, gains)
    for operation, name in (("merge", "split_errors"), ("split", "merge_errors")):
        counts[operation]["missed"] = after[name]
    ablation = {}
    if options.ablation:
        ablation = ablate(place, finder, decider, options.rules, table, trusted, _log.info)
        for own in ablation.values():
            own["fall_bits"] = variation(after) - own["vi_split"] - own["vi_merge"]
            fall = variation(before) - own["vi_split"] - own["vi_merge"]
            own["share_of_oracle"] = fall / gain if gain > 0 else None
    merges = sum(edit.operation == "merge" for edit in edits)
    baselines = {
        "nothing": before,
        "largest_contact_first": scorer.score(_merge_largest(start, contacts, place, merges).objects),
        "random_order": scorer.score(_apply_random(start, result, len(edits)).objects),
    }
    scores = {
        "before": before,
        "after": after,
        "oracle": best,
        "share_of_oracle": (variation(before) - variation(after)) / gain if gain > 0 else None,
        "interval": variation_interval(table, start.objects, graph.objects),
        "edits": counts,
        "edits_by_part": edits_by_part(place, edits, gains),
        "oracle_edits": oracle_edits,
        "steps": score_steps(result, oracle, options.rules),
        "ablation": ablation,
        "effort": summary,
        "baselines": baselines,
        "somas": [name for _, name in sorted(place.anchors.items())],
        "blocks": {"number": len(place.spec.grid), "edge_vx": place.spec.grid.edge, "halo_vx": place.spec.grid.halo},
        "max_density_um3": options.max_density,
        "contacts": options.contacts,
        "background": BACKGROUND,
        "rules": asdict(options.rules),
    }
    if rated is not None:
        volumes = place.config.source.volumes
        assert volumes is not None
        names = {volumes.name, f"{volumes.name}/{options.segmentation}"}
        first = result.rounds[0].judged
        scores["people_records"] = score_people(rated, first, start, table, names, volumes.same_place_nm)
    if by_people is not None:
        own = [(edit, gain) for edit, gain in zip(edits, gains, strict=True) if edit.decided_by]
        scores["people"] = {
            **by_people,
            "edits": score_edits([edit for edit, _ in own], [gain for _, gain in own]),
            "decided_by": {edit.edit_id: edit.decided_by for edit, _ in own},
        }
    return scores, curves


def _merge_largest(start: SegmentationGraph, contacts: Any, place: Place, wanted: int) -> SegmentationGraph:
    """Merge as many touching pairs as the models did, the largest contacts first, without a look at them."""
    state, made = start.copy(), 0
    least = place.config.sites.min_segment_voxels
    pairs, inverse = np.unique(contacts.segments, axis=0, return_inverse=True)
    areas = np.bincount(inverse.ravel(), weights=contacts.areas, minlength=len(pairs))
    for row in np.argsort(-areas, kind="stable").tolist():
        if made == wanted:
            break
        first, second = pairs[row].tolist()
        if min(start.voxels(first), start.voxels(second)) < least:
            continue
        try:
            state.merge(int(start.rows(first)[0]), int(start.rows(second)[0]), 2.0)
            made += 1
        except EditRefused:
            continue
    return state


def _apply_random(start: SegmentationGraph, result: LoopResult, wanted: int) -> SegmentationGraph:
    """Apply as many corrections as the models did, drawn at random from those judged first (seed 0)."""
    state, made = start.copy(), 0
    pool = list(best_of_candidates(result.rounds[0].judged).values())
    for i in np.random.default_rng(0).permutation(len(pool)).tolist():
        if made == wanted:
            break
        p = pool[i].proposal
        try:
            if p.operation == "merge":
                state.merge(p.sources[0], p.sinks[0], 2.0)
            else:
                state.split(p.sources, p.sinks, 2.0)
            made += 1
        except EditRefused:
            continue
    return state
