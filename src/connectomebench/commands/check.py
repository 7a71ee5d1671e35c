"""``connectomebench check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("check", help="measure how far cheap cues lead in a dataset", description=_run.__doc__)
    parser.add_argument(
        "dataset", metavar="DATASET", help="folder of one task, output folder of several, or ORG/NAME on the Hub"
    )
    parser.add_argument("--species", required=True, help="config of the dataset")
    parser.add_argument("--task", help="this task alone; needed for public datasets with several")
    parser.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit on the Hub (default: main)")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="B",
        help="exit with status 1 if the whole interval of a cue that is not inherent lies above this balanced "
        "accuracy, for example 0.55",
    )
    parser.add_argument("--save", action="store_true", help="write the scores into manifest and card of the folder")
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="also write what each cue answers as result records (models cue-NAME), for connectomebench compare",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Learn cheap cues on train, judge them on test: balanced accuracy with 95% intervals over groups.

    Where answers are masks, masks without learning are scored on test instead.
    """
    from connectomebench.evaluation.dataset_check import (
        as_json,
        as_text,
        asks_for_masks,
        check_datasets,
        find_datasets,
    )
    from connectomebench.evaluation.mask_check import check_masks, masks_text

    threshold = arguments.fail_above
    if threshold is not None and not 0 <= threshold < 1:
        raise ConnectomeBenchError(f"--fail-above is {threshold}; give a balanced accuracy such as 0.55")
    if arguments.save and not Path(arguments.dataset).is_dir():
        raise ConnectomeBenchError(f"--save writes into a folder, which {arguments.dataset} is not; leave it out")
    checks, left_out = check_datasets(
        arguments.dataset,
        arguments.species,
        task=arguments.task,
        revision=arguments.dataset_revision,
        progress=not arguments.json,
        records=arguments.records,
    )
    task, revision = arguments.task, arguments.dataset_revision
    masks = [
        check_masks(name, arguments.species, task=task, revision=revision)
        for name in find_datasets(arguments.dataset, arguments.species, task)
        if asks_for_masks(name, task, revision)
    ]
    if arguments.records is not None:
        for one in masks:
            print(f"{one.name}: answers are masks, of which no records are written", file=sys.stderr)
    if arguments.save:
        from connectomebench.cards.cues import add_cues, add_mask_baselines

        for check in checks:
            add_cues(Path(check.name), check)
        for one in masks:
            add_mask_baselines(Path(one.name), one)
    for one in left_out:
        print(f"{one.name} is left out: {one.reason}", file=sys.stderr)
    if arguments.json:
        print(as_json(checks, left_out, threshold, masks))
    else:
        print("\n\n".join([*(as_text(check, threshold) for check in checks), *map(masks_text, masks)]))
    if any(one.is_error for one in left_out):
        raise ConnectomeBenchError("not every dataset could be checked (the lines above say why)")
    return int(threshold is not None and any(check.leading(threshold) for check in checks))
