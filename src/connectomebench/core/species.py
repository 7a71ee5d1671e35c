"""The five species configs: data paths, voxel size, views and licence.

Facts of the public releases: MICrONS minnie65, FlyWire FAFB, H01, Fish1 and LICONN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectomebench.core.errors import unknown_name


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


def get_species(name: str) -> Species:
    """Return a species config by name.

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
    try:
        return SPECIES[name]
    except KeyError:
        raise unknown_name("species", name, SPECIES) from None
