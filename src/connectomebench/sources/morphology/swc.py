"""Read neurons from SWC files, the usual text format of skeletons with radii."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Skeleton

_COLUMNS = 7  # point number, label, x, y, z, radius, parent


@dataclass(frozen=True)
class Neuron:
    """A proofread neuron.

    Attributes
    ----------
    body
        Unsigned 64-bit id: the file name if that is a number, else a hash of it.
    skeleton
        Curve skeleton with radii, nm; a forest (no cycle).
    digest
        SHA-256 of the file, 64 hex digits.
    """

    body: int
    skeleton: Skeleton
    digest: str


def read_swc(path: Path, unit_nm: float) -> Neuron:
    """Read one SWC file.

    Parameters
    ----------
    path
        The file: lines of point number, label, x, y, z, radius and parent number (-1 for a root); ``#`` comments.
    unit_nm
        Length of the file's unit in nm.

    Returns
    -------
    Neuron
        With positions and radii in nm.

    Raises
    ------
    ConnectomeBenchError
        If the file cannot be read as SWC, a parent is missing, points are numbered twice, parents form a circle, or
        there is no radius above zero.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is reported below
            table = np.loadtxt(path, comments="#", usecols=range(_COLUMNS), ndmin=2, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConnectomeBenchError(f"cannot read {path} as SWC: {error}") from error
    if len(table) < 2:
        raise ConnectomeBenchError(f"{path} holds {len(table)} points; a neuron needs at least 2")
    if not np.isfinite(table).all():
        raise ConnectomeBenchError(f"{path} holds values that are not finite; remove or mend these points")
    names, parents = table[:, 0].astype(np.int64), table[:, 6].astype(np.int64)
    order = np.argsort(names, kind="stable")
    if np.any(np.diff(names[order]) == 0):
        raise ConnectomeBenchError(f"{path} numbers several points alike; give every point its own number")
    child = np.flatnonzero(parents >= 0)
    at = np.minimum(np.searchsorted(names[order], parents[child]), len(names) - 1)
    parent = order[at]
    if np.any(names[parent] != parents[child]):
        lost = int(parents[child][names[parent] != parents[child]][0])
        raise ConnectomeBenchError(f"{path} names parent {lost}, which is not among its points")
    if not np.any(table[:, 5] > 0):
        raise ConnectomeBenchError(f"{path} has no radius above zero; tubes cannot be drawn without radii")
    above = np.full(len(table), -1)
    above[child] = parent
    for _ in range(len(table).bit_length() + 1):  # pointer jumping: all nodes must reach a root
        above = np.where(above >= 0, above[above], -1)
    if np.any(above >= 0):
        raise ConnectomeBenchError(f"{path} has parents that form a circle; a neuron must be a tree")
    skeleton = Skeleton(
        (table[:, 2:5] * unit_nm).astype(np.float32),
        np.stack([parent, child], axis=1).astype(np.int32),
        (table[:, 5] * unit_nm).astype(np.float32),
    )
    return Neuron(_body_id(path.stem), skeleton, hashlib.sha256(path.read_bytes()).hexdigest())


def _body_id(stem: str) -> int:
    if stem.isdecimal() and 0 < int(stem) < 2**64:
        return int(stem)
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") | 1  # 0 is background


def read_swc_folder(folder: Path, unit_nm: float) -> list[Neuron]:
    """Read all ``*.swc`` files of a folder, in the order of their names.

    Parameters
    ----------
    folder
        Where the files lie; subfolders are not searched.
    unit_nm
        Length of the files' unit in nm, for example 8 for voxels of 8 nm, 1000 for micrometres.

    Raises
    ------
    ConnectomeBenchError
        If the folder is missing or holds no SWC file, or a file is not a neuron (see :func:`read_swc`).
    """
    if not folder.is_dir():
        raise ConnectomeBenchError(f"no folder {folder}; `path` must be a folder of .swc files")
    files = sorted(folder.glob("*.swc"))
    if not files:
        raise ConnectomeBenchError(f"no .swc file in {folder}; `path` must be a folder of .swc files")
    neurons = [read_swc(file, unit_nm) for file in files]
    if len({n.body for n in neurons}) < len(neurons):
        raise ConnectomeBenchError(f"{folder} names two neurons alike; body ids come from the file names")
    return neurons
