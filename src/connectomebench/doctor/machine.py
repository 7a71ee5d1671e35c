"""Check renderer, disk, memory and cores."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from connectomebench.core.extras import install_hint
from connectomebench.core.memory import memory_bytes
from connectomebench.doctor.checks import CheckResult
from connectomebench.doctor.subprocess_checks import apart

# Measured on the build of examples/fib25.yaml (real meshes and images, pictures of 512²): 196 MB at its largest, 35 of
# them in the cache of the source, for 138 rows. Most of it is drawn candidates, removed after the build; a row
# itself takes 0.21 MB (three pictures) to 0.36 MB (six).
MB_PER_ROW = 1.2
_LEAST_ROWS = 1000

_GB = 1e9


def try_drawing() -> dict[str, Any]:
    """Draw a triangle with the engine a build uses; meant to run in a subprocess.

    Returns
    -------
    dict
        ``engine``, ``threads`` (None for a GPU), ``adapter`` (the wgpu adapter, or None),
        ``problem`` (why octarine does not draw on a GPU, or None if it does), ``installed`` (whether
        octarine is), and ``drawn``, the smallest foreground share of a view.
    """
    import numpy as np

    from connectomebench.core.geometry import Mesh
    from connectomebench.rendering.adapters import NOT_INSTALLED, find_adapter, octarine_problem
    from connectomebench.rendering.colours import BACKGROUND, BLUE
    from connectomebench.rendering.engines import choose_engine

    engine = choose_engine()
    corners = np.array([(400, 0, 0), (0, 400, 0), (0, 0, 400)], np.float32)
    triangle = Mesh(corners, np.array([(0, 1, 2)], np.int32))
    pictures = engine.render([triangle], [BLUE], (0.0, 0.0, 0.0), 1000.0, 64)
    adapter = find_adapter()
    problem = octarine_problem(allow_software=False)
    return {
        "engine": engine.name,
        "threads": getattr(engine, "threads", None),
        "adapter": None if adapter is None else str(adapter),
        "problem": problem,
        "installed": problem != NOT_INSTALLED,
        "drawn": min(float((picture != BACKGROUND).any(-1).mean()) for picture in pictures.values()),
    }


def renderer() -> list[CheckResult]:
    """Check that the engine of a build draws, and whether octarine can use a GPU."""
    tried = apart(try_drawing)
    by = f"{tried['threads']} threads" if tried["threads"] else tried["adapter"]
    if tried["drawn"] > 0:
        drawing = CheckResult("renderer", "ok", f"{tried['engine']} draws ({by})")
    else:
        todo = "set views.engine to cpu in the configuration, and fix the graphics driver"
        drawing = CheckResult("renderer", "missing", f"{tried['engine']} draws nothing ({by})", todo)
    if tried["problem"] is None:
        return [drawing, CheckResult("graphics card", "ok", tried["adapter"])]
    if not tried["installed"]:
        todo = f"to draw on one: {install_hint('octarine')}"
    else:
        todo = (
            "to draw on one (Debian): apt install libvulkan1 and its driver: mesa-vulkan-drivers for AMD and Intel, "
            "nvidia-driver and nvidia-vulkan-icd (non-free) for NVIDIA"
        )
    return [drawing, CheckResult("graphics card", "warning", f"not used: {tried['problem']}; not needed", todo)]


def space(out: Path, source: str, cache_gb: float | None = None) -> list[CheckResult]:
    """Compare free space with the needs of full test partitions of all tasks and of the source cache.

    Parameters
    ----------
    out
        Folder for the datasets; the cache is ``.cache`` in it.
    source
        ``cave``, ``volumes`` or ``morphology``; only the cache of the first is large.
    cache_gb
        Limit of that cache, GB; the default of the source where left out.
    """
    from connectomebench.build.config import DEFAULT_TASKS
    from connectomebench.partition.assign import PartitionConfig

    rules = PartitionConfig()
    rows = round(len(DEFAULT_TASKS) * rules.max_test / rules.test_fraction)
    needed = rows * MB_PER_ROW * 1e6
    cache_limit = 0.0
    if source == "cave":
        from connectomebench.sources.cave.cave_config import CaveConfig

        cache_limit = (CaveConfig().cache_gb if cache_gb is None else cache_gb) * _GB
    cache = out / ".cache"
    homes = _nearest(out), _nearest(cache)
    together = homes[0].stat().st_dev == homes[1].stat().st_dev
    purpose = f"{rows} samples of {MB_PER_ROW} MB (as measured while building; full test partitions of all tasks)"
    findings = [_space("disk", out, homes[0], needed, purpose, _LEAST_ROWS * MB_PER_ROW * 1e6)]
    if cache_limit:
        purpose = f"the cache ({cache_limit / _GB:g} GB, source.cave.cache_gb)" + (
            " and the samples" if together else ""
        )
        findings.append(_space("cache", cache, homes[1], cache_limit + together * needed, purpose, 0))
    return findings


def _nearest(folder: Path) -> Path:
    """Return the folder or its nearest existing parent."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if _exists(path))


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError:  # also for a parent without permission
        return False
    return True


def _space(name: str, folder: Path, home: Path, needed: float, purpose: str, least: float) -> CheckResult:
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        return CheckResult(name, "missing", f"{folder} cannot be written ({error.strerror})", "choose another --out")
    free = shutil.disk_usage(home).free
    found = f"{free / _GB:.1f} GB free at {folder}; {needed / _GB:.1f} GB for {purpose}"
    if free >= needed:
        return CheckResult(name, "ok", found)
    return CheckResult(
        name, "missing" if free < least else "warning", found, "free space, choose another --out or build less"
    )


def memory() -> list[CheckResult]:
    """Report the memory of the machine, or of the container where that has less."""
    size = memory_bytes()
    return [CheckResult("memory", "ok", "unknown" if size is None else f"{size / _GB:.1f} GB")]


def cores() -> list[CheckResult]:
    """Report the number of threads available to this process."""
    from connectomebench.rendering.rasterizer import available_threads

    return [CheckResult("cores", "ok", f"{available_threads()}")]
