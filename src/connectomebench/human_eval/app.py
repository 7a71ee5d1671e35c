"""The page on which a person rates: a Gradio app on this machine that lasts until everything is rated."""

from __future__ import annotations

import base64
import io
import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.view_layout import PLANES, plane_columns
from connectomebench.human_eval.session import Item, RatingSession
from connectomebench.models.prompt import messages
from connectomebench.rendering.overlay import has_overlay, overlay_svg

if TYPE_CHECKING:
    from datasets import Dataset
    from gradio import Blocks
    from PIL import Image
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ADDRESS = "127.0.0.1"
# what the page may load: itself. Gradio's own page names fonts and scripts of other servers
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self'"
)


@dataclass(frozen=True)
class AppPage:
    """Where and how the page is shown.

    Attributes
    ----------
    port
        Port of this machine; 0 takes a free one.
    browser
        Open it in the browser.
    """

    port: int = 0
    browser: bool = True


@dataclass(frozen=True)
class AppTexts:
    """What the page says around the pictures.

    Attributes
    ----------
    title
        Heading.
    introduction
        Paragraphs that are read before the first picture.
    """

    title: str
    introduction: tuple[str, ...]


def show(sitting: RatingSession, dataset: Dataset, words: AppTexts, page: AppPage) -> None:
    """Serve the page until everything is rated and the person has said that it stands.

    Only this machine can open it.

    Parameters
    ----------
    sitting
        What is rated.
    dataset
        Stored rows, of which ``images`` and ``views`` are shown; ``extent_nm`` gives the scale bar.
    words
        Heading and introduction.
    page
        Where.

    Raises
    ------
    ConnectomeBenchError
        If gradio is not installed or the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
        from gradio import themes
    except ImportError as error:
        raise ConnectomeBenchError("rating needs gradio; pip install 'connectomebench[apps]'") from error
    logging.getLogger("httpx").setLevel(logging.WARNING)
    finished = threading.Event()
    blocks = _blocks(gradio, sitting, dataset, words, finished)
    port = page.port or _free_port()
    try:
        _, url, _ = blocks.launch(
            server_name=_ADDRESS,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            footer_links=[],
            theme=themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            app_kwargs={"middleware": [_guard()]},
        )
    except OSError as error:
        raise ConnectomeBenchError(f"port {port} cannot be used; leave --port out to take a free one") from error
    print(f"rate at {url} (Ctrl-C stops; the same command goes on)", flush=True)
    try:
        if page.browser:
            import webbrowser

            webbrowser.open(url)
        finished.wait()
    finally:
        blocks.close(verbose=False)


def page_state(sitting: RatingSession, dataset: Mapping[int, Any] | Dataset) -> dict[str, Any]:
    """Return what the page shows next: pictures and words, nothing by which the truth could be told.

    Parameters
    ----------
    sitting
        What is rated.
    dataset
        Stored rows.

    Returns
    -------
    dict
        JSON-ready: ``number`` (rated so far), ``total``, and, unless all are rated, ``question``, ``texts``,
        ``seconds`` (spent on it before) and ``columns`` of pictures, each slice below the view of its plane. A picture
        has ``name``, ``source`` (a data URI) and ``overlay`` (an SVG element with centre mark and scale bar, or empty).
    """
    number = sitting.done
    state: dict[str, Any] = {"number": number, "total": len(sitting.items)}
    if number == len(sitting.items):
        return state
    item: Item = sitting.items[number]
    row = dataset[item.row]
    extent = row.get("extent_nm")
    pictures = [
        {
            "name": f"{name} ({PLANES[view]} plane)" if view in PLANES else name,
            "source": _data_uri(image),
            "overlay": overlay_svg(extent) if has_overlay(view, extent) else "",
        }
        for view, name, image in zip(row["views"], _picture_names(row), row["images"], strict=True)
    ]
    return state | {
        "question": item.question,
        "texts": list(item.texts),
        "seconds": sitting.seconds(number),
        "columns": [[pictures[i] for i in column] for column in plane_columns(list(row["views"]))],
    }


def _blocks(
    gradio: Any, sitting: RatingSession, dataset: Dataset, words: AppTexts, finished: threading.Event
) -> Blocks:
    """Lay the page out: one component whose script asks for items and sends ratings."""

    # gradio hands every function one value
    def look(_sent: object) -> dict[str, Any]:
        return page_state(sitting, dataset)

    def rate(sent: dict[str, Any]) -> dict[str, Any]:
        try:
            sitting.rate(int(sent["number"]), [str(c) for c in sent["choices"]], float(sent["seconds"]))
        except (ConnectomeBenchError, KeyError, TypeError, ValueError):
            logging.getLogger(__name__).warning("the page sent a rating that is not on offer; reload it")
        return page_state(sitting, dataset)

    def undo(sent: dict[str, Any]) -> dict[str, Any]:
        try:
            sitting.undo(int(sent["number"]))
        except (KeyError, TypeError, ValueError):
            logging.getLogger(__name__).warning("the page sent something that is not understood; reload it")
        return page_state(sitting, dataset)

    def finish(_sent: object) -> dict[str, Any]:
        if sitting.done == len(sitting.items):
            # after the reply to this call is out
            threading.Timer(0.5, finished.set).start()
        return page_state(sitting, dataset)

    here = files("connectomebench.human_eval")
    with gradio.Blocks(title=words.title, analytics_enabled=False, fill_width=True) as blocks:
        gradio.HTML(
            value="",
            html_template=(here / "page.html").read_text(encoding="utf-8"),
            css_template=(here / "page.css").read_text(encoding="utf-8"),
            js_on_load=(here / "page.js").read_text(encoding="utf-8"),
            server_functions=[look, rate, undo, finish],
            apply_default_css=False,
            words=asdict(words),
            steps=[asdict(step) for step in sitting.steps],
        )
    return blocks


def _picture_names(row: Mapping[str, Any]) -> list[str]:
    """Name the pictures as a model is told them."""
    content = messages(row)[0]["content"]
    return [said["text"].rstrip(":") for said, shown in pairwise(content) if shown["type"] == "image"]


def _data_uri(image: Image.Image) -> str:
    """Return the pixels of a picture as a PNG without a name or notes."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return probe.getsockname()[1]


def _guard() -> Middleware:
    """Add `_POLICY` to every reply, so that the browser asks no other machine for anything."""
    from starlette.middleware import Middleware

    def guarded(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_guarded(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
                await send(message)

            await app(scope, receive, send_guarded)

        return answer

    return Middleware(guarded)
