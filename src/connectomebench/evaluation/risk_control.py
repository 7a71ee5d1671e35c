"""Cascades with a guarantee: the confidence below which rows go on, so that wrong answers stay under a target.

Conformal risk control (Angelopoulos et al., Conformal Risk Control, ICLR 2024). Stages are asked in order; a row takes
the answer of the first stage whose confidence reaches the threshold, and a row that no stage is sure of goes to a
person. Its loss is 1 where a model answered it wrongly, else 0. The same threshold holds at every stage.

A higher threshold can hand a row from a stage that was right to one that is wrong, so the loss is not monotone. Each
loss is therefore replaced by the largest it takes at any higher threshold, which is, and bounds the loss from above.

What is exchangeable are groups, not rows, so the loss of a group is the share of its rows that are answered wrongly,
and the guarantee is on the mean of that over groups, in expectation over draws of validation and test groups from one
population. Where test lies at another place, no such guarantee holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.result_records import label
from connectomebench.evaluation.statistics import Estimate, bootstrap_interval
from connectomebench.evaluation.weighted_statistics import weighted_sums

if TYPE_CHECKING:
    import pandas as pd

PERSON = "person"
NEVER = float("inf")
"""Threshold that no confidence reaches: everything goes to a person."""
RESPLITS = 200
# thresholds times rows that are looked at at once
_PORTION = 1_000_000


@dataclass(frozen=True)
class StagedAnswers:
    """What several models answer to the same rows.

    Attributes
    ----------
    stages
        Names, in the order in which they are asked.
    confidence
        Probability of each stage's own answer, shape (stages, rows); -1 where it gives none.
    wrong
        Whether each stage's answer is wrong, shape (stages, rows).
    groups
        Group of each row, shape (rows,).
    cost_usd, latency_s
        Of each stage and row, shape (stages, rows); NaN where not known.
    """

    stages: tuple[str, ...]
    confidence: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    groups: NDArray[np.str_]
    cost_usd: NDArray[np.float64]
    latency_s: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """A cascade at one threshold, on some rows.

    Attributes
    ----------
    threshold
        Confidence that a stage needs to answer.
    shares
        Share of rows that each stage answers, and ``person`` the rest; they sum to 1.
    risk
        Mean over groups of the share of rows that a model answers wrongly, with its interval over groups.
    wrong_of_answered
        Share of wrong answers among those of models; None where no model answers.
    cost_usd, latency_s
        Mean per row over all stages that are asked; None where a stage does not know it.
    """

    threshold: float
    shares: dict[str, float]
    risk: Estimate
    wrong_of_answered: float | None
    cost_usd: float | None
    latency_s: float | None


def staged_answers(records: Sequence[pd.DataFrame]) -> StagedAnswers:
    """Align the records of several models on the same rows.

    Parameters
    ----------
    records
        Of one model, task and species each, in the order in which the models are asked; of the same rows.

    Raises
    ------
    ConnectomeBenchError
        If they are not of the same rows of the same data, or the same model stands twice.
    """
    if not records:
        raise ConnectomeBenchError("a cascade needs at least one model")
    aligned, names = [], []
    for frame in records:
        runs = frame[["model", "condition", "task", "species", "partition", "dataset_fingerprint"]].drop_duplicates()
        if len(runs) != 1:
            raise ConnectomeBenchError(f"the records of a stage hold {len(runs)} evaluations; give exactly one")
        names.append(label(str(runs.iloc[0]["model"]), str(runs.iloc[0]["condition"])))
        aligned.append(frame.set_index("sample_id").sort_index())
    if len(set(names)) < len(names):
        raise ConnectomeBenchError(f"{next(n for n in names if names.count(n) > 1)} stands twice in the cascade")
    first = aligned[0]
    for name, frame in zip(names, aligned, strict=True):
        same_data = set(frame["dataset_fingerprint"]) == set(first["dataset_fingerprint"])
        if list(frame.index) != list(first.index) or not same_data:
            raise ConnectomeBenchError(f"{names[0]} and {name} answered different rows; evaluate both on the same data")
    confidence, wrong = [], []
    for frame in aligned:
        yes = frame["probability"].to_numpy(np.float64)
        predicted = frame["prediction"].fillna("").to_numpy(str)
        known = np.isfinite(yes) & (predicted != "")
        confidence.append(np.where(known, np.where(predicted == "yes", yes, 1 - yes), -1.0))
        wrong.append(predicted != frame["answer"].to_numpy(str))
    return StagedAnswers(
        tuple(names),
        np.array(confidence),
        np.array(wrong),
        first["group"].to_numpy(str),
        np.array([frame["cost_usd"].to_numpy(np.float64) for frame in aligned]),
        np.array([frame["latency_s"].to_numpy(np.float64) for frame in aligned]),
    )


def control_risk(answers: StagedAnswers, target: float) -> float:
    """Choose the lowest threshold whose risk is bounded by the target.

    Parameters
    ----------
    answers
        To validation rows.
    target
        Largest mean share of rows that models may answer wrongly, in (0, 1).

    Returns
    -------
    float
        The threshold; :data:`NEVER` where no threshold is bounded, as with fewer than ``1 / target - 1`` groups.

    Raises
    ------
    ConnectomeBenchError
        If ``target`` lies outside (0, 1).

    Examples
    --------
    Thirty groups of one row; the model is wrong only where it is unsure:

    >>> import numpy as np
    >>> from connectomebench.evaluation.risk_control import StagedAnswers, control_risk
    >>> confidence, unknown = np.linspace(0.5, 0.99, 30)[None], np.full((1, 30), np.nan)
    >>> names = np.arange(30).astype(str)
    >>> answers = StagedAnswers(("model",), confidence, confidence < 0.7, names, unknown, unknown)
    >>> round(control_risk(answers, 0.1), 2)
    0.67
    """
    if not 0 < target < 1:
        raise ConnectomeBenchError(f"the target is {target}; give the share of wrong answers to allow, such as 0.05")
    thresholds = _thresholds(answers.confidence)
    losses, _ = _group_losses(answers, thresholds)
    n = losses.shape[1]
    # the largest loss at this or any higher threshold: monotone, and never below the loss itself
    worst = np.maximum.accumulate(losses[::-1], axis=0)[::-1]
    bound = (worst.sum(axis=1) + 1) / (n + 1)
    allowed = np.flatnonzero(bound <= target)
    return float(thresholds[allowed[0]]) if len(allowed) else NEVER


def outcome(answers: StagedAnswers, threshold: float, *, seed: int = 0) -> Outcome:
    """Run the cascade at a threshold on the answers to some rows."""
    stage = _answering_stage(answers.confidence, threshold)
    n_stages, n_rows = answers.confidence.shape
    wrong = _is_wrong(answers.wrong, stage)
    counts = np.bincount(stage, minlength=n_stages + 1)
    shares = {name: float(count / n_rows) for name, count in zip((*answers.stages, PERSON), counts, strict=True)}
    _, index = np.unique(answers.groups, return_inverse=True)
    size = np.bincount(index)[index]

    def risk(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        # rows weigh one over the size of their group, so that each group counts once
        sums = weighted_sums(weights, np.stack([wrong / size, 1 / size]))
        return sums[:, 0] / sums[:, 1]

    asked = np.arange(n_stages)[:, np.newaxis] <= np.minimum(stage, n_stages - 1)
    answered = int(counts[:n_stages].sum())
    return Outcome(
        threshold,
        shares,
        bootstrap_interval(risk, answers.groups, seed=seed, bounds=(0, 1)),
        float(wrong.sum() / answered) if answered else None,
        _mean_of_asked(answers.cost_usd, asked),
        _mean_of_asked(answers.latency_s, asked),
    )


def mean_risk_over_resplits(
    answers: StagedAnswers, target: float, *, resplits: int = RESPLITS, seed: int = 0
) -> Estimate:
    """Check the guarantee: halve the groups at random many times, choose on one half, measure on the other.

    Parameters
    ----------
    answers
        To rows of which each half of the groups is drawn like the other.
    target
        As for :func:`control_risk`.
    resplits, seed
        How often, and the seed.

    Returns
    -------
    Estimate
        Mean risk on the held-out halves; the bounds are those of that mean, two standard errors of the resplits away.
        The guarantee is that the mean is at most ``target``.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than four groups.
    """
    names, index = np.unique(answers.groups, return_inverse=True)
    if len(names) < 4:
        raise ConnectomeBenchError(f"{len(names)} groups cannot be divided into halves; evaluate more rows")
    generator = np.random.default_rng(seed)
    found = np.empty(resplits)
    for i in range(resplits):
        first = generator.permutation(len(names))[index] < len(names) // 2
        threshold = control_risk(_taken(answers, first), target)
        losses, _ = _group_losses(_taken(answers, ~first), np.array([threshold]))
        found[i] = losses.mean()
    mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(resplits))
    return Estimate(mean, max(0.0, mean - 2 * error), min(1.0, mean + 2 * error), len(index), len(names), resplits)


def pooled(*parts: StagedAnswers) -> StagedAnswers:
    """Put the answers to several partitions together; groups of two partitions are never one."""
    if len({part.stages for part in parts}) != 1:
        raise ConnectomeBenchError("answers of different models cannot be put together")
    return StagedAnswers(
        parts[0].stages,
        np.concatenate([part.confidence for part in parts], axis=1),
        np.concatenate([part.wrong for part in parts], axis=1),
        np.concatenate([np.char.add(f"{i}:", part.groups) for i, part in enumerate(parts)]),
        np.concatenate([part.cost_usd for part in parts], axis=1),
        np.concatenate([part.latency_s for part in parts], axis=1),
    )


def _taken(answers: StagedAnswers, mask: NDArray[np.bool_]) -> StagedAnswers:
    fields: Mapping[str, NDArray] = {
        name: getattr(answers, name)[:, mask] for name in ("confidence", "wrong", "cost_usd", "latency_s")
    }
    return StagedAnswers(answers.stages, groups=answers.groups[mask], **fields)


def _thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every threshold that makes a difference, increasing, and one that nothing reaches."""
    return np.append(np.unique(confidence[confidence >= 0]), NEVER)


