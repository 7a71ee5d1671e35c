"""``connectomebench demo``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="try, explore and compare in a browser", description=_run.__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="folder made by quickstart or build (default: a small example, built once in about 5 minutes)",
    )
    parser.add_argument(
        "--edits",
        type=Path,
        metavar="OUT",
        help="output folder of proofread, to show its edits and review its queue (without DIR nothing else is shown)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: local only)")
    parser.add_argument("--port", type=int, help="port to listen on (default: first free one from 7860)")
    parser.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of this machine or of a proxy under which browsers may open the page (default: its numbers alone)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Serve a web page to answer a dataset's questions, browse its samples and compare models."""
    from connectomebench.demo.demo_data import embedded_folder
    from connectomebench.demo.server import serve

    # edits alone need no example
    folder = arguments.folder or (None if arguments.edits else embedded_folder())
    serve(folder, arguments.host, arguments.port, arguments.allow_host, edits=arguments.edits)
