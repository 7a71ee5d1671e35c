"""Figure of learning curves: balanced accuracy against training samples, with the fitted power law of each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from connectomebench.cards.plotting import IDEAL, INK, PAGE, SETTINGS, SOFT, tidy
from connectomebench.evaluation.learning_curve import LearningCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct with any colour vision
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def learning_curve_figure(
    curves: Mapping[str, LearningCurve], title: str, level: str, *, simulated: bool = False
) -> Figure:
    """Draw learning curves.

    Parameters
    ----------
    curves
        Model -> its curve, on the same test rows.
    title
        Task and species.
    level
        What the level to reach is, where the curves have one.
    simulated
        State that the errors of these data are simulated.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, 4.2), facecolor=PAGE, layout="constrained")
        axes = figure.subplots()
        tidy(axes)
        for (name, curve), colour in zip(curves.items(), _COLOURS * len(curves), strict=False):
            error = np.array([curve.accuracy - curve.lower, curve.upper - curve.accuracy])
            axes.errorbar(curve.samples, curve.accuracy, error, fmt="o", color=colour, markersize=4, linewidth=1.2)
            measured = curve.band_samples <= curve.samples.max()
            fitted = 1 - curve.law.error(curve.band_samples)
            axes.fill_between(curve.band_samples, *curve.band, color=colour, alpha=0.15, linewidth=0)
            axes.plot(curve.band_samples[measured], fitted[measured], color=colour, linewidth=1.6, label=name)
            beyond = curve.band_samples >= curve.samples.max()
            axes.plot(curve.band_samples[beyond], fitted[beyond], color=colour, linewidth=1.2, linestyle=(0, (1, 1.5)))
        one = next(iter(curves.values()))
        axes.axhline(0.5, **IDEAL)
        axes.text(0.995, 0.5, "chance", transform=axes.get_yaxis_transform(), ha="right", va="bottom", color=SOFT)
        if one.target is not None:
            axes.axhline(one.target, color=INK, linewidth=1.2)
            axes.text(0.995, one.target, level, transform=axes.get_yaxis_transform(), ha="right", va="bottom")
        axes.set_xscale("log")
        axes.set_xlabel("training samples (dotted: beyond what was measured)", color=INK)
        axes.set_ylabel("balanced accuracy", color=INK)
        lowest = min(0.5, *(float(curve.lower.min()) for curve in curves.values()))
        axes.set_ylim(lowest - 0.04, 1.0)
        data = "SIMULATED errors; " if simulated else ""
        axes.set_title(f"{title}: {data}{one.n} test samples in {one.n_groups} groups", color=INK, fontsize=10)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.08))
    return figure
