"""Neurites that a test writes: a build of them takes a quarter of the time that one of the embedded neurons takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_neurons(folder: Path) -> None:
    """Write four bundles of four neurites along x, 60 µm long, with twigs; SWC files in µm."""
    folder.mkdir()
    for bundle in range(4):
        for k in range(4):
            y = 15 * bundle + 0.33 * k
            rows = [
                f"{i + 1} 0 {i} {y + 0.03 * np.sin(i / 3 + k):.4f} {0.03 * np.cos(i / 4):.4f} 0.15 {i if i else -1}"
                for i in range(60)
            ]
            rows += [f"{61 + n} 6 {at} {y} 1.5 0.08 {at + 1}" for n, at in enumerate(range(5 + k % 3, 60, 9))]
            (folder / f"{100 + 10 * bundle + k}.swc").write_text("\n".join(rows) + "\n")
