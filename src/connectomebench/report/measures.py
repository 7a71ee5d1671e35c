"""Metrics of a task in the report: all models with intervals, and the probe against each baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.evaluation.calibration import ReliabilityBins, reliability_bins
from connectomebench.evaluation.comparison import FEW_GROUPS
from connectomebench.evaluation.results import (
    Comparison,
    Summary,
    Verdict,
    compare,
    default_rows,
    stated_events,
    summarise,
    verdict,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskMeasures:
    """All metrics of one task on one partition.

    Attributes
    ----------
    models
        The main model first, then the baselines.
    comparisons
        Main model minus each baseline, in the order of the baselines.
    bins
        Reliability of the main model; None where answers are places or masks, which have no probability.
    n, n_groups
        Samples and groups.
    fingerprint
        Of the dataset that was evaluated.
    code_version
        Of the code that evaluated it.
    """

    models: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    bins: ReliabilityBins | None
    n: int
    n_groups: int
    fingerprint: str
    code_version: str

    @property
    def few_groups(self) -> bool:
        """Whether there are too few groups for reliable intervals."""
        return self.n_groups < FEW_GROUPS

    def against(self, outcome: Verdict) -> list[Comparison]:
        """Return the comparisons with this outcome."""
        return [c for c in self.comparisons if verdict(c) == outcome]


def measure_task(frame: pd.DataFrame, main: str, baselines: Sequence[str]) -> TaskMeasures:
    """Evaluate the main model and its baselines on the same samples.

    Parameters
    ----------
    frame
        Result records of one task, species and partition, from
        :func:`connectomebench.evaluation.results.read_results`; conditions other than the default are left out.
    main, baselines
        Names of models; all must be in `frame`.

    Raises
    ------
    ConnectomeBenchError
        If a model is missing, gives no probabilities where answers are of a set, or two models saw different samples.
    """
    frame = default_rows(frame)
    missing = [name for name in (main, *baselines) if name not in set(frame["model"])]
    if missing:
        raise ConnectomeBenchError(f"no results of {' and '.join(missing)}; evaluate these models as well")
    summaries = {s.model: s for s in summarise(frame.loc[frame["model"].isin([main, *baselines])])}
    rows = frame.loc[frame["model"] == main]
    exact = get_task(str(rows["task"].iloc[0])).scoring == "exact"
    if exact and rows["probability"].isna().any():
        raise ConnectomeBenchError(f"{main} gives no probability for some samples; a report needs them all")
    return TaskMeasures(
        models=tuple(summaries[name] for name in (main, *baselines)),
        comparisons=tuple(compare(frame, main, b)[0] for b in baselines),
        bins=reliability_bins(rows["probability"].to_numpy(dtype=np.float64), stated_events(rows)) if exact else None,
        n=summaries[main].n,
        n_groups=summaries[main].n_groups,
        fingerprint=str(rows["dataset_fingerprint"].iloc[0]),
        code_version=str(rows["code_version"].iloc[0]),
    )
