"""Table of neuron, merges and splits: read from CSV or Parquet, never through floating point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("neuron", "merges", "splits")


@dataclass(frozen=True)
class EditTable:
    """Edits of some neurons.

    Attributes
    ----------
    name
        For people, for example ``mouse n=500``.
    neurons
        Root ids, uint64, shape (n,), each once.
    merges, splits
        Edits of each neuron by kind, int64, shape (n,).
    failed
        Neurons whose edits could not be read; they are in no row.
    simulated
        Whether the numbers were drawn by a program instead of counted.
    """

    name: str
    neurons: NDArray[np.uint64]
    merges: NDArray[np.int64]
    splits: NDArray[np.int64]
    failed: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        if not len(self.neurons) == len(self.merges) == len(self.splits):
            raise ConnectomeBenchError(f"{self.name}: neuron, merges and splits differ in length")
        if not len(self.neurons):
            raise ConnectomeBenchError(f"{self.name} has no neurons; give at least one row")
        if len(np.unique(self.neurons)) != len(self.neurons):
            ids, counts = np.unique(self.neurons, return_counts=True)
            raise ConnectomeBenchError(
                f"{self.name}: neuron {ids[counts > 1][0]} has several rows; add them up to one row a neuron"
            )
        for kind in ("merges", "splits"):
            if (values := getattr(self, kind)).min() < 0:
                raise ConnectomeBenchError(f"{self.name}: {kind} holds {values.min()}; counts cannot be negative")

    @property
    def edits(self) -> NDArray[np.int64]:
        """Merges and splits of each neuron together, int64, shape (n,)."""
        return self.merges + self.splits

    def __len__(self) -> int:
        return len(self.neurons)


def read_edit_table(
    path: Path, name: str, columns: tuple[str, str, str] = COLUMNS, *, simulated: bool = False
) -> EditTable:
    r"""Read a table with one row a neuron.

    Parameters
    ----------
    path
        ``.parquet``, or CSV with a header line (``.tsv``: separated by tabs).
    name
        Of the table, for people.
    columns
        Names of the columns of neuron, merges and splits; others are ignored.
    simulated
        Mark the table as drawn by a program.

    Returns
    -------
    EditTable
        Rows in the order of the file.

    Raises
    ------
    ConnectomeBenchError
        If the file cannot be read, lacks a column, or a column is not made of whole numbers. Ids stored as floating
        point are refused, since those above 2^53 have lost digits there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from connectomebench.economics.edit_table import read_edit_table
    >>> path = Path("edits.csv")
    >>> _ = path.write_text("neuron,merges,splits\n864691135682378744,3,4\n864691135682378745,0,1\n")
    >>> read_edit_table(path, "mouse").edits.tolist()
    [7, 1]
    """
    table = _read(path, columns)
    if missing := [column for column in columns if column not in table.column_names]:
        raise ConnectomeBenchError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(table.column_names)}); name neuron, merges and "
            "splits with `columns`"
        )
    neuron, merges, splits = columns
    return EditTable(
        name,
        _whole(table, neuron, path, np.uint64),
        _whole(table, merges, path, np.int64),
        _whole(table, splits, path, np.int64),
        simulated=simulated,
    )


def write_edit_table(table: EditTable, path: Path) -> Path:
    """Write a table as Parquet: ``neuron`` uint64, ``merges`` and ``splits`` int64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = pa.table(dict(zip(COLUMNS, (table.neurons, table.merges, table.splits), strict=True)))
    with atomic_path(path) as temporary:
        pq.write_table(stored, temporary, compression="zstd")
    return path


def _read(path: Path, columns: tuple[str, str, str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                return file.read()
        neuron, *counts = columns
        types = {neuron: pa.uint64(), **dict.fromkeys(counts, pa.int64())}
        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ","),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:200]
        raise ConnectomeBenchError(
            f"{path} cannot be read ({reason}); give Parquet, or CSV with a header line and whole numbers"
        ) from error


def _whole(table: pa.Table, column: str, path: Path, kind: type[np.uint64] | type[np.int64]) -> NDArray:
    import pyarrow as pa

    values = table[column]
    if values.null_count:
        raise ConnectomeBenchError(
            f"{path}: column {column!r} has {values.null_count} empty cells; fill or drop the rows"
        )
    if pa.types.is_floating(values.type):
        raise ConnectomeBenchError(
            f"{path}: column {column!r} is stored as {values.type}, where ids above 2^53 lose digits; write it "
            "as whole numbers"
        )
    try:
        return values.cast(pa.from_numpy_dtype(kind)).to_numpy().astype(kind, copy=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConnectomeBenchError(
            f"{path}: column {column!r} ({values.type}) does not fit {np.dtype(kind)}; write it as whole numbers"
        ) from None
