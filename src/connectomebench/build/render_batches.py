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
from connectomebench.build.failure_policy import FailureRules, FailureTally
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
    failures: FailureRules,
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
        For the files of the batches. Sites that are already there are not rendered again, unless they failed.
    failures
        When to stop the build.

    Raises
    ------
    ConnectomeBenchError
        If the data of too many sites of a task are unavailable, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = batches_of(sites, ids)
    names = [content_key([ids[i] for i in group], renderer.look) for group in groups]
    batches = [
        SiteBatch(tuple(sites[i] for i in group), folder / f"{name}.parquet")
        for group, name in zip(groups, names, strict=True)
    ]
    summaries: dict[int, RenderSummary] = {}
    tally = FailureTally(failures)
    stop = threading.Event()
    draw = partial(renderer.draw, stop=stop) if isinstance(renderer, SiteRenderer) else renderer.draw
    with tqdm(total=len(sites), desc="draw", unit="site", delay=1) as bar:

        def note(number: int, found: Sequence[RenderSummary]) -> None:
            for i, summary in zip(groups[number], found, strict=True):
                summaries[i] = summary
                tally.count(sites[i].task, summary.reason)
            bar.update(len(found))
            tally.check()

        todo = []
        for number, batch in enumerate(batches):
            found = read_summaries(batch.path)
            if found is None or any(summary.failed for summary in found):
                todo.append(number)
            else:
                note(number, found)
        try:
            with closing(runner.run(draw, [batches[number] for number in todo], "draw")) as results:
                for job, found in results:
                    note(todo[job], found)
        except BaseException:
            stop.set()
            raise
    places = {i: (batch.path, row) for batch, group in zip(batches, groups, strict=True) for row, i in enumerate(group)}
    every = range(len(sites))
    return RenderedPool(tuple(summaries[i] for i in every), tuple(places[i] for i in every))


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
