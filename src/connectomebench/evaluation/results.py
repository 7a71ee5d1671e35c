"""Result records: what a model said about every sample, stored as Parquet, and the estimates that follow from them.

One file a (model, task, species, partition), one row a sample, so that any statistic can be computed again later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.errors import ConnectomeBenchError
from connectomebench.evaluation.calibration import brier_statistic, calibration_statistic
from connectomebench.evaluation.statistics import (
    RESAMPLES,
    Estimate,
    PairedDifference,
    auroc_statistic,
    balanced_accuracy_statistic,
    bootstrap_interval,
    mcnemar_exact,
    paired_difference,
)
from connectomebench.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEYS = ("model", "task", "species", "partition")
METRICS: tuple[str, ...] = ("balanced_accuracy", "ece", "mce", "brier", "auroc")
YES_NO = ("yes", "no")

_NULLABLE = ("prediction", "probability", "reply", "votes", "latency_s", "tokens", "cost_usd")


def result_schema() -> pa.Schema:
    """Return the Arrow schema of a result record.

    ``prediction`` is ``"yes"`` or ``"no"``, null where the reply could not be parsed; ``probability`` is that of "yes",
    null where the model gives none; ``answer`` is the truth; ``latency_s`` (seconds) and ``cost_usd`` are
    those of the one sample.
    """
    import pyarrow as pa

    types = {
        "sample_id": pa.string(),
        "task": pa.string(),
        "species": pa.string(),
        "partition": pa.string(),
        "model": pa.string(),
        "model_revision": pa.string(),
        "dataset_fingerprint": pa.string(),
        "code_version": pa.string(),
        "question": pa.string(),
        "prediction": pa.string(),
        "probability": pa.float64(),
        "answer": pa.string(),
        "group": pa.string(),
        "reply": pa.string(),
        "votes": pa.list_(pa.string()),
        "latency_s": pa.float64(),
        "tokens": pa.int64(),
        "cost_usd": pa.float64(),
    }
    return pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind in types.items()])


def result_path(folder: Path, model: str, task: str, species: str, partition: str) -> Path:
    """Return where the records of a model on one partition live: FOLDER/MODEL/TASK/SPECIES/PARTITION.parquet.

    A slash in a model's name (an organisation on the Hub) becomes ``--``.
    """
    return folder / model.replace("/", "--") / task / species / f"{partition}.parquet"


def write_results(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write result records atomically as Parquet (zstd).

    Parameters
    ----------
    path
        Where to write; see `result_path`.
    rows
        One mapping a sample with the columns of `result_schema`; nullable ones may be left out.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ConnectomeBenchError
        If there are no rows, a column is missing, unknown or of the wrong type, a probability lies outside [0, 1], a
        sample occurs twice, or the rows mix models, tasks, species or partitions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = result_schema()
    records = [dict(row) for row in rows]
    if not records:
        raise ConnectomeBenchError(f"no results to write to {path}; evaluate at least one sample")
    for name in dict.fromkeys(name for record in records for name in record):
        if name not in schema.names:
            raise ConnectomeBenchError(f"result records have no column {name!r}; columns are {', '.join(schema.names)}")
    for name in schema.names:
        if name not in _NULLABLE and any(record.get(name) is None for record in records):
            raise ConnectomeBenchError(f"a result record lacks {name!r}; give it for every sample")
    try:
        table = pa.Table.from_pylist(records, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConnectomeBenchError(f"result records do not fit their columns: {error}") from error
    _check_records(table.to_pandas(), str(path))
    for key in KEYS:
        if len(values := table[key].unique().to_pylist()) > 1:
            raise ConnectomeBenchError(f"{path} would mix several values of {key}: {values}; write one file for each")
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def read_results(paths: Path | str | Sequence[Path | str]) -> pd.DataFrame:
    """Read result records.

    Parameters
    ----------
    paths
        Files, or folders in which every ``*.parquet`` is read.

    Returns
    -------
    pandas.DataFrame
        All rows, files in the order of their paths, with the columns of `result_schema`.

    Raises
    ------
    ConnectomeBenchError
        If there are no files, or one cannot be read, lacks a column or holds impossible values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    where = ", ".join(map(str, given))
    files: list[Path] = []
    for path in given:
        if not path.exists():
            raise ConnectomeBenchError(f"no result files at {path}; run an evaluation first")
        files += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ConnectomeBenchError(f"no result files in {where or 'an empty list of paths'}; run an evaluation first")
    schema = result_schema()
    tables = []
    for file in files:
        try:
            with pq.ParquetFile(file) as stream:
                stored = stream.read()
        except (OSError, pa.ArrowInvalid) as error:
            raise ConnectomeBenchError(f"cannot read {file} as Parquet: {error}; evaluate again") from error
        if missing := [name for name in schema.names if name not in stored.column_names]:
            raise ConnectomeBenchError(f"{file} lacks the columns {', '.join(missing)}; it is not a file of results")
        try:
            tables.append(stored.select(schema.names).cast(schema))
        except (pa.ArrowInvalid, ValueError) as error:
            raise ConnectomeBenchError(f"{file} does not fit the columns of results: {error}") from error
    frame = pa.concat_tables(tables).to_pandas()
    _check_records(frame, where)
    return frame


