"""Scenes of a dataset's rows, in an optional Parquet file beside those of the rows.

``TASK/scenes/SPECIES-PARTITION.parquet`` holds ``sample_id``; ``scene``, what the views show, without any id; and
``truth``, a larger cube with the bodies that it really holds. Both are binary glTF
(:mod:`connectomebench.rendering.scene_file`). ``load_dataset`` does not read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

FOLDER = "scenes"
_ROWS_A_GROUP = 4  # some hundred kB each: one is read at a time


@dataclass(frozen=True)
class RowScenes:
    """Scenes of one row.

    Attributes
    ----------
    sample_id
        Of the row.
    scene
        What its views show.
    truth
        What is really there.
    """

    sample_id: str
    scene: bytes
    truth: bytes


def scenes_path(folder: Path, species: str, partition: str) -> Path:
    """Return the path of the scenes of a partition; ``folder`` is that of the task."""
    return folder / FOLDER / f"{species}-{partition}.parquet"


def write_scenes(path: Path, rows: Iterable[RowScenes]) -> int:
    """Write scenes as they come; return their number. Nothing is left behind if it is interrupted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("sample_id", pa.string()), ("scene", pa.binary()), ("truth", pa.binary())])
    n = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        batch: list[RowScenes] = []

        def flush() -> None:
            columns = {name: [getattr(one, name) for one in batch] for name in schema.names}
            writer.write_table(pa.table(columns, schema))
            batch.clear()

        for row in rows:
            batch.append(row)
            n += 1
            if len(batch) == _ROWS_A_GROUP:
                flush()
        if batch:
            flush()
    return n


class StoredScenes:
    """Scenes of all datasets in a folder, read one at a time.

    Parameters
    ----------
    folders
        Folders of tasks; those without scenes are left out.

    Raises
    ------
    ConnectomeBenchError
        If a file of scenes cannot be read.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._places: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(path for folder in folders for path in (folder / FOLDER).glob("*.parquet")):
            try:
                with pq.ParquetFile(path) as stored:
                    for group in range(stored.num_row_groups):
                        ids = stored.read_row_group(group, columns=["sample_id"])["sample_id"].to_pylist()
                        self._places.update({sample: (path, group, i) for i, sample in enumerate(ids)})
            except (OSError, pa.ArrowException) as error:
                raise ConnectomeBenchError(f"cannot read {path}: {error}; write the scenes again") from None

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._places

    def get(self, sample_id: str, name: str) -> bytes | None:
        """Return the ``scene`` or ``truth`` of a row; None where it has none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if sample_id not in self._places:
            return None
        path, group, number = self._places[sample_id]
        try:
            with pq.ParquetFile(path) as stored:
                return stored.read_row_group(group, columns=[name])[name][number].as_py()
        except (OSError, pa.ArrowException):
            raise ConnectomeBenchError("the 3D scene of this sample cannot be read; choose another one") from None
