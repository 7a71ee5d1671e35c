"""The ``connectomebench`` command. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from connectomebench.errors import ConnectomeBenchError

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    from connectomebench import __version__

    parser = argparse.ArgumentParser(
        prog="connectomebench",
        description="Connectome proofreading as Hugging Face datasets, models, metrics and a Space.",
    )
    parser.add_argument("--version", action="version", version=f"connectomebench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build datasets from a configuration", description=_build.__doc__)
    build.add_argument("--config", type=Path, required=True, help="YAML file; see examples/")
    build.add_argument("--out", type=Path, required=True, help="folder for the datasets, one subfolder a task")
    build.add_argument("--task", action="append", dest="tasks", help="write only this task (may be repeated)")
    build.add_argument("--group-by", choices=("segment", "body"), help="what no two partitions may share")
    build.add_argument(
        "--scheduler",
        default="none",
        metavar="WHERE",
        help="where the work is done: none (this process, default), local or local:N (N processes of this machine), "
        "the address of a Dask scheduler (tcp://..., tls://...) or the path of its JSON file",
    )
    build.set_defaults(run=_build)

    quickstart = commands.add_parser(
        "quickstart", help="build, train, evaluate and report in one go", description=_quickstart.__doc__
    )
    quickstart.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    quickstart.add_argument("--config", type=Path, help="build configuration (default: the embedded neurons)")
    quickstart.set_defaults(run=_quickstart)

    report = commands.add_parser("report", help="write the report page again", description=_report.__doc__)
    report.add_argument("out", type=Path, metavar="DIR", help="folder made by quickstart")
    report.add_argument("--species", help="species config to report (default: the only one there)")
    report.set_defaults(run=_report)

    doctor = commands.add_parser("doctor", help="say what is missing to build a species", description=_doctor.__doc__)
    doctor.add_argument("--species", required=True, help="species config that shall be built")
    doctor.add_argument("--out", type=Path, default=Path(), help="folder for the datasets (default: this one)")
    doctor.add_argument("--server", help="CAVE server to ask in place of the species' (as source.cave.server)")
    doctor.add_argument("--offline", action="store_true", help="ask no server")
    doctor.add_argument("--json", action="store_true", help="write JSON")
    doctor.set_defaults(run=_doctor)

    publish = commands.add_parser(
        "publish", help="send something to the Hugging Face Hub", description=_publish.__doc__
    )
    publish.add_argument("folder", type=Path, metavar="DIR", help="what to publish, or a folder of such with --org")
    target = publish.add_mutually_exclusive_group(required=True)
    target.add_argument("--repo", metavar="ORG/NAME", help="repository")
    target.add_argument("--org", help="publish each thing in DIR to a repository of ORG named after it")
    publish.add_argument("--revision", default="main", metavar="BRANCH", help="branch to publish to (default: main)")
    publish.add_argument("--private", action="store_true", help="make new repositories private")
    publish.add_argument("--replace", action="store_true", help="put it in the place of what differs from it there")
    publish.add_argument("--results", type=Path, metavar="DIR", help="models: result records for the card")
    publish.add_argument("--dataset", metavar="ORG/NAME", help="models: the dataset that those results are about")
    publish.add_argument("--dry-run", action="store_true", help="list what would change, and change nothing")
    publish.set_defaults(run=_publish)

    predict = commands.add_parser("predict", help="let a model answer a partition", description=_predict.__doc__)
    predict.add_argument("--model", required=True, metavar="MODEL", help="folder, or ORG/NAME on the Hub")
    predict.add_argument("--model-revision", metavar="REV", help="branch, tag or commit (default: main)")
    predict.add_argument("--base", help="adapters: the model it was trained on, where it cannot be found by its name")
    predict.add_argument("--dataset", required=True, metavar="DATASET", help="folder, or ORG/NAME on the Hub")
    predict.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit (default: main)")
    predict.add_argument("--species", required=True, help="config of the dataset")
    predict.add_argument("--partition", default="test", help="train, validation or test (default)")
    predict.add_argument("--task", help="task to ask of a public dataset that holds several")
    predict.add_argument(
        "--out", type=Path, default=Path("results"), help="folder of result records (default: results)"
    )
    predict.set_defaults(run=_predict)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    """Build datasets from a configuration: DIR/TASK/SPECIES/*.parquet, a card and a manifest for each task."""
    from connectomebench.build import build
    from connectomebench.config import load_config

    overrides = {"partition.group_by": arguments.group_by} if arguments.group_by else {}
    config = load_config(arguments.config, overrides)
    folders = build(config, arguments.out, arguments.config.parent, arguments.tasks, arguments.scheduler)
    for task, folder in folders.items():
        print(f'{task}: load_dataset("{folder}", "{config.species}")')


def _quickstart(arguments: argparse.Namespace) -> None:
    """Build the datasets, load them back, train a probe and two baselines on each, evaluate, and write a report."""
    from connectomebench.quickstart import quickstart

    quickstart(arguments.out, arguments.config)


def _report(arguments: argparse.Namespace) -> None:
    """Write DIR/report/index.html from the datasets and result records in DIR."""
    from connectomebench.quickstart import report

    print(report(arguments.out, arguments.species))


def _doctor(arguments: argparse.Namespace) -> int:
    """Say what is missing to build a species: packages, token, network, renderer, disk. Status 1 if anything is."""
    from connectomebench.doctor import as_json, as_text, diagnose, is_ready
    from connectomebench.species import get_species

    species = get_species(arguments.species)
    findings = diagnose(species, arguments.out, arguments.server, arguments.offline)
    print((as_json if arguments.json else as_text)(species, findings))
    return 0 if is_ready(findings) else 1


def _publish(arguments: argparse.Namespace) -> None:
    """Send a dataset (one repository a task, one config a species), model, metric or Space to the Hugging Face Hub."""
    from connectomebench.hub.options import PublishOptions
    from connectomebench.hub.publish import publish

    options = PublishOptions(
        branch=arguments.revision,
        private=arguments.private,
        replace=arguments.replace,
        results=arguments.results,
        dataset=arguments.dataset,
    )
    publish(arguments.folder, arguments.repo, arguments.org, options, dry_run=arguments.dry_run)


def _predict(arguments: argparse.Namespace) -> None:
    """Let a model answer a partition, and keep one record a row: OUT/MODEL/TASK/SPECIES/PARTITION.parquet."""
    from connectomebench.evaluation.predict import predict

    predict(
        arguments.model,
        arguments.dataset,
        arguments.species,
        arguments.partition,
        arguments.out,
        task=arguments.task,
        model_revision=arguments.model_revision,
        dataset_revision=arguments.dataset_revision,
        base=arguments.base,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 something is missing (doctor), 2 a problem the user can mend (one line on stderr),
        130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("numba", "matplotlib", "datasets", "fsspec", "urllib3", "httpx", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return parsed.run(parsed) or 0
    except ConnectomeBenchError as error:
        print(f"connectomebench: {error}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("connectomebench: interrupted; run the same command again to go on", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except OSError as error:
        # a disk that fills or a folder that cannot be written, met inside a library
        print(f"connectomebench: {error}; free space or choose another folder", file=sys.stderr)
        return _EXIT_USER_ERROR
