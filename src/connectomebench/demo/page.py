"""Build the page: title, tabs, theme; no font, script or image comes from another server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.demo.app_data import AppData
from connectomebench.web.viewer_files import viewer_css

if TYPE_CHECKING:
    import gradio as gr

TITLE = "ConnectomeBench: proofread a brain"
_HERE = Path(__file__).parent
# holds uploads only: checked every minute, removed after ten
_CACHE_S = (60, 600)


def build_page(content: AppData) -> gr.Blocks:
    """Build the page with all tabs of :data:`connectomebench.demo.tabs.TABS` that have something to show.

    The queue of a proofreading has a page of its own (:func:`connectomebench.review.app.add_review_page`).

    Parameters
    ----------
    content
        Data to show; the same for all visitors.
    """
    import gradio as gr
    from markupsafe import Markup

    from connectomebench.demo.tabs import TABS
    from connectomebench.review.app import add_review_page

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_CACHE_S) as blocks:
        gr.HTML(Markup("<h1>{}</h1>").format(TITLE), elem_classes=["cb-title", "cb-prose"])
        with gr.Tabs():
            for tab in TABS:
                if not tab.useful(content):
                    continue
                with gr.Tab(tab.title, id=tab.name, elem_id=f"cb-tab-{tab.name}") as opened:
                    tab.build(content, blocks, opened)
    if content.edits is not None and content.edits.read(lambda state: bool(state.queue)):
        add_review_page(content.edits, blocks)
    return blocks


def look() -> dict[str, Any]:
    """Return theme, style sheet and script, as `gradio.Blocks.launch` takes them.

    Fonts are those of the visitor's system, so that text appears at once.
    """
    from gradio.themes import Base

    theme = Base(
        primary_hue="blue",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )
    # white on the usual blue is too faint to read (contrast 3.7, and 4.5 is wanted)
    theme = theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
    )
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return {"theme": theme, "css": viewer_css(), "css_paths": _HERE / "page.css", "head": f"<script>{script}</script>"}
