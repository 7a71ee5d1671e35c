"""``connectomebench human-eval``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "human-eval", help="rate samples or model analyses as a person", description=_run.__doc__
    )
    parser.add_argument("--dataset", metavar="DATASET", help="folder, or ORG/NAME on the Hub")
    parser.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit (default: main)")
    parser.add_argument("--species", help="config of the dataset")
    parser.add_argument("--partition", default="test", help="train, validation or test (default)")
    parser.add_argument("--task", help="task, for public datasets with several")
    parser.add_argument("--rater", metavar="NAME", help="name of the rater in the records")
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--max-samples", type=int, default=64, metavar="N", help="rows to rate, balanced over the answers (default: 64)"
    )
    number.add_argument("--all", action="store_true", help="rate the whole partition")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw; use the same for all raters")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--port", type=int, default=0, help="local port (default: a free one)")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME", help="names under which a proxy of yours serves the page"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    parser.add_argument("--export", action="store_true", help="write records of the ratings so far, and stop")

    judged = parser.add_argument_group("model analyses")
    judged.add_argument(
        "--analyses", type=Path, metavar="DIR", help="rate the analyses in these result records instead"
    )
    judged.add_argument("--models", nargs="+", metavar="MODEL", help="models to rate: MODEL, or MODEL@CONDITION")
    judged.add_argument(
        "--one-by-one", action="store_true", help="rate each analysis from 1 to 5 instead of comparing pairs"
    )

    agreement = parser.add_argument_group("agreement")
    agreement.add_argument(
        "--kappa",
        nargs="+",
        metavar=("DIR", "NAME"),
        help="print Cohen's kappa of the raters in DIR, or of two of them",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Rate rows or model analyses as a person, or print inter-rater agreement."""
    from connectomebench.core.errors import ConnectomeBenchError

    if arguments.kappa:
        from connectomebench.human_eval.agreement_report import kappa_lines

        folder, *names = arguments.kappa
        print("\n".join(kappa_lines(Path(folder), names)))
        return
    for option in ("dataset", "species", "rater"):
        if getattr(arguments, option) is None:
            raise ConnectomeBenchError(f"--{option} is missing; name dataset, species and rater")
    if bool(arguments.models) != bool(arguments.analyses):
        raise ConnectomeBenchError("--analyses DIR and --models MODEL ... go together")
    if arguments.one_by_one and not arguments.analyses:
        raise ConnectomeBenchError("--one-by-one rates analyses; name them with --analyses DIR and --models MODEL ...")

    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.console_summary import simulated_note
    from connectomebench.human_eval.app import AppPage
    from connectomebench.human_eval.rating import Rater, rate, summary_line

    rater = Rater(arguments.rater, None if arguments.all else arguments.max_samples, arguments.seed)
    page = AppPage(arguments.port, not arguments.no_browser, tuple(arguments.allow_host))
    revision = arguments.dataset_revision
    rows = load_rows(arguments.dataset, arguments.species, arguments.partition, revision, task=arguments.task)
    if arguments.analyses is None:
        path = rate(rows, rater, arguments.out, page, export=arguments.export)
        print(summary_line(path))
    else:
        import json

        from connectomebench.human_eval.preferences import preference_table
        from connectomebench.human_eval.rationale_rating import judge_analyses, read_analyses

        rationales = read_analyses(arguments.analyses, arguments.models, rows)
        rating_mode = "single" if arguments.one_by_one else "pairs"
        path = judge_analyses(rows, rationales, rater, rating_mode, arguments.out, page, export=arguments.export)
        found = json.loads(path.read_text(encoding="utf-8"))
        print(f"{found['rated']} of {found['of']} rated by {found['rater']}")
        print(preference_table(found))
    print("\n".join((*simulated_note(rows.data), str(path))))
