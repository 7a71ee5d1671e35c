"""Render cards from Jinja templates, and format estimates with intervals."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.resources import resource_path

if TYPE_CHECKING:
    from jinja2 import Template

ORGANISATION = "connectomebench"
# coverage of every interval that a card shows: the one of `evaluation.statistics.bootstrap_interval`
LEVEL = 0.95
DASH = "–"


def render(template: str, **values: Any) -> str:
    """Render a template of ``hub_cards/``; a missing value is an error, and no value is HTML.

    Names, citations and settings come from configurations, records and the Hub, and a card is shown as Markdown, in
    which HTML counts. The front matter, which is YAML, stays as it is.

    Parameters
    ----------
    template
        Path as in the repository, for example ``"hub_cards/dataset.md.jinja"``.
    **values
        What the template names; ``card_data`` is the front matter. The filter ``cell`` makes a text fit into a cell of
        a table.

    Raises
    ------
    ConnectomeBenchError
        If the template is missing.
    """
    text = resource_path(template).read_text(encoding="utf-8")
    return _compiled(text).render(
        **{name: Markup(value) if name == "card_data" else value for name, value in values.items()}
    )


@cache
def _compiled(text: str) -> Template:
    """Compile a template, which takes far longer than to render it, once for all cards of a process."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain,
    )
    environment.filters["cell"] = cell
    return environment.from_string(text)


def _plain(value: Any) -> Any:
    """Escape what could begin an element of HTML, in every value that a template shows."""
    return value.replace("<", "&lt;") if isinstance(value, str) and not isinstance(value, Markup) else value


def cell(value: object) -> str:
    """Escape a text for a cell of a Markdown table: one line, no bar."""
    return " ".join(str(value).split()).replace("|", "\\|")


def is_number(value: float | None) -> bool:
    """Return whether there is a value: JSON has null where statistics have NaN."""
    return value is not None and not math.isnan(value)


def estimate_text(value: float | None, lower: float | None, upper: float | None, digits: int = 3) -> str:
    """Format a value with its interval: ``0.612 (0.540 to 0.683)``; a dash where there is no value.

    Parameters
    ----------
    value, lower, upper
        Of an estimate; None or NaN where undefined.
    digits
        After the point.
    """
    if value is None or not is_number(value):
        return DASH
    if lower is None or upper is None or not (is_number(lower) and is_number(upper)):
        return f"{value:.{digits}f} (no interval)"
    return f"{value:.{digits}f} ({lower:.{digits}f} to {upper:.{digits}f})"
