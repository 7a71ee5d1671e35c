"""Choose a rendering engine: the CPU rasteriser or octarine, behind one interface."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import unknown_name
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.adapters import NOT_INSTALLED, octarine_problem
from connectomebench.rendering.colours import RGB

EngineName = Literal["auto", "cpu", "octarine"]

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """Render meshes in the three orthographic views of :mod:`connectomebench.rendering.camera`."""

    @property
    def name(self) -> str:
        """Name for the manifest: ``cpu`` or ``octarine``."""
        ...

    def render(
        self, meshes: Sequence[Mesh], colours: Sequence[RGB], center_nm: Point, extent_nm: float, pixels: int
    ) -> dict[str, NDArray[np.uint8]]:
        """Render one sample.

        Parameters
        ----------
        meshes
            In drawing order, vertices in nm. They may be far larger than the cube; they are clipped here.
        colours
            sRGB colour of each mesh.
        center_nm, extent_nm
            Centre (x, y, z) and edge of the cube shown, nm.
        pixels
            Edge of an image.

        Returns
        -------
        dict
            View name -> uint8, shape (pixels, pixels, 3), rows downwards, columns to the right, sRGB.
        """
        ...


@dataclass(frozen=True)
class CpuEngine:
    """Multi-threaded CPU rasteriser; needs no graphics driver.

    Attributes
    ----------
    threads
        Threads per sample; all cores of the process by default. Images do not depend on it. Use 1 with several
        processes.
    """

    threads: int = field(default=0)
    name: str = field(default="cpu", init=False)

    def __post_init__(self) -> None:
        from connectomebench.rendering.rasterizer import available_threads

        if self.threads == 0:
            object.__setattr__(self, "threads", available_threads())

    def render(
        self, meshes: Sequence[Mesh], colours: Sequence[RGB], center_nm: Point, extent_nm: float, pixels: int
    ) -> dict[str, NDArray[np.uint8]]:
        """See :meth:`Engine.render`."""
        from connectomebench.rendering.clip import clip_mesh
        from connectomebench.rendering.rasterizer import rasterize, thread_pool

        clipped = list(thread_pool(self.threads).map(lambda m: clip_mesh(m, center_nm, extent_nm), meshes))
        return dict(zip(MESH_VIEWS, rasterize(clipped, list(colours), pixels, self.threads), strict=True))


def choose_engine(name: EngineName = "auto", threads: int = 0) -> Engine:
    """Return the named engine, or the one that suits the machine.

    Parameters
    ----------
    name
        ``auto``: octarine if it is installed and can render on a graphics card, else ``cpu`` (octarine in a software
        driver is tens of times slower than the CPU rasteriser); the reason for the fallback is logged. ``cpu`` or
        ``octarine`` forces that engine.
    threads
        Threads of the CPU engine; 0 for all cores of the process.

    Raises
    ------
    ConnectomeBenchError
        If the name is unknown, or ``octarine`` is named and cannot render here.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench import Mesh, choose_engine
    >>> corners_nm = np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]], np.float32)
    >>> faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    >>> pictures = choose_engine("cpu").render([Mesh(corners_nm, faces)], [(0, 0, 255)], (50, 50, 50), 200.0, 64)
    >>> {name: picture.shape for name, picture in pictures.items()}
    {'front': (64, 64, 3), 'side': (64, 64, 3), 'top': (64, 64, 3)}
    """
    if name not in get_args(EngineName):
        raise unknown_name("engine", name, get_args(EngineName))
    if name == "cpu":
        return CpuEngine(threads)
    if name == "auto":
        problem = octarine_problem(allow_software=False)
        if problem is not None:
            if problem != NOT_INSTALLED:  # octarine is optional: nothing to log
                _log.info("drawing on the CPU: %s", problem)
            return CpuEngine(threads)
    from connectomebench.rendering.octarine_engine import OctarineEngine

    return OctarineEngine()
