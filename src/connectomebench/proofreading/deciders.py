"""Who decides: the models of the tasks, from pictures, or an oracle that knows the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Site
from connectomebench.dataset.schema import make_row
from connectomebench.evaluation.resume_log import ResumeLog
from connectomebench.models.base import Answer
from connectomebench.proofreading.drawing import Drawer, draw_here
from connectomebench.proofreading.evidence import FOLDER, keep_evidence
from connectomebench.proofreading.partner_choice import candidate_key, candidate_pictures, letters_of, partner_choices
from connectomebench.proofreading.person import Person
from connectomebench.proofreading.proposals import Proposal, site_key
from connectomebench.proofreading.segmentation_graph import EditRefused, SegmentationGraph
from connectomebench.proofreading.task_models import (
    CHOICE_TASK,
    CORRECTION_TASKS,
    END_TASKS,
    MERGE_TASKS,
    SPLIT_TASKS,
    SPOT_TASKS,
    TaskModel,
)
from connectomebench.proofreading.truth_table import TruthTable
from connectomebench.rendering.engines import Engine
from connectomebench.rendering.views import ViewConfig
from connectomebench.sources.volumes.volume_source import VolumeSource

_BATCH = 32


@dataclass(frozen=True)
class Judgement:
    """An answer to one question.

    Attributes
    ----------
    probability
        P(yes); None where nobody was asked or no picture can be drawn.
    asked
        Whether there is someone to ask.
    evidence
        Pictures, relative to the output folder.
    waits
        Whether a person must decide; the probability is then that of a model that is not sure, or None.
    """

    probability: float | None
    asked: bool = True
    evidence: tuple[str, ...] = ()
    waits: bool = False


NOT_ASKED = Judgement(None, asked=False)


KnownError: TypeAlias = "Callable[[Sequence[Proposal], SegmentationGraph], bool]"


class Decider(Protocol):
    """Answers the questions of proofreading."""

    end_task: str
    known_error: KnownError | None
    """Where errors are known without asking: whether one of the corrections of a candidate is right."""

    def can(self, operation: str) -> bool:
        """Whether it judges corrections of this kind (``merge`` or ``split``)."""
        ...

    def identify(self, sites: Sequence[Site], source: VolumeSource) -> list[Judgement]:
        """Judge whether there is an error at each site; all of one task."""
        ...

    def correct(self, proposals: Sequence[Proposal], source: VolumeSource, graph: SegmentationGraph) -> list[Judgement]:
        """Judge corrections; all of one kind."""
        ...

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:
        """Whether an accepted correction still holds after other edits of its round."""
        ...

    def exhausted(self) -> bool:
        """Whether a budget is spent."""
        ...


class ModelDecider:
    """Asks the models of the tasks about pictures, each question once.

    Parameters
    ----------
    models
        Task -> model.
    log
        Answers so far, kept on disk as they come.
    out
        Output folder; pictures and scenes of corrections go to ``OUT/evidence``.
    engine, views
        How sites are rendered.
    max_usd
        Most that all answers may cost, including those of earlier runs; None sets no limit.
    draw
        Draws sites of a source; None draws them in threads of this process.

    Raises
    ------
    ConnectomeBenchError
        With a budget, if a model does not say what an answer costs.
    """

    def __init__(
        self,
        models: Mapping[str, TaskModel],
        log: ResumeLog,
        out: Path,
        engine: Engine,
        views: ViewConfig,
        max_usd: float | None = None,
        draw: Drawer | None = None,
    ) -> None:
        self._draw = draw or partial(draw_here, engine=engine, views=views)
        self._views = views
        self._models = models
        self._log = log
        self._out = out
        self._max_usd = max_usd
        self._spent_out = False
        self._free = {task for task, one in models.items() if isinstance(one.model, Person) and one.model.free}
        self.end_task = next((task for task in END_TASKS if task in models), END_TASKS[1])
        self._spot_task = next((task for task in SPOT_TASKS if task in models), SPOT_TASKS[1])
        self._correction_task = {
            operation: next((task for task in tasks if task in models), tasks[1])
            for operation, tasks in (("merge", MERGE_TASKS), ("split", SPLIT_TASKS))
        }

    known_error: KnownError | None = None

    def can(self, operation: str) -> bool:  # noqa: D102
        return any(task in self._models for task in CORRECTION_TASKS[operation])

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:  # noqa: D102
        return True

    def exhausted(self) -> bool:  # noqa: D102
        return self._spent_out

    def identify(self, sites: Sequence[Site], source: VolumeSource) -> list[Judgement]:  # noqa: D102
        if sites and sites[0].task in SPOT_TASKS:
            sites = [replace(site, task=self._spot_task) for site in sites]
        if not sites or sites[0].task not in self._models:
            return [NOT_ASKED] * len(sites)
        return self._ask(sites, source, keep=False)

    def correct(  # noqa: D102
        self, proposals: Sequence[Proposal], source: VolumeSource, graph: SegmentationGraph
    ) -> list[Judgement]:
        if proposals and proposals[0].operation == "merge" and CHOICE_TASK in self._models:
            return self._choose(proposals, source)
        sites = [replace(one.site, task=self._correction_task[one.operation]) for one in proposals]
        return self._ask(sites, source, keep=True)

    def _choose(self, proposals: Sequence[Proposal], source: VolumeSource) -> list[Judgement]:
        """Ask once an end which of its partners continues it; a partner's probability is that of its letter."""
        choices = partner_choices(proposals)
        self._ask([choice.site for choice in choices], source, keep=True)
        found: dict[int, Judgement] = {}
        for choice in choices:
            record = self._log.records.get(site_key(choice.site))
            if record is None or (record["choices"] is None and not record.get("waits", False)):
                continue
            for letter, row in choice.rows.items():
                folder = f"{FOLDER}/{candidate_key(choice.site, letter)}/"
                evidence = tuple(path for path in record["evidence"] if path.startswith(folder))
                probability = None if record["choices"] is None else record["choices"].get(letter, 0.0)
                found[row] = Judgement(probability, evidence=evidence, waits=record.get("waits", False))
        return [found.get(row, Judgement(None)) for row in range(len(proposals))]

    def spent_usd(self) -> float:
        """Sum the cost of all answers, 0 for those without a price."""
        return sum(record["cost_usd"] or 0.0 for record in self._log.records.values())

    def _ask(self, sites: Sequence[Site], source: VolumeSource, keep: bool) -> list[Judgement]:
        keys = [site_key(site) for site in sites]
        left = {key: site for key, site in zip(keys, sites, strict=True) if key not in self._log.records}
        pending = list(left.items())
        name = sites[0].task if sites else ""
        with tqdm(total=len(pending), desc=name, unit="question", leave=False, delay=1) as bar:
            while pending:
                n = min(self._affordable(name), len(pending))
                if n == 0:
                    self._spent_out = True
                    break
                self._log.add(self._answer(pending[:n], source, keep))
                pending = pending[n:]
                bar.update(n)
        return [self._judgement(key) for key in keys]

    def _judgement(self, key: str) -> Judgement:
        record = self._log.records.get(key)
        if record is None:
            return Judgement(None)
        return Judgement(record["probability"], evidence=tuple(record["evidence"]), waits=record.get("waits", False))

    def _answer(self, batch: Sequence[tuple[str, Site]], source: VolumeSource, keep: bool) -> list[dict[str, Any]]:
        """Render and answer a batch of one task."""
        task = batch[0][1].task
        model = self._models[task].model
        drawn = self._draw([site for _, site in batch], source)
        shown = [i for i, drawing in enumerate(drawn) if drawing.summary.problem is None]
        rows = [make_row(batch[i][1], drawn[i].images, "", source.info) for i in shown]
        answers: list[Answer] = []
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            answers = model.predict(columns)
        by_row = dict(zip(shown, answers, strict=True))
        records = []
        for i, (key, _) in enumerate(batch):
            answer = by_row.get(i)
            evidence = []
            if keep and answer is not None:
                for own, site, images in _shown_apart(key, batch[i][1], drawn[i].images):
                    evidence += keep_evidence(self._out, own, site, images, source, self._views)
            waits = isinstance(model, Person) and answer is not None and model.must_decide(answer)
            records.append(
                {
                    "sample_id": key,
                    "task": task,
                    "probability": None if answer is None else _yes(answer),
                    "choices": _by_letter(answer) if answer is not None and task == CHOICE_TASK else None,
                    "problem": drawn[i].summary.problem,
                    "evidence": evidence,
                    "cost_usd": 0.0 if answer is None else answer.cost_usd,
                    "tokens": None if answer is None else answer.tokens,
                    **({"waits": True} if waits else {}),
                }
            )
        return records

    def _affordable(self, task: str) -> int:
        """Count the questions of the next batch that the budget allows, each at the price of the dearest so far."""
        if self._max_usd is None or task in self._free:
            return _BATCH
        known = self._log.records.values()
        # what people are asked says nothing of the price of the others
        asked = [one["cost_usd"] for one in known if one["problem"] is None and one["task"] not in self._free]
        if any(cost is None for cost in asked):
            raise ConnectomeBenchError(
                "a model does not say what its answers cost, so --max-usd cannot be kept; give its token prices"
            )
        dearest = max(asked, default=0.0)
        if not dearest:
            return 1 if not asked else _BATCH
        return max(0, min(_BATCH, int((self._max_usd - self.spent_usd()) / dearest)))


