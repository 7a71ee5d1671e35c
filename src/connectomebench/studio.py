"""What it takes to draw: an open source, an engine and rules, here or in a worker of another process."""

from __future__ import annotations

import io
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench import __version__
from connectomebench.drawn_batches import (
    Drawing,
    Sketch,
    read_drawings,
    unavailable,
    undrawn,
    write_drawings,
)
from connectomebench.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.files import content_key
from connectomebench.rendering.engines import CpuEngine, Engine, EngineName, choose_engine
from connectomebench.rendering.views import EmptyView, ViewRules, render_site
from connectomebench.scheduling import SerialRunner
from connectomebench.sites import Site
from connectomebench.sources.base import Source
from connectomebench.sources.opening import SourceConfig, open_source
from connectomebench.tasks import get_task

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class SiteBatch:
    """Sites that are drawn together, and the file for their drawings."""

    sites: tuple[Site, ...]
    path: Path


class Stopped(Exception):
    """Work was told to stop between two sites."""


@dataclass(frozen=True)
class Studio:
    """Draws in this process."""

    source: Source
    engine: Engine
    rules: ViewRules

    @property
    def engine_name(self) -> EngineName:
        """Name of the engine."""
        return "cpu" if isinstance(self.engine, CpuEngine) else "octarine"

    @property
    def look(self) -> str:
        """Key of all that decides how a site looks."""
        return content_key(self.engine_name, repr(self.rules))

    def draw(self, batch: SiteBatch, stop: threading.Event | None = None) -> list[Sketch]:
        """Draw a batch into its file; what is there already is kept, and only failed sites are tried again.

        Parameters
        ----------
        batch
            What is drawn, and where to.
        stop
            When it is set, no further site is begun.

        Raises
        ------
        Stopped
            When ``stop`` is set; nothing is written.
        ConnectomeBenchError
            If the file cannot be written, or the source cannot be used.
        """
        # a worker may have been lost after it wrote the file and before it said so
        drawings: list[Drawing | None] = [*(read_drawings(batch.path) or [None] * len(batch.sites))]
        missing = [i for i, drawing in enumerate(drawings) if drawing is None or drawing.sketch.failed]
        for i in missing:
            if stop is not None and stop.is_set():
                raise Stopped
            drawings[i] = draw_site(batch.sites[i], self.source, self.engine, self.rules)
        complete = [drawing for drawing in drawings if drawing is not None]
        if missing:
            write_drawings(batch.path, complete)
        return [drawing.sketch for drawing in complete]


@dataclass(frozen=True)
class RemoteStudio:
    """How a worker opens the studio of the process that sends it batches; it travels with every batch.

    Attributes
    ----------
    config, species, cache, base
        Of the source; see :func:`connectomebench.sources.opening.open_source`. Paths are absolute.
    source_version
        Of the data that the sending process sees.
    engine_name
        The same for all workers: ``cpu`` or ``octarine``.
    rules
        How sites are drawn.
    version
        Of this package.
    """

    config: SourceConfig
    species: str
    cache: Path
    base: Path
    source_version: str
    engine_name: EngineName
    rules: ViewRules
    version: str = __version__

    @property
    def look(self) -> str:
        """See :attr:`Studio.look`."""
        return content_key(self.engine_name, repr(self.rules))

    def draw(self, batch: SiteBatch) -> list[Sketch]:
        """See :meth:`Studio.draw`. The worker opens the source with its first batch.

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
        if not batch.path.parent.is_dir():  # the sending process has made it
            raise ConnectomeBenchError(
                f"{worker} does not see {batch.path.parent}; choose an --out that all machines see under this path"
            )
        return _open_studio(self, worker).draw(batch)


_open: dict[str, Studio] = {}
_opening = threading.Lock()


def _open_studio(remote: RemoteStudio, worker: str) -> Studio:
    """Open a studio in this process, or give the one that is open. Only the last one is kept: sources are large."""
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
            _open[key] = Studio(source, engine, remote.rules)
        return _open[key]


def _worker_threads() -> int:
    from distributed import get_worker

    return get_worker().state.nthreads


def suitable_engine(name: EngineName) -> EngineName:
    """Name the engine that this process would take; see :func:`connectomebench.rendering.engines.choose_engine`."""
    return "cpu" if isinstance(choose_engine(name, threads=1), CpuEngine) else "octarine"


def draw_site(site: Site, source: Source, engine: Engine, rules: ViewRules) -> Drawing:
    """Draw one site, or say why it cannot be drawn."""
    from connectomebench.models.cues import matched_features

    try:
        meshes = source.meshes(site)
        if any(mesh.is_empty for mesh in meshes):
            return undrawn("a segment has no mesh in the view")
        em = None
        if get_task(site.task).has_em:
            em = source.em_slices(site, rules.em_px)
            if em is None:
                return undrawn("no image data at this place")
        pictures = render_site(site, meshes, em, rules=rules, engine=engine)
    except EmptyView:
        return undrawn("a segment cannot be seen in the view")
    except SiteUnavailable as error:
        return unavailable(str(error))
    features = matched_features(pictures)
    images = {view: _png(picture) for view, picture in pictures.items()}
    return Drawing(images, Sketch(features, sum(map(len, images.values()))))


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=False, compress_level=3)
    return stream.getvalue()
