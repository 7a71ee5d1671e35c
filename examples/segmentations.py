"""Make a family of automatic segmentations of one volume, from its EM and a watershed of it.

    python examples/segmentations.py --cube ../shared/data/fib25_cube/fib25_cube.npz --out fib25_family.npz

The truth is not looked at. Membranes are what is darker than its surroundings. A watershed of them is grown from the
minima of several depths and crossed with the watershed that comes with the data, and neighbouring basins are merged in
the order of the mean membrane between them, up to several thresholds. What comes out breaks neurons where the threshold
is low and fuses them where it is high, as such algorithms do.

The output holds a label volume for each depth and threshold, named ``h03-t40`` (minima at least 0.03 deep, merged below
0.40), and ``supervoxels``, inside which no border of any of them runs.
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


def membranes(gray: NDArray[np.uint8], fine: float, coarse: float) -> NDArray[np.float32]:
    """Tell how much darker each voxel is than its surroundings: 0 (not) to 1; float32, same shape.

    ``fine`` and ``coarse`` are the widths of the two Gaussians that are compared, voxels.
    """
    own, around = (ndi.gaussian_filter(gray.astype(np.float32), sigma) for sigma in (fine, coarse))
    darkness = around - own
    return np.clip(darkness / np.percentile(darkness, 97), 0, 1)


def basins(
    membrane: NDArray[np.float32], depth: float, watershed: NDArray[Any], min_voxels: int = 100
) -> NDArray[np.int32]:
    """Grow a watershed from the minima of the membrane map, and cross it with another one.

    Parameters
    ----------
    membrane
        From :func:`membranes`.
    depth
        Minima less deep than this are no seeds of their own.
    watershed
        Labels of the same shape; no basin crosses a border of it by ``min_voxels`` or more.
    min_voxels
        Smaller pieces of the crossing go to their neighbours.

    Returns
    -------
    ndarray
        int32, same shape: 1, 2, ...
    """
    smooth = ndi.gaussian_filter(membrane, 1.0)
    seeds = measure.label(morphology.h_minima(smooth, depth), connectivity=3)
    pieces = crossed([segmentation.watershed(smooth, seeds), watershed])
    pieces[(np.bincount(pieces.ravel()) < min_voxels)[pieces]] = 0
    pieces = segmentation.watershed(smooth, pieces)
    return segmentation.relabel_sequential(pieces)[0].astype(np.int32)


def crossed(volumes: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Label the connected regions (6 neighbours) inside which all volumes are constant; int32, from 1."""
    together = np.zeros(volumes[0].shape, np.int64)
    for labels in volumes:
        together = together * (int(labels.max()) + 1) + labels
    numbers = np.unique(together, return_inverse=True)[1].reshape(together.shape)
    return measure.label(numbers + 1, connectivity=1).astype(np.int32)


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
    parser.add_argument("--depths", type=float, nargs="+", default=[0.03, 0.12])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.35, 0.4, 0.45])
    args = parser.parse_args()
    with np.load(args.cube) as cube:
        gray, watershed = cube["gray"], cube["ws"]
    # seeds want a smooth map, borders a sharp one
    smooth, sharp = membranes(gray, 2.0, 12.0), membranes(gray, 1.0, 6.0)
    family: dict[str, NDArray[np.int32]] = {}
    fragments = []
    for depth in args.depths:
        fragments.append(basins(smooth, depth, watershed))
        print(f"minima {depth:g} deep: {fragments[-1].max()} basins", flush=True)
        for threshold, labels in agglomerate(fragments[-1], sharp, sorted(args.thresholds)):
            name = f"h{round(100 * depth):02d}-t{round(100 * threshold):02d}"
            family[name] = labels
            print(f"{name}: {labels.max()} objects", flush=True)
    supervoxels = crossed(fragments)
    print(f"supervoxels: {supervoxels.max()}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **family, supervoxels=supervoxels)


if __name__ == "__main__":
    main()
