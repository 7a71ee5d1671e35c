"""File names of a dataset repository; no other file is uploaded, changed or deleted.

Beside the rows of a species (`SPECIES/PARTITION-NNNNN-of-NNNNN.parquet`) there may be their scenes, from format 2.0 on:
`SPECIES/scenes-PARTITION-NNNNN-of-NNNNN.zip`, an archive with `SAMPLE_ID.glb`, the meshes that the pictures of a sample
show, and `SAMPLE_ID-truth.glb`, what is really there; and their neighbourhoods,
`SPECIES/neighbourhoods-PARTITION-NNNNN-of-NNNNN.zip`, with `SAMPLE_ID.npz`: meshes and slices round each place, without
the truth (:mod:`connectomebench.dataset.neighbourhoods`). Loading rows never touches them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.row_format import FORMAT_VERSION
from connectomebench.dataset.sample_grid import picture_name

CARD = "README.md"
CROISSANT = "croissant.json"
EVAL = "eval.yaml"
# moved to the newest commit of `main` by each publication: `load_dataset(..., revision=TAG)` reads this format
TAG = f"v{FORMAT_VERSION}"
MAIN = "main"

_SPECIES = r"[a-z][a-z0-9_]*"
_SHARD = re.compile(rf"({_SPECIES})/({'|'.join(PARTITIONS)})-[0-9]{{5}}-of-[0-9]{{5}}\.parquet")
_SCENES = re.compile(rf"({_SPECIES})/(?:scenes|neighbourhoods)-({'|'.join(PARTITIONS)})-[0-9]{{5}}-of-[0-9]{{5}}\.zip")
_BESIDE = re.compile(rf"({_SPECIES})-(?:skipped\.jsonl|samples\.png)")


def check_species_name(name: object, where: str) -> None:
    """Reject a species whose name could lead out of a folder.

    Raises
    ------
    ConnectomeBenchError
        If the name is anything but small letters, digits and underscores, starting with a letter.
    """
    if not isinstance(name, str) or not re.fullmatch(_SPECIES, name):
        raise ConnectomeBenchError(f"{where} names a species {str(name)[:40]!r}, which is no name of a species")


def species_of(path: str) -> str | None:
    """Return the species of a file in a repository; None for files of the whole dataset."""
    found = _SHARD.fullmatch(path) or _SCENES.fullmatch(path) or _BESIDE.fullmatch(path)
    return found[1] if found else None


def extra_files(species: str) -> list[str]:
    """Return the names of the optional files of a species beside the manifest."""
    return [f"{species}-skipped.jsonl", picture_name(species)]


def scene_files(folder: Path, species: str, kinds: Sequence[str] = ("scenes", "neighbourhoods")) -> list[str]:
    """Return the names of the scene files of a species in a dataset folder, ``SPECIES/scenes-...``, sorted.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    species
        Species config.
    kinds
        ``scenes``, ``neighbourhoods``, or both.
    """
    found = (f"{species}/{path.name}" for kind in kinds for path in (folder / species).glob(f"{kind}-*.zip"))
    return sorted(name for name in found if _SCENES.fullmatch(name))


def is_shard(path: str) -> bool:
    """Return whether a file in a repository holds rows: ``SPECIES/PARTITION-NNNNN-of-NNNNN.parquet``."""
    return _SHARD.fullmatch(path) is not None