def _shown_apart(key: str, site: Site, images: Mapping[str, bytes]) -> list[tuple[str, Site, Mapping[str, bytes]]]:
    """Divide the pictures of a choice into those of each candidate; key, site and pictures of what is kept."""
    if site.task != CHOICE_TASK:
        return [(key, site, images)]
    return [(candidate_key(site, letter), *candidate_pictures(site, letter, images)) for letter in letters_of(site)]


def _by_letter(answer: Answer) -> dict[str, float] | None:
    if answer.probabilities:
        return {letter: float(p) for letter, p in answer.probabilities.items()}
    return None if answer.prediction is None else {answer.prediction: 1.0}


def _yes(answer: Answer) -> float | None:
    if answer.probabilities:
        return float(answer.probabilities.get("yes", 0.0))
    return None if answer.prediction is None else float(answer.prediction == "yes")


class OracleDecider:
    """Knows the truth: a correction is right if it lowers the variation of information.

    Parameters
    ----------
    table
        Overlaps of supervoxels and bodies.
    end_task
        Task in whose terms ends are asked about.
    """

    known_error: KnownError | None = None

    def __init__(self, table: TruthTable, end_task: str = END_TASKS[1]) -> None:
        self._table = table
        self.end_task = end_task

    def has_error(self, proposals: Sequence[Proposal], graph: SegmentationGraph) -> bool:
        """Whether one of the corrections of a candidate is right."""
        return any(edit_gain(graph, one, self._table) > 0 for one in proposals)

    def can(self, operation: str) -> bool:  # noqa: D102
        return True

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:  # noqa: D102
        return edit_gain(graph, proposal, self._table) > 0

    def exhausted(self) -> bool:  # noqa: D102
        return False

    def identify(self, sites: Sequence[Site], source: VolumeSource) -> list[Judgement]:
        """Ask nobody: corrections alone decide."""
        return [NOT_ASKED] * len(sites)

    def correct(  # noqa: D102
        self, proposals: Sequence[Proposal], source: VolumeSource, graph: SegmentationGraph
    ) -> list[Judgement]:
        gains = [edit_gain(graph, proposal, self._table) for proposal in proposals]
        best = max(gains, default=0.0)
        # above 0.99 where it is right, and the more it gains the surer: of several right cuts the best is taken
        return [Judgement(0.99 + 0.01 * gain / best if gain > 0 else 0.0) for gain in gains]


