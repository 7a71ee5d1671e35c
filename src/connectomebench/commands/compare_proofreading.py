"""``connectomebench compare-proofreading``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare-proofreading", help="score proofreading over several runs", description=_run.__doc__
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="OUT", help="output folders of proofread, with models of other seeds"
    )
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="OUT", help="other runs, to take the difference from"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Score runs of `proofread` on one place together: means with 95% intervals over parts of the volume and runs."""
    from connectomebench.proofreading.run_comparison import as_dict, as_text, compare_runs

    found = compare_runs(arguments.runs, arguments.against)
    print(json.dumps(as_dict(found), indent=2, ensure_ascii=False) if arguments.json else as_text(found))
