"""``connectomebench report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

PUBLISHED, FIGURES = "published", "figures"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="write tables and figures",
        description=_run.__doc__,
        usage="connectomebench report [-h] DIR [--species S]\n"
        "       connectomebench report published DIR --out OUT\n"
        "       connectomebench report figures RESULTS --out OUT [--published DIR] [--remark TEXT]",
    )
    parser.add_argument(
        "words", nargs="+", metavar="[published|figures] DIR", help="kind of report and its input folder"
    )
    parser.add_argument("--species", help="DIR only: species config to report (default: the only one)")
    parser.add_argument("--out", type=Path, help="published, figures: output folder")
    parser.add_argument("--published", type=Path, help="figures: published records to draw beside yours")
    parser.add_argument("--remark", default="", help="figures: note for readers, for example what is simulated")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Write the report of DIR (made by quickstart), the published tables and figures, or the same of your results."""
    *kind, folder = arguments.words
    if kind and (len(kind) > 1 or kind[0] not in (PUBLISHED, FIGURES)):
        raise ConnectomeBenchError(f"unknown report {' '.join(kind)!r}; use DIR, published DIR or figures DIR")
    if kind and arguments.out is None:
        raise ConnectomeBenchError(f"the {kind[0]} report needs an output folder: --out OUT")
    if (arguments.species and kind) or (arguments.out and not kind):
        raise ConnectomeBenchError("--species goes with DIR alone, --out with the other reports")
    if (arguments.remark or arguments.published) and kind != [FIGURES]:
        raise ConnectomeBenchError("--remark and --published go with the figures report")
    if kind == [PUBLISHED]:
        from connectomebench.reproduction.reproduce import report_published

        print(report_published(Path(folder), arguments.out))
    elif kind == [FIGURES]:
        from connectomebench.evaluation.results import read_results
        from connectomebench.reproduction.reproduce import report_figures

        report_figures(read_results(folder), arguments.out, published=arguments.published, remark=arguments.remark)
        print(arguments.out)
    else:
        from connectomebench.quickstart import report

        print(report(Path(folder), arguments.species))
