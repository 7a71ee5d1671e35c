"""``connectomebench compare``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("compare", help="compare models on the same samples", description=_run.__doc__)
    parser.add_argument("results", type=Path, metavar="DIR", help="folder of result records")
    parser.add_argument("first", metavar="FIRST", help="MODEL, MODEL@CONDITION, or person-NAME")
    parser.add_argument("others", nargs="+", metavar="OTHER", help="models to compare FIRST with")
    parser.add_argument(
        "--fold",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="records of the same models trained and tested elsewhere, such as on the other half (may be repeated)",
    )
    parser.add_argument("--shared", action="store_true", help="use only samples both answered")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Compare a model with others on shared partitions: paired differences with 95% intervals over groups."""
    from connectomebench.evaluation.comparison import as_json, as_text, compare
    from connectomebench.evaluation.result_records import read_results

    frame = read_results([arguments.results, *arguments.fold])
    others = list(dict.fromkeys(arguments.others))
    found = [c for other in others for c in compare(frame, arguments.first, other, shared=arguments.shared)]
    print((as_json if arguments.json else as_text)(found))
