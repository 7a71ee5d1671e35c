"""Make a family of automatic segmentations of one volume, from its EM and a watershed of it.

    python examples/segmentations.py --cube ../shared/data/fib25_cube/fib25_cube.npz --out fib25_family.npz

The truth is not looked at. Membranes are what is darker than its surroundings. Watersheds of them are grown from seeds
at several widths of smoothing and crossed with the watershed that comes with the data, and neighbouring basins are
merged in the order of the mean membrane between them, up to several thresholds. What comes out breaks neurons where the
threshold is low and fuses them where it is high, as such algorithms do.

The output holds a label volume for each width and threshold, named ``s2-t40`` (seeds at width 2, merged below 0.40),
and ``supervoxels``, of which all of them are made up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage import graph, measure, morphology, segmentation

from connectomebench.core.files import atomic_path

# smaller pieces of a crossing go to the nearest other piece
MIN_VOXELS = 100


def membranes(gray: NDArray[np.uint8], fine: float, coarse: float) -> NDArray[np.float32]:
    """Tell how much darker each voxel is than its surroundings: 0 (not) to 1; float32, same shape.

    ``fine`` and ``coarse`` are the widths of the two Gaussians that are compared, voxels.
    """
    own, around = (ndi.gaussian_filter(gray.astype(np.float32), sigma) for sigma in (fine, coarse))
    darkness = around - own
    return np.clip(darkness / np.percentile(darkness, 97), 0, 1)


def watersheds(
    membrane: NDArray[np.float32], widths: list[float], other: NDArray[Any]
) -> tuple[list[NDArray[np.int32]], NDArray[np.int32]]:
    """Grow watersheds from the minima of a membrane map, each crossed with another one that is given.

    Parameters
    ----------
    membrane
        From :func:`membranes`.
    widths
        Of the smoothing before each, voxels: the wider, the fewer seeds.
    other
        Labels of the same shape.

    Returns
    -------
    each
        The basins for each width, labels from 1.
    supervoxels
        Labels from 1 of which all basins are made up.
    """
    grown = []
    for width in widths:
        smooth = ndi.gaussian_filter(membrane, width)
        seeds = measure.label(morphology.local_minima(smooth, connectivity=3), connectivity=3)
        grown.append(crossed([segmentation.watershed(smooth, seeds), other]))
    supervoxels = crossed(grown)
    supervoxels[(np.bincount(supervoxels.ravel()) < MIN_VOXELS)[supervoxels]] = 0
    supervoxels = segmentation.expand_labels(supervoxels, max(supervoxels.shape))
    supervoxels = segmentation.relabel_sequential(supervoxels)[0].astype(np.int32)
    return [measure.label(_most(labels, supervoxels), connectivity=1).astype(np.int32) for labels in grown], supervoxels


def crossed(volumes: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Label the connected regions (6 neighbours) inside which all volumes are constant; int32, from 1."""
    together = np.zeros(volumes[0].shape, np.int64)
    for labels in volumes:
        together = together * (int(labels.max()) + 1) + labels
    numbers = np.unique(together, return_inverse=True)[1].reshape(together.shape)
    return measure.label(numbers + 1, connectivity=1).astype(np.int32)


def _most(labels: NDArray[np.int32], supervoxels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Give each supervoxel the label that most of it has."""
    codes, counts = np.unique(supervoxels.astype(np.int64) << 32 | labels, return_counts=True)
    order = np.lexsort((-counts, codes >> 32))
    owners, first = np.unique((codes >> 32)[order], return_index=True)
    table = np.zeros(int(owners[-1]) + 1, np.int64)
    table[owners] = (codes & 0xFFFFFFFF)[order][first]
    return table[supervoxels]


def agglomerate(
    fragments: NDArray[np.int32], membrane: NDArray[np.float32], thresholds: list[float]
) -> Iterator[tuple[float, NDArray[np.int32]]]:
    """Merge neighbours in the order of the mean membrane between them, and yield the labels at each threshold.

    Parameters
    ----------
    fragments
        Labels from 1.
    membrane
        From :func:`membranes`.
    thresholds
        Ascending; pairs with less membrane between them are merged.
    """
    regions = graph.rag_boundary(fragments, membrane, connectivity=1)
    labels = fragments
    for threshold in thresholds:
        merged = graph.merge_hierarchical(
            fragments,
            regions,
            threshold,
            rag_copy=False,
            in_place_merge=True,
            merge_func=lambda *_: None,
            weight_func=_mean_of_both,
        )
        labels = merged.astype(np.int32) + 1  # from 1: 0 is background
        yield threshold, labels


def _mean_of_both(regions: nx.Graph, source: int, target: int, neighbour: int) -> dict[str, float]:
    """Membrane between a merged pair and a neighbour: mean of both borders, by their sizes."""
    none = {"weight": 0.0, "count": 0}
    sides = [regions[node].get(neighbour, none) for node in (source, target)]
    count = sum(side["count"] for side in sides)
    return {"count": count, "weight": sum(side["count"] * side["weight"] for side in sides) / count}


def main() -> None:
    """Read the cube, write the family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cube", type=Path, required=True, help="npz with `gray` (uint8) and `ws` (labels)")
    parser.add_argument("--out", type=Path, required=True, help="npz to write")
    parser.add_argument("--widths", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    args = parser.parse_args()
    with np.load(args.cube) as cube:
        gray, watershed = cube["gray"], cube["ws"]
    # seeds want a smooth map, borders a sharp one
    smooth, sharp = membranes(gray, 1.5, 12.0), membranes(gray, 1.0, 6.0)
    family: dict[str, NDArray[np.int32]] = {}
    each, supervoxels = watersheds(smooth, args.widths, watershed)
    print(f"{supervoxels.max()} supervoxels", flush=True)
    for width, basins in zip(args.widths, each, strict=True):
        print(f"seeds at width {width:g}: {basins.max()} basins", flush=True)
        for threshold, labels in agglomerate(basins, sharp, sorted(args.thresholds)):
            name = f"s{width:g}-t{round(100 * threshold):02d}"
            family[name] = labels
            print(f"{name}: {labels.max()} objects", flush=True)
    with atomic_path(args.out) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **family, supervoxels=supervoxels)


if __name__ == "__main__":
    main()
