"""Figure captions: content, sample counts and meaning of the lines."""

from __future__ import annotations

from collections.abc import Sequence

from connectomebench.core.tasks import get_task
from connectomebench.reproduction.drawing import one_each, species_of
from connectomebench.reproduction.methods import in_order, style
from connectomebench.reproduction.score_table import Metric, Score

_WHAT = {
    "balanced_accuracy": "Balanced accuracy: the mean of the shares of “yes” and of “no” samples that were answered "
    "right; 0.5 (dashed) is guessing. Of tasks with other answers it is the mean of the shares of each.",
    "ece": "Expected calibration error: how far stated probabilities lie from what happens, on average; 0 is best. On "
    "few samples it is too large even for a perfect model.",
}


def scaling_caption(scores: Sequence[Score], tasks: Sequence[str], metric: Metric) -> str:
    """Caption :func:`.drawing.draw_scaling`."""
    shown = [s for s in scores if s.metric == metric and s.train_samples is not None and s.task in tasks]
    unknown = [s for s in scores if s.metric == metric and s.train_samples is None and s.task in tasks]
    text = [f"{_WHAT[metric]} Against the number of training samples, on a logarithmic axis.", *_common(shown)]
    text.append("Marks whose training samples differ by less than a tenth stand a little apart.")
    left_out = _left_out(shown, unknown)
    if left_out:
        text.append(f"Not shown, since there was no training or its samples are not known: {', '.join(left_out)}.")
    return "\n".join([" ".join(text), *_tested(shown, tasks, by_species=False)])


def species_caption(scores: Sequence[Score], tasks: Sequence[str], metric: Metric) -> str:
    """Caption :func:`.drawing.draw_species`."""
    shown = one_each([s for s in scores if s.metric == metric and s.task in tasks])
    text = [f"{_WHAT[metric]} By species of the samples.", *_common(shown)]
    also = _also_stated([s for s in scores if s.metric == metric and s.task in tasks], shown)
    if also:
        text.append(f"Of several values of a cell one is drawn, with its interval where it has one. Others: {also}.")
    return "\n".join([" ".join(text), *_tested(shown, tasks, by_species=True)])


def _also_stated(scores: Sequence[Score], shown: Sequence[Score]) -> str:
    """List the values of cells that are not drawn, since the cell has another one; those of a sweep are left out."""
    drawn = {(s.method, s.task, s.species): s for s in shown}
    found = []
    for score in scores:
        other = drawn[score.method, score.task, score.species]
        if score.how.startswith("mean of") or round(score.value, 3) == round(other.value, 3):
            continue
        cell = f"{style(score.method).title} on {get_task(score.task).title.lower()}, {score.species}"
        found.append(f"{cell}, {score.value:.3f} {score.how} (drawn: {other.value:.3f})")
    return "; ".join(dict.fromkeys(found))


def _left_out(shown: Sequence[Score], unknown: Sequence[Score]) -> list[str]:
    """List methods without data, overall and per task."""
    marked = {s.method for s in shown}
    never = [style(m).title for m in in_order({s.method for s in unknown} - marked)]
    places = {(s.method, s.task) for s in unknown if s.method in marked} - {(s.method, s.task) for s in shown}
    partly = [f"{style(method).title} on {get_task(task).title.lower()}" for method, task in sorted(places)]
    return [*never, *partly]


def _common(shown: Sequence[Score]) -> list[str]:
    """Describe the computation and the error bars."""
    ways: dict[tuple[str, ...], list[str]] = {}
    for method in in_order({s.method for s in shown}):
        ways.setdefault(tuple(sorted({s.how for s in shown if s.method == method})), []).append(style(method).title)
    lines = [f"{', '.join(titles)}: {' or '.join(hows)}." for hows, titles in ways.items()]
    intervals = list(dict.fromkeys(s.interval for s in shown if s.interval))
    if intervals:
        lines.append(f"Lines on the marks: {'; '.join(intervals)}.")
    if any(not s.interval for s in shown):
        lines.append("Marks without a line come from totals, which give no interval.")
    return lines


def _tested(shown: Sequence[Score], tasks: Sequence[str], *, by_species: bool) -> list[str]:
    """List the number of test samples, one line per task."""
    lines = []
    named = by_species or len({s.species for s in shown}) > 1
    for task in tasks:
        parts = []
        for method in in_order({s.method for s in shown if s.task == task}):
            of = [
                s for name in species_of(shown) for s in shown if (s.method, s.task, s.species) == (method, task, name)
            ]
            counts = [(s.species, "unknown" if s.n is None else str(s.n)) for s in of]
            if named:
                of_species: dict[str, list[str]] = {}
                for name, n in dict.fromkeys(counts):
                    of_species.setdefault(name, []).append(n)
                text = ", ".join(f"{name} {' or '.join(numbers)}" for name, numbers in of_species.items())
            else:
                text = " or ".join(dict.fromkeys(n for _, n in counts))
            parts.append(f"{style(method).title} ({text})")
        what = "; ".join(parts) if parts else "no records"
        lines.append(f"Samples tested, {get_task(task).title.lower()}: {what}.")
    return lines
