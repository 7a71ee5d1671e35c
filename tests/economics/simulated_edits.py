"""Simulated tables whose mean, median and spread are about the published ones; marked as simulated throughout."""

from __future__ import annotations

import numpy as np

from connectomebench.economics.edit_table import EditTable

# species -> published median, mean, share of merges (largest sample)
_MOMENTS = {"mouse": (335.0, 411.1, 0.463), "fly": (8.0, 17.5, 0.74)}


def simulate(species: str, n: int, seed: int = 0) -> EditTable:
    """Draw edits from the log-normal distribution with the published median and mean; merges at the published share."""
    median, mean, share = _MOMENTS[species]
    generator = np.random.default_rng((seed, n))
    edits = generator.lognormal(np.log(median), np.sqrt(2 * np.log(mean / median)), n).round().astype(np.int64)
    merges = generator.binomial(edits, share)
    ids = np.uint64(2**62) + np.arange(n, dtype=np.uint64)
    return EditTable(f"{species} n={n}", ids, merges, edits - merges, simulated=True)
