"""``connectomebench cascade``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    import pandas as pd

    from connectomebench.evaluation.risk_control import Outcome
    from connectomebench.evaluation.statistics import Estimate


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cascade", help="choose when models leave a row to a person, for a target error", description=_run.__doc__
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of result records")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="MODEL",
        help="a stage, MODEL or MODEL@CONDITION, in the order in which they are asked (may be repeated)",
    )
    parser.add_argument("--task", required=True, help="task")
    parser.add_argument("--species", required=True, help="species")
    parser.add_argument(
        "--target",
        action="append",
        type=float,
        metavar="R",
        help="share of rows that models may answer wrongly (may be repeated; default: 0.02, 0.05, 0.1)",
    )
    parser.add_argument(
        "--place-held-out", action="store_true", help="test lies at another place than validation: state no guarantee"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of resplits and bootstrap")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Choose a confidence threshold on validation records by conformal risk control, and measure it on test records.

    A row takes the answer of the first model that reaches the threshold; the rest goes to a person. The guarantee is on
    the mean over groups, in expectation, where validation and test are drawn alike.
    """
    from connectomebench.evaluation.result_records import read_results
    from connectomebench.evaluation.risk_control import (
        control_risk,
        mean_risk_over_resplits,
        outcome,
        pooled,
        staged_answers,
    )

    frame = read_results(arguments.results)
    validation = staged_answers([_records(frame, model, "validation", arguments) for model in arguments.model])
    test = staged_answers([_records(frame, model, "test", arguments) for model in arguments.model])
    rows: list[tuple[float, Outcome, Outcome, Estimate]] = []
    for target in arguments.target or [0.02, 0.05, 0.1]:
        threshold = control_risk(validation, target)
        resplit = mean_risk_over_resplits(pooled(validation, test), target, seed=arguments.seed)
        chosen, measured = (outcome(part, threshold, seed=arguments.seed) for part in (validation, test))
        rows.append((target, chosen, measured, resplit))
    if arguments.json:
        print(json.dumps(_as_json(rows, arguments), indent=2))
    else:
        print("\n".join(_as_text(rows, arguments)))


def _records(frame: pd.DataFrame, named: str, partition: str, arguments: argparse.Namespace) -> pd.DataFrame:
    model, _, condition = named.partition("@")
    found = frame[
        (frame["model"] == model)
        & (frame["condition"] == (condition or "default"))
        & (frame["task"] == arguments.task)
        & (frame["species"] == arguments.species)
        & (frame["partition"] == partition)
    ]
    if found.empty:
        raise ConnectomeBenchError(
            f"there are no {partition} records of {named} on {arguments.task}/{arguments.species}; run connectomebench "
            f"evaluate with --partition {partition} first"
        )
    return found


def _as_text(rows: list[tuple[float, Outcome, Outcome, Estimate]], arguments: argparse.Namespace) -> Iterator[str]:
    from connectomebench.evaluation.formatting import interval_text

    for target, chosen, measured, resplit in rows:
        stages = ", ".join(f"{name} {share:.0%}" for name, share in measured.shares.items())
        risk = measured.risk
        if chosen.shares["person"] == 1:
            yield (
                f"at most {target:.1%} wrong: no threshold is bounded by {chosen.risk.n_groups} validation groups, so "
                "everything goes to a person"
            )
            continue
        wrong = "none" if measured.wrong_of_answered is None else f"{measured.wrong_of_answered:.1%}"
        yield f"at most {target:.1%} wrong: answer at a confidence of {chosen.threshold:.4f} or more"
        yield (
            f"  test: {stages}; wrong {interval_text(risk)} of all, {wrong} of those answered (n {risk.n}, "
            f"{risk.n_groups} groups)"
        )
        yield f"  cost: {_number(measured.cost_usd, 'USD')}, {_number(measured.latency_s, 's')} a row"
        verdict = "holds" if resplit.value <= target else "is exceeded"
        yield (
            f"  {resplit.resamples} resplits of all groups: mean wrong {resplit.value:.4f} ± "
            f"{resplit.upper - resplit.value:.4f}: the target {verdict}"
        )
    if arguments.place_held_out:
        yield "test lies at another place than validation: no guarantee holds there; the measured share is what counts"
    else:
        yield "the guarantee holds in expectation over groups drawn alike, not for another place, species or staining"


def _number(value: float | None, unit: str) -> str:
    return f"{value:.3g} {unit}" if value is not None else f"unknown {unit}"


def _as_json(rows: list[tuple[float, Outcome, Outcome, Estimate]], arguments: argparse.Namespace) -> dict[str, Any]:
    from connectomebench.evaluation.formatting import without_nan

    def plain(found: Outcome) -> dict[str, Any]:
        values = asdict(found)
        return values | {"threshold": None if found.shares["person"] == 1 else found.threshold}

    return without_nan(
        {
            "stages": list(arguments.model),
            "task": arguments.task,
            "species": arguments.species,
            "guarantee": not arguments.place_held_out,
            "targets": [
                {"target": target, "validation": plain(chosen), "test": plain(measured), "resplits": asdict(resplit)}
                for target, chosen, measured, resplit in rows
            ],
        }
    )
