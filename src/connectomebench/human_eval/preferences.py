"""Model strengths from pairwise comparisons: Bradley-Terry with intervals, and Elo averaged over orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
from connectomebench.evaluation.statistics import Estimate, bootstrap_intervals
from connectomebench.evaluation.weighted_statistics import Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

Outcome = Literal["first", "second", "tie", "both_bad"]

RESAMPLES = 1000
# pseudo-count of wins and losses per pair, so that the strength of a model that won all stays finite
PRIOR_WINS = 0.1
ELO_START = 1500.0
ELO_STEP = 32.0
ELO_ORDERS = 200


@dataclass(frozen=True)
class PairwiseComparison:
    """Outcome of comparing two models on one row.

    Attributes
    ----------
    first, second
        The models.
    outcome
        The better one; ``tie`` and ``both_bad`` prefer neither.
    group
        Group of the row, the independent unit.
    """

    first: str
    second: str
    outcome: Outcome
    group: str

    @property
    def score(self) -> float:
        """Score of the first model: 1, 0, or a half if neither is preferred."""
        return {"first": 1.0, "second": 0.0}.get(self.outcome, 0.5)


def fit_preferences(
    comparisons: Sequence[PairwiseComparison], models: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Estimate the strength of each model.

    Parameters
    ----------
    comparisons
        The comparisons.
    models
        All models, in the order of the result.
    resamples, seed
        Bootstrap resamples over groups, and seed of bootstrap and Elo orders.

    Returns
    -------
    dict
        JSON-serialisable. Per model ``strength`` (Bradley-Terry log-strength, mean zero: a difference of d means
        preference odds of e^d) with its interval, ``elo``, and counts of wins, losses, ties and both bad
        outcomes.

    Raises
    ------
    ConnectomeBenchError
        If there are no comparisons, or choix is not installed.
    """
    if not comparisons:
        raise ConnectomeBenchError("there are no comparisons; rate at least one pair")
    groups = [comparison.group for comparison in comparisons]
    fit = _strengths(comparisons, models)
    statistics = {model: _one(fit, i) for i, model in enumerate(models)}
    strengths = bootstrap_intervals(statistics, groups, resamples=resamples, seed=seed)
    rounds = elo(comparisons, models, seed=seed)
    found = {}
    for model in models:
        own = [c for c in comparisons if model in (c.first, c.second)]
        won = sum(c.outcome == ("first" if c.first == model else "second") for c in own)
        neither = {outcome: sum(c.outcome == outcome for c in own) for outcome in ("tie", "both_bad")}
        found[model] = {
            "strength": estimate_json(strengths[model]),
            "elo": rounds[model],
            "won": won,
            "lost": len(own) - won - sum(neither.values()),
            **neither,
        }
    return {
        "models": found,
        "bradley_terry": {"prior_wins": PRIOR_WINS, "a_tie_counts": 0.5, "resamples": resamples},
        "elo": {"start": ELO_START, "step": ELO_STEP, "orders": ELO_ORDERS},
    }


def bradley_terry(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit the Bradley-Terry model (Biometrika 39, 1952) by maximum likelihood.

    Adds `PRIOR_WINS` to every pair and uses :func:`choix.ilsr_pairwise_dense`.

    Parameters
    ----------
    wins
        Shape (models, models): wins of the row's model over the column's, ties as halves.

    Returns
    -------
    NDArray[np.float64]
        Log-strengths, shape (models,), mean zero.

    Raises
    ------
    ConnectomeBenchError
        If choix is not installed.
    """
    try:
        from choix import ilsr_pairwise_dense
    except ImportError as error:
        raise ConnectomeBenchError(f"comparing models needs choix; {install_hint('apps')}") from error
    return ilsr_pairwise_dense(wins + PRIOR_WINS * (1 - np.eye(len(wins))), max_iter=1000)


def elo(comparisons: Sequence[PairwiseComparison], models: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """Compute Elo ratings (Elo, 1978), averaged over random orders of the comparisons.

    A single Elo pass depends on the arbitrary order of comparisons, so the mean over `ELO_ORDERS` orders
    is returned. Report Bradley-Terry; Elo is given for its familiar scale.

    Parameters
    ----------
    comparisons, models
        As for `fit_preferences`.
    seed
        Seed of the orders.

    Returns
    -------
    dict[str, float]
        Model -> rating.
    """
    generator = np.random.default_rng(seed)
    number = {model: i for i, model in enumerate(models)}
    games = [(number[c.first], number[c.second], c.score) for c in comparisons]
    ratings = np.full((ELO_ORDERS, len(models)), ELO_START)
    orders = np.array([generator.permutation(len(games)) for _ in range(ELO_ORDERS)])
    first, second, score = (np.array(column) for column in zip(*games, strict=True))
    every = np.arange(ELO_ORDERS)
    for turn in orders.T:
        one, other = first[turn], second[turn]
        expected = 1 / (1 + 10 ** ((ratings[every, other] - ratings[every, one]) / 400))
        gain = ELO_STEP * (score[turn] - expected)
        ratings[every, one] += gain
        ratings[every, other] -= gain
    return {model: float(ratings[:, i].mean()) for model, i in number.items()}


def preference_table(found: dict[str, Any]) -> str:
    """Format the result of `fit_preferences` or of single ratings as a table, best first.

    Parameters
    ----------
    found
        The result: ``models`` with ``strength`` or ``mean_rating``.
    """
    pairs = "bradley_terry" in found
    measure = "strength" if pairs else "mean_rating"
    ranked = sorted(found["models"].items(), key=lambda entry: -entry[1][measure]["value"])
    head = (
        "model",
        measure.replace("_", " "),
        "95% interval",
        *(("Elo", "won", "lost", "tie", "both bad") if pairs else ("n",)),
    )
    lines: list[tuple[str, ...]] = [head]
    for model, entry in ranked:
        estimate = entry[measure]
        interval = "none" if estimate["lower"] is None else f"[{estimate['lower']:.2f}, {estimate['upper']:.2f}]"
        rest = (
            (f"{entry['elo']:.0f}", *(str(entry[key]) for key in ("won", "lost", "tie", "both_bad")))
            if pairs
            else (str(estimate["n"]),)
        )
        lines.append((model, f"{estimate['value']:.2f}", interval, *rest))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Convert an estimate to a JSON dict; undefined numbers become None."""
    return {name: None if value != value else value for name, value in asdict(estimate).items()}


def _strengths(comparisons: Sequence[PairwiseComparison], models: Sequence[str]) -> Statistic:
    """Return log-strengths as a function of row weights, shape (resamples, models), cached per weights."""
    number = {model: i for i, model in enumerate(models)}
    wins = np.zeros((len(comparisons), len(models), len(models)))
    for row, c in zip(wins, comparisons, strict=True):
        row[number[c.first], number[c.second]] = c.score
        row[number[c.second], number[c.first]] = 1 - c.score
    fitted: dict[bytes, NDArray[np.float64]] = {}

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        key = weights.tobytes()
        if key not in fitted:
            fitted[key] = np.array([bradley_terry(total) for total in np.einsum("rn,nij->rij", weights, wins)])
        return fitted[key]

    return statistic


def _one(fit: Statistic, model: int) -> Statistic:
    return lambda weights: fit(weights)[:, model]
