"""Tell absent Zarr chunks that were lost from those that the writer left out because they hold background alone.

Zarr's writers leave out chunks that hold nothing but the fill value, and its readers return the fill value for every
chunk that is absent. Where objects run up to the border of an absent chunk, it was lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.read_errors import reading

_LARGEST_GRID = 4_000_000
_LOOKED_AT = 256  # absent chunks whose neighbours are read


def absent_chunks(array: Any, root: Path, name: str) -> tuple[int, int, bool]:
    """Count the absent chunks of an array.

    Parameters
    ----------
    array
        A ``zarr.Array`` in a local store.
    root
        Folder of the store.
    name
        Name of the volume in messages.

    Returns
    -------
    absent, total
        Numbers of chunks (of shards, where the array has them).
    lost
        Whether some seem lost: nothing was written at all, or objects run up to the border of an absent chunk.

    Raises
    ------
    ConnectomeBenchError
        If the file of a chunk is empty.
    """
    edges = array.shards or array.chunks
    grid = tuple(-(-n // e) for n, e in zip(array.shape, edges, strict=True))
    total = int(np.prod(grid))
    if total == 0 or (array.shards is None and array.nchunks_initialized == array.nchunks):
        return 0, total, False
    if total > _LARGEST_GRID:
        return array.nchunks - array.nchunks_initialized, array.nchunks, True
    folder = root / array.path
    present = np.zeros(grid, np.bool_)
    for place in np.ndindex(grid):
        chunk = array.metadata.encode_chunk_key(place)
        file = folder / chunk
        present[place] = file.is_file()
        if present[place] and not file.stat().st_size:  # of shards, zarr takes an empty file for an absent one
            raise ConnectomeBenchError(f"{name}: {root}, chunk {chunk} has 0 bytes: it is damaged; copy it again")
    absent = np.argwhere(~present)
    fill = 0 if array.fill_value is None else array.fill_value
    lost = bool(len(absent)) and (
        not present.any() or _objects_run_into(array, fill, present, absent, edges, name, root)
    )
    return len(absent), total, lost


def _objects_run_into(
    array: Any,
    fill: Any,
    present: NDArray[np.bool_],
    absent: NDArray[np.int64],
    edges: tuple[int, ...],
    name: str,
    root: Path,
) -> bool:
    """Return whether a chunk beside an absent one has anything but the fill value on their common face."""
    step = max(1, -(-len(absent) // _LOOKED_AT))
    for place in absent[::step].tolist():
        for axis in range(len(place)):
            for side in (-1, 1):
                beside = [*place]
                beside[axis] += side
                if not 0 <= beside[axis] < present.shape[axis] or not present[tuple(beside)]:
                    continue
                box = [slice(b * e, min((b + 1) * e, n)) for b, e, n in zip(beside, edges, array.shape, strict=True)]
                face = box[axis].stop - 1 if side < 0 else box[axis].start
                box[axis] = slice(face, face + 1)
                with reading(name, root, f"chunk {array.metadata.encode_chunk_key(tuple(beside))}"):
                    values = np.asarray(array[tuple(box)])
                if (values != fill).any():
                    return True
    return False
