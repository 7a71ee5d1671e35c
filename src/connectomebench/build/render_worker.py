"""Render site batches with an open source, an engine and rules, in this process or in a worker."""

from __future__ import annotations

import io
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.build.batch_files import (
    RenderedSite,
    RenderSummary,
    not_rendered,
    read_rendered,
    unavailable,
    write_rendered,
)
from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Mesh
from connectomebench.core.geometry_channels import GEOMETRY_PREFIX, pack_channels
from connectomebench.core.part_masks import TARGET_PREFIX, mask_png
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SiteSource
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.engines import CpuEngine, Engine, EngineName, choose_engine
from connectomebench.rendering.geometry_channels import site_channels
from connectomebench.rendering.silhouette_features import matched_features
from connectomebench.rendering.target_masks import PartMasks, part_masks
from connectomebench.rendering.turned_views import sites_to_mesh
from connectomebench.rendering.views import EmptyView, ViewConfig, render_site
from connectomebench.sources.factory import SourceConfig, open_source

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class SiteBatch:
    """Sites that are rendered together, their sample ids, and their output file."""

    sites: tuple[Site, ...]
    ids: tuple[str, ...]
    path: Path


class Stopped(Exception):
    """Raised when rendering is stopped between two sites."""


@dataclass(frozen=True)
class SiteRenderer:
    """Render in this process."""

    source: SiteSource
    engine: Engine
    rules: ViewConfig

    @property
    def engine_name(self) -> EngineName:
        """Name of the engine."""
        return "cpu" if isinstance(self.engine, CpuEngine) else "octarine"

    @property
    def look(self) -> str:
        """Key of everything that affects how a site looks."""
        return content_key(self.engine_name, repr(self.rules))

    def draw(self, batch: SiteBatch, stop: threading.Event | None = None) -> list[RenderSummary]:
        """Render a batch into its file; existing rows are kept, and only failed sites are retried.

        Parameters
        ----------
        batch
            What is drawn, and where to.
        stop
            Once set, no further site is started.

        Raises
        ------
        Stopped
            When ``stop`` is set; nothing is written.
        ConnectomeBenchError
            If the file cannot be written, or the source cannot be used.
        """
        # a worker may have been lost after it wrote the file and before it reported back
        drawings: list[RenderedSite | None] = [*(read_rendered(batch.path) or [None] * len(batch.sites))]
        missing = [i for i, drawing in enumerate(drawings) if drawing is None or drawing.summary.failed]
        for i in missing:
            if stop is not None and stop.is_set():
                raise Stopped
            drawings[i] = render_site_or_reason(batch.sites[i], self.source, self.engine, self.rules)
        complete = [drawing for drawing in drawings if drawing is not None]
        if missing:
            write_rendered(batch.path, batch.ids, complete)
        return [drawing.summary for drawing in complete]


@dataclass(frozen=True)
class RemoteRenderer:
    """How a worker opens the renderer of the process that sends it batches; sent with every batch.

    Attributes
    ----------
    config, species, cache, base
        Arguments of the source; see :func:`connectomebench.sources.factory.open_source`. Paths are absolute.
    source_version
        Version of the data that the sending process sees.
    engine_name
        The same for all workers: ``cpu`` or ``octarine``.
    rules
        How sites are rendered.
    version
        Version of this package.
    """

    config: SourceConfig
    species: str
    cache: Path
    base: Path
    source_version: str
    engine_name: EngineName
    rules: ViewConfig
    version: str = __version__

    @property
    def look(self) -> str:
        """See :attr:`SiteRenderer.look`."""
        return content_key(self.engine_name, repr(self.rules))

    def draw(self, batch: SiteBatch) -> list[RenderSummary]:
        """See :meth:`SiteRenderer.draw`. The worker opens the source with its first batch.

        Raises
        ------
        ConnectomeBenchError
            If the worker does not see the same version, folders or data.
        """
        worker = f"the worker on {socket.gethostname()}"
        if self.version != __version__:
            raise ConnectomeBenchError(
                f"{worker} has connectomebench {__version__}, this build {self.version}; install the same everywhere"
            )
        if not batch.path.parent.is_dir():  # the sending process created it
            raise ConnectomeBenchError(
                f"{worker} does not see {batch.path.parent}; choose an --out that all machines see under this path"
            )
        return _open_renderer(self, worker).draw(batch)


