"""Samples of the demo: small columns in memory, images read on demand."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import read_mask
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import TASKS, Task, get_task
from connectomebench.dataset.integrity import check_files
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.repo_layout import check_species_name
from connectomebench.dataset.schema import RESERVED_COLUMNS, SMALL_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

# row groups (up to 16 MB each) whose images stay in memory
_ROW_GROUPS_KEPT = 8


@dataclass(frozen=True)
class Collection:
    """The rows of one task and species.

    Attributes
    ----------
    task, species
        Task and species of the rows.
    fingerprint
        Fingerprint of the data, from the manifest; result records with another one are about other rows.
    source
        The entry ``source`` of the manifest: name, version, licence, citation, what is simulated.
    volumes
        The part ``source.volumes`` of the configuration in the manifest; empty where the rows have another source.
    """

    task: Task
    species: str
    fingerprint: str
    source: Mapping[str, Any]
    volumes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Task and species."""
        return self.task.name, self.species

    @property
    def warning(self) -> str:
        """One sentence on what is simulated in these samples; empty if nothing is."""
        unreal = [
            word
            for word, name in (("errors", "simulated_errors"), ("image data", "simulated_em"))
            if self.source.get(name) and (name != "simulated_em" or self.task.has_em)
        ]
        if not unreal:
            return ""
        return f"Simulated: the {' and the '.join(unreal)} of these samples were made by a program, on real neurons."


@dataclass(frozen=True)
class Place:
    """Location of a row: a file, its row group, the number within the group."""

    file: Path
    row_group: int
    number: int


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """All samples of a folder.

    Attributes
    ----------
    collections
        By task and species, in the order of the tasks.
    rows
        Small columns and ``partition``, one table per collection, rows in stored order.
    places
        Location of the images of each row of a table.
    """

    collections: Mapping[tuple[str, str], Collection]
    rows: Mapping[tuple[str, str], pa.Table]
    places: Mapping[tuple[str, str], tuple[Place, ...]]

    def row(self, key: tuple[str, str], number: int) -> dict[str, Any]:
        """Return the small columns of one row; ids are Python integers.

        Raises
        ------
        ConnectomeBenchError
            If there is no such row.
        """
        table = self.rows.get(key)
        if table is None or not 0 <= number < len(table):
            raise ConnectomeBenchError("there is no such sample; reload the page")
        return table.slice(number, 1).to_pylist()[0]

    def pictures(self, key: tuple[str, str], number: int) -> list[bytes]:
        """Return the image files of one row as they are stored, in the order of its ``views``.

        Raises
        ------
        ConnectomeBenchError
            If there is no such row, or its file is missing.
        """
        if key not in self.places or not 0 <= number < len(self.places[key]):
            raise ConnectomeBenchError("there is no such sample; reload the page")
        place = self.places[key][number]
        column = _images(place.file, place.row_group)
        return [image["bytes"] for image in column[place.number].as_py()]

    def answer_pictures(self, key: tuple[str, str], number: int) -> list[bytes]:
        """Return the images of one row with its masks drawn over them, as PNG files; none where it has no masks.

        Raises
        ------
        ConnectomeBenchError
            As :meth:`pictures`.
        """
        shown = self.pictures(key, number)
        return [with_mask(picture, mask) for picture, mask in zip(shown, self.masks(key, number), strict=False)]

    def masks(self, key: tuple[str, str], number: int) -> list[bytes]:
        """Return the masks of one row as PNG files, in the order of its ``views``; none where it has no masks.

        Raises
        ------
        ConnectomeBenchError
            As :meth:`pictures`.
        """
        if key not in self.places or not 0 <= number < len(self.places[key]):
            raise ConnectomeBenchError("there is no such sample; reload the page")
        place = self.places[key][number]
        return [mask["bytes"] for mask in _targets(place.file, place.row_group)[place.number].as_py() or ()]

    def shown(self, key: tuple[str, str]) -> list[int]:
        """Return the rows shown to visitors: the test partition, or all rows if there is none."""
        partitions = self.rows[key]["partition"].to_pylist()
        test = [i for i, partition in enumerate(partitions) if partition == "test"]
        return test or list(range(len(partitions)))