@dataclass(frozen=True)
class Summary:
    """What one model did on one partition of one task and species.

    Attributes
    ----------
    model, task, species, partition
        What was evaluated.
    n, n_groups
        Samples and groups.
    unparsed
        Samples whose reply held no answer; they count as wrong.
    estimates
        By the names in `METRICS`. `Estimate.n` is the number of rows used: for all but balanced accuracy, those with a
        probability. A value is NaN where it is undefined: one class only, no probabilities, or answers that are not
        yes or no.
    """

    model: str
    task: str
    species: str
    partition: str
    n: int
    n_groups: int
    unparsed: int
    estimates: Mapping[str, Estimate]


def summarise(frame: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0, bins: int = 15) -> list[Summary]:
    """Estimate all metrics with 95% intervals over groups, per model, task, species and partition.

    Balanced accuracy takes an unparsed prediction as wrong. Calibration (binary convention, equal-width bins), Brier
    score and AUROC need P(yes) and use the rows that have one. Calibration errors grow with noise, so their intervals
    are basic bootstrap ones (see `bootstrap_interval`).

    Read intervals of calibration errors with care. Simulated with 60 to 512 rows, 95% intervals of an ECE of 0.03
    to 0.2 held the true value 78 to 91% of the time, those of an MCE of 0.15 89% with 512 rows but 27% with 60. For
    a perfectly calibrated model, whose estimated error is all noise, they held zero 14 to 39% (ECE) and 20 to 67%
    (MCE) of the time.

    Parameters
    ----------
    frame
        From `read_results`.
    resamples, seed
        Of the bootstrap.
    bins
        Of the calibration errors.

    Returns
    -------
    list[Summary]
        Sorted by model, task, species and partition.
    """
    summaries = []
    for (model, task, species, partition), rows in _by(frame, KEYS).items():
        prediction, answer = _said_and_true(rows)
        summaries.append(
            Summary(
                model,
                task,
                species,
                partition,
                len(rows),
                len(set(rows["group"])),
                int(np.count_nonzero(~np.isin(prediction, _classes(answer)))),
                _estimates(rows, resamples, seed, bins),
            )
        )
    return summaries


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples.

    Attributes
    ----------
    first, second
        Names of the models.
    task, species, partition
        What both were evaluated on.
    difference
        Balanced accuracy of the first minus that of the second, by paired bootstrap over groups.
    mcnemar_p
        Exact McNemar test on right and wrong answers, which takes samples as independent.
    """

    first: str
    second: str
    task: str
    species: str
    partition: str
    difference: PairedDifference
    mcnemar_p: float


def compare(
    frame: pd.DataFrame, first: str, second: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare two models wherever both were evaluated.

    Parameters
    ----------
    frame
        From `read_results`.
    first, second
        Names of the models.
    resamples, seed
        Of the bootstrap.

    Returns
    -------
    list[Comparison]
        One for each task, species and partition, sorted.

    Raises
    ------
    ConnectomeBenchError
        If the models share nothing, or saw different samples.
    """
    places = _by(frame, KEYS)
    comparisons = []
    for (model, task, species, partition), rows in places.items():
        if model != first or (second, task, species, partition) not in places:
            continue
        one, other = rows, places[second, task, species, partition]
        same = ("sample_id", "answer", "group", "dataset_fingerprint")
        if any(one[column].tolist() != other[column].tolist() for column in same):
            raise ConnectomeBenchError(
                f"{first} and {second} saw different samples of {task}/{species}/{partition}; "
                "evaluate both on the same dataset"
            )
        said, truth = _said_and_true(one)
        said_other, _ = _said_and_true(other)
        difference = paired_difference(
            balanced_accuracy_statistic(said, truth),
            balanced_accuracy_statistic(said_other, truth),
            one["group"].to_numpy(),
            resamples=resamples,
            seed=seed,
        )
        p = mcnemar_exact(said == truth, said_other == truth)
        comparisons.append(Comparison(first, second, task, species, partition, difference, p))
    if not comparisons:
        raise ConnectomeBenchError(f"{first} and {second} have no results on the same partition; evaluate both")
    return comparisons


