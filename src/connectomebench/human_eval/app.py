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
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
from connectomebench.core.view_layout import PLANES, plane_columns
from connectomebench.human_eval.session import Item, RatingSession
from connectomebench.models.prompt import view_name
from connectomebench.rendering.overlay import has_overlay, overlay_svg
from connectomebench.web.access import UPLOAD, Access, checked_names
from connectomebench.web.launch import serve_until
from connectomebench.web.picture_page import add_picture_page

if TYPE_CHECKING:
    from datasets import Dataset
    from gradio import Blocks
    from PIL import Image

_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class AppPage:
    """Options of the rating page.

    Attributes
    ----------
    port
        Local port; 0 takes a free one.
    browser
        Open the page in the browser.
    hosts
        Names under which a proxy serves the page.
    """

    port: int = 0
    browser: bool = True
    hosts: tuple[str, ...] = ()


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

    Only reachable from this machine, and only with the address that is printed: each start makes a new secret.

    Parameters
    ----------
    session
        The items to rate.
    dataset
        Stored rows, of which ``images`` and ``views`` are shown; ``extent_nm`` gives the scale bar.
    texts
        Heading and introduction.
    page
        Port, browser and proxy options.

    Raises
    ------
    ConnectomeBenchError
        If gradio is not installed, the port is taken or a proxy has no proper name.
    """
    require_page()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    finished = threading.Event()
    # nothing is uploaded here
    access = Access(checked_names(page.hosts), upload_bytes={UPLOAD: 0})
    blocks = _blocks(gradio, session, dataset, texts, finished)
    serve_until(finished, "rate", blocks, access, _ADDRESS, page.port or _free_port(), browser=page.browser)


def page_state(session: RatingSession, dataset: Mapping[int, Any] | Dataset) -> dict[str, Any]:
    """Return the next item of the page: images and texts, nothing that reveals the truth.

    Parameters
    ----------
    session
        The items to rate.
    dataset
        Stored rows.

    Returns
    -------
    dict
        JSON-serialisable: ``number`` (rated so far), ``total``, and, unless all are rated, ``question``, ``texts``,
        ``offered`` (values that can be chosen in each of the first steps), ``seconds`` (spent on it before) and
        ``columns`` of pictures, each slice below the view of its plane. A picture has ``name``, ``view``, ``source`` (a
        data URI) and ``overlay`` (an SVG element with centre mark and scale bar, or empty).
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
            # named as a model sees it
            "name": f"{view_name(view)} ({PLANES[view]} plane)" if view in PLANES else view_name(view),
            "view": view,
            "source": _data_uri(image),
            "overlay": overlay_svg(float(extent)) if extent is not None and has_overlay(view, extent) else "",
        }
        for view, image in zip(row["views"], row["images"], strict=True)
    ]
    return state | {
        "question": item.question,
        "texts": list(item.texts),
        "offered": [list(values) for values in item.offered],
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

    with gradio.Blocks(title=texts.title, analytics_enabled=False, fill_width=True) as blocks:
        add_picture_page(
            "connectomebench.human_eval",
            [look, rate, undo, finish],
            "your ratings",
            words=asdict(texts),
            steps=[asdict(step) for step in session.steps],
        )
    return blocks


def _data_uri(image: Image.Image) -> str:
    """Return an image as a PNG data URI without metadata."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return probe.getsockname()[1]
