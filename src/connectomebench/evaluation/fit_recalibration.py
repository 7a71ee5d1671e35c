"""Fit a calibration on validation records, judge it by cross-validation over groups, and apply it to other records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS
from connectomebench.evaluation.calibration import brier_statistic, calibration_statistic
from connectomebench.evaluation.result_records import DEFAULT, YES_NO, label, result_path, write_results
from connectomebench.evaluation.statistics import (
    Estimate,
    PairedDifference,
    balanced_accuracy,
    bootstrap_interval,
    paired_difference,
)
from connectomebench.models.recalibration import Method, Recalibration, likelier, log_odds

if TYPE_CHECKING:
    import pandas as pd

Choice = Literal["auto", "temperature", "platt", "isotonic"]
CALIBRATED = "calibrated"
"""Condition of records whose probabilities were calibrated on the validation rows of their own species."""
FEWEST_ROWS = 20
FEW_GROUPS = 30
"""With fewer groups than this, a calibration may do more harm than good."""
_FOLDS = 5
# isotonic regression follows every row; below this many it is not tried by "auto"
_ISOTONIC_ROWS = 200


@dataclass(frozen=True)
class Effect:
    """What a calibration does to the answers to some rows.

    Attributes
    ----------
    before, after
        Expected calibration error (15 bins of equal width), with basic intervals over groups.
    brier
        Brier score after minus before, paired over the same rows; below 0 is better.
    balanced_accuracy
        Of the answers before and after.
    """

    before: Estimate
    after: Estimate
    brier: PairedDifference
    balanced_accuracy: tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """A fitted calibration.

    Attributes
    ----------
    recalibration
        Fitted on all validation rows.
    held_out
        Its effect on validation rows, each calibrated by a fit that has not seen its group.
    log_losses
        Held-out log loss of each method that was tried, and of none.
    """

    recalibration: Recalibration
    held_out: Effect
    log_losses: dict[str, float]

    @property
    def improves(self) -> bool:
        """Whether the held-out log loss is lower than without calibration."""
        return self.log_losses[self.recalibration.method] < self.log_losses["none"]


def fit_recalibration(records: pd.DataFrame, method: Choice = "auto", *, seed: int = 0) -> Fit:
    """Fit a calibration on the validation records of one model.

    Parameters
    ----------
    records
        Of one model, condition, task and species, partition ``validation``, with P(yes). Rows without one are left out.
    method
        ``auto`` takes the method with the lowest log loss on held-out groups; isotonic regression is among them from
        200 rows on.
    seed
        Of folds and bootstrap.

    Raises
    ------
    ConnectomeBenchError
        If the records are not those of one yes/no evaluation on validation, or are too few.
    """
    rows = _checked(records)
    stated = rows["probability"].to_numpy(np.float64)
    truth = _is_yes(rows)
    groups = rows["group"].to_numpy(str)
    if method == "auto":
        tried: tuple[Method, ...] = get_args(Method) if len(rows) >= _ISOTONIC_ROWS else ("temperature", "platt")
    elif method in get_args(Method):
        tried = (cast("Method", method),)
    else:
        raise ConnectomeBenchError(f"unknown method {method!r}; choose {', '.join(get_args(Choice))}")
    held_out = {name: _held_out(name, stated, truth, groups, seed) for name in tried}
    losses = {name: _log_loss(found, truth) for name, found in {"none": stated, **held_out}.items()}
    best = min(tried, key=lambda name: losses[name])
    first = rows.iloc[0]
    recalibration = Recalibration(
        best,
        _FITS[best](stated, truth),
        first["task"],
        first["species"],
        first["model"],
        first["model_revision"],
        first["dataset_fingerprint"],
        len(rows),
        len(np.unique(groups)),
    )
    return Fit(recalibration, _effect(stated, held_out[best], truth, groups, seed), losses)


def effect_on(records: pd.DataFrame, recalibration: Recalibration, *, seed: int = 0) -> Effect:
    """Measure what a calibration does to the answers to rows that it was not fitted on.

    Parameters
    ----------
    records
        Of one evaluation, with P(yes); rows without one are left out.
    recalibration
        From :func:`fit_recalibration`, of any species.
    seed
        Of the bootstrap.
    """
    rows = records[records["probability"].notna()]
    stated = rows["probability"].to_numpy(np.float64)
    truth = _is_yes(rows)
    return _effect(stated, recalibration.apply(stated), truth, rows["group"].to_numpy(str), seed)


def calibrated_condition(recalibration: Recalibration, species: str, condition: str = DEFAULT) -> str:
    """Name the condition of calibrated records: ``calibrated``, or ``calibrated-by-SPECIES`` across species."""
    own = recalibration.species == species
    named = CALIBRATED if own else f"{CALIBRATED}-by-{recalibration.species.replace('_', '-')}"
    return named if condition == DEFAULT else f"{condition}+{named}"


def write_calibrated(records: pd.DataFrame, recalibration: Recalibration, folder: Path) -> Path:
    """Write the records of one evaluation again with calibrated probabilities; nothing is asked of the model.

    Parameters
    ----------
    records
        Of one model, condition, task, species and partition.
    recalibration
        The calibration.
    folder
        Folder of result records.

    Returns
    -------
    Path
        ``FOLDER/MODEL/TASK/SPECIES/PARTITION@calibrated.parquet``, or ``@calibrated-by-SPECIES``.

    Raises
    ------
    ConnectomeBenchError
        If the calibration was fitted on another model or task.
    """
    first = records.iloc[0]
    for name in ("model_revision", "task"):  # its name may differ: that of a folder, or of a repository
        if first[name] != getattr(recalibration, name):
            raise ConnectomeBenchError(
                f"the calibration was fitted on the {name} {getattr(recalibration, name)!r} and the records are of "
                f"{first[name]!r}; run connectomebench calibrate on these"
            )
    condition = calibrated_condition(recalibration, first["species"], first["condition"])
    changed = records.copy()
    known = changed["probability"].notna()
    yes = recalibration.apply(changed.loc[known, "probability"].to_numpy(np.float64))
    changed.loc[known, "probability"] = yes
    changed.loc[known, "prediction"] = [likelier(p) for p in yes.tolist()]
    changed["condition"] = condition
    path = result_path(folder, first["model"], first["task"], first["species"], first["partition"], condition)
    return write_results(path, _plain_rows(changed))


def _plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return records as mappings; missing values are left out, lists are lists again."""
    rows = []
    for row in frame.to_dict("records"):
        kept = {}
        for name, value in row.items():
            if isinstance(value, np.ndarray):
                kept[str(name)] = value.tolist()
            elif value is not None and not (isinstance(value, float) and np.isnan(value)):
                kept[str(name)] = value
        rows.append(kept | {name: int(kept[name]) for name in ("prompt_tokens", "tokens") if name in kept})
    return rows