def open_samples(folder: Path) -> StoredSamples:
    """Read the small columns of every dataset in a folder, without any image.

    Parameters
    ----------
    folder
        With ``TASK/SPECIES/PARTITION-*.parquet`` and ``TASK/manifest.json`` below, as `connectomebench build` writes
        it; or one such TASK folder.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset, or a file cannot be read or is not the one that its manifest describes.
    """
    manifests = [folder] if (folder / FILE_NAME).is_file() else sorted(p.parent for p in folder.glob(f"*/{FILE_NAME}"))
    found: dict[tuple[str, str], Collection] = {}
    where: dict[tuple[str, str], Path] = {}
    entries: dict[tuple[str, str], Mapping[str, Any]] = {}
    for dataset in manifests:
        manifest = read_manifest(dataset)
        task = get_task(str(manifest["task"]))
        for species, entry in manifest["species"].items():
            check_species_name(species, str(dataset / FILE_NAME))
            collection = Collection(task, species, str(entry["fingerprint"]), entry["source"], _volumes(entry))
            if collection.key in found:
                raise ConnectomeBenchError(f"{dataset} and {where[collection.key].parent} hold the same; remove one")
            found[collection.key], where[collection.key] = collection, dataset / species
            entries[collection.key] = entry
    if not found:
        raise ConnectomeBenchError(f"no dataset in {folder}; run `connectomebench quickstart --out {folder}` first")
    order = sorted(found, key=lambda key: (list(TASKS).index(key[0]), key[1]))
    read = {key: _read(where[key], entries[key]) for key in order}
    return StoredSamples(
        {key: found[key] for key in order},
        {key: table for key, (table, _) in read.items()},
        {key: places for key, (_, places) in read.items()},
    )


def _volumes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the volumes that the configuration of an entry names, as mappings; datasets of others have none."""
    found: Any = entry
    for name in ("config", "source", "volumes"):
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(found.get("automatic"), Mapping):
        return {}
    specs = [found["automatic"], found.get("image")]
    if not isinstance(found["automatic"].get("path"), str):
        specs += found["automatic"].values()
    return found if all(spec is None or isinstance(spec, Mapping) for spec in specs) else {}


def _read(folder: Path, entry: Mapping[str, Any]) -> tuple[pa.Table, tuple[Place, ...]]:
    """Read the small columns of one species and the locations of its images; its files are those of the manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: list[pa.Table] = []
    places: list[Place] = []
    for partition in PARTITIONS:
        files = sorted(folder.glob(f"{partition}-*.parquet"))
        # a Space has the test partition alone, so what an entry without hashes describes cannot be checked here
        check_files(files, entry)
        for file in files:
            try:
                with pq.ParquetFile(file) as stored:
                    table = stored.read(columns=list(SMALL_COLUMNS))
                    sizes = [stored.metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
            except (OSError, pa.ArrowInvalid) as error:
                raise ConnectomeBenchError(f"cannot read {file}: {error}; build the dataset again") from error
            if missing := set(SMALL_COLUMNS) - set(RESERVED_COLUMNS) - set(table.column_names):
                raise ConnectomeBenchError(f"{file} lacks the columns {', '.join(sorted(missing))}; build it again")
            tables.append(table.append_column("partition", pa.array([partition] * len(table), pa.string())))
            places += [Place(file, group, n) for group, size in enumerate(sizes) for n in range(size)]
    if not places:
        raise ConnectomeBenchError(f"{folder} has no Parquet files; build the dataset again")
    # columns only: the metadata of shards may differ
    tables = [table.replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(tables).combine_chunks(), tuple(places)


@lru_cache(maxsize=_ROW_GROUPS_KEPT)
def _images(file: Path, row_group: int) -> pa.ChunkedArray:
    """Read the images of one row group."""
    return _column(file, row_group, "images")


@lru_cache(maxsize=_ROW_GROUPS_KEPT)
def _targets(file: Path, row_group: int) -> pa.ChunkedArray:
    """Read the masks of one row group; of files without them, nothing for each row."""
    import pyarrow as pa

    images = _images(file, row_group)
    return _column(file, row_group, "target_images", pa.chunked_array([pa.nulls(len(images))]))


def _column(file: Path, row_group: int, name: str, missing: pa.ChunkedArray | None = None) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as stored:
            if missing is not None and name not in stored.schema_arrow.names:
                return missing
            return stored.read_row_group(row_group, columns=[name])[name]
    except (OSError, pa.ArrowInvalid) as error:
        raise ConnectomeBenchError("the pictures of this sample cannot be read; choose another one") from error


def with_mask(picture: bytes, mask: bytes) -> bytes:
    """Draw a mask over a picture; both and the result are PNG files.

    Raises
    ------
    ConnectomeBenchError
        If one of them cannot be read.
    """
    from PIL import Image

    from connectomebench.rendering.mask_overlay import draw_mask

    try:
        with Image.open(io.BytesIO(picture)) as shown:
            drawn = draw_mask(shown, read_mask(mask))
    except (OSError, ValueError) as error:
        raise ConnectomeBenchError("the answer of this sample cannot be read; choose another one") from error
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return stream.getvalue()
