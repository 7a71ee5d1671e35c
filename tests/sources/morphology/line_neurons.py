"""Straight neurons with twigs: small enough to be simulated in no time."""

from __future__ import annotations

import numpy as np

from connectomebench.sources.morphology.simulation_rules import SimulationConfig

SMALL = SimulationConfig(cut_spacing_nm=8000.0, min_fragment_nm=1500.0, fused_fraction=0.3)


def write_line(path, y_um, n=60, radius=0.15):
    """A straight neurite of n - 1 µm along x with twigs of 1.5 µm every 10 µm, in µm."""
    rows = [f"{i + 1} 0 {i} {y_um + 0.02 * np.sin(i)} 0 {radius} {i if i else -1}" for i in range(n)]
    for k, at in enumerate(range(5, n, 10)):
        rows.append(f"{n + 1 + k} 6 {at} {y_um} 1.5 {radius / 2} {at + 1}")
    path.write_text("# made for a test\n\n" + "\n".join(rows) + "\n")
