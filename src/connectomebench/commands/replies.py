"""``connectomebench replies``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("replies", help="analyse the text of model replies", description=_run.__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders or files of result records")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page, the figure and the numbers")
    parser.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="lexicon of visual cues (default: eval/reply_cues.yaml)"
    )
    parser.add_argument(
        "--order",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models in order of comparison, as MODEL or MODEL@CONDITION (default: checkpoints of one "
        "run, by the number in NAME-checkpoint-NUMBER)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Measure length, form and visual cues of replies in result records, and their change over training."""
    from connectomebench.evaluation.responses.lexicon import read_lexicon
    from connectomebench.evaluation.results import read_results
    from connectomebench.report.responses import write_responses

    lexicon = read_lexicon(arguments.lexicon)
    page, *_ = write_responses(read_results(arguments.results), arguments.out, lexicon, arguments.order)
    print(page)
