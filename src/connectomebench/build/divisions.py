"""Which tasks are divided into partitions at once, after which others, and which are left out for want of sites."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from connectomebench.build.config import BuildConfig
from connectomebench.core.files import write_json
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.source import SourceInfo
from connectomebench.core.tasks import PAIR_VIEWS, get_task
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.schema import places_of, read_small_columns
from connectomebench.partition.earlier_rows import EarlierRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Division:
    """Tasks that are divided at once, and those written before, whose rows they keep clear of."""

    tasks: tuple[str, ...]
    after: tuple[str, ...]


def divisions(config: BuildConfig, out: Path, todo: Sequence[str]) -> dict[Division, list[str]]:
    """Group tasks that are to be written by the division they belong to, those first that others come after.

    Tasks of an unfinished or damaged build are divided again with those they came with, so that it ends as if unbroken.
    New tasks are divided together. They keep clear of every task of this configuration in the folder, also of one that
    `tasks` no longer names: its rows are still there, and models are trained on them.

    Parameters
    ----------
    config
        The configuration; its tasks are in ``out`` in folders of their names.
    out
        Folder of the datasets.
    todo
        Tasks that are to be written.

    Returns
    -------
    dict
        Division -> those of ``todo`` in it.
    """
    known: dict[str, Division] = {}
    written: list[str] = []
    for path in sorted(out.glob(f"*/{FILE_NAME}")):
        entry = read_manifest(path.parent)["species"].get(config.species)
        if entry is None or entry["config_fingerprint"] != config.fingerprint():
            continue
        written.append(path.parent.name)
        division = Division(tuple(entry["partition"]["tasks"]), tuple(entry["partition"]["after"]))
        known |= dict.fromkeys(division.tasks, division)
    new = Division(tuple(task for task in config.tasks if task not in known), tuple(written))
    own: dict[Division, list[str]] = {}
    for task in todo:
        own.setdefault(known.get(task, new), []).append(task)
    return dict(sorted(own.items(), key=lambda item: len(item[0].after)))


def written_rows(tasks: Sequence[str], config: BuildConfig, out: Path, info: SourceInfo) -> list[EarlierRow]:
    """Read what the rows of tasks show and where they are.

    Parameters
    ----------
    tasks
        Tasks in ``out``.
    config, out
        As for :func:`divisions`.
    info
        The source of the rows.
    """
    segmentations = {own.name: name for name, own in (info.segmentations or {}).items()}
    columns = ["task", "location_nm", "extent_nm", "second_place", "segment_ids", "body_ids", "source"]
    rows: list[EarlierRow] = []
    for task, partition in product(tasks, PARTITIONS):
        table = read_small_columns(out / task / config.species, partition, columns)
        if get_task(task).views == PAIR_VIEWS and "second_place" not in table.column_names:
            _log.warning(
                "%s %s: rows of format 2.0 do not say where the second image of a pair is, so that a new task may show "
                "that place in another partition; build %s again to keep them apart",
                task,
                partition,
                task,
            )
        for row in table.to_pylist():
            segmentation = segmentations.get(row["source"], "")
            segments = tuple((segmentation, segment) for segment in row["segment_ids"])
            rows.append(EarlierRow(places_of(row), segments, tuple(row["body_ids"]), partition))
    return rows


def read_left_out(out: Path, config: BuildConfig, version: str | None) -> dict[str, str]:
    """Return the tasks that an earlier run left out, and what they lack, so that this one need not look.

    Parameters
    ----------
    out, config
        As for :func:`divisions`.
    version
        Of the volumes as they are now; see :func:`connectomebench.build.changed_data.volumes_version`.

    Returns
    -------
    dict
        Empty where another configuration or other data left them out, or where the record cannot be read.
    """
    path = left_out_path(out, config.species)
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        return found["tasks"] if found["of"] == [config.fingerprint(), version] else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        # a damaged record: it is a cache, so look again
        return {}


def write_left_out(out: Path, config: BuildConfig, version: str | None, tasks: dict[str, str]) -> None:
    """Record the tasks that are left out; see :func:`read_left_out`."""
    write_json(left_out_path(out, config.species), {"of": [config.fingerprint(), version], "tasks": tasks})


def left_out_path(out: Path, species: str) -> Path:
    """Return the file of the record: it stands with the caches, and may be deleted with them."""
    return out / ".cache" / f"{species}-left-out.json"
