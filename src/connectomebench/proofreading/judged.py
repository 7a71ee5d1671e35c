"""A proposal with what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

from connectomebench.proofreading.deciders import Judgement
from connectomebench.proofreading.edit_log import Edit
from connectomebench.proofreading.proposals import Proposal
from connectomebench.proofreading.segmentation_graph import SegmentationGraph


@dataclass(frozen=True)
class Judged:
    """A proposal with what the models say of it.

    Attributes
    ----------
    proposal
        The correction.
    identification, correction
        Answers of the two models.
    confidence
        Both together; see :class:`connectomebench.proofreading.loop.LoopConfig`.
    round
        Round in which it was judged.
    chance
        Probability that its expected gain counts with; see
        :meth:`connectomebench.proofreading.calibration.Calibration.chance`.
    decided_by, decided_id
        Who accepted it, and the edit that this person was shown; empty where models decide, or nobody has yet.
    """

    proposal: Proposal
    identification: Judgement
    correction: Judgement
    confidence: float
    round: int
    chance: float
    decided_by: str = ""
    decided_id: str = ""

    @property
    def edit_id(self) -> str:
        """Id of the edit: what a person was shown keeps its own, though its objects may have become others."""
        return self.decided_id or self.proposal.edit_id

    @property
    def waits(self) -> bool:
        """Whether a person must decide, and has not."""
        return self.correction.waits and not self.decided_by

    @property
    def value(self) -> float:
        """Expected gain of a decision, bits: its chance times the gain of a right edit."""
        return self.chance * self.proposal.gain

    def as_edit(self, graph: SegmentationGraph, neuroglancer: str = "") -> Edit:
        """Return it as an edit of the current objects."""
        p = self.proposal
        rows = [p.sources[0], p.sinks[0]]
        before = tuple(dict.fromkeys(int(graph.objects[row]) for row in rows))
        return Edit(
            self.edit_id,
            p.operation,
            self.round,
            p.site.location_nm,
            p.source_points_nm,
            p.sink_points_nm,
            tuple(row + 1 for row in p.sources),
            tuple(row + 1 for row in p.sinks),
            before,
            self.confidence,
            self.identification.probability,
            self.correction.probability,
            self.value,
            p.candidate.kind,
            evidence=self.correction.evidence,
            neuroglancer=neuroglancer,
            decided_by=self.decided_by,
            chance=self.chance,
        )
