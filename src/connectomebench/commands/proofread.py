"""``connectomebench proofread``."""

from __future__ import annotations

import argparse
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("proofread", help="proofread a segmentation with models", description=_run.__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML file with the source `volumes`; the truth may be left out"
    )
    parser.add_argument(
        "--models", type=Path, required=True, metavar="DIR", help="folder of models, or YAML file of task: model"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--segmentation", metavar="NAME", help="which one, where the configuration names several")
    parser.add_argument(
        "--box",
        type=float,
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="proofread only this box, nm (default: all)",
    )
    parser.add_argument(
        "--trusted",
        type=Path,
        metavar="FILE",
        help="ids of segments that may not be joined with each other, one a line: checked bodies, or with a soma",
    )
    parser.add_argument(
        "--min-confidence", type=float, default=0.9, metavar="P", help="apply edits from here on (default: 0.9)"
    )
    parser.add_argument(
        "--min-identification",
        type=float,
        default=0.5,
        metavar="P",
        help="correct candidates whose P(error) is at least this (default: 0.5; 0 for all)",
    )
    parser.add_argument(
        "--validation-box",
        type=float,
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="learn confidence and thresholds in this box, nm, apart from the place to proofread; needs truth",
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=0.9,
        metavar="P",
        help="with --validation-box: choose thresholds for this share of right edits (default: 0.9)",
    )
    parser.add_argument("--max-decisions", type=int, metavar="N", help="apply at most N edits, the most valuable ones")
    parser.add_argument("--max-usd", type=float, help="stop before the models cost more than this")
    parser.add_argument("--max-rounds", type=int, default=10, metavar="N", help="at most N rounds (default: 10)")
    parser.add_argument(
        "--serve-url",
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="where OUT will be served, for links (default: http://127.0.0.1:8000)",
    )
    parser.add_argument(
        "--allow-trained-here", action="store_true", help="use models that were trained on the place to proofread"
    )
    parser.add_argument(
        "--block-vx",
        type=int,
        metavar="N",
        help="edge of the blocks, voxels, a multiple of 64 (default: 256, and one piece up to 406³ voxels)",
    )
    parser.add_argument(
        "--scheduler",
        default="none",
        metavar="WHERE",
        help="where blocks are worked on: none, local, local:N, a Dask scheduler or its JSON file (default: none)",
    )
    parser.add_argument(
        "--max-density",
        type=float,
        default=100.0,
        metavar="N",
        help="most ends, most contacts, and most places of merge errors, in a cube of 1 µm (default: 100)",
    )
    parser.add_argument(
        "--contacts",
        action="store_true",
        help="propose to merge every two objects that touch, the largest contacts first, and not only at ends: for "
        "segmentations in many pieces",
    )
    parser.add_argument(
        "--no-ablation",
        action="store_true",
        help="leave out the runs with the oracle in place of one step, which ask the models more",
    )
    parser.add_argument(
        "--people",
        type=Path,
        metavar="RECORDS",
        help="result records of people (connectomebench human-eval): what they said of the same corrections is scored "
        "beside what the models say; needs truth and --people-data",
    )
    parser.add_argument(
        "--people-data",
        metavar="DATASET",
        help="with --people: the dataset that they rated, a folder or ORG/NAME, or the output folder of a build",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Proofread a segmentation: edits, OUT/segmentation, a ranked queue, scores where there is truth, and a report."""
    from connectomebench.build.config import load_config
    from connectomebench.proofreading.loop import LoopConfig
    from connectomebench.proofreading.run import proofread
    from connectomebench.proofreading.run_options import ProofreadConfig
    from connectomebench.proofreading.task_models import open_task_models

    options = ProofreadConfig(
        rules=LoopConfig(
            arguments.min_confidence, arguments.min_identification, arguments.max_decisions, arguments.max_rounds
        ),
        segmentation=arguments.segmentation,
        box_nm=None if arguments.box is None else _box(*arguments.box),
        trusted=() if arguments.trusted is None else _read_ids(arguments.trusted),
        max_usd=arguments.max_usd,
        serve_url=arguments.serve_url,
        allow_trained_here=arguments.allow_trained_here,
        block_vx=arguments.block_vx,
        scheduler=arguments.scheduler,
        max_density=arguments.max_density,
        contacts=arguments.contacts,
        validation_box_nm=None if arguments.validation_box is None else _box(*arguments.validation_box),
        precision=arguments.precision,
        ablation=not arguments.no_ablation,
        people_records=arguments.people,
        people_data=arguments.people_data,
    )
    config = load_config(arguments.config, truth_needed=False)
    proofread(config, open_task_models(arguments.models), arguments.out, arguments.config.parent, options)


def _box(*numbers: float) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = numbers
    return a, b, c, d, e, f


def _read_ids(path: Path) -> tuple[int, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}") from None
    for line in lines:
        if not line.isdecimal() or not 0 < int(line) < 2**64:
            raise ConnectomeBenchError(f"{path}: {line[:40]!r} is no segment id; write one number above 0 a line")
    return tuple(int(line) for line in lines)
