"""``connectomebench judge-cuts``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

TASK = "split_proposal"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "judge-cuts", help="cut segments as answers of split_proposal say, and judge the cuts", description=_run.__doc__
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="file or folder of result records")
    parser.add_argument("--dataset", required=True, metavar="DATASET", help="folder of split_proposal, or ORG/NAME")
    parser.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit on the Hub (default: main)")
    parser.add_argument("--config", type=Path, required=True, help="YAML file that the dataset was built from")
    parser.add_argument("--partition", default="test", help="train, validation or test (default)")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="these models alone (default: all)")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="cache of the source (default: .cache/source beside the dataset)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON with the verdict on every answer")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Cut the segmentation between the places of each answer, by its own method, and count the good cuts.

    Many places imply the same cut, so an answer far from the reference may still be right. A cut is judged by k, t and
    e of the configuration, as those of split_action are. Prints the share of good cuts with its 95% interval over
    groups.
    """
    from connectomebench.build.config import load_config
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.cut_verdicts import cuts_json, cuts_text, judge_records
    from connectomebench.evaluation.result_records import read_results
    from connectomebench.execution.runner import SerialRunner
    from connectomebench.sources.factory import open_source

    config = load_config(arguments.config)
    data = load_rows(arguments.dataset, config.species, arguments.partition, arguments.dataset_revision, task=TASK)
    frame = read_results(arguments.results)
    own = (frame["task"] == TASK) & (frame["species"] == config.species) & (frame["partition"] == arguments.partition)
    frame = frame[own & (frame["model"].isin(arguments.models) if arguments.models else True)]
    if frame.empty:
        raise ConnectomeBenchError(
            f"{arguments.results} holds no such answers to {TASK}/{config.species}/{arguments.partition}; "
            "evaluate first"
        )
    if set(frame["dataset_fingerprint"]) != {data.data.fingerprint}:
        raise ConnectomeBenchError("the results are of another version of the dataset; evaluate again")
    folder = Path(arguments.dataset)
    if arguments.cache is None and not folder.is_dir():
        raise ConnectomeBenchError("a dataset on the Hub has no cache of its source beside it; name one with --cache")
    cache = arguments.cache or folder.parent / ".cache" / "source"
    source = open_source(config.source, config.species, cache, arguments.config.parent, SerialRunner())
    columns = data.dataset.select_columns(["sample_id", "question", "location_nm", "segment_ids", "edit_id", "source"])
    scores = judge_records(frame, {str(row["sample_id"]): row for row in columns.to_list()}, source, config.proposals)
    print(json.dumps(cuts_json(scores), indent=1) if arguments.json else cuts_text(scores))
