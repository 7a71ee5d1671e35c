"""How well two segmentations of one place agree, and whether they would agree better with other axes or offsets.

Every number follows from the table of overlaps: how many voxels each pair of labels shares.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.volume import IntPoint, Volume

_SAMPLE_EDGE_VX = 192  # edge of the box in which other placements are tried
_SAMPLE_VOXELS = 64**3
_SHIFT_VX = 32  # largest shift that is looked for, as a part of the box at most
_SHIFTS_TRIED = 6
_DOUBTFUL = 0.85  # below this, other placements are tried
_SHARED = 0.5  # segmentations of one place share more than this, however many errors one has
_BETTER = 0.15


@dataclass(frozen=True)
class Agreement:
    """Agreement of a first with a second segmentation (the truth), background 0.

    Attributes
    ----------
    foreground_overlap
        Voxels with an object in both, of those with one in either.
    vi_split, vi_merge
        Variation of information on voxels with an object in both, bits: how much the first breaks apart objects of the
        second, and how much it fuses them.
    shared
        The part of what one segmentation says that the other one says too: mutual information of the labels
        (background included) over the smaller entropy, 0 to 1. A segmentation that only breaks objects apart, or only
        fuses them, has 1.
    """

    foreground_overlap: float
    vi_split: float
    vi_merge: float
    shared: float


def agreement_of(first: NDArray[np.integer], second: NDArray[np.integer], voxels: NDArray[np.integer]) -> Agreement:
    """Compute the agreement from a table of overlaps.

    Parameters
    ----------
    first, second
        Shape (n,): labels of each pair, 0 = background.
    voxels
        Shape (n,): voxels of the pair.

    Examples
    --------
    An object in two equal halves costs one bit of splitting.

    >>> import numpy as np
    >>> agreement_of(np.array([1, 2]), np.array([7, 7]), np.array([10, 10])).vi_split
    1.0
    """
    inside = (first != 0) & (second != 0)
    either = (first != 0) | (second != 0)
    total = float(voxels[either].sum())
    split, merge, _, _ = _entropies(first[inside], second[inside], voxels[inside])
    given_second, _, of_first, of_second = _entropies(first, second, voxels)
    smaller = min(of_first, of_second)
    # mutual information, from whichever side; two constant volumes share all there is
    shared = (of_first - given_second) / smaller if smaller > 1e-12 else float(max(of_first, of_second) < 1e-12)
    return Agreement(
        float(voxels[inside].sum()) / total if total else 0.0, split, merge, float(np.clip(shared, 0.0, 1.0))
    )


def _entropies(
    first: NDArray[np.integer], second: NDArray[np.integer], voxels: NDArray[np.integer]
) -> tuple[float, float, float, float]:
    """Return H(first | second), H(second | first), H(first), H(second), bits."""
    if not len(voxels):
        return 0.0, 0.0, 0.0, 0.0
    joint = _entropy(voxels)
    one, two = (_entropy(np.bincount(np.unique(i, return_inverse=True)[1], voxels)) for i in (first, second))
    return max(joint - two, 0.0), max(joint - one, 0.0), one, two


def _entropy(counts: NDArray[np.integer] | NDArray[np.floating]) -> float:
    share = np.asarray(counts, np.float64)
    share = share[share > 0] / share.sum()
    return float(-(share * np.log2(share)).sum())


@dataclass(frozen=True)
class OtherPlacement:
    """A placement of the second segmentation in which both agree better.

    Attributes
    ----------
    order
        Axes of the second that are to be read as x, y, z; ``yxz`` where x and y are exchanged.
    flipped
        Axes (after reordering) that run the other way.
    shift_vx
        Voxels by which the second is to be moved, x, y, z.
    before, after
        ``shared`` of :class:`Agreement` in the sample, as stated and in this placement.
    """

    order: str
    flipped: str
    shift_vx: IntPoint
    before: float
    after: float

    def text(self) -> str:
        """Describe the placement in words."""
        parts = []
        if self.order != "xyz":
            parts.append(f"the axes x, y, z are read as {', '.join(self.order)}: check `axes`")
        if self.flipped:
            parts.append(f"the axis {' and '.join(self.flipped)} runs the other way")
        if any(self.shift_vx):
            parts.append(f"all is moved by {', '.join(map(str, self.shift_vx))} voxels (x, y, z): check `offset_vx`")
        return (
            f"they agree better ({self.after:.0%} rather than {self.before:.0%} shared) when, of the second one, "
            + ", and ".join(parts)
        )


def find_better_placement(first: Volume, second: Volume) -> OtherPlacement | None:
    """Look for another order or direction of the axes, or another offset, in which two segmentations agree.

    Parameters
    ----------
    first, second
        Label volumes of one shape; a box in their middle is read.

    Returns
    -------
    OtherPlacement or None
        None if they agree well as they are, or no better otherwise.
    """
    shape = first.shape
    edges = [min(n, _SAMPLE_EDGE_VX) for n in shape]
    edges = [e - (n - e) % 2 for e, n in zip(edges, shape, strict=True)]  # the middle stays the middle when turned
    if min(edges) < 1:
        return None
    x, y, z = ((n - e) // 2 for n, e in zip(shape, edges, strict=True))
    lower, upper = (x, y, z), (x + edges[0], y + edges[1], z + edges[2])
    one, two = (np.unique(v.read(lower, upper), return_inverse=True) for v in (first, second))
    labels = [np.asarray(codes).reshape(edges) for _, codes in (one, two)]
    backgrounds = [int(np.searchsorted(ids, 0)) if (ids == 0).any() else -1 for ids, _ in (one, two)]
    step = max(1, int(np.ceil((labels[0].size / _SAMPLE_VOXELS) ** (1 / 3))))

    def shared(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        a, b = a[::step, ::step, ::step], b[::step, ::step, ::step]
        width = int(b.max()) + 1 if b.size else 1
        pairs, counts = np.unique(a.astype(np.int64) * width + b, return_counts=True)
        return agreement_of(pairs // width + 1, pairs % width + 1, counts).shared

    before = shared(labels[0], labels[1])
    if before >= 1 - _BETTER:
        return None
    found = [
        OtherPlacement(order, flipped, (0, 0, 0), before, shared(labels[0], turned))
        for order, flipped, turned in _turned(labels[1])
    ]
    for shift in _best_shifts(labels[0] != backgrounds[0], labels[1] != backgrounds[1], labels):
        a, b = _overlapping(labels[0], labels[1], shift)
        found.append(OtherPlacement("xyz", "", shift, before, shared(a, b)))
    best = max(found, key=lambda p: p.after, default=None)
    return best if best is not None and best.after >= before + _BETTER else None


def _turned(labels: NDArray[np.int64]) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield the box with its axes exchanged and reversed in all ways that keep its shape, but as it is."""
    for order in itertools.permutations(range(3)):
        moved = labels.transpose(order)
        if moved.shape != labels.shape:
            continue
        for flips in itertools.product((False, True), repeat=3):
            if order == (0, 1, 2) and not any(flips):
                continue
            turned = moved[tuple(slice(None, None, -1 if f else 1) for f in flips)]
            names = "".join("xyz"[a] for a in order)
            yield names, "".join(n for n, f in zip("xyz", flips, strict=True) if f), turned


