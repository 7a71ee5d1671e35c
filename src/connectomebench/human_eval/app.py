"""Rating page: a local Gradio app that runs until everything is rated."""

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
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
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
# the page loads only from itself; Gradio's own page names fonts and scripts of other servers
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self'"
)


@dataclass(frozen=True)
class AppPage:
    """Options of the rating page.

    Attributes
    ----------
    port
        Local port; 0 takes a free one.
    browser
        Open the page in the browser.
    """

    port: int = 0
    browser: bool = True


@dataclass(frozen=True)
class AppTexts:
    """Texts of the rating page.

    Attributes
    ----------
    title
        Heading.
    introduction
        Paragraphs shown before the first item.
    """

    title: str
    introduction: tuple[str, ...]


def show(session: RatingSession, dataset: Dataset, texts: AppTexts, page: AppPage) -> None:
    """Serve the page until everything is rated and the person has confirmed it.

    Only reachable from this machine.

    Parameters
    ----------
    sitting
        The items to rate.
    dataset
        Stored rows, of which ``images`` and ``views`` are shown; ``extent_nm`` gives the scale bar.
    words
        Heading and introduction.
    page
        Port and browser options.

    Raises
    ------
    ConnectomeBenchError
        If gradio is not installed or the port is taken.
    """
    require_page()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio
    from gradio import themes

    logging.getLogger("httpx").setLevel(logging.WARNING)
    finished = threading.Event()
    blocks = _blocks(gradio, session, dataset, texts, finished)
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
        raise ConnectomeBenchError(f"port {port} cannot be used; leave out --port to take a free one") from error
    print(f"rate at {url} (Ctrl-C stops; the same command resumes)", flush=True)
    try:
        if page.browser:
            import webbrowser

            webbrowser.open(url)
        finished.wait()
    finally:
        blocks.close(verbose=False)


def page_state(session: RatingSession, dataset: Mapping[int, Any] | Dataset) -> dict[str, Any]:
    """Return the next item of the page: images and texts, nothing that reveals the truth.

    Parameters
    ----------
    sitting
        The items to rate.
    dataset
        Stored rows.

    Returns
    -------
    dict
        JSON-serialisable: ``number`` (rated so far), ``total``, and, unless all are rated, ``question``, ``texts``,
        ``seconds`` (spent on it before) and ``columns`` of pictures, each slice below the view of its plane. A picture
        has ``name``, ``source`` (a data URI) and ``overlay`` (an SVG element with centre mark and scale bar, or empty).
    """
    number = session.done
    state: dict[str, Any] = {"number": number, "total": len(session.items)}
    if number == len(session.items):
        return state
    item: Item = session.items[number]
    row = dataset[item.row]
    extent = row.get("extent_nm")
    pictures = [
        {
            "name": f"{name} ({PLANES[view]} plane)" if view in PLANES else name,
            "source": _data_uri(image),
            "overlay": overlay_svg(float(extent)) if extent is not None and has_overlay(view, extent) else "",
        }
        for view, name, image in zip(row["views"], _picture_names(row), row["images"], strict=True)
    ]
    return state | {
        "question": item.question,
        "texts": list(item.texts),
        "seconds": session.seconds(number),
        "columns": [[pictures[i] for i in column] for column in plane_columns(list(row["views"]))],
    }


def require_page() -> None:
    """Raise :class:`ConnectomeBenchError` if pages cannot be shown; called before any file is made."""
    if find_spec("gradio") is None:
        raise ConnectomeBenchError(f"rating needs gradio; {install_hint('apps')}")


def _blocks(
    gradio: Any, session: RatingSession, dataset: Dataset, texts: AppTexts, finished: threading.Event
) -> Blocks:
    """Build the page: one component whose script requests items and sends ratings."""

    # gradio passes every function one value
    def look(_sent: object) -> dict[str, Any]:
        return page_state(session, dataset)

    def rate(sent: dict[str, Any]) -> dict[str, Any]:
        try:
            session.rate(int(sent["number"]), [str(c) for c in sent["choices"]], float(sent["seconds"]))
        except (ConnectomeBenchError, KeyError, TypeError, ValueError):
            logging.getLogger(__name__).warning("the page sent an invalid rating; reload it")
        return page_state(session, dataset)

    def undo(sent: dict[str, Any]) -> dict[str, Any]:
        try:
            session.undo(int(sent["number"]))
        except (KeyError, TypeError, ValueError):
            logging.getLogger(__name__).warning("the page sent an invalid request; reload it")
        return page_state(session, dataset)

    def finish(_sent: object) -> dict[str, Any]:
        if session.done == len(session.items):
            # after the reply to this call was sent
            threading.Timer(0.5, finished.set).start()
        return page_state(session, dataset)

    here = files("connectomebench.human_eval")
    with gradio.Blocks(title=texts.title, analytics_enabled=False, fill_width=True) as blocks:
        gradio.HTML(
            value="",
            html_template=(here / "page.html").read_text(encoding="utf-8"),
            css_template=(here / "page.css").read_text(encoding="utf-8"),
            js_on_load=(here / "page.js").read_text(encoding="utf-8"),
            server_functions=[look, rate, undo, finish],
            apply_default_css=False,
            words=asdict(texts),
            steps=[asdict(step) for step in session.steps],
        )
    return blocks


def _picture_names(row: Mapping[str, Any]) -> list[str]:
    """Return the image names as a model sees them."""
    content = messages(row)[0]["content"]
    return [said["text"].rstrip(":") for said, shown in pairwise(content) if shown["type"] == "image"]


def _data_uri(image: Image.Image) -> str:
    """Return an image as a PNG data URI without metadata."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return probe.getsockname()[1]


def _guard() -> Middleware:
    """Add `_POLICY` to every response, so that the browser contacts no other server."""
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
