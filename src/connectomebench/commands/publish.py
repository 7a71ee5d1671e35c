"""``connectomebench publish``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("publish", help="publish to the Hugging Face Hub", description=_run.__doc__)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder to publish, or with --org a folder of such folders"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--repo", metavar="ORG/NAME", help="repository")
    target.add_argument("--org", help="publish each folder in DIR to a repository of ORG named after it")
    parser.add_argument("--revision", default="main", metavar="BRANCH", help="branch to publish to (default: main)")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--replace", action="store_true", help="replace what differs there")
    parser.add_argument("--results", type=Path, metavar="DIR", help="models: result records for the card")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="ORG/NAME",
        help="models: dataset they were trained and evaluated on (repeat it for models of several tasks)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list changes without making them")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Publish a dataset (a repository per task, a config per species), model, result records, metric or Space."""
    from connectomebench.hub.options import PublishConfig
    from connectomebench.hub.publish import publish

    options = PublishConfig(
        branch=arguments.revision,
        private=arguments.private,
        replace=arguments.replace,
        results=arguments.results,
        datasets=tuple(arguments.dataset),
    )
    publish(arguments.folder, arguments.repo, arguments.org, options, dry_run=arguments.dry_run)
