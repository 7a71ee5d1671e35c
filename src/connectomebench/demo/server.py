"""Start the demo, with limits on load and on who may open it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.demo_data import cache_folder
from connectomebench.web.access import UPLOAD, Access, checked_names
from connectomebench.web.launch import ServedPage, launch
from connectomebench.web.uploads import upload_folder
from connectomebench.web.viewer_files import viewer_routes

# events that wait; asks, which take seconds, have a line of their own (`ask_line`)
_QUEUE = 2000
_AT_ONCE = 8
_SESSIONS = 2000
_UPLOAD_BYTES = 20_000_000
# the parts of a form take some bytes as well
_FORM_BYTES = 10_000
SPACE_HOST_VARIABLE = "SPACE_HOST"


@dataclass(frozen=True, eq=False)
class Demo:
    """A running demo.

    Attributes
    ----------
    page
        What is served.
    """

    page: ServedPage
    _opened: ExitStack

    @property
    def url(self) -> str:
        """Address of the server, without the secret."""
        return self.page.url

    @property
    def address(self) -> str:
        """Address to open in a browser."""
        return self.page.address

    def close(self) -> None:
        """Stop it and remove what visitors uploaded."""
        self._opened.close()


def serve_space() -> None:
    """Fetch the data of a Space and serve the demo until it is stopped.

    Raises
    ------
    SystemExit
        With one line, which the Hub shows in the log of the Space, if data are missing.
    """
    from connectomebench.demo.demo_data import space_folder

    try:
        serve(space_folder(), public=True)
    except ConnectomeBenchError as error:
        raise SystemExit(f"connectomebench: {error}") from None


def serve(
    folder: Path | None,
    host: str | None = None,
    port: int | None = None,
    names: Sequence[str] = (),
    *,
    public: bool = False,
    wait: bool = True,
    edits: Path | None = None,
) -> Demo:
    """Open a folder and serve the demo.

    Parameters
    ----------
    folder
        With datasets, and ``results`` and ``models`` if available; None to show edits alone.
    host, port
        Where to listen: only this machine by default, at the first free port from 7860. On a Space, Gradio uses the
        values set by the Hub.
    names
        Names of this machine or of a proxy under which browsers may open the page.
    public
        Open to everyone, as a Space is. Otherwise the address holds a secret, a new one for each start.
    wait
        Return only when the demo is stopped.
    edits
        Output folder of `connectomebench proofread`, whose edits are shown and whose queue can be reviewed. Not for a
        page that is open to everyone.

    Returns
    -------
    Demo
        It runs until its ``close()``; if ``wait`` is true, it has been stopped.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset in the folder, no finished proofreading in the other, the port is taken, or a name is
        none; or if edits would be open to everyone.
    """
    # set before Gradio is imported, which would otherwise check for updates
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from connectomebench.demo.app_data import open_content

    if public and edits is not None:
        raise ConnectomeBenchError("edits are not shown to everyone, since who sees them can decide them")
    access = _access(host, names, public)
    content = open_content(folder, edits)
    from connectomebench.demo.page import build_page, look
    from connectomebench.review.app import evidence_routes

    with ExitStack() as stack:
        stack.enter_context(upload_folder(cache_folder() / "uploads"))
        blocks = build_page(content)
        blocks.queue(max_size=_QUEUE, default_concurrency_limit=_AT_ONCE, api_open=False)
        page = launch(
            blocks,
            access,
            host,
            port,
            [*viewer_routes(), *(evidence_routes(content.edits) if content.edits is not None else ())],
            state_session_capacity=_SESSIONS,
            max_file_size=_UPLOAD_BYTES,
            **look(),
        )
        stack.callback(page.close)
        content.records.start()
        print(f"The demo is at {page.address} (Ctrl+C stops it)", flush=True)
        if not wait:
            return Demo(page, stack.pop_all())
        blocks.block_thread()
    return Demo(page, stack)


def _access(host: str | None, names: Sequence[str], public: bool) -> Access:
    known = list(names)
    # listening at a name is opening the page by it
    if host and any(letter.isalpha() for letter in host) and ":" not in host:
        known.append(host)
    if public and (space := os.environ.get(SPACE_HOST_VARIABLE)):
        known.append(space)
    uploads = {UPLOAD: _UPLOAD_BYTES + _FORM_BYTES}
    if public:
        return Access(checked_names(known), None, upload_bytes=uploads)
    return Access(checked_names(known), upload_bytes=uploads)
