"""Files of a run: the segmentation, the mapping of supervoxels, edits and queue as tables, and a viewer state."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.files import atomic_path, write_json, write_text
from connectomebench.core.volume import Volume
from connectomebench.proofreading.blocks import CHUNK_VX
from connectomebench.proofreading.decision_log import FOLDER
from connectomebench.proofreading.edit_log import Edit, read_edits
from connectomebench.proofreading.neuroglancer_links import state
from connectomebench.proofreading.piece_volume import ObjectVolume
from connectomebench.proofreading.place import Place
from connectomebench.proofreading.segmentation_graph import SegmentationGraph

_QUEUE, _EARLIER = "queue.jsonl", "earlier.jsonl"


def write_segmentation(place: Place, graph: SegmentationGraph, out: Path) -> Path:
    """Write ``OUT/segmentation``, a precomputed volume (uint64) for CloudVolume and Neuroglancer, over an old one."""
    return _write_volume(ObjectVolume(place.pieces, graph.objects, ""), place, out / "segmentation")


def write_supervoxels(place: Place, out: Path) -> Path:
    """Write ``OUT/supervoxels``, which gives each voxel its row of ``mapping.parquet``; precomputed, uint64."""
    return _write_volume(place.pieces, place, out / "supervoxels")


def _write_volume(labels: Volume, place: Place, folder: Path) -> Path:
    """Write a volume block by block."""
    from cloudvolume import CloudVolume

    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    info = CloudVolume.create_new_info(
        num_channels=1,
        layer_type="segmentation",
        data_type="uint64",
        encoding="compressed_segmentation",
        resolution=[v if v != int(v) else int(v) for v in place.voxel_size_nm],
        voxel_offset=list(place.offset_vx),
        chunk_size=(CHUNK_VX, CHUNK_VX, CHUNK_VX),
        volume_size=list(place.shape),
    )
    volume: Any = CloudVolume(f"precomputed://file://{fresh.resolve()}", info=info, progress=False)
    volume.commit_info()
    grid = place.spec.grid
    for block in map(grid.block, range(len(grid))):
        low, high = (np.add(corner, place.offset_vx).tolist() for corner in (block.lower, block.upper))
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        volume[here] = np.asfortranarray(labels.read(block.lower, block.upper), np.uint64)[..., np.newaxis]
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def write_objects(supervoxels: Path, of_rows: NDArray[np.uint64], folder: Path) -> Path:
    """Write the objects of a supervoxel volume as a volume like it, block by block, over an old one.

    Parameters
    ----------
    supervoxels
        Folder of a precomputed volume of ids of supervoxels: row + 1.
    of_rows
        uint64, shape (n,): the object of each supervoxel.
    folder
        Output.
    """
    from cloudvolume import CloudVolume

    source: Any = CloudVolume(f"precomputed://file://{supervoxels.resolve()}", progress=False)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    made: Any = CloudVolume(f"precomputed://file://{fresh.resolve()}", info=source.info, progress=False)
    made.commit_info()
    table = np.concatenate([np.zeros(1, np.uint64), of_rows])
    lower, upper = (np.asarray(corner).tolist() for corner in (source.bounds.minpt, source.bounds.maxpt))
    # blocks begin at multiples of a chunk from the corner of the volume
    step = 4 * CHUNK_VX
    for start in itertools.product(*(range(a, b, step) for a, b in zip(lower, upper, strict=True))):
        here = tuple(slice(a, min(a + step, b)) for a, b in zip(start, upper, strict=True))
        made[here] = table[np.asarray(source[here])]
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def write_mapping(graph: SegmentationGraph, out: Path) -> Path:
    """Write ``OUT/mapping.parquet``: supervoxel, its id in the source, segment before, object now, voxels, centre."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = graph.supervoxels
    table = pa.table(
        {
            "supervoxel": np.arange(1, len(known.segments) + 1, dtype=np.uint64),
            "source_supervoxel": known.sources,
            "segment": known.segments,
            "object": graph.objects,
            "voxels": known.voxels,
            **{f"{axis}_nm": known.points_nm[:, i] for i, axis in enumerate("xyz")},
        }
    )
    path = out / "mapping.parquet"
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def write_csv(edits: Sequence[Edit], path: Path) -> None:
    """Write edits as a table: one column a field, lists of points and ids as JSON."""
    names = [field.name for field in fields(Edit)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for edit in edits:
        values = asdict(edit)
        writer.writerow([json.dumps(v) if isinstance(v, tuple | list) else v for v in (values[n] for n in names)])
    write_text(path, stream.getvalue())


def write_queue(queue: Sequence[Edit], place: Place, url: str, out: Path) -> None:
    """Write the queue, most valuable decision first: ``queue.jsonl``, ``queue.csv``, and ``neuroglancer.json``.

    Where there is a review, edits of an old queue that are not in this one go to ``OUT/review/earlier.jsonl``: its log
    names them.
    """
    old, now = out / _QUEUE, {edit.edit_id for edit in queue}
    if (out / FOLDER).is_dir():
        every = {edit.edit_id: edit for edit in [*read_earlier(out), *(read_edits(old) if old.exists() else [])]}
        gone = [edit for edit in every.values() if edit.edit_id not in now]
        # before the queue: at every moment one of the two names each edit
        write_text(out / FOLDER / _EARLIER, "".join(edit.as_line() + "\n" for edit in gone))
    write_text(old, "".join(edit.as_line() + "\n" for edit in queue))
    write_csv(queue, out / "queue.csv")
    write_json(out / "neuroglancer.json", state(place, url, queue))


def read_earlier(out: Path) -> list[Edit]:
    """Read the edits that waited in the queue before the run went on."""
    path = out / FOLDER / _EARLIER
    return read_edits(path) if path.exists() else []
