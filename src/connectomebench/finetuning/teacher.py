"""Add a teacher's replies from its result records to a copy of a dataset."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.tasks import get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.integrity import FILES, check_partition
from connectomebench.dataset.manifest import FILE_NAME, add_species, is_built, read_manifest
from connectomebench.dataset.parquet_errors import parquet_errors
from connectomebench.dataset.repo_layout import check_species_name, extra_files, scene_files
from connectomebench.dataset.row_format import entry_features
from connectomebench.dataset.schema import TEACHER_REPLIES, parquet_layout, shard_paths
from connectomebench.finetuning.completions import ANALYSIS, StyleConfig, kept_reply
from connectomebench.finetuning.teacher_records import Teacher, read_teacher

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_DIGEST = b"connectomebench_replies"


@dataclass(frozen=True)
class TeacherCounts:
    """Rows of one species and partition that received replies.

    Attributes
    ----------
    species, partition
        Which rows.
    rows
        How many there are.
    replied
        Rows with replies of the teacher.
    kept
        Rows with a reply that training would use by default, from any teacher.
    """

    species: str
    partition: str
    rows: int
    replied: int
    kept: int


@dataclass(frozen=True)
class _Shard:
    source: Path
    target: Path
    column: list[list[dict[str, Any]]]
    digest: str


def add_teacher(
    dataset: Path, results: Path, model: str, out: Path, condition: str | None = None
) -> list[TeacherCounts]:
    """Write a copy of a dataset with a model's replies in its rows.

    The column ``teacher_replies`` is a list of ``model``, ``reply`` and ``answer`` (null where none could be read), one
    entry a vote. Training and validation rows have it; the list of test rows is always empty, and so is that of rows
    without a record. Replies of other teachers that are in ``dataset`` stay; earlier ones of the same model are
    replaced. Species without records are copied as they are.

    Files are written atomically, the manifest last. Calling again resumes an interrupted copy and changes nothing if it
    is complete.

    Parameters
    ----------
    dataset
        Folder of a built dataset, ``OUT/TASK``; not changed.
    results
        Result records, a file or a folder of them, about this very dataset.
    model
        The teacher, as records name it.
    out
        Folder to write: as ``dataset``, for `load_dataset`, training and publishing.
    condition
        Of the records; may be left out where the model was evaluated in one alone.

    Returns
    -------
    list[TeacherCounts]
        For every species with records, training and validation rows.

    Raises
    ------
    ConnectomeBenchError
        If the dataset is not complete, the records are about other rows, hold no replies, or ``out`` holds something
        else.
    """
    manifest = read_manifest(dataset)
    task = get_task(manifest["task"])
    if not task.labels:
        raise ConnectomeBenchError(f"the answer to {task.name} is a place, for which teacher's replies are not used")
    if out.resolve() == dataset.resolve():
        raise ConnectomeBenchError(f"{out} is the dataset itself; name another folder (--out)")
    for species, entry in manifest["species"].items():
        check_species_name(species, str(dataset / FILE_NAME))
        if not is_built(dataset, species, entry["config_fingerprint"]):
            raise ConnectomeBenchError(f"{dataset / species} is not complete; build it again")
    teacher = read_teacher(results, model, task.name, condition)
    entries, shards, added = dict(manifest["species"]), [], []
    for species in teacher.replies:
        entry = manifest["species"].get(species)
        if entry is None or teacher.fingerprints[species] != entry["fingerprint"]:
            raise ConnectomeBenchError(
                f"the records of {model} on {species} are about another dataset than {dataset}; evaluate it on this one"
            )
        own: list[_Shard] = []
        for partition in PARTITIONS:
            found, summary = _plan(dataset, out, species, partition, teacher, entry)
            own += found
            if summary is not None:
                added.append(summary)
        shards += own
        entries[species] = _entry(entry, teacher, species, own)
    _check_target(dataset, out, task.name, entries)
    _write(dataset, out, task.name, shards, entries, teacher)
    return added


def _plan(
    dataset: Path, out: Path, species: str, partition: str, teacher: Teacher, entry: Mapping[str, Any]
) -> tuple[list[_Shard], TeacherCounts | None]:
    """Compute the new column of every file of a partition, and its counts."""
    given = dict(teacher.replies[species].get(partition, {}))
    shards: list[_Shard] = []
    rows = replied = kept = 0
    for source in check_partition(dataset / species, partition, entry)[0]:
        stored = _small_columns(source)
        column: list[list[dict[str, Any]]] = []
        for row in stored:
            others = [vote for vote in row[TEACHER_REPLIES] or [] if vote["model"] != teacher.model]
            record = given.pop(row["sample_id"], None)
            if record is not None and record.answer != row["answer"]:
                raise ConnectomeBenchError(
                    f"the record of {teacher.model} on {row['sample_id']} has the answer {record.answer!r}, the "
                    f"dataset {row['answer']!r}; evaluate it with the true labels"
                )
            column.append(others + (record.votes if record else []))
            rows, replied = rows + 1, replied + (record is not None)
            kept += kept_reply({**row, TEACHER_REPLIES: column[-1]}, StyleConfig(ANALYSIS).agreement) is not None
        digest = hashlib.sha256(json.dumps([teacher.fingerprints[species], source.name, column]).encode()).hexdigest()
        shards.append(_Shard(source, out / species / source.name, column, digest))
    if given:
        raise ConnectomeBenchError(
            f"{len(given)} records of {teacher.model} are about no row of {species}/{partition}, for example "
            f"{min(given)}; evaluate it on {dataset}"
        )
    return shards, TeacherCounts(species, partition, rows, replied, kept) if partition != "test" else None


def _small_columns(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with parquet_errors([path]), pq.ParquetFile(path) as file:
        has = TEACHER_REPLIES in file.schema_arrow.names
        names = ["sample_id", "task", "answer", "target_nm", *([TEACHER_REPLIES] if has else [])]
        return [{TEACHER_REPLIES: None, **row} for row in file.read(columns=names).to_pylist()]


def _entry(entry: Mapping[str, Any], teacher: Teacher, species: str, shards: list[_Shard]) -> dict[str, Any]:
    """Return the manifest entry of a species with the teacher added."""
    before = entry.get(TEACHER_REPLIES, {}).get("teachers", [])
    mine = {
        "model": teacher.model,
        "revision": teacher.revision,
        "condition": teacher.condition,
        "rows": {partition: len(own) for partition, own in teacher.replies[species].items()},
        "replies": sum(len(record.votes) for own in teacher.replies[species].values() for record in own.values()),
    }
    teachers = [one for one in before if one["model"] != teacher.model] + [mine]
    text = "\n".join(f"{shard.source.name} {shard.digest}" for shard in shards)
    return {
        **entry,
        TEACHER_REPLIES: {
            "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
            "teachers": sorted(teachers, key=lambda one: one["model"]),
        },
    }


def _check_target(dataset: Path, out: Path, task: str, entries: Mapping[str, Any]) -> None:
    """Raise if the folder holds another dataset, or this one with other replies."""
    wanted = {path.relative_to(dataset) for path in dataset.glob("*/*.parquet")}
    same = all(path.relative_to(out) in wanted for path in out.glob("*/*.parquet"))
    if (out / FILE_NAME).exists():
        there = read_manifest(out)
        same &= (there["task"], _without_files(there["species"])) == (task, _without_files(entries))
    if not same:
        raise ConnectomeBenchError(f"{out} holds other rows or replies; choose another --out, or delete the folder")


def _without_files(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries as JSON gives them back, without the hashes of their files, which the new column changes."""
    plain = json.loads(json.dumps(entries))
    return {species: {k: v for k, v in entry.items() if k != FILES} for species, entry in plain.items()}


