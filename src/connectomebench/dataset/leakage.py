"""Leak check: read the written files back and look for anything in two partitions."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.leak_words import LookAlike
from connectomebench.dataset.schema import places_of, read_images, read_small_columns

if TYPE_CHECKING:
    from PIL import Image

# pictures with hashes at most this many bits apart are compared pixel by pixel, as thumbnails
NEAR_BITS = 4
# correlation of two thumbnails from which on they count as the same picture
SAME_CORRELATION = 0.98
# grey levels; thumbnails that vary less show nothing
BLANK_DEVIATION = 1.0
_THUMBNAIL = 16
# Of NEAR_BITS + 2 sets of bits, hashes that differ in at most NEAR_BITS bits agree in at least two: of every two sets,
# whose 21 or 22 bits few pictures share, one makes a band. Each set is spread over the whole picture, since the margins
# of most pictures are alike.
_SETS = [sum(1 << bit for bit in range(start, 64, NEAR_BITS + 2)) for start in range(NEAR_BITS + 2)]
_BANDS = tuple(np.uint64(one | other) for one, other in itertools.combinations(_SETS, 2))
_PAIRS = 1 << 18  # pairs compared at once


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


def look_alikes(folder: Path, memo: PictureMemo | None = None) -> list[LookAlike]:
    """Find pictures of different partitions that hardly differ, the closest pair first.

    They are no leak where the ids and places of the partitions are apart: a straight neurite looks like another one.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    memo
        Of pictures that were decoded before.
    """
    hashes = {p: hash_pictures(folder, p, memo) for p in PARTITIONS}
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
    columns = ["sample_id", "task", "source", "segment_ids", "body_ids", "location_nm", "extent_nm", "second_place"]
    tables = {
        (task, p): read_small_columns(folder, p, columns).to_pylist()
        for task, folder in folders.items()
        for p in PARTITIONS
    }
    seen: dict[str, list[str]] = {}
    sides: dict[str, dict[tuple[str, int], set[str]]] = {"segments": {}, "bodies": {}}
    for (task, p), rows in tables.items():
        for row in rows:
            seen.setdefault(row["sample_id"], []).append(f"{task}/{p}")
            # ids of segments belong to a segmentation, those of bodies to the truth that all share
            for kind, column, whose in (("segments", "segment_ids", row["source"]), ("bodies", "body_ids", "")):
                for value in row[column]:
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


def _shared_places(tables: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[str]:
    """List pairs of samples of different partitions with overlapping view cubes; whole segments have no place."""
    from scipy.spatial import KDTree

    names, points, extents = {}, {}, {}
    for p in PARTITIONS:
        own = [row for (_, q), rows in tables.items() if q == p for row in rows]
        shown = [(row["sample_id"], *place) for row in own for place in places_of(row)]
        names[p] = [name for name, _, _ in shown]
        points[p] = np.array([point for _, point, _ in shown], np.float64).reshape(-1, 3)
        extents[p] = np.array([extent for _, _, extent in shown], np.float64)
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
    return list(dict.fromkeys(found))  # two samples of two places each may overlap more than once


class PictureMemo:
    """Hashes of pictures that were decoded before, by the content of their files.

    Writing a partition decodes every picture once, for the digest of its row; with a memo the leak check needs not
    decode what it reads back if it is, byte for byte, what was written.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, NDArray[np.float32]]] = {}

    def remember(self, png: bytes, picture: Image.Image) -> None:
        """Hash a decoded picture, for `write_partition`."""
        self._known[hashlib.sha256(png).digest()] = _hash_pixels(picture)

    def hash(self, png: bytes) -> tuple[int, NDArray[np.float32]]:
        """Return difference hash and thumbnail of a PNG file, decoded only if it is new."""
        known = self._known.get(hashlib.sha256(png).digest())
        return _hash(png) if known is None else known


def hash_pictures(folder: Path, partition: str, memo: PictureMemo | None = None) -> PictureHashes:
    """Hash all images of a partition.

    Parameters
    ----------
    folder
        ``OUT/TASK/SPECIES``.
    partition
        Which one.
    memo
        Of pictures that were decoded before.

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
            for value, thumbnail in pool.map(_hash if memo is None else memo.hash, images):
                hashes.append(value)
                thumbnails.append(thumbnail)
    stacked = np.stack(thumbnails) if thumbnails else np.zeros((0, _THUMBNAIL**2), np.float32)
    return PictureHashes(names, np.array(hashes, np.uint64), stacked)


def _hash(png: bytes) -> tuple[int, NDArray[np.float32]]:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return _hash_pixels(picture)


def _hash_pixels(picture: Image.Image) -> tuple[int, NDArray[np.float32]]:
    """Difference hash (imagehash's `dhash`) and normalised thumbnail of a picture."""
    import imagehash
    from PIL import Image

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
    hash alone would take any two thin neurites on white for one another. Blank pictures are left out. Only pairs that
    agree in one of 15 bands of bits are compared, about one in 700 of all where margins are white.

    Parameters
    ----------
    left, right
        Hashes of two partitions.

    Returns
    -------
    list of tuple
        Names of the two pictures of each pair, in the order of ``left``, then of ``right``.
    """
    ours, theirs = np.flatnonzero(~left.blank), np.flatnonzero(~right.blank)
    found: list[NDArray[np.int64]] = []
    for band in _BANDS:
        keys = right.hashes[theirs] & band
        order = np.argsort(keys, kind="stable")
        wanted = left.hashes[ours] & band
        first, last = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
        for i, j in _expand(first, last - first):
            a, b = ours[i], theirs[order[j]]
            near = np.bitwise_count(left.hashes[a] ^ right.hashes[b]) <= NEAR_BITS
            a, b = a[near], b[near]
            same = np.einsum("ij,ij->i", left.thumbnails[a], right.thumbnails[b]) >= SAME_CORRELATION
            found.append(a[same] * len(right.names) + b[same])
    pairs = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return [(left.names[pair // len(right.names)], right.names[pair % len(right.names)]) for pair in pairs.tolist()]


def _expand(
    first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs (i, first[i]) to (i, first[i] + counts[i] - 1) of all i, some `_PAIRS` at once."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _PAIRS, side="right")))
        i = np.repeat(np.arange(start, stop), counts[start:stop])
        before = np.repeat(total[start:stop] - counts[start:stop], counts[start:stop])
        yield i, first[i] + np.arange(len(i)) + done - before
        start = stop
