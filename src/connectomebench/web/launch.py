"""Serve a Gradio page behind the guard."""

from __future__ import annotations

import logging
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.web.access import Access
from connectomebench.web.guard import Guard

if TYPE_CHECKING:
    from gradio import Blocks
    from starlette.routing import Route


@dataclass(frozen=True, eq=False)
class ServedPage:
    """A page that is being served.

    Attributes
    ----------
    blocks
        The page.
    url
        Of the server, for example ``http://127.0.0.1:7860/``.
    address
        To open in a browser: ``url`` with the secret.
    """

    blocks: Blocks
    url: str
    address: str

    def close(self) -> None:
        """Stop serving."""
        self.blocks.close(verbose=False)


def launch(
    blocks: Blocks, access: Access, host: str | None, port: int | None, routes: Sequence[Route] = (), **options: Any
) -> ServedPage:
    """Serve a page in a thread.

    Nothing leaves the machine: no link for sharing, no statistics, no API documentation, no file of the server.

    Parameters
    ----------
    blocks
        The page.
    access
        Who may open it.
    host, port
        Where to listen; None takes what Gradio's environment variables say, else this machine alone and the first free
        port from 7860.
    routes
        Further paths that the page asks for, behind the same guard.
    **options
        Of `gradio.Blocks.launch`: theme, style sheet and the like.

    Raises
    ------
    ConnectomeBenchError
        If the port is taken.
    """
    from starlette.middleware import Middleware

    # Gradio asks its own server whether it runs
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            allowed_paths=[],
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            # workers of Gradio would take uploads at ports of their own, which nothing guards
            num_workers=0,
            app_kwargs={
                "middleware": [Middleware(Guard, access)],
                "docs_url": None,
                "redoc_url": None,
                "routes": list(routes),
            },
            **options,
        )
    except OSError as error:  # Gradio raises it if no port is free
        where = "the ports from 7860 are" if port is None else f"port {port} is"
        raise ConnectomeBenchError(f"{where} taken or may not be used; name another with --port") from error
    return ServedPage(blocks, url, access.address(url))


def serve_until(
    finished: threading.Event,
    name: str,
    blocks: Blocks,
    access: Access,
    host: str,
    port: int | None,
    routes: Sequence[Route] = (),
    *,
    browser: bool,
) -> None:
    """Serve a page of a command that can be resumed.

    Parameters
    ----------
    finished
        Ends the page when set.
    name
        What one does at the address that is printed.
    blocks, access, host, port, routes
        See :func:`launch`.
    browser
        Open the page in the browser.
    """
    from gradio import themes

    theme = themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    served = launch(blocks, access, host, port, routes, theme=theme)
    print(f"{name} at {served.address} (Ctrl-C stops; the same command resumes)", flush=True)
    try:
        if browser:
            webbrowser.open(served.address)
        finished.wait()
    finally:
        served.close()
