"""Learn confidence and thresholds on a validation place: a box with truth that is not proofread itself."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Box
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.calibration import Calibration, OperationCalibration, calibrate, features, group_of
from connectomebench.proofreading.deciders import Decider, edit_gain
from connectomebench.proofreading.finder import BlockFinder
from connectomebench.proofreading.judged import Judged
from connectomebench.proofreading.loop import LoopConfig, Round, judge_once
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.proposals import what_is_done
from connectomebench.proofreading.segmentation_graph import SegmentationGraph
from connectomebench.proofreading.truth_table import TruthTable


def check_apart(place: Place, box_nm: tuple[float, float, float, float, float, float]) -> Box:
    """Return the validation box.

    Raises
    ------
    ConnectomeBenchError
        If it overlaps the place to proofread, or there is no truth.
    """
    if place.truth is None:
        raise ConnectomeBenchError("--validation-box needs truth: the configuration names no `proofread` volume")
    box = Box(box_nm[:3], box_nm[3:])
    spans = zip(box.lower_nm, box.upper_nm, place.box.lower_nm, place.box.upper_nm, strict=True)
    if all(a < d and b > c for a, b, c, d in spans):
        raise ConnectomeBenchError(
            "--validation-box overlaps the place to proofread, whose truth must stay unseen; give --box for the rest"
        )
    return box


def calibrate_on(
    place: Place,
    decider: Decider,
    runner: Runner,
    min_identification: float,
    max_density: float | None,
    precision: float,
    contacts: bool = False,
) -> Calibration:
    """Judge the corrections of a place with truth, and learn from which of them are right.

    Only corrections of candidates that pass identification count, as in the run.

    Parameters
    ----------
    place
        With truth.
    decider
        The models.
    runner
        Runs the work on blocks.
    min_identification, max_density, precision, contacts
        As in the run.
    """
    current, rules = Round(1), LoopConfig(min_identification=min_identification)
    graph = SegmentationGraph(place.supervoxels)
    judge_once(BlockFinder(place, runner, max_density, contacts), graph, decider, rules, current)
    table = TruthTable.of_place(place, runner)
    # nobody is asked about the validation place but models
    judged = [one for one in current.judged if not one.waits]
    right = {one.proposal.edit_id: edit_gain(graph, one.proposal, table) > 0 for one in judged}
    return Calibration(
        _of(judged, "merge", right, precision),
        _of(judged, "split", right, precision),
        precision,
    )


def _of(judged: list[Judged], operation: str, right: dict[str, bool], wanted: float) -> OperationCalibration | None:
    own = [one for one in judged if one.proposal.operation == operation]
    if not own:
        return None
    candidates: dict[str, int] = {}
    edits: dict[Hashable, int] = {}
    return calibrate(
        np.stack([features(one.proposal, one.identification.probability, one.correction.probability) for one in own]),
        np.array([right[one.proposal.edit_id] for one in own]),
        np.array([one.proposal.gain for one in own], np.float64),
        np.array([group_of(one.proposal.site.segment_ids) for one in own], np.int64),
        np.array([candidates.setdefault(one.proposal.candidate.key, len(candidates)) for one in own], np.int64),
        np.array([edits.setdefault(what_is_done(one.proposal), len(edits)) for one in own], np.int64),
        wanted,
    )