def _by(frame: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Return the rows for each combination of values of the columns, combinations and rows (by sample) sorted."""
    groups: Any = frame.sort_values(by=["sample_id"], kind="stable").groupby(list(columns), sort=True)
    return dict(iter(groups))


def _said_and_true(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and answers as text, shape (rows,); an unparsed prediction is empty, which is no answer."""
    return rows["prediction"].fillna("").to_numpy(dtype=str), rows["answer"].to_numpy(dtype=str)


def _classes(answer: np.ndarray) -> tuple[str, ...]:
    """Return the answers that can be given: yes and no, or else those that occur."""
    found = tuple(np.unique(answer))
    return YES_NO if set(found) <= set(YES_NO) else found


def _estimates(rows: pd.DataFrame, resamples: int, seed: int, bins: int) -> dict[str, Estimate]:
    """Estimate every metric on the rows of one partition."""
    prediction, answer = _said_and_true(rows)
    group = rows["group"].to_numpy(dtype=str)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "bounds": (0.0, 1.0)}
    estimates = dict.fromkeys(METRICS, _undefined(0, 0))
    if len(np.unique(answer)) > 1:
        statistic = balanced_accuracy_statistic(prediction, answer)
        estimates["balanced_accuracy"] = bootstrap_interval(statistic, group, **settings)
    else:
        estimates["balanced_accuracy"] = _undefined(len(rows), len(np.unique(group)))
    stated = rows["probability"].notna().to_numpy()
    if not stated.any() or _classes(answer) != YES_NO:
        return estimates
    probability = rows["probability"].to_numpy(dtype=np.float64)[stated]
    label, group = (answer[stated] == "yes").astype(np.int64), group[stated]
    expected = calibration_statistic(probability, label, bins, norm="mean")
    maximum = calibration_statistic(probability, label, bins, norm="max")
    estimates["ece"] = bootstrap_interval(expected, group, method="basic", **settings)
    estimates["mce"] = bootstrap_interval(maximum, group, method="basic", **settings)
    estimates["brier"] = bootstrap_interval(brier_statistic(probability, label), group, **settings)
    estimates["auroc"] = bootstrap_interval(auroc_statistic(probability, label), group, **settings)
    return estimates


def _undefined(n: int, n_groups: int) -> Estimate:
    nan = float("nan")
    return Estimate(nan, nan, nan, n, n_groups, 0)


def _check_records(frame: pd.DataFrame, where: str) -> None:
    """Refuse records that cannot be: impossible probabilities and samples that occur twice."""
    probability = frame["probability"].dropna()
    if not probability.between(0, 1).all():
        raise ConnectomeBenchError(f"{where}: probabilities must lie in [0, 1]")
    if (twice := frame.duplicated([*KEYS, "sample_id"])).any():
        sample = frame.loc[twice, "sample_id"].iloc[0]
        raise ConnectomeBenchError(f"{where}: sample {sample!r} occurs twice for one model; give each sample once")
