"""Edits of sampled proofread neurons, counted in the change logs of a CAVE server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key, write_json
from connectomebench.core.species import get_species
from connectomebench.economics.edit_table import EditTable
from connectomebench.sources.cave.archive import final_state
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.cave.connect import Connection, connect, proofread_roots
from connectomebench.sources.cave.graph import Graph

SIZES = (100, 500, 1000)


@dataclass(frozen=True)
class ChangeLogConfig:
    """Which neurons are sampled, and which of their operations count.

    Attributes
    ----------
    species
        Species with a CAVE dataset.
    sizes
        Neurons in each sample.
    seed
        Of the draw. Samples of different sizes are drawn independently, without replacement.
    filtered
        Count only operations that affect the final state of a neuron, as caveclient's change log does by default;
        otherwise also those on parts that were split off it later.
    cave
        Server, table of proofread roots, final state and requests; those of the species where left out.
    """

    species: str
    sizes: tuple[int, ...] = SIZES
    seed: int = 0
    filtered: bool = True
    cave: CaveConfig = field(default_factory=CaveConfig)

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) != len(self.sizes):
            raise ConnectomeBenchError(f"sizes are {list(self.sizes)}; give different whole numbers of at least 1")


@dataclass(frozen=True)
class LogSamples:
    """Samples of one dataset.

    Attributes
    ----------
    tables
        One a size, from the smallest; ``failed`` counts the neurons whose log could not be read.
    population
        Proofread neurons that were drawn from.
    until
        Final state, UTC.
    reasons
        Root -> why its log could not be read.
    """

    tables: tuple[EditTable, ...]
    population: int
    until: datetime
    reasons: dict[int, str]


def sample_roots(roots: NDArray[np.uint64], size: int, seed: int) -> NDArray[np.uint64]:
    """Draw roots without replacement.

    Parameters
    ----------
    roots
        uint64, shape (population,), in any order.
    size, seed
        Of the draw; each pair gives a draw of its own.

    Returns
    -------
    NDArray[np.uint64]
        Shape (size,), sorted; the same for the same set of roots.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer roots than ``size``.
    """
    unique = np.unique(np.asarray(roots, np.uint64))
    if size > len(unique):
        raise ConnectomeBenchError(f"cannot sample {size} of {len(unique)} proofread neurons; give smaller sizes")
    return np.sort(np.random.default_rng((seed, size)).choice(unique, size, replace=False))


def read_samples(rules: ChangeLogConfig, cache: Path, base: Path = Path()) -> LogSamples:
    """Sample proofread neurons and count their merges and splits.

    Every answer is kept in ``cache``, one file a request; the same call continues from there, and asks again only for
    neurons that failed.

    Parameters
    ----------
    rules
        Dataset, sizes and seed.
    cache
        Folder of this dataset's answers.
    base
        Folder that ``cave.roots.file`` is relative to.

    Raises
    ------
    ConnectomeBenchError
        If the server cannot be reached or refuses the token, there are fewer neurons than a sample needs, or none of a
        sample could be read.
    """
    species, config = get_species(rules.species), rules.cave
    until = final_state(config, rules.species, cache)
    connection = connect(config, species)
    roots = _population(rules, connection, until, cache, base)
    drawn = {size: sample_roots(roots, size, rules.seed) for size in sorted(rules.sizes)}
    wanted = np.unique(np.concatenate(list(drawn.values()))).tolist()
    counts, reasons = _count(rules, connection, wanted, until, cache)
    tables = tuple(_table(f"{rules.species} n={size}", ids.tolist(), counts, reasons) for size, ids in drawn.items())
    return LogSamples(tables, len(roots), until, reasons)


def _dataset(rules: ChangeLogConfig) -> list[Any]:
    c = rules.cave
    return [rules.species, c.server, c.datastack, c.graph_table, rules.filtered]


def _population(
    rules: ChangeLogConfig, connection: Connection, until: datetime, cache: Path, base: Path
) -> NDArray[np.uint64]:
    path = cache / "population" / f"{content_key(_dataset(rules), asdict(rules.cave.roots), until.isoformat())}.json"
    if not path.exists():
        roots = proofread_roots(connection, rules.cave.roots, get_species(rules.species), until, base).ids
        write_json(path, roots.tolist())
    return np.asarray(json.loads(path.read_text(encoding="utf-8")), np.uint64)


def _count(
    rules: ChangeLogConfig, connection: Connection, wanted: Sequence[int], until: datetime, cache: Path
) -> tuple[dict[int, tuple[int, int]], dict[int, str]]:
    """Return (merges, splits) of each root, and why there are none for the others."""
    from tqdm import tqdm

    step = rules.cave.requests.roots_per_request
    counts: dict[int, tuple[int, int]] = {}
    reasons: dict[int, str] = {}
    for start in tqdm(range(0, len(wanted), step), "change logs", unit="request", delay=1):
        batch = wanted[start : start + step]
        path = cache / "change-logs" / f"{content_key(_dataset(rules), list(batch), until.isoformat())}.json"
        known: dict[int, tuple[int, int]] = {}
        if path.exists():
            known = {int(root): (m, s) for root, (m, s) in json.loads(path.read_text(encoding="utf-8")).items()}
        missing = [root for root in batch if root not in known]
        if missing:
            found, failed = _ask(connection.graph, missing, until, rules.filtered)
            known |= found
            reasons |= failed
            write_json(path, {str(root): list(known[root]) for root in batch if root in known})
        counts |= known
    return counts, reasons


def _ask(
    graph: Graph, roots: Sequence[int], until: datetime, filtered: bool
) -> tuple[dict[int, tuple[int, int]], dict[int, str]]:
    logs, failed = graph.change_logs(roots, filtered=filtered)
    counts = {}
    latest = until.timestamp() * 1000  # logs count in milliseconds
    for root, log in logs.items():
        try:
            kinds = [bool(m) for m, at in zip(log["is_merge"], log["timestamp"], strict=True) if at <= latest]
        except (KeyError, TypeError, ValueError):
            if any(log.values()):
                failed[root] = "a change log without is_merge and timestamp"
                continue
            kinds = []  # a root without edits may have a table without columns
        counts[root] = (sum(kinds), len(kinds) - sum(kinds))
    return counts, failed


def _table(name: str, ids: Sequence[int], counts: dict[int, tuple[int, int]], reasons: dict[int, str]) -> EditTable:
    read = [root for root in ids if root in counts]
    if not read:
        reason = next(iter(reasons.values()), "no answer")
        raise ConnectomeBenchError(f"{name}: no change log could be read ({reason}); run again to continue from here")
    pairs = np.asarray([counts[root] for root in read], np.int64)
    return EditTable(name, np.asarray(read, np.uint64), pairs[:, 0], pairs[:, 1], failed=len(ids) - len(read))