_open: dict[str, SiteRenderer] = {}
_opening = threading.Lock()


def _open_renderer(remote: RemoteRenderer, worker: str) -> SiteRenderer:
    """Open a renderer in this process, or return the open one. Only the last is kept: sources are large."""
    key = repr(remote)
    with _opening:
        if key not in _open:
            _open.clear()
            source = open_source(remote.config, remote.species, remote.cache, remote.base, SerialRunner())
            if source.info.version != remote.source_version:
                raise ConnectomeBenchError(
                    f"{worker} sees version {source.info.version} of the data {source.info.name}, this build "
                    f"{remote.source_version}; put the data where all machines see the same"
                )
            engine = choose_engine(remote.engine_name, threads=1)
            if not isinstance(engine, CpuEngine) and _worker_threads() > 1:
                raise ConnectomeBenchError(
                    f"{worker} has several threads and a graphics card takes one sample at a time; start it with "
                    "--nthreads 1"
                )
            _open[key] = SiteRenderer(source, engine, remote.rules)
        return _open[key]


def _worker_threads() -> int:
    from distributed import get_worker

    return get_worker().state.nthreads


def suitable_engine(name: EngineName) -> EngineName:
    """Return the engine that this process would use; see :func:`connectomebench.rendering.engines.choose_engine`."""
    return "cpu" if isinstance(choose_engine(name, threads=1), CpuEngine) else "octarine"


def render_site_or_reason(site: Site, source: SiteSource, engine: Engine, rules: ViewConfig) -> RenderedSite:
    """Render one site, or return why it cannot be rendered."""
    try:
        shown = (site,) if site.second is None else sites_to_mesh(site)
        meshes = [mesh for one in shown for mesh in source.meshes(one)]
        if any(mesh.is_empty for mesh in meshes):
            return not_rendered("a segment has no mesh in the view")
        em = None
        if get_task(site.task).has_em:
            em = source.em_slices(site, rules.em_px)
            if em is None:
                return not_rendered("no image data at this place")
        pictures = render_site(site, meshes, em, rules=rules, engine=engine)
        masks = None if site.target_cut is None else _target_masks(site, source, meshes[0], engine, rules)
    except EmptyView:
        return not_rendered("a segment cannot be seen in the view")
    except SiteUnavailable as error:
        return unavailable(str(error))
    if masks is not None and masks.problem is not None:
        return not_rendered(masks.problem)
    features = matched_features(pictures)
    images = {view: _png(picture) for view, picture in pictures.items()}
    if masks is not None:
        images |= {TARGET_PREFIX + view: mask_png(mask) for view, mask in masks.views.items()}
    if rules.geometry:
        channels = site_channels(site, meshes, engine.threads if isinstance(engine, CpuEngine) else 0)
        images |= {GEOMETRY_PREFIX + view: pack_channels(own) for view, own in channels.items()}
    return RenderedSite(images, RenderSummary(features, sum(map(len, images.values()))))


def _target_masks(site: Site, source: SiteSource, segment: Mesh, engine: Engine, rules: ViewConfig) -> PartMasks:
    """Mask the two sides of the right split, which the pictures do not show."""
    base = site.parts[0].segment_id
    sides = (Part(base, "source"), Part(base, "sink"))
    one, other = source.meshes(replace(site, parts=sides, cut=site.target_cut))
    threads = engine.threads if isinstance(engine, CpuEngine) else 0
    return part_masks(segment, (one, other), site.location_nm, site.extent_nm, rules.image_px, threads)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=False, compress_level=3)
    return stream.getvalue()
