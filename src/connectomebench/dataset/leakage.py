"""Leak check: read the written files back and look for anything in two partitions."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.leak_words import LookAlike
from connectomebench.dataset.schema import read_images, read_small_columns

# pictures with hashes at most this many bits apart are compared pixel by pixel, as thumbnails
NEAR_BITS = 4
# correlation of two thumbnails from which on they count as the same picture
SAME_CORRELATION = 0.98
# grey levels; thumbnails that vary less show nothing
BLANK_DEVIATION = 1.0
_THUMBNAIL = 16


@dataclass(frozen=True)
class PictureHashes:
    """Perceptual hashes of the images of a partition, one row per image.

    Attributes
    ----------
    names
        ``SAMPLE_ID/VIEW``.
    hashes
        uint64, shape (n,): difference hash, 8 x 8 bits.
    thumbnails
        float32, shape (n, 256): 16 x 16 grey values, mean 0 and length 1; all 0 where the picture is blank.
    """

    names: list[str]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.float32]

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Return which images are blank; bool, shape (n,)."""
        return np.logical_not(np.any(self.thumbnails, axis=1))


def check_leaks(
    folders: Mapping[str, Path],
    task: str,
    group_by: Literal["segment", "body"],
    pictures: Sequence[LookAlike] | None = None,
) -> dict[str, int]:
    """Check the files of a task against those of all written tasks of the build.

    Parameters
    ----------
    folders
        Task -> ``OUT/TASK/SPECIES``, the tasks of one build; those not written yet are left out.
    task
        The task that was just written.
    group_by
        What the partition keeps apart; with ``body``, bodies are checked too.
    pictures
        What :func:`look_alikes` found; None looks for them.

    Returns
    -------
    dict
        What was looked for -> how many were found: ``sample_ids``, ``segments``, ``bodies`` (with ``group_by="body"``)
        and ``places`` are 0; ``pictures`` counts pairs of near-identical pictures in two partitions.

    Raises
    ------
    ConnectomeBenchError
        If an id or a place is in two partitions.
    """
    present = {t: f for t, f in folders.items() if t == task or all(any(f.glob(f"{p}-*")) for p in PARTITIONS)}
    found = id_leaks(present, group_by)
    leaking = {name: examples for name, examples in found.items() if examples}
    if leaking:
        name, examples = next(iter(leaking.items()))
        raise ConnectomeBenchError(
            f"{folders[task]}: {len(examples)} {name.replace('_', ' ')} are in two partitions, for example "
            f"{examples[0]}; delete the datasets of this species and build again"
        )
    similar = look_alikes(folders[task]) if pictures is None else pictures
    return {name: 0 for name in found} | {"pictures": len(similar)}


def look_alikes(folder: Path) -> list[LookAlike]:
    """Find pictures of different partitions that hardly differ, the closest pair first.

    They are no leak where the ids and places of the partitions are apart: a straight neurite looks like another one.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    """
    hashes = {p: hash_pictures(folder, p) for p in PARTITIONS}
    found = []
    for a, b in itertools.combinations(PARTITIONS, 2):
        place = {side: {name: i for i, name in enumerate(hashes[side].names)} for side in (a, b)}
        for first, second in near_pictures(hashes[a], hashes[b]):
            i, j = place[a][first], place[b][second]
            bits = int(np.bitwise_count(hashes[a].hashes[i] ^ hashes[b].hashes[j]))
            correlation = min(1.0, float(hashes[a].thumbnails[i] @ hashes[b].thumbnails[j]))
            found.append(LookAlike(first, second, a, b, bits, round(correlation, 4)))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.bits, pair.first, pair.second))


def count_bodies(folder: Path) -> dict[str, int]:
    """Count the bodies of the written rows of a task, and those in more than one partition.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.

    Returns
    -------
    dict
        ``bodies`` and ``bodies_shared``.
    """
    sides: dict[int, set[str]] = {}
    for partition in PARTITIONS:
        for bodies in read_small_columns(folder, partition, ["body_ids"])["body_ids"].to_pylist():
            for body in bodies:
                sides.setdefault(body, set()).add(partition)
    return {"bodies": len(sides), "bodies_shared": sum(len(where) > 1 for where in sides.values())}


