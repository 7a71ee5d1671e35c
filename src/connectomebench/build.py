"""Build datasets: source, sites, partition, pictures, rows, card and manifest; resumable at any point."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
        _log.info("opening the source")
        source = open_source(config.source, config.species, out / ".cache" / "source", base)
        drawn = out / ".cache" / "drawn" / config.species
        pools = _Pools(source, choose_engine(config.views.engine), config, drawn)
        gathered = gather_sites(source, config)
        matched = {task: _match(task, gathered.of(task), pools, config) for task in config.tasks}
        sites = [site for m in matched.values() for site in m.sites]
        divided = partition_sites(sites, config.partition, source.info.bounds_nm)
        kept = _balance(sites, divided, matched, config)
        for task in todo:
            _write_task(
                task, [row for row in kept if row.site.task == task], matched[task], pools, gathered, divided, out
            )
        if all(is_built(out / task, config.species, fingerprint) for task in config.tasks):
            shutil.rmtree(drawn, ignore_errors=True)
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
class _Pools:
    """Draws the sites of each task, from chunks on disk where they are there."""

    source: Source
    engine: Engine
    config: BuildConfig
    folder: Path

    def draw(self, task: str, sites: Sequence[Site]) -> Iterator[Drawing]:
        return draw_sites(sites, self.source, self.engine, self.config.views, self.folder / task)


@dataclass(frozen=True)
class _Matched:
    """Pairs of a case and a look-alike control of one task.

    ``sites`` holds the case and the control of pair ``i`` at ``2 * i`` and ``2 * i + 1``; ``pool`` are all drawn sites,
    in drawing order, and ``index`` says where in it each of ``sites`` is.
    """

    sites: list[Site]
    index: list[int]
    pool: list[Site]
    sizes: list[int]
    dropped: Counter[str]


@dataclass(frozen=True)
class _Kept:
    """A row of the final dataset."""

    site: Site
    partition: str
    group: str
    index: int
    size: int


def _match(task: str, pool: Sequence[Site], pools: _Pools, config: BuildConfig) -> _Matched:
    """Draw the pool of a task and pair cases with controls that look alike to a trivial model."""
    dropped: Counter[str] = Counter()
    visible: list[int] = []
    features: list[Any] = []
    sizes: dict[int, int] = {}
    for i, drawing in enumerate(pools.draw(task, pool)):
        if drawing.problem is not None:
            dropped[drawing.problem] += 1
            continue
        visible.append(i)
        features.append(drawing.features)
        sizes[i] = sum(len(png) for png in drawing.images.values())
    pairs, apart = match_rendered(
        np.asarray(features),
        np.asarray([pool[i].answer == "yes" for i in visible], np.bool_),
        np.asarray([str(pool[i].segment_ids[0]) for i in visible]),
        config.controls,
    )
    dropped["pair too different to a trivial model"] += 2 * apart
    dropped["case or control without a partner"] += len(visible) - 2 * (len(pairs) + apart)
    if not pairs:
        raise ConnectomeBenchError(
            f"{task}: no pair of a case and a comparable control; use more data, a larger controls.caliper or "
            "controls.pool_per_case"
        )
    index = [visible[i] for pair in pairs for i in pair]
    return _Matched([pool[i] for i in index], index, list(pool), [sizes[i] for i in index], dropped)


def _balance(
    sites: Sequence[Site], divided: PartitionResult, matched: dict[str, _Matched], config: BuildConfig
) -> list[_Kept]:
    """Keep as many of each answer in every partition: first those whose partner is there too."""
    rng = np.random.default_rng(config.partition.seed)
    kept: list[_Kept] = []
    start = 0
    for m in matched.values():
        own = range(start, start + len(m.sites))
        start += len(m.sites)
        for partition in PARTITIONS:
            here = {i for i in own if divided.partitions[i] == partition}
            # rows of a pair are neighbours: an even offset is the case
            order = sorted(here, key=lambda i: (own.start + ((i - own.start) ^ 1) not in here, rng.random()))
            sides = [[i for i in order if sites[i].answer == answer] for answer in ("yes", "no")]
            n = min(len(side) for side in sides)
            m.dropped["one answer more often in a partition"] += len(here) - 2 * n
            for i in sorted(i for side in sides for i in side[:n]):
                at = i - own.start
                kept.append(_Kept(sites[i], partition, divided.groups[i] or "", m.index[at], m.sizes[at]))
    return kept


def _write_task(
    task: str,
    kept: Sequence[_Kept],
    matched: _Matched,
    pools: _Pools,
    gathered: Gathered,
    divided: PartitionResult,
    out: Path,
) -> None:
    """Write the rows of one task, check for leaks, describe."""
    config, source = pools.config, pools.source
    folder = out / task / config.species
    digests = {}
    for partition in PARTITIONS:
        rows = {row.index: row for row in kept if row.partition == partition}
        # read again from the chunks on disk: pictures are never all in memory
        stored = (
            make_row(rows[i].site, drawing.images, rows[i].group, source.info)
            for i, drawing in enumerate(pools.draw(task, matched.pool))
            if i in rows
        )
        size = sum(row.size for row in rows.values())
        digests[partition] = write_partition(folder, task, partition, stored, len(rows), size)
    species_folders = {t: out / t / config.species for t in config.tasks}
    leaks = check_leaks(species_folders, task, config.partition.group_by)
    entry = {
        "config_fingerprint": config.fingerprint(),
        "fingerprint": content_key(digests),
        "counts": {p: dict(Counter(r.site.answer for r in kept if r.partition == p)) for p in PARTITIONS},
        "origins": dict(sorted(Counter(r.site.origin for r in kept).items())),
        "source": _source_entry(source),
        "engine": pools.engine.name,
        "corrections": gathered.corrections,
        "candidates": gathered.candidates.get(task),
        "dropped": {
            "labels": gathered.dropped[task],
            "drawing and matching": {k: n for k, n in sorted(matched.dropped.items()) if n},
            "partition": divided.dropped.get(task, {}),
        },
        "partition": {"bodies": divided.bodies, "bodies_shared": divided.bodies_shared, "cubes": divided.cubes},
        "leaks": leaks,
        "config": config.as_dict(),
        "versions": library_versions(),
    }
    manifest = add_species(out / task, task, config.species, entry)
    write_card(out / task, manifest)
    counts = ", ".join(f"{p} {sum(entry['counts'][p].values())}" for p in PARTITIONS)
    _log.info("%s/%s written: %s rows", task, config.species, counts)


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
