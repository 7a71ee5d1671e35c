"""``connectomebench teacher``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("teacher", help="add a teacher model's replies to a dataset", description=_run.__doc__)
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of a built dataset, OUT/TASK")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="PATH", help="result records: a file or a folder"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the teacher in its records")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset folder to write")
    parser.add_argument("--condition", metavar="NAME", help="condition of the records, if there are several")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Copy a dataset and add the column teacher_replies: a model's replies to training rows."""
    from connectomebench.finetuning.teacher import add_teacher

    for one in add_teacher(arguments.dataset, arguments.results, arguments.model, arguments.out, arguments.condition):
        print(
            f"{one.species}/{one.partition}: {one.replied} of {one.rows} rows have replies of {arguments.model}; "
            f"{one.kept} rows have a reply to train on"
        )
    print(f"train on it with: training/sft_vlm.py --dataset {arguments.out} --answer_style analysis")
