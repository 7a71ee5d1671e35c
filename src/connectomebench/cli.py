"""The ``connectomebench`` command. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from connectomebench.commands import NAMES
from connectomebench.core.errors import ConnectomeBenchError

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    from connectomebench.core.version import __version__

    parser = argparse.ArgumentParser(
        prog="connectomebench",
        description="Connectome proofreading as Hugging Face datasets, models, metrics and a Space.",
    )
    parser.add_argument("--version", action="version", version=f"connectomebench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for name in NAMES:
        import_module(f"connectomebench.commands.{name}").add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 something is missing (doctor), 2 a problem the user can mend (one line on stderr),
        130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("numba", "matplotlib", "datasets", "fsspec", "urllib3", "httpx", "httpx2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return parsed.run(parsed) or 0
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


def run_builder(task: str, arguments: Sequence[str] | None = None) -> int:
    """Run the builder of one task.

    Parameters
    ----------
    task
        The only task that is written.
    arguments
        As for ``connectomebench build``; those of the process by default.

    Returns
    -------
    int
        Exit status, as for :func:`main`.
    """
    return main(["build", *(sys.argv[1:] if arguments is None else arguments), "--task", task])
