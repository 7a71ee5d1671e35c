"""Inter-rater agreement of people, from their result records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.agreement import Agreement, agreement
from connectomebench.evaluation.results import label, read_results
from connectomebench.human_eval.answers import person

if TYPE_CHECKING:
    import pandas as pd


def kappa_lines(folder: Path, names: Sequence[str] = ()) -> list[str]:
    """Format Cohen's kappa of every pair of people who rated the same rows, one line each.

    Parameters
    ----------
    folder
        Result records.
    names
        Two raters (``--rater``); empty takes all.

    Returns
    -------
    list[str]
        Kappa with its 95% interval over groups, the share of equal answers, and the number of rows both rated.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than two people, a name is unknown, or they share no rated row.
    """
    if names and len(set(names)) != 2:
        raise ConnectomeBenchError("kappa needs two raters; name two, or none for all")
    frame = read_results(folder)
    frame = frame[frame["model"].str.startswith(person(""))]
    models: list[str] = sorted(set(frame["model"]))
    known = ", ".join(model.removeprefix(person("")) for model in models) or "nobody"
    wanted = [person(name) for name in names] or models
    if missing := [model for model in wanted if model not in models]:
        raise ConnectomeBenchError(f"{missing[0].removeprefix(person(''))} has no records there; there are {known}")
    if len(wanted) < 2:
        raise ConnectomeBenchError(f"kappa needs at least two raters; there are {known}")
    found = [
        _line(one)
        for first, second in combinations(wanted, 2)
        for a, b in _labels_with_shared_rows(frame, first, second)
        for one in agreement(frame, a, b)
    ]
    if not found:
        raise ConnectomeBenchError(f"{known} rated no row in common; draw with the same --max-samples and --seed")
    return found


def _labels_with_shared_rows(frame: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    """Return the pairs of labels of two people that share rated rows."""
    samples: dict[str, dict[str, set[str]]] = {first: {}, second: {}}
    columns = ["model", "condition", "sample_id"]
    for model, condition, sample in frame[columns].itertuples(index=False):
        if model in samples:
            samples[model].setdefault(label(model, condition), set()).add(sample)
    return [
        (a, b)
        for a, rated in sorted(samples[first].items())
        for b, rated_too in sorted(samples[second].items())
        if rated & rated_too
    ]


def _line(found: Agreement) -> str:
    kappa, share = found.kappa, found.share
    score = (
        "kappa is undefined (one answer throughout)"
        if kappa.value != kappa.value
        else f"kappa {kappa.value:.3f} [{kappa.lower:.3f}, {kappa.upper:.3f}]"
    )
    where = f"{found.task}/{found.species}/{found.partition}"
    return (
        f"{found.first} and {found.second} on {where}: {score}, "
        f"equal answers {100 * share.value:.0f}%, n={kappa.n}, {kappa.n_groups} groups"
    )
