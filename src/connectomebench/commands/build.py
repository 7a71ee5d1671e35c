"""``connectomebench build``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("build", help="build datasets from a configuration", description=_run.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see examples/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the datasets, one subfolder per task")
    parser.add_argument("--task", action="append", dest="tasks", help="build only this task (may be repeated)")
    parser.add_argument("--group-by", choices=("segment", "body"), help="unit that no two partitions share")
    parser.add_argument(
        "--scheduler",
        default="none",
        metavar="WHERE",
        help="where to run: none (this process, default), local or local:N (N local processes), "
        "a Dask scheduler address (tcp://..., tls://...) or the path of its JSON file",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace tasks in --out that were built from another configuration"
    )
    parser.add_argument(
        "--scenes",
        choices=("train", "validation", "test"),
        metavar="PARTITION",
        help="write 3D scenes of this partition too, which the demo shows",
    )
    parser.add_argument(
        "--neighbourhoods",
        action="append",
        default=[],
        choices=("train", "validation", "test"),
        metavar="PARTITION",
        help="write what lies around each place of this partition too, to look around in (may be repeated)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Build datasets from a configuration: DIR/TASK/SPECIES/*.parquet, a card and a manifest per task."""
    from connectomebench.build.config import load_config
    from connectomebench.build.pipeline import build_datasets

    overrides = {"partition.group_by": arguments.group_by} if arguments.group_by else {}
    config = load_config(arguments.config, overrides)
    folders = build_datasets(
        config, arguments.out, arguments.config.parent, arguments.tasks, arguments.scheduler, arguments.overwrite
    )
    if arguments.scenes is not None:
        from connectomebench.build.write_scenes import write_dataset_scenes

        write_dataset_scenes(config, arguments.out, arguments.config.parent, [*folders], arguments.scenes)
    if arguments.neighbourhoods:
        from connectomebench.build.write_neighbourhoods import write_dataset_neighbourhoods

        write_dataset_neighbourhoods(
            config, arguments.out, arguments.config.parent, [*folders], arguments.neighbourhoods
        )
    for task, folder in folders.items():
        print(f'{task}: load_dataset("{folder}", "{config.species}")')
