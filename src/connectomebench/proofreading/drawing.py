"""Draw the pictures of questions: in threads of this process, or on the workers that hold the blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from connectomebench.build.batch_files import RenderedSite
from connectomebench.build.render_worker import render_site_or_reason
from connectomebench.core.site import Site
from connectomebench.execution.runner import Runner
from connectomebench.proofreading.piece_volume import ObjectVolume
from connectomebench.proofreading.place import PlaceState, blind_source
from connectomebench.rendering.engines import CpuEngine, Engine, EngineName, choose_engine
from connectomebench.rendering.rasterizer import available_threads
from connectomebench.rendering.views import ViewConfig
from connectomebench.sources.volumes.volume_source import VolumeSource

Drawer = Callable[[Sequence[Site], VolumeSource], list[RenderedSite]]
_SITES_A_JOB = 4


def draw_here(sites: Sequence[Site], source: VolumeSource, *, engine: Engine, views: ViewConfig) -> list[RenderedSite]:
    """Draw sites in threads of this process."""
    threads = available_threads() if isinstance(engine, CpuEngine) else 1
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda site: render_site_or_reason(site, source, engine, views), sites))


@dataclass(frozen=True)
class DrawJob:
    """Sites that a worker draws."""

    state: PlaceState
    sites: tuple[Site, ...]
    engine: EngineName
    views: ViewConfig


def draw_sites(job: DrawJob) -> list[RenderedSite]:
    """Draw the sites of a job."""
    held, pieces = job.state.spec.open()
    source = blind_source(held, pieces, job.state.rows(), job.state.key, job.state)
    engine = choose_engine(job.engine, threads=1)
    return [render_site_or_reason(site, source, engine, job.views) for site in job.sites]


def make_drawer(runner: Runner, engine: Engine, views: ViewConfig) -> Drawer:
    """Choose where pictures are drawn: on the runner's workers where it has any."""
    if runner.in_process:
        return partial(draw_here, engine=engine, views=views)
    name: EngineName = "cpu" if isinstance(engine, CpuEngine) else "octarine"

    def draw(sites: Sequence[Site], source: VolumeSource) -> list[RenderedSite]:
        assert isinstance(source.automatic, ObjectVolume) and source.automatic.state is not None
        state = source.automatic.state
        groups = [tuple(sites[i : i + _SITES_A_JOB]) for i in range(0, len(sites), _SITES_A_JOB)]
        jobs = [DrawJob(state, group, name, views) for group in groups]
        made = dict(runner.run(draw_sites, jobs, "draw"))
        return [one for i in range(len(jobs)) for one in made[i]]

    return draw
