"""``connectomebench economics``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    from connectomebench.economics.assumptions import Sourced
    from connectomebench.economics.edit_table import EditTable

    Tables = dict[str, list[tuple[EditTable, int | None]]]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    from connectomebench.economics.assumptions import PRICINGS, defaults, listed

    parser = commands.add_parser(
        "economics", help="count edits a neuron and compute what they cost", description=_run.__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder: page, JSON, figures, samples")
    parser.add_argument("--json", action="store_true", help="write JSON instead of text to the terminal")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of samples and bootstrap (default: 0)")

    edits = parser.add_argument_group("edits")
    edits.add_argument(
        "--table", action="append", default=[], metavar="NAME=FILE",
        help="CSV or Parquet of neuron, merges, splits; several of one NAME are samples of one population",
    )  # fmt: skip
    edits.add_argument(
        "--columns", nargs=3, default=["neuron", "merges", "splits"], metavar=("NEURON", "MERGES", "SPLITS"),
        help="their names in the tables",
    )  # fmt: skip
    edits.add_argument("--simulated", action="store_true", help="mark the tables as drawn by a program")
    edits.add_argument(
        "--population", action="append", default=[], metavar="NAME=N", help="neurons to extrapolate NAME to"
    )
    edits.add_argument(
        "--cave", action="append", default=[], metavar="SPECIES[=FILE]",
        help="sample change logs of a species; FILE is a build configuration with source.cave",
    )  # fmt: skip
    edits.add_argument("--sizes", type=int, nargs="+", metavar="N", help="with --cave: sizes (default: 100 500 1000)")
    edits.add_argument(
        "--all-operations", action="store_true",
        help="with --cave: also count operations that do not affect the final state of a neuron",
    )  # fmt: skip
    edits.add_argument("--published", action="store_true", help="add the published draft's totals and its slips")

    measured = parser.add_argument_group("measured assumptions")
    measured.add_argument("--results", type=Path, metavar="DIR", help="result records to take seconds and tokens from")
    measured.add_argument("--model", help="with --results: MODEL or MODEL@CONDITION")
    measured.add_argument("--first-model", metavar="MODEL", help="with --results: first model of a cascade")
    measured.add_argument("--merge-task", metavar="TASK", help="with --results: task of merges (default: merge_action)")
    measured.add_argument("--split-task", metavar="TASK", help="with --results: task of splits (default: split_action)")

    stated = parser.add_argument_group("assumptions (an option wins over --results, and that over --assumptions)")
    stated.add_argument("--assumptions", type=Path, metavar="FILE", help="YAML of assumptions")
    for one in listed(defaults()):
        text = one["meaning"].replace("%", "%%")
        kind: dict[str, Any] = {"choices": PRICINGS} if one["name"] == "pricing" else {"type": float, "metavar": "X"}
        shown = one["value"] if one["name"] == "pricing" else f"{one['value']:g} {one['unit']}".replace("%", "%%")
        stated.add_argument(f"--{one['name'].replace('_', '-')}", help=f"{text} (default: {shown})", **kind)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Count edits a neuron in tables or change logs, extrapolate them, and compute what correcting them costs."""
    _check(arguments)
    import json

    from connectomebench.economics.analysis import analyse, as_dict, as_text
    from connectomebench.economics.page import write_analysis

    sourced = _assumptions(arguments)
    tables = _tables(arguments)
    found = analyse(tables, sourced, published=arguments.published, resamples=arguments.resamples, seed=arguments.seed)
    path = write_analysis(found, arguments.out)
    if arguments.json:
        print(json.dumps(as_dict(found), indent=2))
    else:
        print(as_text(found))
        print(f"\n{path}")


def _check(arguments: argparse.Namespace) -> None:
    if not (arguments.table or arguments.cave or arguments.published):
        raise ConnectomeBenchError("there are no edits; give --table NAME=FILE, --cave SPECIES or --published")
    if not arguments.cave and (arguments.sizes or arguments.all_operations):
        raise ConnectomeBenchError("--sizes and --all-operations go with --cave")
    if not arguments.table and arguments.simulated:
        raise ConnectomeBenchError("--simulated marks tables; give --table NAME=FILE")
    of_results = ("model", "first_model", "merge_task", "split_task")
    if arguments.results is None and any(getattr(arguments, name) for name in of_results):
        raise ConnectomeBenchError("--model, --first-model, --merge-task and --split-task go with --results DIR")
    if arguments.resamples < 1 or arguments.seed < 0:
        raise ConnectomeBenchError("--resamples must be at least 1, and --seed at least 0")


def _assumptions(arguments: argparse.Namespace) -> Sourced:
    from connectomebench.economics.assumptions import defaults, read_assumptions

    sourced = defaults()
    if arguments.assumptions is not None:
        sourced = read_assumptions(arguments.assumptions, sourced)
    if arguments.results is not None:
        from connectomebench.economics.measured import Measured, measure

        tasks = {name: getattr(arguments, name) for name in ("merge_task", "split_task") if getattr(arguments, name)}
        sourced = measure(Measured(arguments.results, arguments.model, arguments.first_model, **tasks), sourced)
    given = {name: getattr(arguments, name) for name in sourced.origins if getattr(arguments, name) is not None}
    return sourced.changed(given, "option")


def _tables(arguments: argparse.Namespace) -> Tables:
    from dataclasses import replace

    from connectomebench.economics.edit_table import read_edit_table

    populations = {name: _neurons(name, value) for name, value in map(_pair, arguments.population)}
    tables: Tables = {}
    for name, path in map(_pair, arguments.table):
        table = read_edit_table(Path(path), name, tuple(arguments.columns), simulated=arguments.simulated)
        tables.setdefault(name, []).append((replace(table, name=f"{name} n={len(table)}"), populations.get(name)))
    for entry in arguments.cave:
        species, _, config = entry.partition("=")
        if species in tables:
            raise ConnectomeBenchError(f"{species} has both a table and change logs; give the table another NAME")
        tables[species] = _from_logs(arguments, species, config, populations)
    if unknown := sorted(set(populations) - set(tables)):
        raise ConnectomeBenchError(f"--population names {', '.join(unknown)}, which has no table and no change logs")
    return tables


def _from_logs(
    arguments: argparse.Namespace, species: str, config: str, populations: dict[str, int]
) -> list[tuple[EditTable, int | None]]:
    from connectomebench.economics.change_logs import SIZES, ChangeLogConfig, read_samples
    from connectomebench.economics.edit_table import write_edit_table
    from connectomebench.sources.cave.cave_config import CaveConfig

    cave, base = CaveConfig(), Path()
    if config:
        from connectomebench.build.config import load_config

        loaded, base = load_config(Path(config)), Path(config).parent
        if loaded.source.cave is None:
            raise ConnectomeBenchError(f"{config} has no source.cave; name a build configuration of a CAVE dataset")
        cave = loaded.source.cave
    sizes = tuple(arguments.sizes or SIZES)
    rules = ChangeLogConfig(species, sizes, arguments.seed, not arguments.all_operations, cave)
    found = read_samples(rules, arguments.out / ".cache" / species, base)
    for table in found.tables:
        write_edit_table(table, arguments.out / "samples" / f"{table.name.replace(' n=', '-')}.parquet")
    return [(table, populations.get(species, found.population)) for table in found.tables]


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not (name and mark and value):
        raise ConnectomeBenchError(f"{text!r} must be NAME=VALUE, for example mouse=edits.csv or mouse=2314")
    return name, value


def _neurons(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ConnectomeBenchError(f"--population {name}={value}: give a whole number of neurons") from None
