"""``connectomebench doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="check what a build needs", description=_run.__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--species", help="species config to build, from its public servers")
    what.add_argument("--config", type=Path, help="build configuration; its own servers, paths and files are checked")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the datasets (default: this one)")
    parser.add_argument("--server", help="with --species: CAVE server instead of its own (as source.cave.server)")
    parser.add_argument("--offline", action="store_true", help="skip all server checks")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Check what a build needs: packages, token, network, files, renderer, disk. Exit status 1 if any fails."""
    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.core.species import get_species
    from connectomebench.doctor import as_json, as_text, config_target, diagnose, is_ready, species_target

    if arguments.config is None:
        target = species_target(get_species(arguments.species), arguments.server)
    else:
        from connectomebench.build.config import load_config

        if arguments.server is not None:
            raise ConnectomeBenchError("--server goes with --species; set source.cave.server in the configuration")
        target = config_target(load_config(arguments.config), arguments.config.parent)
    findings = diagnose(target, arguments.out, arguments.offline)
    print((as_json if arguments.json else as_text)(target.name, findings))
    return 0 if is_ready(findings) else 1
