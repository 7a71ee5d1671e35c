"""Notice that the data of a finished build have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectomebench.build.config import BuildConfig
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.manifest import read_manifest
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import open_source


def check_same_data(config: BuildConfig, built: Mapping[str, Path], version: str | None) -> None:
    """Check that datasets that are there already come from the volumes as they are now.

    Only volumes are looked at: they lie here, where they may be rewritten under the same name. Servers keep versions.

    Parameters
    ----------
    config
        The configuration of the datasets.
    built
        Task -> its finished dataset folder.
    version
        Of the volumes as they are now, from :func:`volumes_version`.

    Raises
    ------
    ConnectomeBenchError
        If the version of the data, which follows from their content, is another one. Data that are gone are no error:
        a finished dataset does not need them.
    """
    if version is None:
        return
    for folder in built.values():
        then = read_manifest(folder)["species"][config.species]["source"]["version"]
        if then != version:
            raise ConnectomeBenchError(
                f"{folder / config.species} was built from other data (version {then}; the volumes are now {version}); "
                "choose another --out, or delete that folder to build it from what is there now"
            )


def volumes_version(config: BuildConfig, cache: Path, base: Path) -> str | None:
    """Return the version of volumes as they are now, which follows from their content.

    Parameters
    ----------
    config
        A configuration.
    cache
        Cache folder of the source.
    base
        Base folder for relative paths.

    Returns
    -------
    str or None
        None for other sources, and for volumes that are gone.
    """
    if config.source.volumes is None:
        return None
    try:
        return open_source(config.source, config.species, cache, base, SerialRunner()).info.version
    except ConnectomeBenchError:
        return None
