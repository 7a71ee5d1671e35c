"""Assumptions measured in result records: seconds and tokens a call, seconds of people a decision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.economics.assumptions import Sourced
from connectomebench.economics.distribution import mean_statistic, percentile_statistic
from connectomebench.evaluation.result_records import DEFAULT, read_results
from connectomebench.evaluation.statistics import bootstrap_interval

if TYPE_CHECKING:
    import pandas as pd

_PERSON = "person-"


@dataclass(frozen=True)
class Measured:
    """Which records to measure in.

    Attributes
    ----------
    results
        Folder of result records.
    model
        ``MODEL`` or ``MODEL@CONDITION``; may be left out where there is only one besides people.
    first
        The first model of a cascade, likewise; None without.
    merge_task, split_task
        Tasks whose answers stand for decisions on merges and splits.
    """

    results: Path
    model: str | None = None
    first: str | None = None
    merge_task: str = "merge_action"
    split_task: str = "split_action"


def measure(measured: Measured, base: Sourced) -> Sourced:
    """Replace assumptions by what result records say.

    ``merge_s`` and ``split_s`` are mean seconds a call: records hold seconds for all votes together, which are divided
    by the number of votes. ``prompt_tokens`` and ``generated_tokens`` are means over both tasks. ``first_s`` is the
    mean of the first model over both. ``person_s`` is the median of all people in the records, since one forgotten
    window would spoil a mean. What the records do not hold stays as it is.

    Raises
    ------
    ConnectomeBenchError
        If there is no such model, it answered neither task, or its records hold no seconds.
    """
    frame = read_results(measured.results)
    names = frame["model"].str.cat(frame["condition"], sep="@").str.removesuffix(f"@{DEFAULT}")
    frame = frame.assign(label=names)
    people = frame["model"].str.startswith(_PERSON)
    tasks = (measured.merge_task, measured.split_task)
    frame = frame[frame["task"].isin(tasks)]
    machines, raters = frame[~people[frame.index]], frame[people[frame.index]]
    values: dict[str, float] = {}
    origins: dict[str, str] = {}

    def take(name: str, rows: pd.DataFrame, numbers: Any, statistic: str = "mean") -> None:
        numbers = np.asarray(numbers, np.float64)
        known = np.isfinite(numbers)
        if known.any():
            values[name], origins[name] = _described(numbers[known], rows[known], statistic)

    if measured.model is not None or len(machines) or not len(raters):
        rows = _of(machines, measured.model, measured)
        for name, task in (("merge_s", measured.merge_task), ("split_s", measured.split_task)):
            of_task = rows[rows["task"] == task]
            take(name, of_task, of_task["latency_s"] / _calls(of_task))
        if not {"merge_s", "split_s"} & set(values):
            raise ConnectomeBenchError(
                f"the records of {rows['label'].iloc[0]} in {measured.results} hold no seconds for "
                f"{' or '.join(tasks)}; evaluate again without batches, or give --merge-s and --split-s"
            )
        take("prompt_tokens", rows, rows["prompt_tokens"] / _calls(rows))
        take("generated_tokens", rows, rows["tokens"] / _calls(rows))
    if measured.first is not None:
        rows = _of(machines, measured.first, measured)
        take("first_s", rows, rows["latency_s"])
    take("person_s", raters, raters["latency_s"], "median")
    return base.changed(values, origins)


def _of(rows: pd.DataFrame, name: str | None, measured: Measured) -> pd.DataFrame:
    known = sorted(set(rows["label"]))
    if name is None and len(known) != 1:
        wanted = f"{measured.merge_task} or {measured.split_task}"
        found = f"models {', '.join(known)}; name one with --model" if known else "no model; evaluate one first"
        raise ConnectomeBenchError(f"{measured.results} holds, for {wanted}, {found}")
    if name is not None and name not in known:
        raise unknown_name(f"model in {measured.results}", name, known)
    return rows[rows["label"] == (name or known[0])]


def _calls(rows: pd.DataFrame) -> np.ndarray:
    """Return how often the model was called for each row."""
    return np.array([1 if votes is None else max(1, len(votes)) for votes in rows["votes"]], np.float64)


def _described(numbers: np.ndarray, rows: pd.DataFrame, statistic: str) -> tuple[float, str]:
    compute = mean_statistic(numbers) if statistic == "mean" else percentile_statistic(numbers, 50)
    found = bootstrap_interval(compute, rows["group"].to_numpy())
    who = ", ".join(sorted(set(rows["label"])))
    interval = f", 95% interval {found.lower:.3g} to {found.upper:.3g}" if np.isfinite(found.lower) else ""
    tasks = " and ".join(sorted(set(rows["task"])))
    return found.value, f"measured: {statistic} of {found.n:,} answers of {who} on {tasks}{interval}"
