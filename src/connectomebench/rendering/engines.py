"""What draws the meshes: the CPU rasteriser or octarine, behind one interface."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.colours import RGB

EngineName = Literal["auto", "cpu", "octarine"]


class Engine(Protocol):
    """Draws meshes in the three orthographic views of :mod:`connectomebench.rendering.camera`."""

    @property
    def name(self) -> str:
        """Name for the manifest: ``cpu`` or ``octarine``."""
        ...

    def render(
        self, meshes: Sequence[Mesh], colours: Sequence[RGB], center_nm: Point, extent_nm: float, pixels: int
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw one sample.

        Parameters
        ----------
        meshes
            In drawing order, vertices in nm. They may be far larger than the cube; they are clipped here.
        colours
            sRGB colour of each mesh.
        center_nm, extent_nm
            Centre (x, y, z) and edge of the cube shown, nm.
        pixels
            Edge of a picture.

        Returns
        -------
        dict
            View name -> uint8, shape (pixels, pixels, 3), rows downwards, columns to the right, sRGB.
        """
        ...


@dataclass(frozen=True)
class CpuEngine:
    """The multi-threaded rasteriser; needs no graphics at all.

    Attributes
    ----------
    threads
        How many threads draw a sample; all cores of the process by default. Pictures do not depend on it. With several
        processes at work give 1.
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


def hardware_adapter() -> str | None:
    """Name the graphics adapter that wgpu would use, if it is hardware.

    Returns
    -------
    str or None
        None where wgpu is not installed, finds no adapter, or finds only software (``adapter_type`` CPU).
    """
    adapter = _default_adapter()
    if adapter is None or adapter["adapter_type"] == "CPU":
        return None
    return adapter["device"]


def adapter_name() -> str | None:
    """Name the graphics adapter that wgpu would use, hardware or software; None where there is none."""
    adapter = _default_adapter()
    return None if adapter is None else adapter["device"]


def _default_adapter() -> dict[str, str] | None:
    if importlib.util.find_spec("wgpu") is None:
        return None
    # drivers complain on stderr where a session without a screen has no such folder
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    # Mesa's software driver brings an LLVM of its own: triton, a part of torch, crashes when it is loaded after that
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
    import wgpu

    try:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
    except (RuntimeError, OSError):  # no adapter, or no driver library to ask for one
        return None
    return None if adapter is None else dict(adapter.info)


def choose_engine(name: EngineName = "auto", threads: int = 0) -> Engine:
    """Take the engine asked for, or the one that suits the machine.

    Parameters
    ----------
    name
        ``auto``: octarine where it is installed and wgpu finds a hardware adapter, else ``cpu`` (octarine in software
        Vulkan is tens of times slower than our rasteriser). ``cpu``, ``octarine``: just that.
    threads
        Threads of the CPU engine; 0 for all cores of the process.

    Raises
    ------
    ConnectomeBenchError
        If the name is unknown, or octarine is asked for and cannot run.
    """
    if name not in get_args(EngineName):
        raise unknown_name("engine", name, get_args(EngineName))
    installed = importlib.util.find_spec("octarine") is not None
    if name == "octarine" and not installed:
        raise ConnectomeBenchError(
            "the engine octarine is not installed; pip install 'connectomebench[octarine]' or take --engine cpu"
        )
    if name == "octarine" and adapter_name() is None:
        raise ConnectomeBenchError(
            "octarine finds no graphics adapter; install a Vulkan driver (mesa-vulkan-drivers for software) "
            "or take --engine cpu"
        )
    if name == "octarine" or (name == "auto" and installed and hardware_adapter() is not None):
        from connectomebench.rendering.octarine_engine import OctarineEngine

        return OctarineEngine()
    return CpuEngine(threads)