def _write(
    dataset: Path, out: Path, task: str, shards: list[_Shard], entries: Mapping[str, Any], teacher: Teacher
) -> None:
    total = sum(len(shard.column) for shard in shards)
    with tqdm(total=total, desc=f"replies of {teacher.model}", unit="row", delay=1) as bar:
        for shard in shards:
            _write_shard(shard, entry_features(get_task(task), entries[shard.target.parent.name]).arrow_schema)
            bar.update(len(shard.column))
    for species in entries:
        paths = [path for partition in PARTITIONS for path in shard_paths(dataset / species, partition)]
        names = [name for name in extra_files(species) if (dataset / name).is_file()]
        names += scene_files(dataset, species)
        names += [f"{species}/{path.name}" for path in paths] if species not in teacher.replies else []
        for name in names:
            _copy(dataset / name, out / name)
    if not (out / FILE_NAME).exists():
        manifest: dict[str, Any] = {}
        for species, entry in entries.items():
            manifest = add_species(out, task, species, entry)
        write_card(out, manifest)


def _write_shard(shard: _Shard, kinds: pa.Schema) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if _is_written(shard):
        return
    schema = kinds.with_metadata({**(kinds.metadata or {}), _DIGEST: shard.digest.encode()})
    place = schema.get_field_index(TEACHER_REPLIES)
    stored = [name for name in schema.names if name != TEACHER_REPLIES]
    with (
        parquet_errors([shard.source]),
        pq.ParquetFile(shard.source) as source,
        atomic_path(shard.target) as temporary,
        pq.ParquetWriter(temporary, schema, **parquet_layout()) as writer,
    ):
        start = 0
        for number in range(source.num_row_groups):
            table = source.read_row_group(number, columns=stored)
            own = pa.array(shard.column[start : start + len(table)], schema.field(place).type)
            start += len(table)
            table = table.append_column(schema.field(place), own).select(schema.names).cast(schema)
            writer.write_table(table, row_group_size=max(1, len(table)))


def _is_written(shard: _Shard) -> bool:
    """Return whether the file exists with the same replies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata: pq.FileMetaData = pq.read_metadata(shard.target)
    except (OSError, pa.ArrowInvalid):
        return False
    written = (metadata.metadata or {}).get(_DIGEST)
    return written == shard.digest.encode() and metadata.num_rows == len(shard.column)


def _copy(source: Path, target: Path) -> None:
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
