"""One self-contained page: statistics, figures, and costs whose every assumption can be changed in the browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.cards.plotting import PNG_DPI, render, save
from connectomebench.core.files import write_json, write_text
from connectomebench.core.version import __version__
from connectomebench.economics.analysis import (
    Analysis,
    as_dict,
    cost_line,
    costs,
    difference_rows,
    statistic_rows,
    tail_sentence,
)
from connectomebench.economics.assumptions import PRICINGS, listed
from connectomebench.economics.cost import SCENARIOS
from connectomebench.economics.figures import draw_check, draw_compact, draw_cost, draw_patterns, draw_sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE_DPI = 90


def write_analysis(found: Analysis, out: Path) -> Path:
    """Write ``economics.json``, ``figures/*.png`` and ``*.pdf``, and ``index.html`` into a folder.

    Parameters
    ----------
    found
        Results.
    out
        Folder; the same results give the same bytes.

    Returns
    -------
    Path
        The page.
    """
    figures = draw(found)
    for name, (figure, _) in figures.items():
        for ending in ("png", "pdf"):
            save(figure, out / "figures" / f"{name}.{ending}")
    write_json(out / "economics.json", as_dict(found))
    path = out / "index.html"
    write_text(path, page(found, figures))
    return path


def draw(found: Analysis) -> dict[str, tuple[Figure, str]]:
    """Draw every figure for which there are data: name -> figure, and what it shows."""
    groups = list(found.populations.values())
    largest = [group[-1] for group in groups]
    figures: dict[str, tuple[Figure, str]] = {}
    for group in groups:
        for d in group:
            name = f"sample-{d.table.name}".replace(" n=", "-").replace("/", "-").replace(" ", "-")
            figures[name] = (draw_sample(d), f"Edits of {d.table.name}: distribution, kinds, percentiles, rank")
    if any(len(group) > 1 for group in groups):
        figures["sample-check"] = (draw_check(groups), "Statistics by the number of neurons in the sample")
    if groups:
        figures["patterns"] = (draw_patterns(largest), "Distributions and heavy tails side by side")
        figures["compact"] = (draw_compact(largest), "Ranked edits and shares of merges and splits")
    figures["cost"] = (draw_cost(found.totals, found.sourced.values), "What the main model costs")
    for figure, _ in figures.values():
        _find_places(figure)
    return figures


def _find_places(figure: Figure) -> None:
    """Lay a figure out once, and leave it without an engine: matplotlib would draw it twice for each file."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure.set_dpi(PNG_DPI)
    ConstrainedLayoutEngine().execute(figure)


def page(found: Analysis, figures: Mapping[str, tuple[Figure, str]]) -> str:
    """Return the page as reproducible HTML without external resources.

    Parameters
    ----------
    found
        Results.
    figures
        Name -> figure, and its text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("connectomebench.economics"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    computed = costs(found)
    text = files("connectomebench.economics").joinpath
    return environment.get_template("economics.html").render(
        css=Markup(text("templates/economics.css").read_text(encoding="utf-8")),
        script=Markup(text("templates/economics.js").read_text(encoding="utf-8")),
        data=_embedded(found),
        samples=[
            {"d": d, "rows": statistic_rows(d), "tail": tail_sentence(d)} for g in found.populations.values() for d in g
        ],
        differences=difference_rows(found),
        assumptions=listed(found.sourced),
        pricings=PRICINGS,
        scenarios=SCENARIOS,
        totals=found.totals,
        lines={name: {s: cost_line(q) for s, q in by.items()} for name, by in computed.items()},
        simulated=any(t.simulated for t in found.totals),
        slips=found.slips,
        figures=[(name, _uri(render(figure, "png", _PAGE_DPI)), label) for name, (figure, label) in figures.items()],
        version=__version__,
    )


def _embedded(found: Analysis) -> Markup:
    """Return what the script needs as JSON that cannot end its element."""
    data: dict[str, Any] = {
        "assumptions": listed(found.sourced),
        "scenarios": [{"name": s.name, "changes": dict(s.changes)} for s in SCENARIOS],
        "totals": [
            {"name": t.name, "merges": t.merges, "splits": t.splits, "draws": t.draws.tolist()} for t in found.totals
        ],
    }
    return Markup(json.dumps(data).replace("<", "\\u003c"))


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
