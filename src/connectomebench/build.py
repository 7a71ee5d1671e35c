"""Build datasets: source, sites, partition, pictures, rows, card and manifest; resumable at any point."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.cards import write_card
from connectomebench.config import BuildConfig, check_buildable
from connectomebench.controls import match_rendered
from connectomebench.drawing import Drawing, draw_sites
from connectomebench.errors import ConnectomeBenchError
from connectomebench.files import content_key, write_json
from connectomebench.gather import Gathered, gather_sites
from connectomebench.leaks import check_leaks
from connectomebench.manifest import add_species, is_built, library_versions
from connectomebench.partition import PartitionResult, partition_sites
from connectomebench.records import PARTITIONS, make_row, write_partition
from connectomebench.rendering.engines import Engine, choose_engine
from connectomebench.sites import Site
from connectomebench.sources.base import Source
from connectomebench.sources.opening import open_source

_log = logging.getLogger(__name__)


def build(config: BuildConfig, out: Path, base: Path, tasks: Sequence[str] | None = None) -> dict[str, Path]:
    """Build the datasets of a configuration; what is there already is left alone.

    Parameters
    ----------
    config
        What to build.
    out
        Folder for the datasets, one subfolder a task.
    base
        Folder that relative paths of the configuration start from.
    tasks
        Write these tasks only; the partition is still that of all tasks of the configuration.

    Returns
    -------
    dict
        Task -> dataset folder.

    Raises
    ------
    ConnectomeBenchError
        If the data cannot be read, ``out`` holds another configuration, or there are too few sites.
    """
    wanted = _wanted(config, tasks)
    folders = {task: out / task for task in wanted}
    fingerprint = config.fingerprint()
    todo = [task for task in wanted if not is_built(out / task, config.species, fingerprint)]
    for task in wanted:
        if task not in todo:
            _log.info("%s/%s is there already", task, config.species)
    if todo:
        _claim(out, config.species, fingerprint)
        source = open_source(config.source, config.species, out / ".cache" / "source", base)
        engine = choose_engine(config.views.engine)
        gathered = gather_sites(source, config)
        # the published sizes hold for the matched samples, so they are applied after matching
        unlimited = replace(config.partition, max_validation=10**9, max_test=10**9)
        divided = partition_sites(gathered.sites, unlimited, source.info.bounds_nm)
        for task in todo:
            _build_task(task, config, out, source, engine, gathered, divided)
    return folders


def run_builder(task: str, arguments: Sequence[str] | None = None) -> int:
    """Command line of the builder of one task: ``--config FILE --out DIR``; returns the exit status."""
    import sys

    from connectomebench.cli import main

    return main(["build", *(sys.argv[1:] if arguments is None else arguments), "--task", task])


def _wanted(config: BuildConfig, tasks: Sequence[str] | None) -> tuple[str, ...]:
    if not tasks:
        return config.tasks
    for task in tasks:
        check_buildable(task)
        if task not in config.tasks:
            raise ConnectomeBenchError(f"task {task} is not in the configuration; add it to `tasks` there")
    return tuple(dict.fromkeys(tasks))


def _claim(out: Path, species: str, fingerprint: str) -> None:
    """Note which configuration an unfinished build belongs to, and refuse to mix two."""
    import json

    path = out / ".cache" / f"{species}.json"
    if path.exists():
        other = json.loads(path.read_text())["config_fingerprint"]
        if other != fingerprint:
            raise ConnectomeBenchError(
                f"{out} holds an unfinished build of another configuration of {species}; choose another --out or "
                f"delete {path.parent}"
            )
    write_json(path, {"config_fingerprint": fingerprint})


@dataclass(frozen=True)
class _Kept:
    """A row of the final dataset: index of its site, and where it goes."""

    site: Site
    partition: str
    group: str
    index: int


def _build_task(
    task: str,
    config: BuildConfig,
    out: Path,
    source: Source,
    engine: Engine,
    gathered: Gathered,
    divided: PartitionResult,
) -> None:
    """Draw the pool of one task, match cases and controls, write rows, check for leaks, describe."""
    pool = [
        _Kept(site, partition, group, 0)
        for site, partition, group in zip(gathered.sites, divided.partitions, divided.groups, strict=True)
        if site.task == task and partition is not None and group is not None
    ]
    drawn_folder = out / ".cache" / "drawn" / config.species / task
    sites = [row.site for row in pool]

    def drawings() -> Iterator[Drawing]:
        return draw_sites(sites, source, engine, config.views, drawn_folder)

    dropped: Counter[str] = Counter()
    visible: list[_Kept] = []
    features: list[Any] = []
    sizes: dict[int, int] = {}
    for i, (row, drawing) in enumerate(zip(pool, drawings(), strict=True)):
        if drawing.problem is not None:
            dropped[drawing.problem] += 1
            continue
        visible.append(replace(row, index=i))
        features.append(drawing.features)
        sizes[i] = sum(len(png) for png in drawing.images.values())
    kept = _match(task, visible, features, config, dropped)

    folder = out / task / config.species
    digests = {}
    for partition in PARTITIONS:
        rows = {row.index: row for row in kept if row.partition == partition}
        # a second pass over the chunks on disk: pictures are never all in memory
        stored = (
            make_row(rows[i].site, drawing.images, rows[i].group, source.info)
            for i, drawing in enumerate(drawings())
            if i in rows
        )
        digests[partition] = write_partition(folder, task, partition, stored, len(rows), sum(sizes[i] for i in rows))
    species_folders = {t: out / t / config.species for t in config.tasks}
    leaks = check_leaks(species_folders, task, config.partition.group_by)
    entry = {
        "config_fingerprint": config.fingerprint(),
        "fingerprint": content_key(digests),
        "counts": {p: dict(Counter(r.site.answer for r in kept if r.partition == p)) for p in PARTITIONS},
        "origins": dict(sorted(Counter(r.site.origin for r in kept).items())),
        "source": _source_entry(source),
        "engine": engine.name,
        "corrections": gathered.corrections,
        "candidates": gathered.candidates.get(task),
        "dropped": {
            "labels": gathered.dropped[task],
            "partition": divided.dropped.get(task, {}),
            "drawing and matching": dict(sorted(dropped.items())),
        },
        "partition": {"bodies": divided.bodies, "bodies_shared": divided.bodies_shared, "cubes": divided.cubes},
        "leaks": leaks,
        "config": config.as_dict(),
        "versions": library_versions(),
    }
    manifest = add_species(out / task, task, config.species, entry)
    write_card(out / task, manifest)
    shutil.rmtree(drawn_folder, ignore_errors=True)
    counts = ", ".join(f"{p} {sum(entry['counts'][p].values())}" for p in PARTITIONS)
    _log.info("%s/%s written: %s rows", task, config.species, counts)


def _match(
    task: str, visible: list[_Kept], features: list[Any], config: BuildConfig, dropped: Counter[str]
) -> list[_Kept]:
    """Pair cases with look-alike controls in each partition, and keep at most the published sizes."""
    partitions = np.asarray([row.partition for row in visible])
    pairs, apart = match_rendered(
        np.asarray(features),
        np.asarray([row.site.answer == "yes" for row in visible]),
        np.asarray([row.group for row in visible]),
        partitions,
        config.controls,
    )
    dropped["pair too different to a trivial model"] += apart
    dropped["case or control without a partner"] += len(visible) - 2 * (len(pairs) + apart)
    limits = {"validation": config.partition.max_validation, "test": config.partition.max_test}
    rng = np.random.default_rng(config.partition.seed)
    kept: list[_Kept] = []
    for partition in PARTITIONS:
        own = [pair for pair in pairs if partitions[pair[0]] == partition]
        limit = limits.get(partition, 2 * len(own)) // 2
        if len(own) > limit:
            dropped["over the published size"] += 2 * (len(own) - limit)
            own = [own[i] for i in np.sort(rng.permutation(len(own))[:limit])]
        if not own:
            raise ConnectomeBenchError(
                f"{task}: no pair of a case and a comparable control is left in {partition}; use more data, smaller "
                "partition.cube_nm, a larger controls.caliper or controls.pool_per_case"
            )
        kept += [visible[i] for pair in own for i in pair]
    return sorted(kept, key=lambda row: row.index)


def _source_entry(source: Source) -> dict[str, Any]:
    info = source.info
    return {
        "name": info.name,
        "version": info.version,
        "simulated_errors": info.simulated_errors,
        "simulated_em": info.simulated_em,
        "license": info.license,
        "citation": info.citation,
        "bounds_nm": [list(info.bounds_nm.lower_nm), list(info.bounds_nm.upper_nm)],
    }
