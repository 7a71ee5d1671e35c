"""Result records: a model's answer to every sample, stored as Parquet.

One file per (model, task, species, partition, condition), one row per sample, so that any statistic can be recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEYS = ("model", "task", "species", "partition", "condition")
DEFAULT = "default"
"""The default condition: no ablation, default prompt, default answer mode."""
YES_NO = ("yes", "no")

_NULLABLE = (
    "prediction",
    "probability",
    "reply",
    "votes",
    "replies",
    "derived",
    "latency_s",
    "prompt_tokens",
    "tokens",
    "cost_usd",
)
_ADDED = ("condition", "replies", "derived", "prompt_tokens")


def result_schema() -> pa.Schema:
    """Return the Arrow schema of a result record.

    ``prediction`` is a label of the task, or text for places or masks, null if the reply could not be parsed;
    ``probability`` is P(yes) of yes/no tasks and that of the given answer of other tasks
    (:func:`stated_probability`), null if the model gives none; ``answer`` is the truth; ``question`` is the full prompt
    text; ``condition`` names deviations from the defaults (`DEFAULT`: none); ``votes`` and ``replies`` hold answer and
    text of every vote, ``derived`` the answer derived from the analysis; ``latency_s`` (seconds), ``prompt_tokens``,
    ``tokens`` (generated) and ``cost_usd`` are per sample.
    """
    import pyarrow as pa

    types = {
        "sample_id": pa.string(),
        "task": pa.string(),
        "species": pa.string(),
        "partition": pa.string(),
        "condition": pa.string(),
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
        "replies": pa.list_(pa.string()),
        "derived": pa.string(),
        "latency_s": pa.float64(),
        "prompt_tokens": pa.int64(),
        "tokens": pa.int64(),
        "cost_usd": pa.float64(),
    }
    return pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind in types.items()])


def result_path(folder: Path, model: str, task: str, species: str, partition: str, condition: str = DEFAULT) -> Path:
    """Return the path of a model's records on one partition: FOLDER/MODEL/TASK/SPECIES/PARTITION.parquet.

    A slash in a model's name (an organisation on the Hub) becomes ``--``. A condition other than `DEFAULT` is appended
    to the partition: ``test@CONDITION.parquet``.
    """
    file = partition if condition == DEFAULT else f"{partition}@{condition}"
    return folder / model.replace("/", "--") / task / species / f"{file}.parquet"


def label(model: str, condition: str) -> str:
    """Name a model in a condition: ``MODEL``, or ``MODEL@CONDITION`` for a condition other than `DEFAULT`."""
    return model if condition == DEFAULT else f"{model}@{condition}"


def write_results(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write result records atomically as Parquet (zstd).

    Parameters
    ----------
    path
        Where to write; see `result_path`.
    rows
        One mapping per sample with the columns of `result_schema`; nullable ones may be omitted, and ``condition``
        if it is `DEFAULT`.

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
    records = [{"condition": DEFAULT} | dict(row) for row in rows]
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
        Files, or folders whose ``*.parquet`` files are all read.

    Returns
    -------
    pandas.DataFrame
        All rows in order of the file paths, with the columns of `result_schema`.

    Raises
    ------
    ConnectomeBenchError
        If there are no files, or one cannot be read, lacks a column or holds impossible values.

    Examples
    --------
    >>> from connectomebench import read_results
    >>> frame = read_results("quickstart-out/results")
    >>> sorted(frame["partition"].unique())
    ['test']
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
        except (OSError, pa.ArrowException) as error:
            raise ConnectomeBenchError(f"cannot read {file} as Parquet: {error}; evaluate again") from error
        for name in _ADDED:  # files written before these columns existed
            if name not in stored.column_names:
                values = [DEFAULT if name == "condition" else None] * len(stored)
                stored = stored.append_column(schema.field(name), pa.array(values, schema.field(name).type))
        if missing := [name for name in schema.names if name not in stored.column_names]:
            raise ConnectomeBenchError(f"{file} lacks the columns {', '.join(missing)}; it is not a file of results")
        try:
            tables.append(stored.select(schema.names).cast(schema))
        except (pa.ArrowException, ValueError) as error:
            raise ConnectomeBenchError(f"{file} does not fit the columns of results: {error}") from error
    frame = pa.concat_tables(tables).to_pandas()
    _check_records(frame, where)
    return frame


def default_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the `DEFAULT` condition, which count as a model's results."""
    return frame[frame["condition"] == DEFAULT]


def by_keys(frame: pd.DataFrame, columns: Sequence[str] = KEYS) -> dict[tuple[str, ...], pd.DataFrame]:
    """Group rows by the columns; groups are sorted, and rows within them by sample."""
    groups: Any = frame.sort_values(by=["sample_id"], kind="stable").groupby(list(columns), sort=True)
    return dict(iter(groups))


def predictions_and_answers(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and true answers as text, shape (rows,); an unparsed prediction is empty."""
    return rows["prediction"].fillna("").to_numpy(dtype=str), rows["answer"].to_numpy(dtype=str)


def classes_of(answer: np.ndarray) -> tuple[str, ...]:
    """Return the possible answers: yes and no, or else those that occur."""
    found = tuple(np.unique(answer))
    return YES_NO if set(found) <= set(YES_NO) else found


def stated_probability(prediction: str | None, probabilities: Mapping[str, float]) -> float | None:
    """Return what a record states: P(yes) where yes is a possible answer, else the probability of the answer given.

    Parameters
    ----------
    prediction
        The answer given; None if unparsed.
    probabilities
        Of every possible answer; empty if the model gives none.
    """
    return probabilities.get("yes") if "yes" in probabilities else probabilities.get(prediction or "")


def stated_events(rows: pd.DataFrame) -> np.ndarray:
    """Return whether what each probability is stated for is true; int64, shape (rows,), 0 or 1.

    Of yes and no it is stated for yes, of other answers for the one given (:func:`stated_probability`).
    """
    prediction, answer = predictions_and_answers(rows)
    true = answer == "yes" if classes_of(answer) == YES_NO else prediction == answer
    return true.astype(np.int64)


def _check_records(frame: pd.DataFrame, where: str) -> None:
    """Raise on invalid probabilities or duplicate samples."""
    probability = frame["probability"].dropna()
    if not probability.between(0, 1).all():
        raise ConnectomeBenchError(f"{where}: probabilities must lie in [0, 1]")
    if (twice := frame.duplicated([*KEYS, "sample_id"])).any():
        sample = frame.loc[twice, "sample_id"].iloc[0]
        raise ConnectomeBenchError(f"{where}: sample {sample!r} occurs twice for one model; give each sample once")
