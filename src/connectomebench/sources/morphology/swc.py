"""Read neurons from SWC files, the usual text format of skeletons with radii."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Skeleton
from connectomebench.core.site import Point
from connectomebench.core.text import read_lines

_log = logging.getLogger(__name__)

_COLUMNS = 7  # point number, label, x, y, z, radius, parent
_SOMA = "1"  # label of the points of a cell body
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LARGEST_EXACT = 2**53  # of a floating-point number


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
    interpolated_radii
        Points whose radius the file does not know.
    soma_nm
        Middle of the cell body (x, y, z), nm: the thickest point labelled as soma; None where none is.
    """

    body: int
    skeleton: Skeleton
    digest: str
    interpolated_radii: int = 0
    soma_nm: Point | None = None


def read_swc(path: Path, unit_nm: float) -> Neuron:
    """Read one SWC file.

    Parameters
    ----------
    path
        The file: lines of point number, label, x, y, z, radius and parent number (negative for a root), between spaces,
        commas or semicolons; ``#`` comments in any encoding; a first line may name the columns. Point numbers may be as
        large as an unsigned 64-bit integer. A radius of zero or less, or NaN, is unknown: it is interpolated along the
        neurite between the nearest points with a radius.
    unit_nm
        Length of the file's unit in nm.

    Returns
    -------
    Neuron
        With positions and radii in nm.

    Raises
    ------
    ConnectomeBenchError
        If the file cannot be read as SWC, a parent is missing, points are numbered twice or with rounded numbers,
        parents form a circle, or a tree has no radius above zero.
    """
    names, parents, is_soma, table = _table(path)
    if len(table) < 2:
        raise ConnectomeBenchError(f"{path} holds {len(table)} points; a neuron needs at least 2")
    if not np.isfinite(table[:, :3]).all() or np.isinf(table[:, 3]).any():
        raise ConnectomeBenchError(f"{path} holds values that are not finite; remove or mend these points")
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) < len(names):
        raise ConnectomeBenchError(f"{path} numbers several points alike; give every point its own number")
    child = np.flatnonzero([parent >= 0 for parent in parents])
    lost = next((parents[row] for row in child.tolist() if parents[row] not in row_of), None)
    if lost is not None:
        raise ConnectomeBenchError(f"{path} names parent {lost}, which is not among its points")
    parent = np.asarray([row_of[parents[row]] for row in child.tolist()], np.int64)
    above = np.full(len(table), -1)
    above[child] = parent
    for _ in range(len(table).bit_length() + 1):  # pointer jumping: all nodes must reach a root
        above = np.where(above >= 0, above[above], -1)
    if np.any(above >= 0):
        raise ConnectomeBenchError(f"{path} has parents that form a circle; a neuron must be a tree")
    edges = np.stack([parent, child], axis=1)
    unknown = ~(table[:, 3] > 0)
    if unknown.all():
        raise ConnectomeBenchError(f"{path} has no radius above zero; tubes cannot be drawn without radii")
    radii = table[:, 3]
    if unknown.any():
        radii = _interpolated(path, table[:, :3], radii, unknown, edges)
    skeleton = Skeleton(
        (table[:, :3] * unit_nm).astype(np.float32), edges.astype(np.int32), (radii * unit_nm).astype(np.float32)
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    soma = None
    if is_soma.any():
        thickest = int(np.argmax(np.where(is_soma, skeleton.radii_nm, -1)))
        x, y, z = skeleton.nodes_nm[thickest].tolist()
        soma = (x, y, z)
    return Neuron(_body_id(path.stem), skeleton, digest, int(unknown.sum()), soma)


def _table(path: Path) -> tuple[list[int], list[int], NDArray[np.bool_], NDArray[np.float64]]:
    """Read point and parent numbers, which points are of the soma, and x, y, z and radius: float64, shape (n, 4)."""
    names, parents, somas, values = [], [], [], []
    try:
        lines = read_lines(path)
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path} as SWC: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        words = _words(line.partition("#")[0])
        if not words or (not names and _is_header(words)):
            continue
        if len(words) < _COLUMNS:
            raise ConnectomeBenchError(
                f"cannot read {path} as SWC: line {number} has {len(words)} columns; {_COLUMNS} are needed"
            )
        try:
            names.append(_number(words[0]))
            parents.append(_number(words[6]))
            values.append([_float(word) for word in words[2:6]])
            somas.append(words[1] == _SOMA)
        except ValueError as error:
            raise ConnectomeBenchError(f"cannot read {path} as SWC: line {number}: {error}") from None
    return names, parents, np.asarray(somas, np.bool_), np.asarray(values, np.float64).reshape(-1, 4)


