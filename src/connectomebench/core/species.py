"""The five species configs: data paths, voxel size, views and licence; and species of one's own.

Facts of the public releases: MICrONS minnie65, FlyWire FAFB, H01, Fish1 and LICONN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connectomebench.core.errors import ConnectomeBenchError, unknown_name


@dataclass(frozen=True)
class Species:
    """One species config.

    Attributes
    ----------
    name
        Config name of every dataset.
    title
        For people.
    datastack, server
        CAVE datastack and global server; None where there is no CAVE.
    proofread_table
        Materialised table of proofread cells; None where there is none.
    segmentation, proofread_segmentation
        CloudVolume paths; ``proofread_segmentation`` only where corrections are the difference of two volumes.
    em
        CloudVolume path of the image data.
    segmentation_voxel_nm, em_voxel_nm
        Voxel size x, y, z in nm; None where it is read from the server.
    view_extent_nm
        Edge of a view for whole-brain data, nm (smallest and largest used).
    license, citation
        SPDX-like licence id of the data, and how to cite them.
    microscopy
        What made the image data: electrons or light.
    nucleus_table, cell_type_table
        Materialised tables of nuclei and of cell types; None where there is none.
    """

    name: str
    title: str
    datastack: str | None
    server: str | None
    proofread_table: str | None
    segmentation: str
    proofread_segmentation: str | None
    em: str
    segmentation_voxel_nm: tuple[float, float, float] | None
    em_voxel_nm: tuple[float, float, float] | None
    view_extent_nm: tuple[float, float]
    license: str
    citation: str
    microscopy: Literal["electron", "light"] = "electron"
    nucleus_table: str | None = None
    cell_type_table: str | None = None


# what a card says where neither a licence nor a citation was stated; the Hub knows this name of a licence
NOT_STATED_LICENSE = "unknown"
NOT_STATED_CITATION = ""

_GLOBAL = "https://global.daf-apis.com"
_BRAIN_WIRE = "https://global.brain-wire-test.org/"
_EXTENT = (5000.0, 8000.0)

_SPECIES = (
    Species(
        "mouse",
        "Mouse visual cortex (MICrONS minnie65)",
        "minnie65_public",
        _GLOBAL,
        "proofreading_status_and_strategy",
        "graphene://https://minnie.microns-daf.com/segmentation/table/minnie65_public",
        None,
        "precomputed://https://bossdb-open-data.s3.amazonaws.com/iarpa_microns/minnie/minnie65/em",
        (8.0, 8.0, 40.0),
        (8.0, 8.0, 40.0),
        _EXTENT,
        "cc-by-4.0",
        "MICrONS Consortium. Functional connectomics spanning multiple areas of mouse visual cortex. "
        "Nature 640 (2025).",
        nucleus_table="nucleus_detection_v0",
        cell_type_table="aibs_metamodel_celltypes_v661",
    ),
    Species(
        "fly",
        "Fruit fly brain",
        "flywire_fafb_public",
        _GLOBAL,
        "proofread_neurons",
        "graphene://https://prod.flywire-daf.com/segmentation/1.0/flywire_public",
        None,
        "precomputed://https://bossdb-open-data.s3.amazonaws.com/flywire/fafbv14",
        (16.0, 16.0, 40.0),
        (4.0, 4.0, 40.0),
        _EXTENT,
        "cc-by-nc-4.0",
        "Dorkenwald et al. Neuronal wiring diagram of an adult brain. Nature 634 (2024).",
        nucleus_table="nuclei_v1",
    ),
    Species(
        "human",
        "Human temporal cortex (H01)",
        "h01_c3_flat",
        _BRAIN_WIRE,
        None,
        "graphene://https://local.brain-wire-test.org/segmentation/table/h01_full0_v2",
        None,
        "gs://h01-release/data/20210601/4nm_raw",
        None,
        None,
        _EXTENT,
        "cc-by-4.0",
        "Shapson-Coe et al. A petavoxel fragment of human cerebral cortex. Science 384 (2024).",
    ),
    Species(
        "zebrafish",
        "Larval zebrafish brain (Fish1)",
        "fish1_full",
        _BRAIN_WIRE,
        None,
        "graphene://https://pcgv3local.brain-wire-test.org/segmentation/table/fish1_v250915",
        None,
        "gs://fish1-public/clahe_231218",
        None,
        (4.0, 4.0, 30.0),
        _EXTENT,
        "cc-by-nc-4.0",
        "Petkova et al. A connectomic resource for neural cataloguing and circuit dissection of the larval zebrafish "
        "brain (Fish1, 2025).",
    ),
    Species(
        "mouse_exm",
        "Mouse hippocampus, expansion light microscopy (LICONN)",
        None,
        None,
        None,
        "gs://liconn-public/ExPID82_1/segmentation/231030_agg_230921_cmpl",
        "gs://liconn-public/ExPID82_1/segmentation/231030_agg_240123",
        "gs://liconn-public/ExPID82_1/image_230130b",
        (18.0, 18.0, 24.0),
        (9.0, 9.0, 12.0),
        _EXTENT,
        "cc-by-4.0",
        "Tavakoli et al. Light-microscopy-based connectomic reconstruction of mammalian brain tissue. "
        "Nature 642 (2025).",
        "light",
    ),
)

SPECIES: dict[str, Species] = {s.name: s for s in _SPECIES}


@dataclass(frozen=True)
class OwnSpecies:
    """A species that is none of the five, as a configuration declares it.

    Attributes
    ----------
    name
        Config name of every dataset: lower-case letters, digits and ``_``.
    title
        For people.
    license, citation
        Licence of the data (an id of the Hub, such as ``cc-by-4.0``), and how to cite them. Where they are left out,
        cards say that they were not stated.
    view_extent_nm
        Edge of a view, nm (smallest and largest used), where ``sites.extent_nm`` is not set.
    voxel_size_nm
        Voxel size x, y, z of label arrays that state none, nm.
    microscopy
        What made the image data: electrons or light.

    Examples
    --------
    >>> from connectomebench.core.species import OwnSpecies, declare_species, get_species
    >>> get_species(declare_species(OwnSpecies("rat", "Rat hippocampus"))).title
    'Rat hippocampus'
    """

    name: str
    title: str
    license: str | None = None
    citation: str | None = None
    view_extent_nm: tuple[float, float] | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    microscopy: Literal["electron", "light"] = "electron"

    def __post_init__(self) -> None:
        if self.name in SPECIES:
            raise ConnectomeBenchError(
                f"species {self.name!r} is one of the five and cannot be declared; write `species: {self.name}`, or "
                "choose another name"
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", self.name):
            raise ConnectomeBenchError(
                f"species {self.name!r} is no config name; use lower-case letters, digits and _, a letter first"
            )
        for field in ("title", "license", "citation"):
            text = getattr(self, field)
            if text is not None and (not text.strip() or not text.isprintable()):
                raise ConnectomeBenchError(f"species {self.name}: {field} must be one line of text")
        if self.microscopy not in ("electron", "light"):
            raise ConnectomeBenchError(f"species {self.name}: microscopy must be electron or light")
        low, high = self.view_extent_nm or (1.0, 1.0)
        if not 0 < low <= high < float("inf"):
            raise ConnectomeBenchError(f"species {self.name}: view_extent_nm must be two lengths in nm, smallest first")
        if self.voxel_size_nm is not None and not all(0 < v < float("inf") for v in self.voxel_size_nm):
            raise ConnectomeBenchError(f"species {self.name}: voxel_size_nm must be three lengths above 0, nm")


class _DeclaredName(str):
    """Name of a declared species. Pickled, it brings the declaration along to workers in other processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return declare_species, (_OWN[str(self)],)


