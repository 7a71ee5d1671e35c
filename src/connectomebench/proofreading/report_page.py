"""`OUT/report/index.html`: what was done, what it was worth, and what is left to decide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from connectomebench.core.files import write_text
from connectomebench.proofreading.edit_log import Edit
from connectomebench.proofreading.effort import Curve
from connectomebench.proofreading.loop import LoopResult
from connectomebench.proofreading.people_records import people_sentence
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.task_models import TaskModel

_SHOWN = 40
_ORDERS = {
    "expected_gain": ("by expected gain", "#0072b2", "-"),
    "contact_look": ("the same, without the models", "#1e7a3c", "-."),
    "random": ("the same, at random", "#545d68", ":"),
    "largest_contact": ("largest contact first", "#8a5a00", "--"),
    "affinity": ("highest mean affinity first", "#b42318", (0, (6, 1.5))),
}


def write_page(
    out: Path,
    place: Place,
    result: LoopResult,
    edits: Sequence[Edit],
    queue: Sequence[Edit],
    scores: dict[str, Any] | None,
    curves: Mapping[str, Curve],
    notes: Sequence[str],
    models: Mapping[str, TaskModel],
    people: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    out
        Output folder; pictures are linked where they lie.
    place, result, edits, queue
        Data, rounds, applied edits, and what is left, ranked.
    scores, curves
        Against the truth; None and empty without one.
    notes
        What the reader must know: steps left out, models that know the place.
    models
        Task -> model.
    people
        Decisions of people, as in ``scores.json``; None where nobody is asked.

    Returns
    -------
    Path
        ``OUT/report/index.html``; the same input gives the same bytes.
    """
    dropped: Counter[str] = Counter()
    for one in result.rounds:
        dropped.update(one.dropped)
    page = (
        _environment()
        .get_template("proofreading.html")
        .render(
            css=Markup(files("connectomebench.report").joinpath("templates/report.css").read_text(encoding="utf-8")),
            info=place.source.info,
            box=place.box,
            result=result,
            edits=edits,
            queue=queue,
            shown=_SHOWN,
            scores=scores,
            curve=_figure(curves, scores) if scores is not None else "",
            notes=notes,
            dropped=sorted(dropped.items()),
            models={task: (one.model.name, one.model.revision) for task, one in sorted(models.items())},
            people=people,
            number=_number,
            people_sentence=people_sentence,
        )
    )
    path = out / "report" / "index.html"
    write_text(path, page)
    return path


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("connectomebench.proofreading"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _number(value: float | int | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _figure(curves: Mapping[str, Curve], scores: Mapping[str, Any]) -> Markup:
    """Plot the share of the oracle's gain against the number of decisions."""
    import numpy as np
    from matplotlib.figure import Figure

    from connectomebench.cards.plotting import INK, LINE, PAGE, SOFT, page_svg, tidy

    effort = scores["effort"]
    whole = max((e["gain_bits"] / e["share_of_oracle"] for e in effort.values() if e["share_of_oracle"]), default=0.0)
    n = max(1, len(curves["expected_gain"].gains))
    figure = Figure(figsize=(5.6, 3.2), facecolor=PAGE, layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    highest = 1.0
    for name, (title, colour, style) in _ORDERS.items():
        if name not in curves:
            continue
        x = np.unique(np.linspace(0, n, 200))
        y = [curves[name].at(v) / whole if whole else 0.0 for v in x]
        highest = max(highest, *y)
        axes.plot(x, y, color=colour, linestyle=style, linewidth=2, label=title)
    axes.set_xlim(0, n)
    axes.set_ylim(0, 1.02 * highest)
    axes.set_xlabel("decisions", color=INK, fontsize=10)
    axes.set_ylabel("share of the oracle's gain", color=INK, fontsize=10)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    colours = {
        INK: "var(--ink)",
        SOFT: "var(--soft)",
        LINE: "var(--line)",
        PAGE: "var(--card)",
        "#0072b2": "var(--probe)",
        "#8a5a00": "var(--trivial)",
        "#1e7a3c": "var(--good-line)",
        "#b42318": "var(--bad-line)",
    }
    spoken = "; ".join(
        f"{_ORDERS[name][0]}: {_number(own['share_of_oracle'])} of the oracle's gain in {own['decisions']} decisions"
        for name, own in effort.items()
    )
    return page_svg(figure, "effort", re.sub(r"\s+", " ", f"Value against effort. {spoken}"), colours, "figure")
