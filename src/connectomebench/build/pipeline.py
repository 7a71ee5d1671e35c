"""Build datasets: source, sites, partition, images, rows, card and manifest; resumable at any point."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from connectomebench.build.balance import KeptSite, MatchedSites, balance_sites, match_sites
from connectomebench.build.batch_files import RenderSummary
from connectomebench.build.changed_data import check_same_data, volumes_version
from connectomebench.build.collect_sites import CollectedSites, collect_sites
from connectomebench.build.config import BuildConfig
from connectomebench.build.divisions import (
    Division,
    divisions,
    left_out_path,
    read_left_out,
    write_left_out,
    written_rows,
)
from connectomebench.build.render_batches import RenderedPool, render_sites
from connectomebench.build.render_worker import RemoteRenderer, SiteRenderer, suitable_engine
from connectomebench.core.errors import ConnectomeBenchError, TaskLacking
from connectomebench.core.files import content_key, write_text
from connectomebench.core.geometry_channels import CHANNEL_NAMES, GEOMETRY_PX
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.site import Site
from connectomebench.core.source import SourceInfo
from connectomebench.core.tasks import get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.leak_words import MOST_LISTED
from connectomebench.dataset.leakage import PictureMemo, check_leaks, count_bodies, look_alikes
from connectomebench.dataset.manifest import add_species, is_built, library_versions, remove_other_build
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.sample_grid import write_grid
from connectomebench.dataset.schema import GEOMETRY, make_row, write_partition
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS, Runner
from connectomebench.partition.assign import PartitionResult, check_divisible, partition_sites
from connectomebench.partition.earlier_rows import EarlierRow
from connectomebench.rendering.engines import CpuEngine, EngineName, choose_engine
from connectomebench.rendering.rasterizer import available_threads
from connectomebench.sources.factory import open_source

_log = logging.getLogger(__name__)


def build_datasets(
    config: BuildConfig,
    out: Path,
    base: Path,
    tasks: Sequence[str] | None = None,
    scheduler: str = IN_PROCESS,
    overwrite: bool = False,
    written: Callable[[str, Path], None] | None = None,
) -> dict[str, Path]:
    """Build the datasets of a configuration; existing output is kept.

    A task with too few sites is left out with one line, and the others are written. Rendered sites are kept until all
    tasks are written, so that a corrected configuration renders only what it shows in another way. A task that is added
    to a finished build keeps clear of the rows of the others, which stay as they are.

    Parameters
    ----------
    config
        What to build.
    out
        Folder for the datasets, one subfolder per task.
    base
        Base folder for relative paths in the configuration.
    tasks
        Write only these tasks; the partition is still that of all tasks of the configuration.
    scheduler
        Where the work is done; see :func:`connectomebench.execution.open_runner.open_runner`. The datasets do not
        depend on it.
    overwrite
        Replace tasks that were built from another configuration.
    written
        Called with task and folder of each dataset as soon as it is whole, while the others are written; first for
        those that are there already.

    Returns
    -------
    dict
        Task -> dataset folder, without the tasks that were left out.

    Raises
    ------
    TaskLacking
        If every wanted task has too few sites.
    ConnectomeBenchError
        If the data cannot be read or have changed since a task was built, ``out`` holds another configuration, or the
        data of too many sites are unavailable.

    Examples
    --------
    Build one task from the embedded neurons; a second call reuses all of it.

    >>> from pathlib import Path
    >>> from connectomebench import build_datasets, load_config
    >>> path = Path("examples/quickstart.yaml")
    >>> folders = build_datasets(load_config(path), Path("quickstart-out"), base=path.parent)
    >>> print(folders["merge_action"])
    quickstart-out/merge_action
    """
    wanted = _wanted(config, tasks)
    folders = {task: out / task for task in config.tasks}
    if overwrite:
        for folder in folders.values():
            remove_other_build(folder, config.species, config.fingerprint())
    built = {task for task in config.tasks if is_built(folders[task], config.species, config.fingerprint())}
    version = None
    if built or left_out_path(out, config.species).exists():  # what is there may be of other data
        version = volumes_version(config, out / ".cache" / "source", base)
    check_same_data(config, {task: folders[task] for task in sorted(built)}, version)
    lacking = read_left_out(out, config, version)
    for task in wanted:
        if task in built:
            _log.info("%s/%s is there already", task, config.species)
            if written is not None:
                written(task, folders[task])
        elif task in lacking:
            _log.warning("%s is left out: %s", task, lacking[task])
    todo = [task for task in wanted if task not in built and task not in lacking]
    if todo:
        for division, own in divisions(config, out, todo).items():
            left_out, version = _build(own, division, config, out, base, scheduler, written)
            lacking |= left_out
        write_left_out(out, config, version, lacking)
        done = {task for task in config.tasks if is_built(folders[task], config.species, config.fingerprint())}
        if done == {*config.tasks}:
            shutil.rmtree(_drawn_folder(out, config.species), ignore_errors=True)
    left = {task: lacking[task] for task in wanted if task in lacking}
    if len(left) == len(wanted):
        task, problem = next(iter(left.items()))
        raise TaskLacking(task, problem)
    return {task: folders[task] for task in wanted if task not in left}


def _wanted(config: BuildConfig, tasks: Sequence[str] | None) -> tuple[str, ...]:
    if not tasks:
        return config.tasks
    for task in tasks:
        get_task(task)
        if task not in config.tasks:
            raise ConnectomeBenchError(f"task {task} is not in the configuration; add it to `tasks` there")
    return tuple(dict.fromkeys(tasks))


def _build(
    todo: Sequence[str],
    division: Division,
    config: BuildConfig,
    out: Path,
    base: Path,
    scheduler: str,
    written: Callable[[str, Path], None] | None,
) -> tuple[dict[str, str], str | None]:
    """Build some of the tasks of a division; return what those lack that are left out, and the version of volumes."""
    pool = _draw_pool(replace(config, tasks=division.tasks), out.resolve(), base.resolve(), scheduler)
    lacking = dict(pool.lacking)
    matched: dict[str, MatchedSites] = {}
    for task in division.tasks:
        try:
            if task not in lacking:
                matched[task] = match_sites(task, pool.of(task), config.controls)
        except TaskLacking as error:
            _leave_out(error, lacking)
    sites = [site for m in matched.values() for site in m.sites]
    earlier = written_rows(division.after, config, out, pool.info)
    divided = _divide(sites, config, pool.info, earlier, lacking)
    if divided is not None:
        # the division drops whole tasks only before any row of them is chosen
        matched = {task: m for task, m in matched.items() if task not in lacking}
        left = [site for site in sites if site.task in matched]
        kept = balance_sites(left, divided, matched.values(), config.partition.seed)
        for task in todo:
            if task in matched:
                rows = [row for row in kept if row.site.task == task]
                _write_task(task, rows, matched[task], pool, divided, out, config, division)
                if written is not None:
                    written(task, out / task)
    version = None if config.source.volumes is None else pool.info.version
    return {task: problem for task, problem in lacking.items() if task in todo}, version


def _leave_out(error: TaskLacking, lacking: dict[str, str]) -> None:
    _log.warning("%s is left out: %s", error.task, error.problem)
    lacking[error.task] = error.problem


def _divide(
    sites: Sequence[Site],
    config: BuildConfig,
    info: SourceInfo,
    earlier: Sequence[EarlierRow],
    lacking: dict[str, str],
) -> PartitionResult | None:
    """Divide the sites, without the tasks that have too few; these are added to ``lacking``. None if none is left."""
    while left := [site for site in sites if site.task not in lacking]:
        try:
            return partition_sites(left, config.partition, info.bounds_nm, earlier)
        except TaskLacking as error:
            _leave_out(error, lacking)
    return None


@dataclass(frozen=True)
class _Pool:
    """All rendered sites of a build, more than the dataset keeps.

    ``ids`` are the sample ids of ``gathered.sites``, and ``drawn`` holds them as the named engine rendered them. What
    ``lacking`` tasks lack was clear before rendering.
    """

    config: BuildConfig
    info: SourceInfo
    gathered: CollectedSites
    ids: list[str]
    drawn: RenderedPool
    engine: EngineName
    lacking: dict[str, str]

    def of(self, task: str) -> list[tuple[int, Site, RenderSummary]]:
        """Return index, site and summary of each site of a task."""
        every = zip(count(), self.gathered.sites, self.drawn.summaries)
        return [(i, site, summary) for i, site, summary in every if site.task == task]


def _drawn_folder(out: Path, species: str) -> Path:
    return out / ".cache" / "drawn" / species


def _draw_pool(config: BuildConfig, out: Path, base: Path, scheduler: str) -> _Pool:
    """Open the source, find the sites of all tasks and render them; paths are absolute."""
    engine = choose_engine(config.views.engine) if scheduler == IN_PROCESS else None
    # kernels release the GIL, so batches are rendered in parallel; a graphics card takes one sample at a time
    threads = available_threads() if engine is None or isinstance(engine, CpuEngine) else 1
    with open_runner(scheduler, threads) as runner:
        _log.info("opening the source")
        cache = out / ".cache" / "source"
        source = open_source(config.source, config.species, cache, base, runner)
        info = source.info
        gathered = collect_sites(source, config)
        if engine is not None:
            renderer = SiteRenderer(source, engine, config.views)
        else:
            name = _engine_of_workers(runner, config.views.engine)
            renderer = RemoteRenderer(config.source, config.species, cache, base, info.version, name, config.views)
        lacking: dict[str, str] = {}
        for error in gathered.lacking:
            _leave_out(error, lacking)
        while left := tuple(site for site in gathered.sites if site.task not in lacking):
            try:
                check_divisible(left, config.partition, info.bounds_nm)
                break
            except TaskLacking as error:
                _leave_out(error, lacking)
        gathered = replace(gathered, sites=left)
        ids = [info.sample_id(site) for site in gathered.sites]
        folder = _drawn_folder(out, config.species) / content_key(config.source_values())
        drawn = render_sites(gathered.sites, ids, renderer, runner, folder, config.failures)
    return _Pool(config, info, gathered, ids, drawn, renderer.engine_name, lacking)


def _engine_of_workers(runner: Runner, wanted: EngineName) -> EngineName:
    """Let a worker choose the engine: there may be no graphics card where this process runs."""
    with closing(runner.run(suitable_engine, [wanted], "engine")) as results:
        return next(results)[1]


def _write_task(
    task: str,
    kept: Sequence[KeptSite],
    matched: MatchedSites,
    pool: _Pool,
    divided: PartitionResult,
    out: Path,
    config: BuildConfig,
    division: Division,
) -> None:
    """Write the rows of one task, check for leakage, and write card and manifest."""
    gathered = pool.gathered
    folder = out / task / config.species
    digests, memo = {}, PictureMemo()
    for partition in PARTITIONS:
        rows = sorted((row for row in kept if row.partition == partition), key=lambda row: row.index)
        index = [row.index for row in rows]
        # read from disk one by one: images are never all in memory
        stored = (
            make_row(row.site, images, row.group, pool.info, gathered.edit_times.get(row.site.edit_id or ""))
            for row, images in zip(rows, pool.drawn.images(index), strict=True)
        )
        size = sum(pool.drawn.summaries[i].size for i in index)
        digests[partition] = write_partition(
            folder,
            task,
            partition,
            stored,
            len(rows),
            size,
            geometry=config.views.geometry,
            on_picture=memo.remember,
        )
    _write_skipped(folder.with_name(f"{config.species}-skipped.jsonl"), task, pool)
    fingerprint = config.fingerprint()
    others = {*division.after, *division.tasks} - {task}
    others = {other for other in others if is_built(out / other, config.species, fingerprint)}
    species_folders = {t: out / t / config.species for t in (task, *sorted(others))}
    similar = look_alikes(folder, memo)
    leaks = check_leaks(species_folders, task, config.partition.group_by, similar)
    entry = {
        "format_version": FORMAT_VERSION,
        "config_fingerprint": fingerprint,
        "fingerprint": content_key(digests),
        "counts": {p: _count_answers(kept, p) for p in PARTITIONS},
        "origins": dict(sorted(Counter(r.site.origin for r in kept).items())),
        "source": _source_entry(pool.info),
        "engine": pool.engine,
        **_geometry_entry(config),
        "corrections": gathered.corrections,
        **_hard_negatives_entry(task, kept, gathered),
        **_given_ids_entry(gathered),
        "warnings": list(gathered.warnings),
        **_segmentations_entry(kept, gathered, pool.info),
        "candidates": gathered.candidates.get(task),
        "cases": _cases_by_step(task, kept, matched, pool, divided),
        "dropped": {
            "labels": gathered.dropped[task],
            "drawing and matching": {k: n for k, n in sorted(matched.dropped.items()) if n},
            "partition": divided.dropped.get(task, {}),
        },
        "partition": {
            "tasks": list(division.tasks),
            "after": list(division.after),
            **count_bodies(folder),
            "cubes": divided.cubes,
            "groups": {p: len({r.group for r in kept if r.partition == p}) for p in PARTITIONS},
        },
        "leaks": leaks,
        "look_alikes": [asdict(pair) for pair in similar[:MOST_LISTED]],
        "config": config.as_dict(),
        "versions": library_versions(),
    }
    manifest = add_species(out / task, task, config.species, entry)
    write_grid(out / task, config.species)
    write_card(out / task, manifest)
    counts = ", ".join(f"{p} {sum(entry['counts'][p].values())}" for p in PARTITIONS)
    _log.info("%s/%s written: %s rows", task, config.species, counts)


def _count_answers(kept: Sequence[KeptSite], partition: str) -> dict[str, int]:
    sites = [row.site for row in kept if row.partition == partition]
    return dict(Counter(get_task(site.task).counted_as(site.answer) for site in sites))


def _write_skipped(path: Path, task: str, pool: _Pool) -> None:
    """List places and sites whose data were unavailable, one JSON object per line; no file if there are none."""
    lines = [
        json.dumps({"edit_id": s.name, "location_nm": list(s.location_nm), "reason": s.reason})
        for s in pool.gathered.skipped
    ]
    lines += [
        json.dumps(
            {
                "sample_id": pool.ids[i],
                "segment_ids": [int(s) for s in site.segment_ids],
                "location_nm": [float(c) for c in site.location_nm],
                "reason": summary.reason,
            }
        )
        for i, site, summary in pool.of(task)
        if summary.failed
    ]
    if lines:
        write_text(path, "\n".join(lines) + "\n")
    else:
        path.unlink(missing_ok=True)


def _cases_by_step(
    task: str, kept: Sequence[KeptSite], matched: MatchedSites, pool: _Pool, divided: PartitionResult
) -> dict[str, int]:
    """Count the cases (something is there to be found) left after each step, to show which step costs most."""
    entries = [summary for _, site, summary in pool.of(task) if site.is_case]
    counts = divided.counts[task].values()
    return {
        "labelled": len(entries),
        "visible": sum(summary.problem is None for summary in entries),
        "matched": sum(site.is_case for site in matched.sites),
        "in a partition": sum(n for own in counts for answer, n in own.items() if get_task(task).is_case(answer)),
        "written": sum(row.site.is_case for row in kept),
    }


def _hard_negatives_entry(task: str, kept: Sequence[KeptSite], gathered: CollectedSites) -> dict[str, Any]:
    """Count the controls that a person once took for a correction; empty where there are none."""
    labelled = sum(site.hard_negative for site in gathered.of(task))
    written = sum(row.site.hard_negative for row in kept)
    return {"hard_negatives": {"labelled": labelled, "written": written}} if labelled else {}


def _geometry_entry(config: BuildConfig) -> dict[str, Any]:
    """Describe the column of geometry channels; empty where there is none."""
    return {GEOMETRY: {"channels": list(CHANNEL_NAMES), "px": GEOMETRY_PX}} if config.views.geometry else {}


def _given_ids_entry(gathered: CollectedSites) -> dict[str, Any]:
    """List the ids of the configuration that were followed or left out; empty where there are none."""
    found = {
        "followed": {str(given): segment for given, segment in sorted(gathered.given_ids.followed.items())},
        "left_out": {str(given): reason for given, reason in sorted(gathered.given_ids.left_out.items())},
    }
    return {"given_ids": found} if any(found.values()) else {}


def _segmentations_entry(kept: Sequence[KeptSite], gathered: CollectedSites, info: SourceInfo) -> dict[str, Any]:
    """Return the counts of each segmentation; empty if there is only one."""
    if not info.segmentations:
        return {}
    rows = Counter(row.site.segmentation for row in kept)
    return {
        "segmentations": {
            name: {"source": info.segmentations[name].name, "version": info.segmentations[name].version}
            | found
            | {"rows": rows[name]}
            for name, found in gathered.segmentations.items()
        }
    }


def _source_entry(info: SourceInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "simulated_errors": info.simulated_errors,
        "simulated_em": info.simulated_em,
        "license": info.license,
        "citation": info.citation,
        "bounds_nm": [list(info.bounds_nm.lower_nm), list(info.bounds_nm.upper_nm)],
    }
