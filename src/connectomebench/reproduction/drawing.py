"""Plot scores against training samples and by species, one panel per task.

All figures are drawn from scores alone, so that published results and our own go through the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.cards.plotting import INK, PAGE, SETTINGS, SOFT, tidy
from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import get_task
from connectomebench.reproduction.methods import colours, in_order, style
from connectomebench.reproduction.score_table import Metric, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS = {
    "balanced_accuracy": "balanced accuracy",
    "ece": "expected calibration error (0 is best)",
}
# single points whose training samples differ by less than a tenth stand a sixth of an octave apart
_NEAR, _APART = 1.1, 1 / 6


def draw_scaling(
    scores: Sequence[Score], tasks: Sequence[str], metric: Metric, columns: int = 2, remark: str = ""
) -> Figure:
    """Plot a score against the number of training samples (log scale), one panel per task.

    Scores without a number of training samples are left out; several scores of a method are joined by a line where
    they come from one file. Bars are the intervals of the scores.

    Parameters
    ----------
    scores, tasks, metric
        What is drawn: scores of this metric on these tasks, in this order.
    columns
        Panels beside each other.
    remark
        Stands above the panels.
    """
    shown = [s for s in scores if s.metric == metric and s.train_samples is not None and s.task in tasks]
    methods = in_order({s.method for s in shown})
    colour = colours(methods)
    ticks = _powers([s.train_samples or 1 for s in shown])

    def panel(axes: Axes, task: str) -> None:
        series = _series([s for s in shown if s.task == task], methods)
        places = _places(series)
        for of, at in zip(series, places, strict=True):
            method = of[0].method
            looks = style(method)
            axes.errorbar(
                at,
                [s.value for s in of],
                yerr=_bars(of),
                color=colour[method],
                marker=looks.marker,
                markerfacecolor=PAGE if looks.hollow else colour[method],
                markersize=6,
                linewidth=1.5 if len(of) > 1 else 0,
                elinewidth=1.2,
                capsize=2.5,
            )
        axes.set_xscale("log", base=2)
        axes.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.5)
        shown_ticks = ticks if len(ticks) <= 7 else ticks[::2]
        axes.set_xticks(shown_ticks, [f"{t:,}" for t in shown_ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training samples (log scale)")

    return _panels(tasks, metric, columns, panel, shown, colour, remark, bars=False)


def draw_species(
    scores: Sequence[Score], tasks: Sequence[str], metric: Metric, columns: int = 2, remark: str = ""
) -> Figure:
    """Plot a score by species as bars with intervals, one panel per task.

    Of several scores of a method, task and species, `one_each` picks one.
    """
    shown = one_each([s for s in scores if s.metric == metric and s.task in tasks])
    methods = in_order({s.method for s in shown})
    colour = colours(methods)
    species = species_of(shown)

    def panel(axes: Axes, task: str) -> None:
        of_task = [s for s in shown if s.task == task]
        crowded = max(sum(s.species == name for s in of_task) for name in species)
        width = 0.86 / crowded
        for centre, name in enumerate(species):
            here = [s for m in methods for s in of_task if (s.method, s.species) == (m, name)]
            if not here:
                axes.annotate(
                    "none",
                    (centre, 0),
                    (0, 4),
                    textcoords="offset points",
                    ha="center",
                    color=SOFT,
                    fontsize=8,
                )
            for number, score in enumerate(here):
                axes.bar(
                    centre + width * (number - (len(here) - 1) / 2),
                    score.value,
                    width * 0.88,
                    color=PAGE if style(score.method).hollow else colour[score.method],
                    edgecolor=colour[score.method],
                    linewidth=1.2,
                    yerr=_bars([score]),
                    ecolor=INK,
                    error_kw={"elinewidth": 1.0, "capsize": 1.5},
                )
        axes.set_xticks(range(len(species)), [name.replace("_", " ") for name in species])
        axes.set_xlim(-0.6, len(species) - 0.4)

    return _panels(tasks, metric, columns, panel, shown, colour, remark, bars=True)


def species_of(scores: Sequence[Score]) -> list[str]:
    """Return the species of scores: ours in their order, then those of a lab by name."""
    found = {score.species for score in scores}
    return [*(name for name in SPECIES if name in found), *sorted(found - set(SPECIES))]


def one_each(scores: Sequence[Score]) -> list[Score]:
    """Select one score per method, task and species: of single answers, with interval, most samples, or first."""
    best: dict[tuple[str, str, str], Score] = {}
    for score in scores:
        key = (score.method, score.task, score.species)
        if key not in best or _rank(score) > _rank(best[key]):
            best[key] = score
    return list(best.values())


def _rank(score: Score) -> tuple[bool, bool, int]:
    return score.n_groups is not None, bool(np.isfinite(score.lower)), score.train_samples or 0


def _bars(scores: Sequence[Score]) -> np.ndarray | None:
    """Return error bar lengths below and above, shape (2, scores); None if there are no intervals."""
    lengths = np.array([[s.value - s.lower for s in scores], [s.upper - s.value for s in scores]])
    return lengths if np.isfinite(lengths).any() else None


def _series(scores: Sequence[Score], methods: Sequence[str]) -> list[list[Score]]:
    """Return the scores of each method and source, fewest training samples first."""
    found: dict[tuple[str, str], list[Score]] = {}
    for score in sorted(scores, key=lambda s: (methods.index(s.method), s.source, s.train_samples or 0)):
        found.setdefault((score.method, score.source), []).append(score)
    return list(found.values())


def _places(series: Sequence[Sequence[Score]]) -> list[list[float]]:
    """Return x positions at the training sample counts, spreading single points that overlap."""
    single = sorted((of[0].train_samples or 1, number) for number, of in enumerate(series) if len(of) == 1)
    places = [[float(s.train_samples or 1) for s in of] for of in series]
    while single:
        near = [number for count, number in single if count <= single[0][0] * _NEAR]
        single = single[len(near) :]
        for rank, number in enumerate(near):
            places[number][0] *= 2 ** (_APART * (rank - (len(near) - 1) / 2))
    return places


def _powers(counts: Sequence[int]) -> list[int]:
    """Return the powers of two that span the counts."""
    if not counts:
        return [1]
    return [2**i for i in range(int(np.floor(np.log2(min(counts)))), int(np.ceil(np.log2(max(counts)))) + 1)]


def _panels(
    tasks: Sequence[str],
    metric: Metric,
    columns: int,
    panel: Callable[[Axes, str], None],
    shown: Sequence[Score],
    colour: Mapping[str, str],
    remark: str,
    *,
    bars: bool,
) -> Figure:
    """Create one panel per task with a shared legend below; note tasks without records."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(columns, len(tasks))
    lines = -(-len(tasks) // columns)
    keys = -(-len(colour) // (3 if columns > 1 else 2))
    with rc_context(SETTINGS):
        size = (4.3 * columns + 0.2, 2.9 * lines + 0.22 * keys + 0.35)
        figure = Figure(figsize=size, facecolor=PAGE, layout="constrained")
        grid: Any = figure.subplots(lines, columns, squeeze=False)
        limits = _limits(metric, shown, bars)
        for axes, task in zip(grid.flat, tasks, strict=False):
            axes.set_title(get_task(task).title, color=INK, fontsize=10.5, loc="left")
            tidy(axes, "y")
            axes.set_ylim(*limits)
            # of more than two answers, how many right ones a guess gives differs from row to row
            halves = metric == "balanced_accuracy" and get_task(task).answer_kind == "yes_no"
            axes.set_ylabel(AXIS[metric] + (" (0.5 is guessing)" if halves else ""), color=INK, fontsize=8.5)
            if any(s.task == task for s in shown):
                panel(axes, task)
                if halves:
                    axes.axhline(0.5, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=0.9)
            else:
                axes.set_xticks([])
                axes.text(0.5, 0.5, "no records", transform=axes.transAxes, ha="center", color=SOFT)
            axes.xaxis.label.set_color(INK)
        for axes in grid.flat[len(tasks) :]:
            axes.set_axis_off()
        handles = [_key(method, colour[method], bars) for method in colour]
        if handles:
            figure.legend(
                handles=handles,
                loc="outside lower center",
                ncols=3 if columns > 1 else 2,
                frameon=False,
                labelcolor=INK,
                fontsize=8.5,
            )
        if remark:
            figure.suptitle(remark, color=INK, fontsize=9, wrap=True)
        # the layout is found once and kept for every file of the figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _limits(metric: Metric, shown: Sequence[Score], bars: bool) -> tuple[float, float]:
    """Return the y limits; bars start at zero."""
    if metric != "ece":
        least = min((min(s.value, s.lower) if np.isfinite(s.lower) else s.value for s in shown), default=0.5)
        return (0.0 if bars else max(0.0, min(0.45, least - 0.05))), 1.03
    most = max((max(s.value, s.upper) if np.isfinite(s.upper) else s.value for s in shown), default=0.1)
    return 0.0, min(1.03, most * 1.08)


def _key(method: str, colour: str, bars: bool) -> Any:
    """Return the legend handle of a method: its marker, or a patch."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    looks = style(method)
    inside = PAGE if looks.hollow else colour
    if bars:
        return Patch(facecolor=inside, edgecolor=colour, label=looks.title)
    return Line2D([], [], color=colour, marker=looks.marker, markerfacecolor=inside, linewidth=0, label=looks.title)
