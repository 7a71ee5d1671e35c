"""Locate the embedded default: five real neurons of the fly hemibrain that ship with navis.

The files are located without importing navis (its code is GPL-3; the data are CC BY 4.0).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint

UNIT_NM = 8.0  # the hemibrain's voxel
LICENSE = "cc-by-4.0"
CITATION = "Scheffer et al. A connectome and analysis of the adult Drosophila central brain. eLife 9:e57443 (2020)."


def hemibrain_folder() -> Path:
    """Find the folder with the SWC files of the five neurons (uniglomerular projection neurons of DA1).

    Raises
    ------
    ConnectomeBenchError
        If navis is not installed, or does not ship these files.
    """
    spec = find_spec("navis")
    if spec is None or spec.origin is None:
        raise ConnectomeBenchError(
            f"the embedded neurons come with navis, which is not installed: {install_hint('neurons')}"
        )
    folder = Path(spec.origin).parent / "data" / "swc"
    if not folder.is_dir():
        raise ConnectomeBenchError(
            f"this version of navis has no example neurons in {folder}: {install_hint('neurons')}"
        )
    return folder
