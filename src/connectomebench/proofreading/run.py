"""Proofread a segmentation end to end: open, loop, score, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.version import __version__
from connectomebench.evaluation.resume_log import open_resume_log
from connectomebench.proofreading.deciders import ModelDecider, OracleDecider
from connectomebench.proofreading.edit_log import EditLog, open_edit_log
from connectomebench.proofreading.effort import Curve, score_edits, score_steps, value_against_effort
from connectomebench.proofreading.evidence import remove_scenes
from connectomebench.proofreading.graph_files import write_edges
from connectomebench.proofreading.loop import LoopConfig, LoopResult, best_of_candidates, run_loop
from connectomebench.proofreading.neuroglancer_links import link
from connectomebench.proofreading.outputs import (
    write_csv,
    write_mapping,
    write_queue,
    write_segmentation,
    write_supervoxels,
)
from connectomebench.proofreading.place import Place, open_place
from connectomebench.proofreading.report_page import write_page
from connectomebench.proofreading.scores import Scorer
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.task_models import TaskModel, missing_steps, trained_here
from connectomebench.proofreading.truth_table import TruthTable
from connectomebench.rendering.engines import choose_engine

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
    """

    rules: LoopConfig = field(default_factory=LoopConfig)
    segmentation: str | None = None
    box_nm: tuple[float, float, float, float, float, float] | None = None
    trusted: tuple[int, ...] = ()
    max_usd: float | None = None
    serve_url: str = "http://127.0.0.1:8000"
    allow_trained_here: bool = False


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
    if not {"merge_action", "split_action"} & set(models):
        raise ConnectomeBenchError("no model judges a correction; give one of merge_action or split_action")
    if options.max_usd is not None and not options.max_usd > 0:
        raise ConnectomeBenchError(f"the budget is {options.max_usd} USD; it must be above 0")
    place = open_place(config, base, out / ".cache" / "source", options.segmentation, options.box_nm)
    info = place.source.info
    known = trained_here(models, info.name, info.version, info.bounds_nm, place.box)
    if known and not options.allow_trained_here:
        raise ConnectomeBenchError(f"{known[0]}; use another model or box, or --allow-trained-here")
    for line in known:
        echo(f"warning: {line}")
    with open_edit_log(out) as log:
        _claim(out, _identity(place, models, options))
        graph = SegmentationGraph(place.supervoxels, options.trusted)
        result = _run(place, graph, models, out, options, log)
        edits = list(log.edits)
        ranked = sorted(result.pending, key=lambda one: (-one.value, one.proposal.edit_id))
        queue = [_with_link(one.as_edit(graph), place, options.serve_url) for one in ranked]
        write_csv(edits, out / "edits.csv")
        write_queue(queue, place, options.serve_url, out)
        remove_scenes(out, [*edits, *queue])
        write_mapping(graph, out)
        write_edges(graph, out)
        write_supervoxels(place, out)
        write_segmentation(place, graph, out)
        scores, curves = (None, {}) if place.truth is None else _score(place, graph, result, edits, options)
        if scores is not None:
            write_json(out / "scores.json", scores)
        page = write_page(out, place, result, edits, queue, scores, curves, [*missing_steps(models), *known], models)
    echo(f"{len(edits)} edits applied, {len(queue)} corrections left to decide; stopped: {result.stopped}")
    if scores is not None:
        for name in ("before", "after", "oracle"):
            own = scores[name]
            echo(
                f"{name}: VI split {own['vi_split']:.4f}, merge {own['vi_merge']:.4f}; adapted Rand error "
                f"{own['adapted_rand']:.4f}; ERL {own['erl_nm']:.0f} nm; {own['errors']} errors"
            )
    echo(str(page))
    return page


def _with_link(edit: Any, place: Place, url: str) -> Any:
    return replace(edit, neuroglancer=link(place, url, edit, edit.before))


def _identity(place: Place, models: dict[str, TaskModel], options: ProofreadConfig) -> dict[str, Any]:
    return {
        "code_version": __version__,
        "place": place.fingerprint,
        "config": place.config.fingerprint(),
        "box_nm": [list(place.box.lower_nm), list(place.box.upper_nm)],
        "segmentation": options.segmentation,
        "models": {task: [one.model.name, one.model.revision] for task, one in sorted(models.items())},
        "min_confidence": options.rules.min_confidence,
        "min_identification": options.rules.min_identification,
        "trusted": sorted(options.trusted),
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


def _run(
    place: Place,
    graph: SegmentationGraph,
    models: dict[str, TaskModel],
    out: Path,
    options: ProofreadConfig,
    log: EditLog,
) -> LoopResult:
    identity = {task: [one.model.name, one.model.revision] for task, one in sorted(models.items())}
    with open_resume_log(
        out / ".cache" / "answers.jsonl", {"models": identity, "place": place.fingerprint, "code": __version__}
    ) as answers:
        views = place.config.views
        decider = ModelDecider(models, answers, out, choose_engine(views.engine), views, options.max_usd)
        return run_loop(
            place,
            graph,
            decider,
            options.rules,
            tuple(log.edits),
            log.add,
            lambda edit: link(place, options.serve_url, edit),
        )


def _score(
    place: Place, graph: SegmentationGraph, result: LoopResult, edits: Sequence[Any], options: ProofreadConfig
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Score before, after and oracle, the steps, and orders of decisions."""
    assert place.truth is not None, "there is no truth"
    _log.info("scoring against the truth")
    table = TruthTable(place.pieces, place.truth, len(place.supervoxels.segments))
    start = SegmentationGraph(place.supervoxels, options.trusted)
    perfect = start.copy()
    oracle = run_loop(place, perfect, OracleDecider(table), _ORACLE)
    scorer = Scorer(place, table)
    before, after, best = (scorer.score(one.objects) for one in (start, graph, perfect))

    def variation(own: dict[str, float | int]) -> float:
        return own["vi_split"] + own["vi_merge"]

    gain = variation(before) - variation(best)
    contacts = place.blind(start.objects).contacts()
    summary, curves = value_against_effort(start, result, contacts, place, table, gain)
    counts = score_edits(start, edits, table)
    for operation, name in (("merge", "split_errors"), ("split", "merge_errors")):
        counts[operation]["missed"] = after[name]
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
        "edits": counts,
        "oracle_edits": sum(len(one.applied) for one in oracle.rounds),
        "steps": score_steps(result, oracle, options.rules.min_confidence),
        "effort": summary,
        "baselines": baselines,
        "background": BACKGROUND,
        "rules": asdict(options.rules),
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
    pool = list(best_of_candidates(result.rounds[0]).values())
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
