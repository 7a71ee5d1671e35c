"""Keep simulated reconstructions on disk: a build opens its source many times, in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.correction import Contacts
from connectomebench.core.files import ArrayCache, content_key
from connectomebench.sources.morphology.reconstruction import Reconstruction, find_contacts
from connectomebench.sources.morphology.simulated_errors import simulate
from connectomebench.sources.morphology.simulation_rules import SimulationConfig
from connectomebench.sources.morphology.swc import Neuron
from connectomebench.sources.morphology.windows import Flesh

_FLESH = ("flesh", "through")
_CONTACTS = ("segments", "points_nm", "areas")
_TABLES = tuple(name for name in Reconstruction.__dataclass_fields__ if name not in (*_FLESH, "tips"))


def simulate_once(
    neurons: Sequence[Neuron], rules: SimulationConfig, folder: Path | None
) -> tuple[Reconstruction, Contacts]:
    """Simulate errors and find the contacts of the segments, or read what an earlier call kept of both.

    Parameters
    ----------
    neurons
        Proofread neurons.
    rules
        Rules of the simulation.
    folder
        Cache folder; None keeps nothing. What is kept there counts only for the same neurons and rules, the same code
        of the simulation, and the same numpy and scipy; a damaged file is made again.

    Returns
    -------
    reconstruction
        See :func:`simulated_errors.simulate`.
    contacts
        See :func:`reconstruction.find_contacts`.

    Raises
    ------
    ConnectomeBenchError
        If the disk is full or the folder cannot be written.
    """
    if folder is None:
        return _simulate(neurons, rules)
    store, key = ArrayCache(folder), _key(neurons, rules)
    kept = store.get(key)
    if kept is not None and kept.keys() == _names():
        return _unpack(kept)
    made = _simulate(neurons, rules)
    store.put(key, **_pack(*made))
    return made


def _simulate(neurons: Sequence[Neuron], rules: SimulationConfig) -> tuple[Reconstruction, Contacts]:
    rec = simulate(neurons, rules)
    return rec, find_contacts(rec, rules.contact_gap_nm, 4 * rules.step_nm, rules.voxel_nm)


def _key(neurons: Sequence[Neuron], rules: SimulationConfig) -> str:
    cables = [a for n in neurons for a in (n.skeleton.nodes_nm, n.skeleton.edges, n.skeleton.radii_nm)]
    return content_key([n.body for n in neurons], *cables, asdict(rules), _code())


@cache
def _code() -> str:
    """Hash all that decides what a simulation gives beside its input: this package, numpy and scipy."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return content_key(version("numpy"), version("scipy"), *(file.read_bytes() for file in files))


def _names() -> set[str]:
    flesh = {f"{name}.{column}" for name in _FLESH for column in ("cones", "nodes")}
    return {*_TABLES, *flesh, "tips.edges", "tips.faces", *(f"contacts.{name}" for name in _CONTACTS)}


def _pack(rec: Reconstruction, contacts: Contacts) -> dict[str, NDArray[np.generic]]:
    arrays = {name: getattr(rec, name) for name in _TABLES}
    for name in _FLESH:
        flesh: Flesh = getattr(rec, name)
        arrays |= {f"{name}.cones": flesh.cones, f"{name}.nodes": flesh.nodes}
    arrays["tips.edges"], arrays["tips.faces"] = rec.tips
    return arrays | {f"contacts.{name}": getattr(contacts, name) for name in _CONTACTS}


def _unpack(arrays: dict[str, NDArray[np.generic]]) -> tuple[Reconstruction, Contacts]:
    tables = {name: arrays[name] for name in _TABLES}
    flesh = {name: Flesh(arrays[f"{name}.cones"], arrays[f"{name}.nodes"]) for name in _FLESH}  # pyright: ignore
    tips = (arrays["tips.edges"], arrays["tips.faces"])
    rec = Reconstruction(**tables, **flesh, tips=tips)  # pyright: ignore
    return rec, Contacts(*(arrays[f"contacts.{name}"] for name in _CONTACTS))  # pyright: ignore
