"""``connectomebench transfer``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("transfer", help="measure transfer between species", description=_run.__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="DIR", help="folders of result records")
    parser.add_argument("--model", action="append", help="only this model (may be repeated)")
    parser.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="DIR",
        help="folder of models, or ORG/NAME on the Hub, with training records (may be repeated)",
    )
    parser.add_argument(
        "--trained-on",
        action="append",
        default=[],
        metavar="SPECIES",
        help="training species of the only model, if it has no record (may be repeated)",
    )
    parser.add_argument("--partition", default="test", help="train, validation or test (default)")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        help="evaluated dataset, to measure distances between its species (may be repeated)",
    )
    parser.add_argument("--encoder", help="encoder: efficientnet_lite0 (default), ORG/NAME or a folder")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="with --dataset: at most N rows per species (default: 500)"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="with --dataset: folder to cache the features")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Measure models on species they were not trained on, and the drop with a 95% interval over groups."""
    import sys

    import pandas as pd

    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.evaluation.domain_gap import MOST_ROWS, measure_gaps
    from connectomebench.evaluation.result_records import default_rows, read_results
    from connectomebench.evaluation.training_species import (
        find_records,
        models_in,
        recorded_species,
        simulated_species,
        stated_species,
    )
    from connectomebench.evaluation.transfer import as_json, as_text, transfer_rows
    from connectomebench.models.encoders import EFFICIENTNET

    if bool(arguments.models) == bool(arguments.trained_on):
        raise ConnectomeBenchError("name the training data: either --models or --trained-on")
    if not arguments.dataset and (arguments.encoder or arguments.rows is not None or arguments.cache):
        raise ConnectomeBenchError("--encoder, --rows and --cache need --dataset")
    frame = default_rows(pd.concat([read_results(folder) for folder in arguments.results], ignore_index=True))
    if arguments.model:
        if missing := sorted(set(arguments.model) - set(frame["model"])):
            raise ConnectomeBenchError(f"there are no results of {', '.join(missing)}")
        frame = frame[frame["model"].isin(arguments.model)]
    records = find_records(arguments.models)
    if arguments.trained_on:
        training = stated_species(frame, arguments.trained_on)
    else:
        training = recorded_species(frame, records, arguments.partition)
    unknown = [
        f"{model} (revision {revision}, {task})"
        for model, revision, task in models_in(frame)
        if (model, revision, task) not in training
    ]
    if unknown:
        print(f"left out, no training record: {'; '.join(unknown)}", file=sys.stderr)
    rows = transfer_rows(frame, training, partition=arguments.partition)
    gaps = []
    if arguments.dataset:
        evaluated: dict[str, dict[str, str]] = {}
        for row in rows:
            evaluated.setdefault(row.task, {}).update(row.fingerprints)
        encoder, most = arguments.encoder or EFFICIENTNET, MOST_ROWS if arguments.rows is None else arguments.rows
        options = {"partition": arguments.partition, "rows": most, "cache": arguments.cache}
        gaps = measure_gaps(arguments.dataset, evaluated, encoder, **options)
    print((as_json if arguments.json else as_text)(rows, gaps, simulated_species(records, training)))
