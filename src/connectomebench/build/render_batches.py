"""Render sites in batches of neighbouring places, each kept on disk, so that a killed build can resume.

A batch is a job of a :class:`connectomebench.execution.runner.Runner`. Data shared by neighbours are fetched once,
and the batches are the same whichever engine renders them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from connectomebench.build.batch_files import RenderSummary, read_images, read_summaries
from connectomebench.build.failure_policy import FailureConfig, FailureTally
from connectomebench.build.render_worker import RemoteRenderer, SiteBatch, SiteRenderer
from connectomebench.core.files import content_key
from connectomebench.core.site import Site
from connectomebench.core.spatial_batches import group_by_place
from connectomebench.execution.runner import Runner

BATCH = 32
# far smaller than a view, so that sites of a batch lie together even where there are many
_CUBE_NM = 2000.0


@dataclass(frozen=True)
class RenderedPool:
    """Rendered sites: summaries in memory, images on disk.

    Attributes
    ----------
    summaries
        In the order of the sites.
    places
        File and row of the images of each site.
    """

    summaries: tuple[RenderSummary, ...]
    places: tuple[tuple[Path, int], ...]

    def images(self, indices: Iterable[int]) -> Iterator[dict[str, bytes]]:
        """Yield the images (view name -> PNG file) of some sites, one site at a time.

        Raises
        ------
        ConnectomeBenchError
            If a file is damaged or missing.
        """
        for i in indices:
            yield read_images(*self.places[i])


def render_sites(
    sites: Sequence[Site],
    ids: Sequence[str],
    renderer: SiteRenderer | RemoteRenderer,
    runner: Runner,
    folder: Path,
    failures: FailureConfig,
) -> RenderedPool:
    """Render sites of any tasks.

    Parameters
    ----------
    sites, ids
        What is drawn, and its sample ids.
    renderer
        Renders a batch: a :class:`connectomebench.build.render_worker.SiteRenderer` where the runner works in this
        process.
    runner
        Runs the batches.
    folder
        For the files of the batches. Sites that are already there with this look are not rendered again, whichever
        batch they were in, unless they failed. The data must be the same for all files there.
    failures
        When to stop the build.

    Raises
    ------
    ConnectomeBenchError
        If the data of too many sites of a task are unavailable, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # the same for every file of this look, so that what another look left behind is not read
    prefix = renderer.look[:16]
    drawn = _find_drawn(folder, prefix)
    missing = [i for i, name in enumerate(ids) if name not in drawn]
    groups = [
        [missing[k] for k in group] for group in batches_of([sites[i] for i in missing], [ids[i] for i in missing])
    ]
    batches = []
    for group in groups:
        own = tuple(ids[i] for i in group)
        path = folder / f"{prefix}-{content_key(own)}.parquet"
        batches.append(SiteBatch(tuple(sites[i] for i in group), own, path))
    tally = FailureTally(failures)
    stop = threading.Event()
    draw = partial(renderer.draw, stop=stop) if isinstance(renderer, SiteRenderer) else renderer.draw
    with tqdm(total=len(sites), desc="draw", unit="site", delay=1) as bar:
        bar.update(len(sites) - len(missing))
        for i, name in enumerate(ids):
            if name in drawn:
                tally.count(sites[i].task, drawn[name].summary.reason)
        try:
            with closing(runner.run(draw, batches, "draw")) as results:
                for job, found in results:
                    for row, (i, summary) in enumerate(zip(groups[job], found, strict=True)):
                        drawn[ids[i]] = _Drawn(summary, (batches[job].path, row))
                        tally.count(sites[i].task, summary.reason)
                    bar.update(len(found))
                    tally.check()
        except BaseException:
            stop.set()
            raise
    return RenderedPool(tuple(drawn[name].summary for name in ids), tuple(drawn[name].place for name in ids))


@dataclass(frozen=True)
class _Drawn:
    """Summary of a rendered site, and the file and row of its images."""

    summary: RenderSummary
    place: tuple[Path, int]


def _find_drawn(folder: Path, prefix: str) -> dict[str, _Drawn]:
    """Find what is rendered already, whichever batch it was in; sites that failed are left out."""
    return {
        name: _Drawn(summary, (path, row))
        for path in sorted(folder.glob(f"{prefix}-*.parquet"))
        for row, (name, summary) in enumerate(read_summaries(path) or [])
        if not summary.failed
    }


def batches_of(sites: Sequence[Site], ids: Sequence[str]) -> list[list[int]]:
    """Divide sites into batches of at most ``BATCH`` neighbours, independent of their order.

    Parameters
    ----------
    sites, ids
        What is drawn, and its sample ids.

    Returns
    -------
    list of list of int
        Indices of the sites of each batch; every site is in exactly one.
    """
    order = sorted(range(len(sites)), key=ids.__getitem__)
    points = np.array([sites[i].location_nm for i in order], np.float64)
    return [[order[row] for row in rows] for rows in group_by_place(points, _CUBE_NM, BATCH)]
