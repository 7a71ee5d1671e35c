"""``connectomebench doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="say what is missing to build a species", description=_run.__doc__)
    parser.add_argument("--species", required=True, help="species config that shall be built")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the datasets (default: this one)")
    parser.add_argument("--server", help="CAVE server to ask in place of the species' (as source.cave.server)")
    parser.add_argument("--offline", action="store_true", help="ask no server")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Say what is missing to build a species: packages, token, network, renderer, disk. Status 1 if anything is."""
    from connectomebench.core.species import get_species
    from connectomebench.doctor import as_json, as_text, diagnose, is_ready

    species = get_species(arguments.species)
    findings = diagnose(species, arguments.out, arguments.server, arguments.offline)
    print((as_json if arguments.json else as_text)(species, findings))
    return 0 if is_ready(findings) else 1
