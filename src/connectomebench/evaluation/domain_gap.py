"""Domain gap between species in the feature space of a frozen encoder, and its correlation with drops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.distances import energy_distance, frechet_distance

LEAST_PAIRS = 3
"""Minimum number of species pairs for a correlation."""
MOST_ROWS = 500
"""Default maximum of rows encoded per species."""


@dataclass(frozen=True)
class Gap:
    """Distance between the images of two species.

    Attributes
    ----------
    task, first, second
        The task and the two species.
    encoder
        The encoder of the features.
    n
        Rows per species, the same for all pairs of a task.
    frechet, energy
        See :mod:`connectomebench.evaluation.distances`.
    """

    task: str
    first: str
    second: str
    encoder: str
    n: int
    frechet: float
    energy: float


@dataclass(frozen=True)
class Correlation:
    """Rank correlation between drops and distances.

    Attributes
    ----------
    distance
        ``Fréchet`` or ``energy``.
    n
        Number of drops with a distance.
    pairs
        Number of species pairs among them.
    spearman
        None below `LEAST_PAIRS` pairs, or if all drops or all distances are equal.
    """

    distance: str
    n: int
    pairs: int
    spearman: float | None


def measure_gaps(
    datasets: Sequence[str],
    evaluated: Mapping[str, Mapping[str, str]],
    encoder: str,
    *,
    partition: str = "test",
    rows: int = MOST_ROWS,
    cache: Path | None = None,
    seed: int = 0,
) -> list[Gap]:
    """Measure the distances between species' images, for every task that has a dataset.

    Parameters
    ----------
    datasets
        Folders, or ``ORG/NAME`` on the Hub, that together contain the species.
    evaluated
        Task -> species -> fingerprint of the evaluated data.
    encoder
        See :func:`connectomebench.models.encoders.load_encoder`; vectors are means over patches, concatenated over the
        images of a row.
    partition
        The evaluated partition.
    rows
        Maximum rows per species, drawn at random; the same number for all.
    cache
        Folder for vectors (shared with probes) and for the `datasets` cache; None keeps vectors in memory.
    seed
        Seed of the draw.

    Raises
    ------
    ConnectomeBenchError
        If no dataset has an evaluated task, a species is missing or from another build, or the encoder cannot be
        loaded.
    """
    from connectomebench.dataset.loading import load_rows
    from connectomebench.models.encoders import load_encoder
    from connectomebench.models.features import encoder_store, stored_rows

    if rows < 2:
        raise ConnectomeBenchError(f"a distance needs at least 2 rows per species, not {rows}")
    held = {name: _manifest(name) for name in datasets}
    tasks = [task for task in evaluated if any(manifest["task"] == task for manifest in held.values())]
    if not tasks:
        raise ConnectomeBenchError(
            f"{', '.join(datasets)} holds none of the tasks that were evaluated: {', '.join(evaluated)}"
        )
    holders = {
        task: {s: _holder(held, task, s, fingerprint) for s, fingerprint in sorted(evaluated[task].items())}
        for task in tasks
    }
    store = encoder_store(load_encoder(encoder), "mean", cache)
    kept = cache / "datasets" if cache else None
    gaps = []
    for task, names in holders.items():
        found = {species: load_rows(name, species, partition, cache=kept).dataset for species, name in names.items()}
        n = min(rows, *(len(dataset) for dataset in found.values())) if len(found) > 1 else 0
        vectors = {}
        for species, dataset in found.items() if n else ():
            drawn = dataset.select(np.sort(np.random.default_rng(seed).choice(len(dataset), n, replace=False)))
            total = sum(map(len, drawn["views"]))
            vectors[species] = store.rows(stored_rows(drawn), total, f"encode {species}")
        gaps += [
            Gap(
                task,
                first,
                second,
                encoder,
                n,
                frechet_distance(vectors[first], vectors[second]),
                energy_distance(vectors[first], vectors[second]),
            )
            for first, second in combinations(vectors, 2)
        ]
    return gaps


def correlate(drops: Sequence[tuple[str, str, float]], gaps: Sequence[Gap]) -> list[Correlation]:
    """Rank-correlate drops with the distances of their species pairs.

    Parameters
    ----------
    drops
        Tuples of training species, evaluated species and drop.
    gaps
        Gaps of one task and encoder.

    Returns
    -------
    list[Correlation]
        One each for the Fréchet and the energy distance; empty if no drop has a distance.
    """
    by_pair = {frozenset((gap.first, gap.second)): gap for gap in gaps}
    known = [(by_pair[pair], d) for a, b, d in drops if (pair := frozenset((a, b))) in by_pair and not math.isnan(d)]
    if not known:
        return []
    pairs = len({(gap.first, gap.second) for gap, _ in known})
    lost = [drop for _, drop in known]
    return [
        Correlation(name, len(known), pairs, _spearman(far, lost) if pairs >= LEAST_PAIRS else None)
        for name, far in (
            ("Fréchet", [gap.frechet for gap, _ in known]),
            ("energy", [gap.energy for gap, _ in known]),
        )
    ]


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import rankdata

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _holder(held: Mapping[str, Any], task: str, species: str, fingerprint: str) -> str:
    """Return the dataset that contains the evaluated build of a species."""
    builds = {
        name: manifest["species"][species]["fingerprint"]
        for name, manifest in held.items()
        if manifest["task"] == task and species in manifest["species"]
    }
    name = next((name for name, build in builds.items() if build == fingerprint), None)
    if name is None:
        why = "is of another build there" if builds else "is in none of the datasets"
        raise ConnectomeBenchError(
            f"{task}/{species}, data {fingerprint}, was evaluated and {why}; give the dataset that was (--dataset)"
        )
    return name


def _manifest(name: str) -> dict[str, Any]:
    from connectomebench.dataset.loading import fetch_manifest, resolve_dataset
    from connectomebench.dataset.manifest import read_manifest

    return read_manifest(Path(name)) if Path(name).is_dir() else fetch_manifest(name, resolve_dataset(name, None))
