"""``connectomebench quickstart``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "quickstart", help="build, train, evaluate and report in one go", description=_run.__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--config", type=Path, help="build configuration (default: the embedded neurons)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Build datasets, train a probe and two baselines on each, evaluate them, check for cues and report."""
    from connectomebench.quickstart import quickstart

    quickstart(arguments.out, arguments.config)