def _best_shifts(one: NDArray[np.bool_], two: NDArray[np.bool_], labels: list[NDArray[np.int64]]) -> list[IntPoint]:
    """Return the shifts of the second box under which the borders of objects lie on each other best."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    edges = [_borders(codes) for codes in labels]
    if not (one.all() and two.all()):  # foregrounds help where they are not everything
        edges = [e + 0.5 * mask for e, mask in zip(edges, (one, two), strict=True)]
    size = [int(next_fast_len(2 * n) or 2 * n) for n in edges[0].shape]
    one_spectrum, two_spectrum = (np.asarray(rfftn((e - e.mean()).astype(np.float32), size)) for e in edges)
    scores = np.asarray(irfftn(one_spectrum * two_spectrum.conj(), size))
    reach = [min(_SHIFT_VX, n // 2) for n in edges[0].shape]
    near = scores[np.ix_(*(np.arange(-r, r + 1) % n for r, n in zip(reach, size, strict=True)))]
    found: list[IntPoint] = []
    for _ in range(_SHIFTS_TRIED):
        place = np.unravel_index(int(np.argmax(near)), near.shape)
        x, y, z = (int(p) - r for p, r in zip(place, reach, strict=True))
        near[tuple(slice(max(int(p) - 2, 0), int(p) + 3) for p in place)] = -np.inf  # neighbours score the same
        if any((x, y, z)):
            found.append((x, y, z))
    return found


def _borders(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    border = np.zeros(codes.shape, np.float32)
    for axis in range(3):
        low = [slice(None)] * 3
        low[axis] = slice(None, -1)
        border[tuple(low)] += np.diff(codes, axis=axis) != 0
    return border


def _overlapping(
    one: NDArray[np.int64], two: NDArray[np.int64], shift: IntPoint
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what lies on each other once the second box is moved."""
    first = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, one.shape, strict=True))
    second = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shift, one.shape, strict=True))
    return one[first], two[second]


def disagreement(agreement: Agreement, first: Volume, second: Volume) -> str | None:
    """Word a warning where two segmentations do not seem to show one place.

    Parameters
    ----------
    agreement
        Of both.
    first, second
        The two; they are read only where the agreement is low enough to doubt it.

    Returns
    -------
    str or None
        None where they agree as segmentations of one place do. Cells that are shuffled about still share half of what
        they say, since the place alone says much; so what counts is whether another placement fits better.
    """
    if agreement.shared >= _DOUBTFUL:
        return None
    better = find_better_placement(first, second)
    if better is None and agreement.shared >= _SHARED:
        return None
    hint = better.text() if better is not None else "check paths, `axes` and `offset_vx` of both"
    return f"the two segmentations hardly agree ({agreement_text(agreement)}); {hint}"


def agreement_text(agreement: Agreement) -> str:
    """Describe how well two segmentations agree, in one line."""
    return (
        f"foregrounds overlap by {agreement.foreground_overlap:.0%}, variation of information {agreement.vi_split:.2f} "
        f"(split) + {agreement.vi_merge:.2f} (merge) bits, {agreement.shared:.0%} shared"
    )
