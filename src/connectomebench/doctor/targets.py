"""What a build reads, so that exactly this is checked: from a species, or from a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import Species, get_species

if TYPE_CHECKING:
    from connectomebench.build.config import BuildConfig
    from connectomebench.sources.cave.cave_config import CaveConfig
    from connectomebench.sources.volumes.volume_source import VolumesConfig

SourceName = Literal["cave", "volumes", "morphology"]


@dataclass(frozen=True)
class Target:
    """What is to be built, and what that needs.

    Attributes
    ----------
    name
        The species.
    source
        Source of the samples.
    login
        CAVE server, without trailing slash; None without CAVE.
    datastack, graph_table
        Datastack, or the ChunkedGraph where no datastack is used.
    paths
        Name of a check -> CloudVolume path of the data on a server.
    files
        Name of a check -> file or folder on this machine.
    cache_gb
        Limit of the cache of fetched data, GB; None for that of the source.
    embedded
        The neurons of the quickstart are used.
    """

    name: str
    source: SourceName
    login: str | None = None
    datastack: str | None = None
    graph_table: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    cache_gb: float | None = None
    embedded: bool = False


def species_target(species: Species, server: str | None = None) -> Target:
    """Return what building a species needs, from its public servers.

    Parameters
    ----------
    species
        Built from the source ``cave`` if it has a CAVE server, else from ``volumes``.
    server
        CAVE server instead of the species' own.

    Raises
    ------
    ConnectomeBenchError
        If ``server`` is not a plain address.
    """
    login = login_server(server or species.server)
    named = {"labels": species.segmentation, "proofread labels": species.proofread_segmentation, "images": species.em}
    paths = {name: path for name, path in named.items() if path is not None}
    return Target(species.name, "volumes" if login is None else "cave", login, species.datastack, paths=paths)


def config_target(config: BuildConfig, base: Path) -> Target:
    """Return what a configuration needs: its server, its volumes, its files.

    Parameters
    ----------
    config
        The configuration.
    base
        Folder that its relative paths start from.

    Raises
    ------
    ConnectomeBenchError
        If its CAVE server is not a plain address, or there is none.
    """
    source = config.source
    if source.cave is not None:
        return _cave_target(source.cave, config.species, base)
    if source.volumes is not None:
        return _volumes_target(source.volumes, config.species, base)
    path = None if source.morphology is None else source.morphology.path
    files = {} if path is None else {"neurons": base / path}
    return Target(config.species, "morphology", files=files, embedded=path is None)


def _cave_target(cave: CaveConfig, name: str, base: Path) -> Target:
    species = get_species(name)
    login = login_server(cave.server or species.server)
    if login is None:
        raise ConnectomeBenchError(f"{name} has no CAVE server; name one with source.cave.server")
    datastack = None if cave.graph_table else cave.datastack or species.datastack
    # as a build does: paths of the species belong to its own datastack alone
    own = datastack is not None and datastack == species.datastack
    labels, image = cave.segmentation, cave.image
    if own:
        labels, image = labels or species.segmentation, image or species.em
    if labels is None and cave.graph_table:
        labels = f"graphene://{login}/segmentation/table/{cave.graph_table}"
    named = {"labels": labels, "images": None if image == "none" else image}
    paths = {check: path for check, path in named.items() if path is not None}
    files = {"roots": base / cave.roots.file} if cave.roots.file else {}
    return Target(name, "cave", login, datastack, cave.graph_table, paths, files, cave.cache_gb)


def _volumes_target(volumes: VolumesConfig, name: str, base: Path) -> Target:
    several = volumes.automatic if isinstance(volumes.automatic, dict) else {"": volumes.automatic}
    named = {f"labels {one}".strip(): spec.path for one, spec in several.items()}
    rest = {
        "proofread labels": volumes.proofread,
        "images": volumes.image,
        "supervoxels": volumes.supervoxels,
        "affinities": volumes.affinity,
    }
    named |= {check: spec.path for check, spec in rest.items() if spec is not None}
    paths = {check: path for check, path in named.items() if is_remote(path)}
    files = {check: base / local_path(path) for check, path in named.items() if check not in paths}
    return Target(name, "volumes", paths=paths, files=files)


def is_remote(path: str) -> bool:
    """Return whether a path of a volume names a server or bucket rather than a file."""
    return "://" in path and not re.match(r"(\w+://)?file://", path)


def local_path(path: str) -> str:
    """Return the file or folder that a local path of a volume names."""
    return re.sub(r"^(\w+://)?(file://)?", "", path)


def login_server(address: str | None) -> str | None:
    """Return the address of a server without trailing slash; None for None.

    Raises
    ------
    ConnectomeBenchError
        If it is not a plain http(s) address.
    """
    if address is not None and not re.match(r"https?://[^/@]+/?$", address):
        raise ConnectomeBenchError("the server must be given as http(s)://HOST or http(s)://HOST:PORT and nothing else")
    return address and address.rstrip("/")