_OWN: dict[str, OwnSpecies] = {}


def declare_species(own: OwnSpecies) -> str:
    """Make a species of one's own known to :func:`get_species` in this process, and in those its name is sent to.

    Parameters
    ----------
    own
        The species; it replaces an earlier one of its name.

    Returns
    -------
    str
        Its name.
    """
    _OWN[own.name] = own
    return _DeclaredName(own.name)


def own_terms(name: str) -> tuple[str, str]:
    """Return licence and citation for data of which none are stated.

    Parameters
    ----------
    name
        Species config.

    Returns
    -------
    license, citation
        What the configuration declares with its species; never those of another dataset of one of the five.
    """
    own = _OWN.get(name)
    if own is None:
        return NOT_STATED_LICENSE, NOT_STATED_CITATION
    return own.license or NOT_STATED_LICENSE, own.citation or NOT_STATED_CITATION


def declare_from_manifest(manifest: Mapping[str, Any]) -> None:
    """Declare the species of one's own that a manifest of a dataset describes; what is no such description is left."""
    entries = manifest.get("species")
    for entry in entries.values() if isinstance(entries, Mapping) else ():
        config = entry.get("config") if isinstance(entry, Mapping) else None
        stored = config.get("own_species") if isinstance(config, Mapping) else None
        if not isinstance(stored, Mapping):
            continue
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
            declare_species(OwnSpecies(**values))
        except (ConnectomeBenchError, TypeError, ValueError, AttributeError):  # a stranger's manifest
            continue


def _as_species(own: OwnSpecies) -> Species:
    return Species(
        name=own.name,
        title=own.title,
        datastack=None,
        server=None,
        proofread_table=None,
        segmentation="",
        proofread_segmentation=None,
        em="",
        segmentation_voxel_nm=own.voxel_size_nm,
        em_voxel_nm=None,
        view_extent_nm=own.view_extent_nm or _EXTENT,
        license=own.license or NOT_STATED_LICENSE,
        citation=own.citation or NOT_STATED_CITATION,
        microscopy=own.microscopy,
    )


def get_species(name: str) -> Species:
    """Return a species config by name, one of the five or a declared one.

    Raises
    ------
    ConnectomeBenchError
        If there is no such species; the message names the nearest ones.

    Examples
    --------
    >>> from connectomebench import get_species
    >>> get_species("fly").title
    'Fruit fly brain'
    """
    if name in SPECIES:
        return SPECIES[name]
    if name in _OWN:
        return _as_species(_OWN[name])
    known = unknown_name("species", name, SPECIES)
    raise ConnectomeBenchError(
        f"{known}; a configuration may declare one of its own: `species: {{name: ..., title: ..., license: ..., "
        "citation: ...}`"
    )
