"""Read materialised tables exactly: nuclei and cell types.

caveclient gives frames of pandas, which turn whole numbers with a null among them into floating-point ones and so round
ids. The answer of the server itself is an Arrow stream, in which all digits are still there; it is kept as it passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.ids import exact_id
from connectomebench.core.whole_segment import CellKind

_CUT_SHORT = "limited query"  # part of the header by which a server says that it left rows out
_OTHER = ("nonneuron", "non-neuron", "non_neuron", "not-neuron", "not_neuron", "glia", "astrocyte", "oligo", "opc")
_OTHER_CELLS = ("pericyte", "endotheli", "vascular", "fibroblast", "ependymal")
_NEURON = ("neuron", "excitatory", "inhibitory", "pyramidal", "interneuron")


@dataclass(frozen=True)
class Nuclei:
    """Nuclei, one a row.

    Attributes
    ----------
    ids
        int64, shape (n,): numbers in the table.
    supervoxels
        uint64, shape (n,): none is 0.
    edges_nm
        float64, shape (n, 3): edges of the bounding box; NaN where unknown.
    """

    ids: NDArray[np.int64]
    supervoxels: NDArray[np.uint64]
    edges_nm: NDArray[np.float64]


def read_table(materialize: Any, table: str, setting: str) -> Mapping[str, list[Any]]:
    """Read all rows of a table.

    Parameters
    ----------
    materialize
        caveclient's materialisation client.
    table
        Its name.
    setting
        Names the setting of the table in messages.

    Returns
    -------
    dict
        Column -> values; positions are three columns, ``NAME_x`` to ``NAME_z``, in voxels of the table.

    Raises
    ------
    ConnectomeBenchError
        If there is no such table, it cannot be read, or the server left rows out.
    """
    import pyarrow as pa

    answers: list[requests.Response] = []
    hooks = materialize.session.hooks["response"]
    keep = lambda response, *args, **kwargs: answers.append(response)  # noqa: E731
    hooks.append(keep)
    try:
        materialize.query_table(table, split_positions=True, merge_reference=False, metadata=False)
        (stream,) = [answer for answer in answers if answer.headers.get("Content-Type") == "data.arrow"][-1:]
        with pa.ipc.open_stream(stream.content) as reader:
            found = reader.read_all()
    except Exception as error:  # HTTP errors, and others for a table that does not exist or an answer cut short
        raise ConnectomeBenchError(
            f"table {table} cannot be read ({type(error).__name__}); name another with {setting}"
        ) from None
    finally:
        hooks.remove(keep)
    if _CUT_SHORT in stream.headers.get("Warning", "").lower():
        raise ConnectomeBenchError(
            f"table {table}: the server left rows out ({found.num_rows} came); name a smaller one with {setting}"
        )
    return {name: found[name].to_pylist() for name in found.column_names}


def read_nuclei(materialize: Any, table: str, setting: str = "source.cave.tables.nuclei") -> Nuclei:
    """Read a table of nuclei; those without a supervoxel are left out.

    Raises
    ------
    ConnectomeBenchError
        As :func:`read_table`, and where it has no supervoxels or these were rounded.
    """
    columns = read_table(materialize, table, setting)
    for needed in ("id", "pt_supervoxel_id"):
        if needed not in columns:
            raise ConnectomeBenchError(f"table {table} has no column {needed}; name another with {setting}")
    supervoxels = _exact(columns["pt_supervoxel_id"], table, setting)
    kept = np.flatnonzero(supervoxels)
    edges = np.full((len(supervoxels), 3), np.nan)
    corners = [f"bb_{end}_position_{axis}" for end in ("start", "end") for axis in "xyz"]
    if all(corner in columns for corner in corners):
        voxel = np.asarray(_voxel_nm(materialize, table), np.float64)
        start, end = np.array([columns[corner] for corner in corners], np.float64).reshape(2, 3, -1)
        edges = np.abs(end - start).T * voxel
        edges[~(edges > 0).all(axis=1)] = np.nan
    ids = np.asarray([int(i) for i in columns["id"]], np.int64)
    return Nuclei(ids[kept], supervoxels[kept], edges[kept])


def _voxel_nm(materialize: Any, table: str) -> list[float]:
    """Return the voxel size in which a table gives positions; NaN where the server does not state it."""
    try:
        stated = materialize.get_table_metadata(table, log_warning=False)["voxel_resolution"]
        return [float(v) if v else float("nan") for v in stated]
    except Exception:  # without it boxes are unknown, which no label rests on
        return [float("nan")] * 3


def _exact(values: list[Any], table: str, setting: str) -> NDArray[np.uint64]:
    """Return ids with all their digits; 0 where there is none."""
    try:
        return np.asarray([0 if v is None or v == 0 else exact_id(v) for v in values], np.uint64)
    except ValueError as error:
        raise ConnectomeBenchError(f"table {table}: {error}; name another with {setting}") from None


@dataclass(frozen=True)
class CellTypes:
    """Kinds of cells by the number of their nucleus, and by a supervoxel of theirs."""

    of_nucleus: Mapping[int, CellKind]
    of_supervoxel: Mapping[int, CellKind]


def read_cell_types(materialize: Any, table: str, setting: str = "source.cave.tables.cell_types") -> CellTypes:
    """Read a table of cell types, with targets (nuclei) or supervoxels of its own.

    Two rows that disagree about a cell leave it unknown.

    Raises
    ------
    ConnectomeBenchError
        As :func:`read_table`, and where it has neither targets nor supervoxels, or no types.
    """
    columns = read_table(materialize, table, setting)
    if "cell_type" not in columns:
        raise ConnectomeBenchError(f"table {table} has no column cell_type; name another with {setting}")
    if "target_id" not in columns and "pt_supervoxel_id" not in columns:
        raise ConnectomeBenchError(
            f"table {table} has neither target_id nor pt_supervoxel_id; name another with {setting}"
        )
    systems = columns.get("classification_system") or [None] * len(columns["cell_type"])
    kinds: list[CellKind] = [kind_of(system, name) for system, name in zip(systems, columns["cell_type"], strict=True)]
    if "target_id" in columns:
        return CellTypes(_agreed(_exact(columns["target_id"], table, setting).tolist(), kinds), {})
    return CellTypes({}, _agreed(_exact(columns["pt_supervoxel_id"], table, setting).tolist(), kinds))


def _agreed(keys: list[int], kinds: list[CellKind]) -> dict[int, CellKind]:
    found: dict[int, CellKind] = {}
    for key, kind in zip(keys, kinds, strict=True):
        if key and kind != "unknown":
            found[key] = kind if found.get(key, kind) == kind else "unknown"
    return found


def kind_of(system: str | None, name: str | None) -> CellKind:
    """Read the kind of a cell from the words of a table; the system first.

    Examples
    --------
    >>> kind_of("aibs_coarse_nonneuron", "astrocyte"), kind_of("excitatory_neuron", "23P"), kind_of(None, "x")
    ('other', 'neuron', 'unknown')
    """
    for text in (system, name):
        words = (text or "").lower()
        if any(word in words for word in (*_OTHER, *_OTHER_CELLS)):
            return "other"
        if any(word in words for word in _NEURON):
            return "neuron"
    return "unknown"
