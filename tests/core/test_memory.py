"""The memory of a container counts where it is less than that of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from connectomebench.core.memory import memory_bytes

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("member", "limits", "expected"),
    [
        ("0::/", {"memory.max": "1000"}, 1000),  # a container that sees its own group as the root
        ("0::/a/b", {"a/memory.max": "3000", "a/b/memory.max": "max"}, 3000),  # that of the group around it
        ("0::/a/b", {"a/memory.max": "3000", "a/b/memory.max": "2000"}, 2000),
        ("0::/a", {"a/memory.max": "max"}, MACHINE),
        ("0::/a", {}, MACHINE),
        ("0::/a", {"memory.max": str(2 * MACHINE)}, MACHINE),
        ("5:cpu,memory:/a\n4:pids:/a", {"memory/a/memory.limit_in_bytes": "4000"}, 4000),  # version 1
        ("5:cpu:/a", {"memory/a/memory.limit_in_bytes": "4000"}, MACHINE),
    ],
)
def test_the_least_limit_counts(tmp_path: Path, member: str, limits: dict[str, str], expected: int) -> None:
    (tmp_path / "cgroup").write_text(member + "\n")
    for name, text in limits.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    assert memory_bytes(tmp_path / "cgroup", tmp_path / "groups") == expected


def test_without_control_groups_it_is_that_of_the_machine(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "none", tmp_path) == MACHINE
