"""``connectomebench doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="check that a species can be built", description=_run.__doc__)
    parser.add_argument("--species", required=True, help="species config to build")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the datasets (default: this one)")
    parser.add_argument("--server", help="CAVE server instead of the species' own (as source.cave.server)")
    parser.add_argument("--offline", action="store_true", help="skip all server checks")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Check what building a species needs: packages, token, network, renderer, disk. Exit status 1 if any fails."""
    from connectomebench.core.species import get_species
    from connectomebench.doctor import as_json, as_text, diagnose, is_ready

    species = get_species(arguments.species)
    findings = diagnose(species, arguments.out, arguments.server, arguments.offline)
    print((as_json if arguments.json else as_text)(species, findings))
    return 0 if is_ready(findings) else 1
