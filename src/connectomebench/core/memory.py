"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory_bytes(membership: Path = _MEMBERSHIP, groups: Path = _GROUPS) -> int | None:
    """Return the memory of this machine, or of the container that the process runs in where that is less, bytes.

    Parameters
    ----------
    membership
        The control groups of the process, as Linux lists them.
    groups
        Where control groups are mounted.

    Returns
    -------
    int or None
        None where neither is known.

    Examples
    --------
    >>> from connectomebench.core.memory import memory_bytes
    >>> (memory_bytes() or 1) > 0
    True
    """
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            found += _limits(groups, path, "memory.max")
        elif "memory" in controllers.split(","):  # version 1
            found += _limits(groups / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Read the limits of a group and of all that it is part of; a container may see its own as the root."""
    inside = Path(path.lstrip("/"))
    limits = []
    for group in (inside, *inside.parents):
        try:
            text = (root / group / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max": none
            limits.append(int(text))
    return limits
