"""``connectomebench submit``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "submit", help="send accepted edits to a ChunkedGraph (a dry run without --yes)", description=_run.__doc__
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of connectomebench proofread")
    parser.add_argument("--server", required=True, metavar="URL", help="CAVE server, for example https://HOST")
    graph = parser.add_mutually_exclusive_group(required=True)
    graph.add_argument("--datastack", metavar="NAME", help="datastack whose graph is changed")
    graph.add_argument("--table", metavar="NAME", help="the same by the name of its graph, without a datastack")
    parser.add_argument(
        "--edits", type=Path, metavar="FILE", help="edits.jsonl to send (default: of the review, else of the run)"
    )
    parser.add_argument("--yes", action="store_true", help="send; without it nothing is changed")
    parser.add_argument(
        "--resend", action="store_true", help="send again what got no answer and is not in the graph; look at it first"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Say what would be sent to a ChunkedGraph; with --yes, send each edit once. The same command continues."""
    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.proofreading.edit_log import read_edits
    from connectomebench.proofreading.submission import dry_run, latest_edits, open_submission_log, prepare, submit
    from connectomebench.sources.cave.connect import connect_graph
    from connectomebench.sources.cave.graph_edits import GraphEdits

    path = arguments.edits or latest_edits(arguments.out)
    try:
        edits = read_edits(path)
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}; proofread first") from None
    submissions, refused = prepare(edits, arguments.out)
    print(f"{len(edits)} edits of {path}")
    for edit_id, why in refused.items():
        print(f"{edit_id}: refused: {why}")
    graph = connect_graph(arguments.server, arguments.datastack, arguments.table, "--server")
    where = f"{graph.client.table_name} on {arguments.server}"
    if not arguments.yes:
        counts = dry_run(submissions, graph, arguments.out, print)
        print(
            f"dry run: {counts['send']} would be sent to {where}, {counts['done']} are there already, "
            f"{counts['known']} were sent before, {len(refused) + counts['refused']} refused; --yes sends them"
        )
        return
    with open_submission_log(arguments.out, arguments.server.rstrip("/"), graph.client.table_name) as log:
        changes = GraphEdits(graph, arguments.server)
        counts = submit(submissions, graph, changes, log, print, arguments.resend)
    print(
        f"{counts['made']} made in {where}, {counts['done']} were there already, {counts['known']} were sent before, "
        f"{len(refused) + counts['refused']} refused, {counts['unclear']} to look at"
    )
