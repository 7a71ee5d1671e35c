"""Pages that show pictures and ask about them, one question after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any


def add_picture_page(
    package: str, functions: Sequence[Callable[[Any], Any]], kept: str, css: str = "", **options: Any
) -> None:
    """Add such a page to the open Gradio app: one component whose script calls functions of the server.

    Parameters
    ----------
    package
        Holds ``page.html``, ``page.css`` and ``page.js``, which build on ``picture_page.css`` and ``picture_page.js``.
    functions
        What the script calls; ``look`` is one of them.
    kept
        What the server keeps, in words.
    css
        Further style sheet.
    **options
        Of ``gradio.HTML``: what the script reads in ``props``.
    """
    import gradio

    own, shared = files(package), files("connectomebench.web")
    style, script = (
        (shared / f"picture_page.{kind}").read_text(encoding="utf-8")
        + (own / f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("css", "js")
    )
    gradio.HTML(
        value="",
        html_template=(own / "page.html").read_text(encoding="utf-8"),
        css_template=style + css,
        js_on_load=script,
        server_functions=list(functions),
        apply_default_css=False,
        kept=kept,
        **options,
    )
