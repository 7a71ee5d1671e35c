"""The ``connectomebench`` command. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from connectomebench.errors import ConnectomeBenchError

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    from connectomebench import __version__

    parser = argparse.ArgumentParser(
        prog="connectomebench",
        description="Connectome proofreading as Hugging Face datasets, models, metrics and a Space.",
    )
    parser.add_argument("--version", action="version", version=f"connectomebench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build datasets from a configuration", description=_build.__doc__)
    build.add_argument("--config", type=Path, required=True, help="YAML file; see examples/")
    build.add_argument("--out", type=Path, required=True, help="folder for the datasets, one subfolder a task")
    build.add_argument("--task", action="append", dest="tasks", help="write only this task (may be repeated)")
    build.add_argument("--group-by", choices=("segment", "body"), help="what no two partitions may share")
    build.set_defaults(run=_build)

    quickstart = commands.add_parser(
        "quickstart", help="build, train, evaluate and report in one go", description=_quickstart.__doc__
    )
    quickstart.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    quickstart.add_argument("--config", type=Path, help="build configuration (default: the embedded neurons)")
    quickstart.set_defaults(run=_quickstart)

    report = commands.add_parser("report", help="write the report page again", description=_report.__doc__)
    report.add_argument("out", type=Path, metavar="DIR", help="folder made by quickstart")
    report.add_argument("--species", help="species config to report (default: the only one there)")
    report.set_defaults(run=_report)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    """Build datasets from a configuration: DIR/TASK/SPECIES/*.parquet, a card and a manifest for each task."""
    from connectomebench.build import build
    from connectomebench.config import load_config

    overrides = {"partition.group_by": arguments.group_by} if arguments.group_by else {}
    config = load_config(arguments.config, overrides)
    folders = build(config, arguments.out, base=arguments.config.parent, tasks=arguments.tasks)
    for task, folder in folders.items():
        print(f'{task}: load_dataset("{folder}", "{config.species}")')


def _quickstart(arguments: argparse.Namespace) -> None:
    """Build the datasets, load them back, train a probe and two baselines on each, evaluate, and write a report."""
    from connectomebench.quickstart import quickstart

    quickstart(arguments.out, arguments.config)


def _report(arguments: argparse.Namespace) -> None:
    """Write DIR/report/index.html from the datasets and result records in DIR."""
    from connectomebench.quickstart import report

    print(report(arguments.out, arguments.species))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 2 a problem the user can mend (one line on stderr), 130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("numba", "matplotlib", "datasets", "fsspec", "urllib3", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        parsed.run(parsed)
    except ConnectomeBenchError as error:
        print(f"connectomebench: {error}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("connectomebench: interrupted; run the same command again to go on", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except OSError as error:
        # a disk that fills or a folder that cannot be written, met inside a library
        print(f"connectomebench: {error}; free space or choose another folder", file=sys.stderr)
        return _EXIT_USER_ERROR
    return 0
