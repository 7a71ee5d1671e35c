"""The review page: a local Gradio app behind the guard of all pages."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
from connectomebench.core.view_layout import plane_columns
from connectomebench.rendering.overlay import has_overlay, overlay_svg
from connectomebench.review.agreement_with_model import kappa_with_model
from connectomebench.review.edit_evidence import PART, EditEvidence, find_evidence, safe_link
from connectomebench.review.review_files import write_review
from connectomebench.review.review_session import ReviewSession
from connectomebench.review.review_state import Ranked, ReviewState
from connectomebench.web.access import UPLOAD, Access, checked_names
from connectomebench.web.launch import serve_until
from connectomebench.web.picture_page import add_picture_page
from connectomebench.web.viewer_files import viewer_css, viewer_routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradio import Blocks
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

TITLE = "Review of proposed edits"
PATH = "review"
"""Where the review lies in an app with other pages."""

_KINDS = {".png": "image/png", ".glb": "model/gltf-binary"}
QUESTIONS = {
    "merge": "Are these two one neuron? Accept joins them.",
    "split": "Are these two neurons? Accept cuts them apart where the colours meet.",
}


@dataclass(frozen=True)
class ReviewPage:
    """Options of the page.

    Attributes
    ----------
    reviewer
        Name of the only reviewer; None asks everyone who opens the page.
    host
        Where to listen.
    port
        None takes the first free one from 7860.
    browser
        Open the page in the browser.
    hosts
        Further names of this server: of this machine in its network, or of a proxy.
    """

    reviewer: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    browser: bool = True
    hosts: tuple[str, ...] = ()


def require_page() -> None:
    """Raise :class:`ConnectomeBenchError` if pages cannot be shown; called before any file is made."""
    if find_spec("gradio") is None:
        raise ConnectomeBenchError(f"a review needs gradio; {install_hint('apps')}")


def show(session: ReviewSession, page: ReviewPage, finished: threading.Event | None = None) -> None:
    """Serve the page until a reviewer finishes or the command is interrupted.

    Only with the address that is printed: each start makes a new secret.

    Parameters
    ----------
    session
        The review.
    page
        Address, browser and proxy options.
    finished
        Ends the page when set.

    Raises
    ------
    ConnectomeBenchError
        If gradio is not installed, the port is taken or a proxy has no proper name.
    """
    require_page()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    done = finished or threading.Event()
    access = Access(checked_names(page.hosts), upload_bytes={UPLOAD: 0})
    routes = [*viewer_routes(), *evidence_routes(session)]
    blocks = build_blocks(session, page, done)
    serve_until(done, "review", blocks, access, page.host, page.port, routes, browser=page.browser)


def page_state(session: ReviewSession, reviewer: str) -> dict[str, Any]:
    """Return what the page of a reviewer shows, and record that the next edit is shown.

    Returns
    -------
    dict
        JSON-serialisable: ``progress``; ``last``, the last decision with what the model said; and ``item``, the next
        edit without the model's answer, or None where nothing is left.
    """
    found = session.open_next(reviewer)
    progress, last = session.read(lambda state: (_progress(state, reviewer), _last(state, reviewer)))
    item = None
    if found is not None:
        item = _item(session, found) | {
            "seconds": session.read(lambda state: state.seconds(reviewer, found.edit.edit_id))
        }
    return {"reviewer": reviewer, "progress": progress, "last": last, "item": item}


def _progress(state: ReviewState, reviewer: str) -> dict[str, Any]:
    verdicts = state.decided()
    left = len(state.waiting())
    return {
        "decided": len(verdicts),
        "total": len(verdicts) + left,
        "mine": len(state.decided(reviewer)),
        "accepted": sum(one == "accept" for one in verdicts.values()),
        "skipped": len(state.skipped(reviewer)),
        "left": left,
        "kappa": kappa_with_model(state, reviewer),
        "undoable": state.undoable(reviewer) is not None,
    }


def _last(state: ReviewState, reviewer: str) -> dict[str, Any] | None:
    entry = state.undoable(reviewer)
    if entry is None:
        return None
    edit, own = state.edits[entry.edit_id], state.reviewed[entry.edit_id]
    by = next(iter(own.decisions), reviewer)
    return {
        "decision": entry.action,
        "confidence": None if edit.correction is None else edit.confidence,
        "refused": own.refused if entry.action == "accept" and by == reviewer else None,
        "before_by": by if by != reviewer and entry.action != "skip" else None,
        "verdict": own.verdict,
    }


def _item(session: ReviewSession, ranked: Ranked) -> dict[str, Any]:
    edit = ranked.edit
    kept = find_evidence(session.out, edit)
    return {
        "edit_id": edit.edit_id,
        "operation": edit.operation,
        "question": QUESTIONS[edit.operation],
        "value": ranked.value,
        "changed": ranked.changed,
        "columns": [] if kept is None else _columns(kept),
        "scene": None if kept is None else kept.scene,
        "planes": {} if kept is None else {view: kept.picture(view) for view in kept.slices},
        "place": ", ".join(f"{c:.0f}" for c in edit.location_nm),
        "objects": [str(one) for one in edit.before],
        "neuroglancer": safe_link(edit),
    }


def _columns(kept: EditEvidence) -> list[list[dict[str, str]]]:
    """Return name, address and overlay of each picture, a column for each plane."""
    extent = kept.extent_nm
    pictures = [
        {
            "name": kept.title(view),
            "source": kept.picture(view),
            "overlay": overlay_svg(extent) if extent is not None and has_overlay(view, extent) else "",
        }
        for view in kept.views
    ]
    return [[pictures[i] for i in column] for column in plane_columns(kept.views)]


def evidence_routes(session: ReviewSession) -> list[Route]:
    """Return the route of pictures and scenes of the queue: ``evidence/KEY/NAME``, nothing else of the folder."""
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route

    known = session.read(
        lambda state: {Path(path).parent.as_posix() for edit in state.queue.values() for path in edit.evidence[:1]}
    )

    async def give(request: Request) -> Response:
        key, name = request.path_params["key"], request.path_params["name"]
        stem, kind = os.path.splitext(name)  # noqa: PTH122 (a name, not a path)
        path = session.out / "evidence" / key / name
        fits = PART.fullmatch(key) and PART.fullmatch(stem) and kind in _KINDS and f"evidence/{key}" in known
        if not fits or not path.is_file():
            return PlainTextResponse("there is no such file", 404)
        return FileResponse(path, media_type=_KINDS[kind], headers={"cache-control": "private, max-age=3600"})

    return [Route("/evidence/{key}/{name}", give)]


def build_blocks(session: ReviewSession, page: ReviewPage, finished: threading.Event) -> Blocks:
    """Build the page that ends when a reviewer finishes."""
    import gradio

    def finish() -> None:
        # after the reply to this call was sent
        threading.Timer(0.5, finished.set).start()

    with gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        add_review(session, page.reviewer, finish, ends=True)
    return blocks


def add_review_page(session: ReviewSession, blocks: Blocks) -> None:
    """Add the review to another app, as a page of its own at :data:`PATH`; who finishes it writes its files."""
    with blocks.route("Review", PATH, show_in_navbar=False):
        add_review(session, None, lambda: write_review(session), ends=False)


def add_review(session: ReviewSession, reviewer: str | None, finish: Callable[[], object], *, ends: bool) -> None:
    """Add the review to the open page: one component whose script asks for edits and sends decisions.

    Parameters
    ----------
    session
        The review.
    reviewer
        Name of the only reviewer; None asks everyone who opens the page.
    finish
        Called when a reviewer finishes.
    ends
        Whether that ends the program.
    """

    # gradio passes every function one value
    def answer(sent: Any, act: Any) -> dict[str, Any]:
        try:
            name = reviewer or str(sent["reviewer"])
            note = act(name)
            return page_state(session, name) | {"note": note}
        except (ConnectomeBenchError, KeyError, TypeError, ValueError) as error:
            return {"error": _one_line(error)}

    def look(sent: dict[str, Any]) -> dict[str, Any]:
        return answer(sent, lambda reviewer: "")

    def decide(sent: dict[str, Any]) -> dict[str, Any]:
        def act(reviewer: str) -> str:
            kept = session.decide(reviewer, str(sent["edit_id"]), sent["decision"], float(sent["seconds"]))
            return "" if kept else "You decided this edit before, in another window."

        return answer(sent, act)

    def undo(sent: dict[str, Any]) -> dict[str, Any]:
        return answer(sent, lambda reviewer: "" if session.undo(reviewer) else "There is nothing to take back.")

    def again(sent: dict[str, Any]) -> dict[str, Any]:
        return answer(sent, lambda reviewer: session.again(reviewer) or "")

    def stop(_sent: object) -> dict[str, Any]:
        try:
            finish()
        except (ConnectomeBenchError, OSError) as error:
            return {"error": str(error)}
        return {}

    add_picture_page(
        "connectomebench.review",
        [look, decide, undo, again, stop],
        "the decisions",
        viewer_css(),
        elem_classes=["review"],
        reviewer=reviewer or "",
        title=TITLE,
        ends=ends,
    )


def _one_line(error: Exception) -> str:
    known = isinstance(error, ConnectomeBenchError)
    return str(error) if known else "the page sent no proper request; reload it"