def _is_yes(rows: pd.DataFrame) -> NDArray[np.int64]:
    return np.array([answer == "yes" for answer in rows["answer"]], np.int64)


def check_calibratable(task: str) -> None:
    """Refuse a task whose records hold no P(yes).

    Parameters
    ----------
    task
        Name of a task; of one that this version does not know, the answers decide.

    Raises
    ------
    ConnectomeBenchError
        If its answers are places or masks, or one of several choices.
    """
    known = TASKS.get(task)
    if known is None or set(known.labels) == set(YES_NO):
        return
    answers = {
        "places": "its answers are places, scored by their distance from the truth",
        "masks": "its answers are masks, scored by their overlap with the truth",
    }.get(known.scoring, f"it is no yes/no task, but a choice among {', '.join(known.labels)}")
    raise ConnectomeBenchError(f"{task} has no probabilities of a yes to calibrate: {answers}")


def _checked(records: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a probability, after checking that they can be fitted on."""
    runs = records[["model", "model_revision", "condition", "task", "species", "dataset_fingerprint"]].drop_duplicates()
    if len(runs) != 1:
        raise ConnectomeBenchError(f"these records hold {len(runs)} evaluations; a calibration is fitted on one")
    check_calibratable(str(runs.iloc[0]["task"]))
    named = label(str(runs.iloc[0]["model"]), str(runs.iloc[0]["condition"]))
    if set(records["partition"]) != {"validation"}:
        raise ConnectomeBenchError(
            f"the records of {named} are not all of the validation partition; a calibration fitted on train or test "
            "says nothing; run evaluate with --partition validation"
        )
    if not set(records["answer"]) <= set(YES_NO):
        raise ConnectomeBenchError(f"the true answers in the records of {named} are not yes and no; evaluate again")
    rows = records[records["probability"].notna()]
    counts = rows["answer"].value_counts()
    if len(rows) < FEWEST_ROWS or len(counts) < 2:
        raise ConnectomeBenchError(
            f"{named} states a probability for {len(rows)} validation rows ({counts.get('yes', 0)} yes, "
            f"{counts.get('no', 0)} no); a calibration needs {FEWEST_ROWS} with both answers"
        )
    return rows


def _temperature(stated: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, ...]:
    """Minimise the log loss over the temperature; from 1/20 to 20, beyond which only noise lies."""
    from scipy.optimize import minimize_scalar

    odds = log_odds(stated) * np.where(truth == 1, 1.0, -1.0)
    found: Any = minimize_scalar(
        lambda log_t: np.logaddexp(0, -odds / np.exp(log_t)).mean(), bounds=(-3.0, 3.0), method="bounded"
    )
    return (float(np.exp(found.x)),)


def _platt(stated: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, ...]:
    """Fit slope and intercept to Platt's smoothed targets, which stay finite where the answers are separable."""
    from sklearn.linear_model import LogisticRegression

    odds = log_odds(stated)[:, np.newaxis]
    n_yes, n_no = int(truth.sum()), int((1 - truth).sum())
    target = np.where(truth == 1, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    # each row stands once as a yes and once as a no, weighted by its target
    model: Any = LogisticRegression(C=np.inf, max_iter=1000)
    model.fit(
        np.concatenate([odds, odds]),
        np.repeat([1, 0], len(odds)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    # a model that ranks the wrong way round is not turned: that would hide that it is wrong
    return max(0.0, float(model.coef_[0, 0])), float(model.intercept_[0])


def _isotonic(stated: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, ...]:
    """Fit an increasing map; kept off 0 and 1, which no number of rows proves (Laplace's rule)."""
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(truth) + 2)
    model: Any = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(stated, truth)
    knots, index = np.unique(model.X_thresholds_, return_index=True)
    return (*knots.tolist(), *model.y_thresholds_[index].tolist())


_FITS: dict[Method, Callable[[NDArray[np.float64], NDArray[np.int64]], tuple[float, ...]]] = {
    "temperature": _temperature,
    "platt": _platt,
    "isotonic": _isotonic,
}


def _held_out(
    method: Method, stated: NDArray[np.float64], truth: NDArray[np.int64], groups: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    """Calibrate each row by a fit on the other folds of groups."""
    names, index = np.unique(groups, return_inverse=True)
    folds = min(_FOLDS, len(names))
    if folds < 2:
        raise ConnectomeBenchError("all validation rows are one group, so a calibration cannot be judged; build more")
    fold = (np.random.default_rng(seed).permutation(len(names)) % folds)[index]
    found = stated.copy()
    for i in range(folds):
        rest = fold != i
        if len(np.unique(truth[rest])) == 2:  # else a map cannot be fitted, and these rows stay as they are
            fitted = Recalibration(method, _FITS[method](stated[rest], truth[rest]), "", "", "", "", "", 0, 0)
            found[~rest] = fitted.apply(stated[~rest])
    return found


def _log_loss(probability: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    odds = log_odds(probability) * np.where(truth == 1, 1.0, -1.0)
    return float(np.logaddexp(0, -odds).mean())


def _effect(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    truth: NDArray[np.int64],
    groups: NDArray[np.str_],
    seed: int,
) -> Effect:
    def error(stated: NDArray[np.float64]) -> Estimate:
        statistic = calibration_statistic(stated, truth)
        return bootstrap_interval(statistic, groups, seed=seed, method="basic", bounds=(0, 1))

    brier = paired_difference(brier_statistic(after, truth), brier_statistic(before, truth), groups, seed=seed)

    def accuracy(stated: NDArray[np.float64]) -> float:
        return balanced_accuracy((stated >= 0.5).astype(int), truth)

    return Effect(error(before), error(after), brier, (accuracy(before), accuracy(after)))


def fit_warnings(fit: Fit) -> Sequence[str]:
    """Say what speaks against using a calibration, one line each."""
    found = []
    own = fit.recalibration
    if own.n_groups < FEW_GROUPS:
        found.append(
            f"fitted on {own.n} rows in {own.n_groups} groups: so few that it may do more harm than good; its effect "
            "on held-out rows is above"
        )
    if not fit.improves:
        found.append(
            "on held-out groups the log loss is no lower with it "
            f"({fit.log_losses[own.method]:.3f} against {fit.log_losses['none']:.3f}): leave it out"
        )
    return found
