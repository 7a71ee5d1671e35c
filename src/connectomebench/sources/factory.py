"""Open the source that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
from connectomebench.core.source import Source
from connectomebench.core.species import own_terms
from connectomebench.execution.runner import Runner
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.family import SegmentationFamily
from connectomebench.sources.morphology.simulation_rules import SimulationConfig
from connectomebench.sources.volumes.volume_source import VolumesConfig

_VOLUME_PACKAGES = ("cc3d", "cloudvolume", "edt", "fastremap", "kimimaro", "zmesh")
_CAVE_PACKAGES = ("caveclient", "diskcache", *_VOLUME_PACKAGES)


@dataclass(frozen=True)
class MorphologyConfig:
    """Proofread neurons with simulated errors.

    Attributes
    ----------
    rules
        Rules of the simulated errors.
    path
        Folder of SWC files, relative to the configuration file; None for the embedded hemibrain neurons.
    unit_nm
        Length of the files' unit, nm; required with ``path``.
    license, citation
        Licence and citation of the neurons in ``path``. Where they are left out, those of a species that the
        configuration declares; else the card says that they were not stated.
    """

    rules: SimulationConfig = field(default_factory=SimulationConfig)
    path: str | None = None
    unit_nm: float | None = None
    license: str | None = None
    citation: str | None = None


@dataclass(frozen=True)
class SourceConfig:
    """Source of the samples: exactly one of the three.

    Attributes
    ----------
    cave
        The edit history of a dataset on a CAVE server.
    volumes
        An automatic and a proofread segmentation of the same place.
    morphology
        Proofread neurons with simulated errors.
    """

    cave: CaveConfig | None = None
    volumes: VolumesConfig | None = None
    morphology: MorphologyConfig | None = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.cave, self.volumes, self.morphology)) != 1:
            raise ConnectomeBenchError("source needs exactly one of `cave`, `volumes` and `morphology`")


def open_source(
    config: SourceConfig, species: str, cache: Path, base: Path, runner: Runner
) -> Source | SegmentationFamily:
    """Open a source, or a family of sources over one volume.

    Parameters
    ----------
    config
        The source and its rules.
    species
        Species config of the samples.
    cache
        Cache folder for meshes, skeletons, corrections and simulated segmentations.
    base
        Base folder for relative paths: that of the configuration file.
    runner
        Runs the grouped work of a source before any site is known.

    Raises
    ------
    ConnectomeBenchError
        If the data cannot be opened or do not fit each other.
    """
    if config.cave is not None:
        _need("cave", _CAVE_PACKAGES)
        from connectomebench.sources.cave.cave_source import CaveSource

        return CaveSource(config.cave, species, cache, base, runner)
    if config.volumes is not None:
        _need("volumes", _VOLUME_PACKAGES)
        from connectomebench.sources.volumes.volume_source import open_volumes

        return open_volumes(config.volumes, species, cache=cache, base=base)
    from connectomebench.sources.morphology.morphology_source import MorphologySource

    neurons = config.morphology or MorphologyConfig()
    path = None if neurons.path is None else base / neurons.path
    license, citation = own_terms(species)
    return MorphologySource(
        neurons.rules,
        species,
        path,
        neurons.unit_nm,
        neurons.license or license,
        neurons.citation or citation,
        cache / "simulated",
    )


def _need(source: str, packages: tuple[str, ...]) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConnectomeBenchError(f"the source `{source}` needs {', '.join(missing)}; run {install_hint(source)}")