def _answering_stage(confidence: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the first stage that is sure of each row; the number of stages for a person."""
    sure = (confidence >= threshold) & (confidence >= 0)
    return np.where(sure.any(axis=0), sure.argmax(axis=0), len(confidence))


def _is_wrong(wrong: NDArray[np.bool_], stage: NDArray[np.intp]) -> NDArray[np.bool_]:
    with_person = np.vstack([wrong, np.zeros(wrong.shape[1], bool)])
    return with_person[stage, np.arange(wrong.shape[1])]


def _group_losses(
    answers: StagedAnswers, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return the share of wrong rows at each threshold in each group, shape (thresholds, groups), and the groups."""
    names, index = np.unique(answers.groups, return_inverse=True)
    size = np.bincount(index)
    n_groups, n_rows = len(names), len(index)
    losses = np.empty((len(thresholds), n_groups))
    portion = max(1, _PORTION // max(1, n_rows))
    for start in range(0, len(thresholds), portion):
        levels = thresholds[start : start + portion, np.newaxis]
        wrong = np.zeros((len(levels), n_rows), bool)
        # from the last stage to the first: the first that is sure decides
        for confidence, own in zip(answers.confidence[::-1], answers.wrong[::-1], strict=True):
            wrong = np.where((confidence >= levels) & (confidence >= 0), own, wrong)
        level, row = np.nonzero(wrong)
        counts = np.bincount(level * n_groups + index[row], minlength=len(levels) * n_groups)
        losses[start : start + portion] = counts.reshape(len(levels), n_groups) / size
    return losses, names


def _mean_of_asked(values: NDArray[np.float64], asked: NDArray[np.bool_]) -> float | None:
    spent = np.where(asked, values, 0.0)
    return None if np.isnan(spent).any() else float(spent.sum(axis=0).mean())
