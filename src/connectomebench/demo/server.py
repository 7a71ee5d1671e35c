"""Start the demo, with limits on load and headers that block other servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# length of the queue; further visitors see that it is full
_QUEUE = 200
_AT_ONCE = 8
_SESSIONS = 2000
_UPLOAD = "20mb"

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        # Gradio writes its settings into the page and compiles templates there
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "worker-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)


class OwnServerOnly:
    """Middleware that stops the browser from contacting other servers (Content-Security-Policy) or guessing file types.

    Pages of other sites may still show the demo in a frame, as the Hub does with a Space.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and add the headers to its answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, with_headers)


def serve_space() -> None:
    """Fetch the data of a Space and serve the demo until it is stopped.

    Raises
    ------
    SystemExit
        With one line, which the Hub shows in the log of the Space, if data are missing.
    """
    from connectomebench.demo.demo_data import space_folder

    try:
        serve(space_folder())
    except ConnectomeBenchError as error:
        raise SystemExit(f"connectomebench: {error}") from None


def serve(folder: Path, host: str | None = None, port: int | None = None, *, wait: bool = True) -> Any:
    """Open a folder and serve the demo.

    Parameters
    ----------
    folder
        With datasets, and ``results`` and ``models`` if available.
    host, port
        Where to listen: only this machine by default, at the first free port from 7860. On a Space, Gradio uses the
        values set by the Hub.
    wait
        Return only when the demo is stopped.

    Returns
    -------
    gradio.Blocks
        With ``local_url``; if ``wait`` is false, it runs until its ``close()``.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset in the folder, or the port is taken.
    """
    # set before Gradio is imported, which would otherwise check for updates
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from connectomebench.demo.app_data import open_content

    content = open_content(folder)
    from starlette.middleware import Middleware

    from connectomebench.demo.page import build_page, look

    blocks = build_page(content)
    blocks.queue(max_size=_QUEUE, default_concurrency_limit=_AT_ONCE, api_open=False)
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            allowed_paths=[],
            state_session_capacity=_SESSIONS,
            max_file_size=_UPLOAD,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            app_kwargs={"middleware": [Middleware(OwnServerOnly)], "docs_url": None, "redoc_url": None},
            **look(),
        )
    except OSError as error:  # Gradio raises it if no port is free
        where = "the ports from 7860 are" if port is None else f"port {port} is"
        raise ConnectomeBenchError(f"{where} taken or may not be used; name another with --port") from error
    content.records.start()
    print(f"The demo is at {blocks.local_url} (Ctrl+C stops it)", flush=True)
    if wait:
        blocks.block_thread()
    return blocks
