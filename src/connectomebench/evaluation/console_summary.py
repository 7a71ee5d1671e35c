"""Text summary of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from connectomebench.evaluation.results import Summary, label, summarise
from connectomebench.evaluation.summary import METRIC_TITLES, main_metric

if TYPE_CHECKING:
    import pandas as pd

    from connectomebench.dataset.rows import DataRecord

_MASKS = {"miou_per_view": "by view", "iou": "IoU of the part taken away", "dice": "Dice"}
_MORE = {"ece": "calibration error", "brier": "Brier score", "auroc": "AUROC"}


def summary_lines(frame: pd.DataFrame) -> list[str]:
    """Summarise the records of one file: scores with 95% intervals and n, and their cost.

    Parameters
    ----------
    frame
        Records of one model, partition and condition, from :func:`connectomebench.evaluation.results.read_results`.
    """
    [summary] = summarise(frame)
    return [_first(summary), *_masks(summary), *_probabilities(summary), *_cost(frame)]


def simulated_note(data: DataRecord) -> tuple[str, ...]:
    """Return one line that names what is simulated in a dataset, or none."""
    kinds = {"simulated_errors": "the segmentation errors", "simulated_em": "the image data"}
    simulated = [words for key, words in kinds.items() if data.source.get(key)]
    return (f"Simulated in this dataset: {' and '.join(simulated)}.",) if simulated else ()


def _first(summary: Summary) -> str:
    name = main_metric(summary.task)
    found = summary.estimates[name]
    unread = f", {summary.unparsed} replies without an answer" if summary.unparsed else ""
    always = f"; it always answers {summary.always}" if summary.always else ""
    return (
        f"{label(summary.model, summary.condition)} on {summary.task}/{summary.species}/{summary.partition}: "
        f"{METRIC_TITLES[name]} {found.value:.3f} (95% interval {found.lower:.3f} to {found.upper:.3f}, "
        f"{summary.n} rows in {summary.n_groups} groups{unread}){always}"
    )


def _masks(summary: Summary) -> list[str]:
    """Format the other scores of masks, where answers are masks."""
    found = {name: summary.estimates[name] for name in _MASKS if name in summary.estimates}
    parts = [f"{_MASKS[name]} {one.value:.3f} ({one.lower:.3f} to {one.upper:.3f})" for name, one in found.items()]
    return [f"  {', '.join(parts)}"] if parts else []


def _probabilities(summary: Summary) -> list[str]:
    found = {name: summary.estimates[name] for name in _MORE if np.isfinite(summary.estimates[name].value)}
    if not found:
        return []
    parts = [f"{_MORE[name]} {one.value:.3f} ({one.lower:.3f} to {one.upper:.3f})" for name, one in found.items()]
    return [f"  {', '.join(parts)}; {next(iter(found.values())).n} rows with a probability"]


def _cost(frame: pd.DataFrame) -> list[str]:
    """Format seconds, tokens and cost, where known."""
    parts = []
    if len(seconds := frame["latency_s"].dropna()):
        parts.append(f"median {seconds.median():.3g} s a row")
    if len(tokens := frame["tokens"].dropna()):
        parts.append(f"{int(tokens.sum())} tokens written")
    if len(usd := frame["cost_usd"].dropna()):
        parts.append(f"{usd.sum():.4f} USD for {len(usd)} rows")
    return [f"  {', '.join(parts)}"] if parts else []