def edit_gain(graph: SegmentationGraph, proposal: Proposal, table: TruthTable) -> float:
    """Compute by how much a proposal would lower the variation of information now, bits; 0 where it cannot be made."""
    return gain_now(graph, proposal, table) or 0.0


def gain_now(graph: SegmentationGraph, proposal: Proposal, table: TruthTable) -> float | None:
    """Compute the same; None where the proposal cannot be made."""
    try:
        if proposal.operation == "merge":
            return table.merge_gain(graph, *graph.check_merge(proposal.sources[0], proposal.sinks[0], 2.0))
        return table.split_gain(graph.plan_split(proposal.sources, proposal.sinks, 2.0))
    except EditRefused:
        return None


class AblatedDecider:
    """Models, with the oracle in place of one step.

    Parameters
    ----------
    models, oracle
        Who decides.
    replaced
        ``identification`` or ``correction``: what the oracle does; anything else leaves all to the models.
    """

    def __init__(self, models: Decider, oracle: OracleDecider, replaced: str) -> None:
        self._models, self._oracle, self._replaced = models, oracle, replaced
        self.end_task = models.end_task
        self.known_error: KnownError | None = oracle.has_error if replaced == "identification" else None

    def can(self, operation: str) -> bool:  # noqa: D102
        return self._models.can(operation)

    def stands(self, proposal: Proposal, graph: SegmentationGraph) -> bool:  # noqa: D102
        return self._oracle.stands(proposal, graph) if self._replaced == "correction" else True

    def exhausted(self) -> bool:  # noqa: D102
        return self._models.exhausted()

    def identify(self, sites: Sequence[Site], source: VolumeSource) -> list[Judgement]:  # noqa: D102
        return self._models.identify(sites, source)

    def correct(  # noqa: D102
        self, proposals: Sequence[Proposal], source: VolumeSource, graph: SegmentationGraph
    ) -> list[Judgement]:
        chosen = self._oracle if self._replaced == "correction" else self._models
        return chosen.correct(proposals, source, graph)
