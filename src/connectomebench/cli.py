"""The ``connectomebench`` command. Heavy packages are imported inside the commands, so that ``--help`` is fast."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from connectomebench.commands import NAMES
from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable, disk_advice
from connectomebench.core.extras import missing_extra
from connectomebench.core.logs import show_log

_PROGRESS_IN_LOGS = {
    "TQDM_MININTERVAL": "60",
    "TQDM_MAXINTERVAL": "120",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    import shtab

    from connectomebench.core.version import __version__

    parser = argparse.ArgumentParser(
        prog="connectomebench",
        description="Connectome proofreading as Hugging Face datasets, models, metrics and a Space.",
    )
    parser.add_argument("--version", action="version", version=f"connectomebench {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print the completion script of a shell")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for name in NAMES:
        import_module(f"connectomebench.commands.{name}").add(commands)
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue] -- how shtab is given it
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 success, 1 something is missing (doctor), 2 an error the user can fix (one line on stderr),
        130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    if not sys.stderr.isatty():
        quiet_progress()
    show_log()
    try:
        return parsed.run(parsed) or 0
    except ConnectomeBenchError as error:
        print(f"connectomebench: {error}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except ImportError as error:
        problem = missing_extra(error)
        if problem is None:
            raise
        print(f"connectomebench: {parsed.command}: {problem}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except SiteUnavailable as error:
        print(f"connectomebench: {error}; run the same command again to resume", file=sys.stderr)
        return _EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("connectomebench: interrupted; run the same command again to resume", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except OSError as error:  # raised inside a library: a full disk, but also what a library calls so
        advice = disk_advice(error)
        reason = " ".join(str(error).split())
        print(f"connectomebench: {reason}{(advice and f'; {advice}') or ''}", file=sys.stderr)
        return _EXIT_USER_ERROR


def quiet_progress() -> None:
    """Keep progress bars from flooding a log: ours appear once a minute, those of the Hub and of `datasets` never.

    Packages read these variables when they are imported, which no command has done yet; what is set already stays.
    """
    for name, value in _PROGRESS_IN_LOGS.items():
        os.environ.setdefault(name, value)


def run_builder(task: str, arguments: Sequence[str] | None = None) -> int:
    """Run the builder of one task.

    Parameters
    ----------
    task
        The task to build.
    arguments
        As for ``connectomebench build``; those of the process by default.

    Returns
    -------
    int
        Exit status, as for :func:`main`.
    """
    return main(["build", *(sys.argv[1:] if arguments is None else arguments), "--task", task])
