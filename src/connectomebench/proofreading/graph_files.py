"""The supervoxel graph of a run on disk: with mapping and edits, all that is needed to edit it further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.proofreading import edit_log
from connectomebench.proofreading.edit_log import Edit, read_edits, replay
from connectomebench.proofreading.segmentation_graph import SegmentationGraph, Supervoxels

EDGES, MAPPING, RUN = "edges.parquet", "mapping.parquet", "run.json"


def write_edges(graph: SegmentationGraph, out: Path) -> Path:
    """Write ``OUT/edges.parquet``: ``a`` and ``b``, touching supervoxels, and ``capacity``, the cost of a cut."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = graph.supervoxels
    ids = known.edges.astype(np.uint64) + np.uint64(1)
    table = pa.table({"a": ids[:, 0], "b": ids[:, 1], "capacity": known.capacities})
    path = out / EDGES
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def read_supervoxels(out: Path) -> Supervoxels:
    """Read the supervoxels of a run, as they were before any edit.

    Raises
    ------
    ConnectomeBenchError
        If ``OUT`` holds no finished run, or one of an older version.
    """
    mapping, edges = read_columns(out, MAPPING), read_columns(out, EDGES)
    if (mapping["supervoxel"] != np.arange(1, len(mapping["supervoxel"]) + 1)).any():
        raise ConnectomeBenchError(f"{out / MAPPING} does not number supervoxels from 1; proofread again")
    pairs = np.stack([edges["a"], edges["b"]], axis=1).astype(np.int64) - 1
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= len(mapping["supervoxel"])):
        raise ConnectomeBenchError(f"{out / EDGES} names supervoxels that {MAPPING} lacks; proofread again")
    return Supervoxels(
        mapping["segment"].astype(np.uint64),
        np.stack([mapping[f"{axis}_nm"] for axis in "xyz"], axis=1).astype(np.float32),
        mapping["voxels"].astype(np.int64),
        pairs.astype(np.int32).reshape(-1, 2),
        edges["capacity"].astype(np.float32),
        mapping["source_supervoxel"].astype(np.uint64),
    )


def read_graph(out: Path) -> tuple[SegmentationGraph, list[Edit]]:
    """Read the segmentation of a run with its edits applied.

    Returns
    -------
    graph
        The state that the run ended with.
    edits
        The edits that led to it.

    Raises
    ------
    ConnectomeBenchError
        If ``OUT`` holds no finished run, or its files do not belong together.
    """
    supervoxels = read_supervoxels(out)
    try:
        run = json.loads((out / RUN).read_text(encoding="utf-8"))
        trusted = [int(one) for one in run["trusted"]]
        somas = {int(supervoxel) - 1: str(name) for supervoxel, name in run.get("somas", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConnectomeBenchError(f"{out / RUN} is missing or damaged; proofread again") from None
    graph = SegmentationGraph(supervoxels, trusted, somas)
    edits = read_edits(out / edit_log.FILE_NAME)
    replay(graph, edits)
    return graph, edits


def read_columns(out: Path, name: str) -> dict[str, Any]:
    """Read a Parquet file of a run; column -> array.

    Raises
    ------
    ConnectomeBenchError
        If it is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = out / name
    if not path.exists():
        raise ConnectomeBenchError(
            f"there is no {path}; {out} must be the folder of a finished connectomebench proofread of this version"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise ConnectomeBenchError(f"{path} is damaged; proofread again") from None
    return {column: table[column].to_numpy() for column in table.column_names}