def id_leaks(folders: Mapping[str, Path], group_by: Literal["segment", "body"]) -> dict[str, list[str]]:
    """List ids and locations in two partitions, across tasks.

    Parameters
    ----------
    folders
        Task -> ``OUT/TASK/SPECIES``.
    group_by
        With ``body``, bodies are checked too.

    Returns
    -------
    dict
        ``sample_ids`` (also those that occur twice in one partition), ``segments``, ``bodies``, ``places`` -> what was
        found, for people to read.
    """
    columns = ["sample_id", "source", "segment_ids", "body_ids", "location_nm", "extent_nm"]
    tables = {
        (task, p): read_small_columns(folder, p, columns).to_pydict()
        for task, folder in folders.items()
        for p in PARTITIONS
    }
    seen: dict[str, list[str]] = {}
    sides: dict[str, dict[tuple[str, int], set[str]]] = {"segments": {}, "bodies": {}}
    for (task, p), table in tables.items():
        for i, name in enumerate(table["sample_id"]):
            seen.setdefault(name, []).append(f"{task}/{p}")
            # ids of segments belong to a segmentation, those of bodies to the truth that all share
            for kind, column, whose in (("segments", "segment_ids", table["source"][i]), ("bodies", "body_ids", "")):
                for value in table[column][i]:
                    sides[kind].setdefault((whose, value), set()).add(p)
    found = {
        "sample_ids": [f"{n} ({', '.join(places)})" for n, places in sorted(seen.items()) if len(places) > 1],
        "segments": _on_two_sides(sides["segments"]),
    }
    if group_by == "body":
        found["bodies"] = _on_two_sides(sides["bodies"])
    found["places"] = _shared_places(tables)
    return found


def _on_two_sides(sides: Mapping[tuple[str, int], set[str]]) -> list[str]:
    return [
        f"{' '.join((str(key), *filter(None, (whose,))))} ({', '.join(sorted(where))})"
        for (whose, key), where in sorted(sides.items())
        if len(where) > 1
    ]


def _shared_places(tables: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """List pairs of samples of different partitions with overlapping view cubes."""
    from scipy.spatial import KDTree

    names, points, extents = {}, {}, {}
    for p in PARTITIONS:
        own = [table for (_, q), table in tables.items() if q == p]
        names[p] = [name for table in own for name in table["sample_id"]]
        points[p] = np.array([x for table in own for x in table["location_nm"]], np.float64).reshape(-1, 3)
        extents[p] = np.array([e for table in own for e in table["extent_nm"]], np.float64)
    found: list[str] = []
    for a, b in itertools.combinations(PARTITIONS, 2):
        if not len(points[a]) or not len(points[b]):
            continue
        small, large = (a, b) if len(points[a]) < len(points[b]) else (b, a)
        radius = (extents[a].max() + extents[b].max()) / 2
        near = KDTree(points[large]).query_ball_point(points[small], radius, p=np.inf)
        for i, neighbours in enumerate(near):
            gap = np.abs(points[large][neighbours] - points[small][i]).max(axis=1, initial=0)
            overlap = gap < (extents[large][neighbours] + extents[small][i]) / 2
            found += [
                f"{names[small][i]} ({small}) and {names[large][j]} ({large})"
                for j, yes in zip(neighbours, overlap, strict=True)
                if yes
            ]
    return found


def hash_pictures(folder: Path, partition: str) -> PictureHashes:
    """Hash all images of a partition.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.

    Returns
    -------
    PictureHashes
        In stored order.
    """
    names: list[str] = []
    hashes: list[int] = []
    thumbnails: list[NDArray[np.float32]] = []
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        for sample_id, views, images in read_images(folder, partition):
            names += [f"{sample_id}/{view}" for view in views]
            for value, thumbnail in pool.map(_hash, images):
                hashes.append(value)
                thumbnails.append(thumbnail)
    stacked = np.stack(thumbnails) if thumbnails else np.zeros((0, _THUMBNAIL**2), np.float32)
    return PictureHashes(names, np.array(hashes, np.uint64), stacked)


def _hash(png: bytes) -> tuple[int, NDArray[np.float32]]:
    """Difference hash (imagehash's `dhash`) and normalised thumbnail of a PNG file."""
    import imagehash
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        gray = picture.convert("L")
    value = int(str(imagehash.dhash(gray)), 16)
    small = np.asarray(gray.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX), np.float32).ravel()
    small = small - small.mean()
    if small.std() < BLANK_DEVIATION:
        return value, np.zeros_like(small)
    return value, small / np.linalg.norm(small)


def near_pictures(left: PictureHashes, right: PictureHashes) -> list[tuple[str, str]]:
    """Find pairs of nearly identical images.

    A pair counts where the hashes differ in at most four bits and the thumbnails correlate by at least 0.98; the
    hash alone would take any two thin neurites on white for one another. Blank pictures are left out.

    Parameters
    ----------
    left, right
        Hashes of two partitions.

    Returns
    -------
    list of tuple
        Names of the two pictures of each pair.
    """
    pairs: list[tuple[str, str]] = []
    usable = np.flatnonzero(~right.blank)
    for i in np.flatnonzero(~left.blank).tolist():
        distance = np.bitwise_count(right.hashes[usable] ^ left.hashes[i])
        candidates = usable[distance <= NEAR_BITS]
        same = candidates[right.thumbnails[candidates] @ left.thumbnails[i] >= SAME_CORRELATION]
        pairs += [(left.names[i], right.names[j]) for j in same.tolist()]
    return pairs
