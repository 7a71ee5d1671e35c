"""How far the pictures of two species lie apart in the feature space of a frozen encoder, and whether drops follow."""

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
"""Pairs of species below which a correlation says nothing."""
MOST_ROWS = 500
"""Rows a species that are encoded at most."""


@dataclass(frozen=True)
class Gap:
    """Distance of the pictures of two species.

    Attributes
    ----------
    task, first, second
        What was compared.
    encoder
        Whose features.
    n
        Rows of each species, the same for all pairs of a task.
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
    """Rank correlation of drops with distances.

    Attributes
    ----------
    distance
        ``Fréchet`` or ``energy``.
    n
        Drops with a distance.
    pairs
        Pairs of species among them.
    spearman
        None below `LEAST_PAIRS` pairs, or where all drops or all distances are equal.
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
    """Measure how far the pictures of species lie apart, for every task of which there is a dataset.

    Parameters
    ----------
    datasets
        Folders, or ``ORG/NAME`` on the Hub, that together hold the species.
    evaluated
        Task -> species -> fingerprint of the data that models were evaluated on.
    encoder
        See :func:`connectomebench.models.encoders.load_encoder`; vectors are means over patches, those of the pictures
        of a row joined.
    partition
        That was evaluated.
    rows
        At most so many rows a species, drawn at random; the same number of all.
    cache
        Folder for vectors, shared with probes, and for the cache of `datasets`; None keeps vectors in memory.
    seed
        Of the draw.

    Raises
    ------
    ConnectomeBenchError
        If no dataset is of a task that was evaluated, a species is in none or of another build, or the encoder cannot
        be had.
    """
    from connectomebench.dataset.loading import load_rows
    from connectomebench.models.encoders import load_encoder
    from connectomebench.models.features import encoder_store, stored_rows

    if rows < 2:
        raise ConnectomeBenchError(f"a distance takes two rows a species or more, not {rows}")
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
    """Correlate drops with the distances of their pairs of species, by ranks.

    Parameters
    ----------
    drops
        Training species, evaluated species, drop.
    gaps
        Of one task and encoder.

    Returns
    -------
    list[Correlation]
        For the Fréchet and for the energy distance; empty where no drop has a distance.
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
    """Return the dataset that holds the build of a species that was evaluated."""
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
