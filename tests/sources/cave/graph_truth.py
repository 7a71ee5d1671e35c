"""What the fixture of the recorded server knows about the graph, for the tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from replay_volumes import FIXTURE


@dataclass(frozen=True)
class Truth:
    """What the fixture knows about the graph.

    Attributes
    ----------
    table
        The arrays of ``truth.npz``.
    told
        ``operations.json``.
    """

    table: dict[str, NDArray[Any]] = field(repr=False)
    told: dict[str, Any] = field(repr=False)

    def roots_at(self, time: float) -> NDArray[np.uint64]:
        """Root of each supervoxel of the table at a time (s)."""
        roots = self.table["initial_root"].copy()
        done = self.table["operation_times"][self.table["change_operation"] - 1] <= time
        # later changes overwrite earlier ones
        roots[self.table["change_supervoxel"][done]] = self.table["change_root"][done]
        return roots


def read_truth() -> Truth:
    """Read the fixture."""
    with np.load(FIXTURE / "truth.npz") as table:
        arrays = {name: table[name] for name in table}
    return Truth(arrays, json.loads((FIXTURE / "operations.json").read_text(encoding="utf-8")))
