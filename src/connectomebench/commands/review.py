"""``connectomebench review``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "review", help="decide the queue of a proofreading in the browser", description=_run.__doc__
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of connectomebench proofread")
    parser.add_argument("--reviewer", metavar="NAME", help="name in the log (default: the page asks)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME", help="further names of this server, or of a proxy"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    parser.add_argument("--export", action="store_true", help="write the files of the decisions so far, and stop")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Decide the queue in the browser, alone or several people at once; accepted edits are applied and written."""
    from connectomebench.review.app import ReviewPage, require_page, show
    from connectomebench.review.review_files import summary_lines, write_review
    from connectomebench.review.review_session import ReviewSession, check_name

    if not arguments.export:
        require_page()
    reviewer = None if arguments.reviewer is None else check_name(arguments.reviewer)
    session = ReviewSession(arguments.out)
    hosts = tuple(arguments.allow_host)
    page = ReviewPage(reviewer, arguments.host, arguments.port, not arguments.no_browser, hosts)
    try:
        if not arguments.export:
            show(session, page)
    finally:
        lines = summary_lines(write_review(session), arguments.out)
    print("\n".join(lines))