def _words(line: str) -> list[str]:
    """Divide a line at spaces, or at commas or semicolons where each stands between two columns."""
    for separator in ";,":
        cells = [cell.strip() for cell in line.strip().rstrip(separator).split(separator)]
        if len(cells) >= _COLUMNS and all(cell and not re.search(r"\s", cell) for cell in cells):
            return cells
    return line.split()


def _is_header(words: list[str]) -> bool:
    """Return whether a first line names columns: none of its words is a number."""
    return len(words) >= _COLUMNS and not any(_NUMBER.fullmatch(word) for word in words)


def _float(word: str) -> float:
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{word!r} is no number")
    return float(word)


def _number(word: str) -> int:
    """Read the number of a point exactly: whole, or a floating-point number small enough to be exact."""
    value = _float(word)
    try:
        return int(word)
    except ValueError:
        pass
    if not value.is_integer():
        raise ValueError(f"{word!r} is no number of a point")
    if abs(value) >= _LARGEST_EXACT:
        raise ValueError(f"point {word} went through a floating-point number, which rounds numbers above 2^53")
    return int(value)


def _interpolated(
    path: Path,
    points: NDArray[np.float64],
    radii: NDArray[np.float64],
    unknown: NDArray[np.bool_],
    edges: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Fill in unknown radii: linear along a neurite between known ones, constant beyond the last known one.

    This is the harmonic function on the tree whose edges conduct as the reciprocal of their length.
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import spsolve

    n = len(points)
    a, b = edges.T
    length = np.linalg.norm(points[a] - points[b], axis=1)
    shortest = max(float(length.max(initial=0.0)), 1.0) * 1e-6
    weight = 1.0 / np.maximum(length, shortest)
    graph = coo_array((np.tile(weight, 2), (np.append(a, b), np.append(b, a))), shape=(n, n)).tocsr()
    tree = connected_components(graph, directed=False)[1]
    size, known = np.bincount(tree), np.bincount(tree, weights=~unknown)
    bare = int(np.count_nonzero((size > 1) & (known == 0)))
    if bare:
        raise ConnectomeBenchError(
            f"{path} has {int(unknown.sum())} points without a radius above zero, and {bare} of its {len(size)} trees "
            "none at all; give these radii or remove these trees"
        )
    filled = radii.copy()
    rows = np.flatnonzero(unknown & (known[tree] > 0))
    laplacian = (diags_array(graph.sum(axis=1)) - graph).tocsr()
    given = np.flatnonzero(~unknown)
    pull = -(laplacian[rows][:, given] @ radii[given])
    filled[rows] = np.asarray(spsolve(laplacian[rows][:, rows].tocsc(), pull))
    alone = unknown & (known[tree] == 0)  # single points, which are never drawn
    filled[alone] = radii[given].min()
    return filled


def _body_id(stem: str) -> int:
    if stem.isascii() and stem.isdecimal() and 0 < int(stem) < 2**64:
        return int(stem)
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") | 1  # 0 is background


def read_swc_folder(folder: Path, unit_nm: float) -> list[Neuron]:
    """Read all SWC files of a folder (``*.swc``, ``*.SWC``), in the order of their names.

    Parameters
    ----------
    folder
        Where the files lie; subfolders and hidden files are not searched.
    unit_nm
        Length of the files' unit in nm, for example 8 for voxels of 8 nm, 1000 for micrometres.

    Raises
    ------
    ConnectomeBenchError
        If the folder is missing or holds no SWC file, or a file is not a neuron (see :func:`read_swc`).
    """
    if not folder.is_dir():
        raise ConnectomeBenchError(f"no folder {folder}; `path` must be a folder of .swc files")
    # a Mac leaves hidden ._NAME.swc files beside those that it copies
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() == ".swc" and not f.name.startswith("."))
    if not files:
        raise ConnectomeBenchError(f"no .swc file in {folder}; `path` must be a folder of .swc files")
    neurons = [read_swc(file, unit_nm) for file in files]
    unknown = [neuron.interpolated_radii for neuron in neurons if neuron.interpolated_radii]
    if unknown:
        total = sum(len(neuron.skeleton.radii_nm) for neuron in neurons)
        _log.warning(
            "%s: %d of %d radii are unknown, in %d files; interpolated along the neurites",
            folder,
            sum(unknown),
            total,
            len(unknown),
        )
    if len({n.body for n in neurons}) < len(neurons):
        raise ConnectomeBenchError(f"{folder} names two neurons alike; body ids come from the file names")
    return neurons
