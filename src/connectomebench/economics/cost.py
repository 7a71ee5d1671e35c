"""Hours and dollars of correcting a population, with every place that is looked at counted.

For one error, 1 / precision places are looked at. The main model decides on those that a first model leaves to it, as
often as there are votes; people check what it accepts, and correct by hand some of what it leaves.
The page of :mod:`connectomebench.economics.page` computes the same in the browser; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.edit_table import EditTable
from connectomebench.evaluation.statistics import RESAMPLES

_HOUR = 3600.0
_CHUNK = 1 << 20

Number = TypeVar("Number", float, NDArray[np.float64])


@dataclass(frozen=True)
class Scenario:
    """A way of working: assumptions that differ from the stated ones.

    Attributes
    ----------
    name, title, meaning
        For files, for tables, and one sentence for people.
    changes
        Assumption -> value.
    """

    name: str
    title: str
    meaning: str
    changes: Mapping[str, Any]


_NO_MODEL = {"votes": 0.0, "first_s": 0.0}
_NO_CANDIDATES = {"merge_precision": 1.0, "split_precision": 1.0}
SCENARIOS = (
    Scenario(
        "stated", "Model, then people", "The assumptions as they stand: the model sorts candidates, people check.", {}
    ),
    Scenario(
        "automatic", "Model alone", "The same, but nobody checks what the model accepts.",
        {"review_share": 0.0, "by_hand_share": 0.0},
    ),
    Scenario(
        "edits_only", "Model alone, candidates left out",
        "The published formula: as if the model were only shown real errors, with no vote, cascade or person.",
        {**_NO_CANDIDATES, "votes": 1.0, "deferred_share": 1.0, "first_s": 0.0, "pricing": "hardware", "recall": 1.0,
         "accepted_precision": 1.0, "review_share": 0.0, "by_hand_share": 0.0},
    ),
    Scenario(
        "people_candidates", "People, every candidate", "No model: people decide on every candidate.",
        {**_NO_MODEL, "recall": 1.0, "accepted_precision": 1e-9, "review_share": 1.0, "by_hand_share": 0.0},
    ),
    Scenario(
        "people_edits", "People, edits by hand", "No model and no candidates: people find and correct every error.",
        {**_NO_MODEL, **_NO_CANDIDATES, "recall": 0.0, "review_share": 0.0, "by_hand_share": 1.0},
    ),
)  # fmt: skip
RESULTS = {
    "edits": "errors to correct",
    "candidates": "places looked at",
    "model_calls": "calls of the main model",
    "merge_gpu_hours": "GPU-hours on merges",
    "split_gpu_hours": "GPU-hours on splits",
    "model_hours": "hours of the main model",
    "gpu_hours": "GPU-hours of the main model",
    "first_hours": "hours of the first model",
    "checks": "checks by people",
    "people_hours": "hours of people",
    "corrected": "errors corrected",
    "left": "errors left",
    "model_usd": "main model, $",
    "first_usd": "first model, $",
    "people_usd": "people, $",
    "total_usd": "total, $",
}
"""Quantities of :func:`cost`, with what they mean."""


def cost(merges: Number, splits: Number, a: Assumptions) -> dict[str, Number]:
    """Compute hours and dollars.

    Parameters
    ----------
    merges, splits
        Errors of either kind, numbers or arrays of one shape.
    a
        Assumptions.

    Returns
    -------
    dict
        The quantities of `RESULTS`.

    Examples
    --------
    >>> from connectomebench.economics.assumptions import Assumptions
    >>> from connectomebench.economics.cost import cost
    >>> found = cost(3600.0, 0.0, Assumptions(merge_precision=0.5, merge_s=1, gpus=2, gpu_usd_hour=3))
    >>> found["candidates"], found["gpu_hours"], found["model_usd"]
    (7200.0, 4.0, 12.0)
    """
    looked = [merges / a.merge_precision, splits / a.split_precision]
    calls = [n * a.deferred_share * a.votes for n in looked]
    seconds = [calls[0] * a.merge_s, calls[1] * a.split_s]
    candidates, model_calls = looked[0] + looked[1], calls[0] + calls[1]
    model_hours = (seconds[0] + seconds[1]) / _HOUR
    # what is accepted cannot be more than what was looked at
    accepted = [
        np.minimum(n, errors * a.recall / a.accepted_precision)
        for n, errors in zip(looked, (merges, splits), strict=True)
    ]
    checks = (accepted[0] + accepted[1]) * a.review_share
    edits = merges + splits
    by_hand = edits * (1 - a.recall) * a.by_hand_share
    people_hours = (checks * a.person_s + by_hand * a.edit_s) / _HOUR
    first_hours = candidates * a.first_s / _HOUR
    if a.pricing == "tokens":
        price = a.prompt_tokens * a.prompt_usd_million + a.generated_tokens * a.generated_usd_million
        model_usd = model_calls * price / 1e6
        gpus = 0.0  # they are somebody else's
    else:
        model_usd = model_hours * a.gpus * a.gpu_usd_hour
        gpus = a.gpus
    first_usd, people_usd = first_hours * a.first_usd_hour, people_hours * a.person_usd_hour
    corrected = edits * a.recall + by_hand
    found: dict[str, Any] = {
        "edits": edits,
        "candidates": candidates,
        "model_calls": model_calls,
        "merge_gpu_hours": seconds[0] / _HOUR * gpus,
        "split_gpu_hours": seconds[1] / _HOUR * gpus,
        "model_hours": model_hours,
        "gpu_hours": model_hours * gpus,
        "first_hours": first_hours,
        "checks": checks,
        "people_hours": people_hours,
        "corrected": corrected,
        "left": edits - corrected,
        "model_usd": model_usd,
        "first_usd": first_usd,
        "people_usd": people_usd,
        "total_usd": model_usd + first_usd + people_usd,
    }
    if not isinstance(merges, np.ndarray):  # numpy's minimum gives its own kind of number
        found = {name: float(value) for name, value in found.items()}
    return found


@dataclass(frozen=True)
class Totals:
    """Errors of a population, extrapolated from a sample.

    Attributes
    ----------
    name
        Of the sample.
    n, population
        Neurons in the sample, and those it stands for.
    merges, splits
        Mean a neuron times population.
    draws
        The same of each bootstrap resample, float64, shape (resamples, 2): merges, splits. Shape (0, 2) for a single
        neuron, which gives no interval.
    simulated
        Whether the sample was drawn by a program.
    """

    name: str
    n: int
    population: int
    merges: float
    splits: float
    draws: NDArray[np.float64]
    simulated: bool


def extrapolate(
    table: EditTable, population: int | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Totals:
    """Extrapolate merges and splits of a sample together.

    Parameters
    ----------
    table
        The sample.
    population
        Neurons it stands for; itself where left out.
    resamples, seed
        Of the bootstrap over neurons.
    """
    n = len(table)
    population = n if population is None else population
    counts = np.stack([table.merges, table.splits], axis=1).astype(np.float64)
    draws = np.zeros((resamples if n > 1 else 0, 2))
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    for start in range(0, len(draws), step):
        rows = generator.integers(0, n, (min(step, len(draws) - start), n))
        draws[start : start + len(rows)] = counts[rows].mean(axis=1)
    merges, splits = (counts.mean(axis=0) * population).tolist()
    return Totals(table.name, n, population, merges, splits, draws * population, table.simulated)


@dataclass(frozen=True)
class CostEstimate:
    """A quantity with its 95% interval from the sampling of neurons; NaN bounds where there is none."""

    value: float
    lower: float
    upper: float


def estimate(totals: Totals, a: Assumptions, scenario: Scenario = SCENARIOS[0]) -> dict[str, CostEstimate]:
    """Compute all quantities of a scenario, with intervals.

    Intervals come from the sampling of neurons alone; what the assumptions leave open is not in them.

    Parameters
    ----------
    totals
        Errors.
    a, scenario
        Assumptions, and what the scenario changes in them.

    Returns
    -------
    dict
        The quantities of `RESULTS`.
    """
    changed = dataclasses.replace(a, **scenario.changes)
    values = cost(totals.merges, totals.splits, changed)
    if not len(totals.draws):
        return {name: CostEstimate(value, float("nan"), float("nan")) for name, value in values.items()}
    drawn = cost(totals.draws[:, 0], totals.draws[:, 1], changed)
    found = {}
    for name, value in values.items():
        lower, upper = np.quantile(np.broadcast_to(drawn[name], len(totals.draws)), (0.025, 0.975)).tolist()
        found[name] = CostEstimate(value, min(lower, value), max(upper, value))
    return found
