"""Find the graphics adapter that wgpu offers and check whether octarine can render on it.

Everything that opens a graphics driver calls :func:`prepare_drivers` first: this package, its doctor, its benchmarks
and its tests.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint

NOT_INSTALLED = "octarine is not installed"


@dataclass(frozen=True)
class Adapter:
    """The graphics adapter that wgpu would use.

    Attributes
    ----------
    name
        Name given by its driver, for example ``llvmpipe (LLVM 15.0.6, 256 bits)``.
    backend
        Interface of the driver: ``Vulkan``, ``OpenGL``, ``Metal`` or ``D3D12``.
    is_hardware
        Whether it is a graphics card; False for a software driver on the CPU.
    """

    name: str
    backend: str
    is_hardware: bool

    def __str__(self) -> str:
        return f"{self.name} by {self.backend}" + ("" if self.is_hardware else ", software")


def prepare_drivers() -> None:
    """Make it safe to open a graphics driver in this process, and to import torch afterwards.

    Call it before wgpu asks for an adapter and before an OpenGL context is made. Calling it again does nothing.
    """
    # drivers complain on stderr if a session without a screen has no such folder
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    # Mesa's software drivers (Vulkan and OpenGL) bring an LLVM; triton, a part of torch, brings another and crashes the
    # process when it is loaded second. Torch loads it late, so importing torch is not enough.
    if find_spec("triton") is not None:
        importlib.import_module("triton")


def find_adapter() -> Adapter | None:
    """Find the graphics adapter that wgpu prefers, whether or not octarine can draw on it.

    Returns
    -------
    Adapter or None
        None if wgpu is not installed, or finds no adapter or driver library.
    """
    if find_spec("wgpu") is None:
        return None
    prepare_drivers()
    import wgpu

    try:
        info = wgpu.gpu.request_adapter_sync(power_preference="high-performance").info
    except (RuntimeError, OSError, ValueError):  # the last: WGPUPY_WGPU_ADAPTER_NAME names none
        return None
    return Adapter(info["device"], info["backend_type"], info["adapter_type"] != "CPU")


def octarine_problem(*, allow_software: bool = True) -> str | None:
    """Return why octarine cannot render in this process.

    Parameters
    ----------
    allow_software
        Whether to accept a software adapter. It renders correctly, but tens of times slower than the CPU rasteriser.

    Returns
    -------
    str or None
        One line without a full stop; None if octarine can render.
    """
    if find_spec("octarine") is None:
        return NOT_INSTALLED
    adapter = find_adapter()
    if adapter is None:
        return "wgpu finds no graphics adapter"
    if not (allow_software or adapter.is_hardware):
        return f"the graphics adapter is {adapter}"
    refusal = _refusal()
    return None if refusal is None else f"octarine cannot draw on the graphics adapter {adapter} ({refusal})"


def require_octarine() -> None:
    """Check that octarine can render in this process.

    Raises
    ------
    ConnectomeBenchError
        If it is not installed, or no adapter has the features and limits that it needs.
    """
    problem = octarine_problem()
    if problem == NOT_INSTALLED:
        raise ConnectomeBenchError(f"{problem}; {install_hint('octarine')}, or set views.engine to cpu")
    if problem is not None:
        raise ConnectomeBenchError(
            f"{problem}; install a Vulkan driver (Debian: mesa-vulkan-drivers, which also has one in software), or set "
            "views.engine to cpu"
        )


@cache
def _refusal() -> str | None:
    """Open the device that octarine renders on, and return the driver's reason if there is none."""
    prepare_drivers()
    wgpu: Any = importlib.import_module("wgpu")
    try:
        with suppress(RuntimeError):  # a viewer of the caller has already opened a device
            wgpu.preconfigure_default_device("connectomebench", power_preference="high-performance")
        importlib.import_module("pygfx")  # lets wgpu know which features and limits it needs
        wgpu.get_default_device()
    except (RuntimeError, OSError, ValueError, wgpu.GPUError) as error:
        return str(error).strip().splitlines()[-1].strip()  # "Caused by:" comes last
    return None
