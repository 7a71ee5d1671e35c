"""``connectomebench calibrate``."""

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

    from connectomebench.evaluation.fit_recalibration import Effect, Fit


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "calibrate", help="calibrate probabilities on validation records", description=_run.__doc__
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of result records")
    parser.add_argument("--model", required=True, help="name of the model in the records")
    parser.add_argument("--task", required=True, help="task")
    parser.add_argument("--species", required=True, help="whose validation records to fit on")
    parser.add_argument("--condition", default="default", help="condition of the records (default: default)")
    parser.add_argument(
        "--method",
        choices=("auto", "temperature", "platt", "isotonic"),
        default="auto",
        help="auto (default) takes the one with the lowest log loss on held-out groups",
    )
    parser.add_argument(
        "--save-to",
        type=Path,
        metavar="FOLDER",
        help="folder of the model: store the calibration there, for evaluate and the Hub",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and bootstrap")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Fit a calibration on validation records, and write test records with calibrated probabilities beside the others.

    The records are those that evaluate wrote, of any model that states probabilities. Test records of other species are
    written as calibrated-by-SPECIES. No model is run.
    """
    from connectomebench.evaluation.fit_recalibration import (
        check_calibratable,
        effect_on,
        fit_recalibration,
        fit_warnings,
        write_calibrated,
    )
    from connectomebench.evaluation.result_records import read_results
    from connectomebench.models.model_record import read_record
    from connectomebench.models.recalibration import save_recalibration

    frame = read_results(arguments.results)
    wanted = {"model": arguments.model, "task": arguments.task, "condition": arguments.condition}
    for name, value in wanted.items():
        known = sorted(set(frame[name]))
        frame = frame[frame[name] == value]
        if frame.empty:
            raise ConnectomeBenchError(f"there are no records of the {name} {value!r} (only {', '.join(known)[:120]})")
    check_calibratable(arguments.task)
    own = frame[(frame["species"] == arguments.species) & (frame["partition"] == "validation")]
    if own.empty:
        raise ConnectomeBenchError(
            f"there are no validation records of {arguments.model} on {arguments.species}; run connectomebench "
            "evaluate with --partition validation first"
        )
    fit = fit_recalibration(own, arguments.method, seed=arguments.seed)
    recalibration = fit.recalibration
    if arguments.save_to is not None:
        record = read_record(arguments.save_to)
        if record.revision != recalibration.model_revision:
            raise ConnectomeBenchError(
                f"the records are of revision {recalibration.model_revision} and {arguments.save_to} holds "
                f"{record.revision}; evaluate that model first"
            )
        save_recalibration(arguments.save_to, recalibration)
    effects: dict[str, Effect] = {}
    paths = []
    for species, rows in _tests(frame):
        if rows["model_revision"].nunique() != 1 or rows["model_revision"].iloc[0] != recalibration.model_revision:
            raise ConnectomeBenchError(
                f"the test records on {species} are of another revision of {arguments.model} than those on validation; "
                "evaluate both with the same model"
            )
        paths.append(write_calibrated(rows, recalibration, arguments.results))
        effects[species] = effect_on(rows, recalibration, seed=arguments.seed)
    warnings = fit_warnings(fit)
    if arguments.json:
        print(json.dumps(_as_json(fit, effects, paths, warnings), indent=2))
    else:
        print("\n".join(_as_text(fit, effects, paths, warnings)))


def _tests(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    test = frame[(frame["partition"] == "test") & frame["probability"].notna()]
    for species in sorted(set(test["species"])):
        yield species, test[test["species"] == species]


def _as_text(fit: Fit, effects: dict[str, Effect], paths: list[Path], warnings: Any) -> Iterator[str]:
    own = fit.recalibration
    numbers = f" ({', '.join(f'{p:.3g}' for p in own.parameters)})" if own.method != "isotonic" else ""
    rows = f"{own.n} validation rows in {own.n_groups} groups"
    yield f"{own.model} on {own.task}/{own.species}: {own.method}{numbers}, {rows}"
    yield f"  validation, held out: {_effect_text(fit.held_out)}"
    for species, effect in effects.items():
        yield f"  test, {species}: {_effect_text(effect)}"
    yield from (f"note: {warning}" for warning in warnings)
    yield from map(str, paths)


def _effect_text(effect: Effect) -> str:
    from connectomebench.evaluation.formatting import interval_text

    before, after, brier = effect.before, effect.after, effect.brier
    return (
        f"ECE {interval_text(before)} -> {interval_text(after)}, Brier {interval_text(brier)}, "
        f"balanced accuracy {effect.balanced_accuracy[0]:.3f} -> {effect.balanced_accuracy[1]:.3f} (n {before.n}, "
        f"{before.n_groups} groups)"
    )


def _as_json(fit: Fit, effects: dict[str, Effect], paths: list[Path], warnings: Any) -> dict[str, Any]:
    from connectomebench.evaluation.formatting import without_nan

    found = {
        "calibration": asdict(fit.recalibration),
        "log_losses": fit.log_losses,
        "validation_held_out": asdict(fit.held_out),
        "test": {species: asdict(effect) for species, effect in effects.items()},
        "records": [str(path) for path in paths],
        "warnings": list(warnings),
    }
    return without_nan(found)
