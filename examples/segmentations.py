"""Make a family of automatic segmentations of one volume, from its EM and a watershed of it.

    python examples/segmentations.py --cube ../shared/data/fib25_cube/fib25_cube.npz --out family.npz

The truth is not looked at. Membranes are dark ridges of the image (`skimage.filters.sato`). A watershed is grown from
seeds at several spacings, each crossed with the watershed that comes with the data, and neighbouring basins are merged
in the order of the mean membrane between them (`skimage.graph`), up to several thresholds. What comes out breaks
neurons where the threshold is low and fuses them where it is high, as such algorithms do.

The output holds a label volume for each spacing and threshold, named ``s6-t040`` (seeds at least 6 voxels apart, merged
below 0.40), and ``supervoxels``, in which no voxel face inside a supervoxel is a border of any of them.
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
from skimage import feature, filters, graph, measure, segmentation


def membranes(gray: NDArray[np.uint8], sigmas: tuple[float, ...]) -> NDArray[np.float32]:
    """Mark dark sheets and how dark they are: 0 (cytoplasm) to 1; float32, same shape."""
    ridges = filters.sato(gray.astype(np.float32), sigmas=sigmas, black_ridges=True).astype(np.float32)
    return np.clip(ridges / np.percentile(ridges, 98), 0, 1)


def basins(membrane: NDArray[np.float32], spacing: int, watershed: NDArray[Any]) -> NDArray[np.int32]:
    """Grow a watershed from seeds in the middle of bright regions, and cross it with another one.

    Parameters
    ----------
    membrane
        From :func:`membranes`.
    spacing
        Least distance between two seeds, voxels.
    watershed
        Labels of the same shape; no basin crosses a border of it.

    Returns
    -------
    ndarray
        int32, same shape: 1, 2, ..., each connected (6 neighbours).
    """
    depth = ndi.distance_transform_edt(membrane < 0.3)
    seeds = np.zeros(membrane.shape, np.int32)
    places = feature.peak_local_max(ndi.gaussian_filter(depth, 1.0), min_distance=spacing, exclude_border=False)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    grown = segmentation.watershed(membrane, seeds)
    return crossed([grown, watershed])


def crossed(volumes: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Number the connected regions inside which all volumes are constant; int32, 1, 2, ..."""
    together = np.zeros(volumes[0].shape, np.int64)
    for labels in volumes:
        numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
        together = np.unique(together * (int(numbers.max()) + 1) + numbers, return_inverse=True)[1].reshape(labels.shape)
    return measure.label(together + 1, connectivity=1).astype(np.int32)


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
    parser.add_argument("--spacings", type=int, nargs="+", default=[5, 8])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.2, 0.3, 0.4, 0.5])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[1.5, 2.5])
    args = parser.parse_args()
    with np.load(args.cube) as cube:
        gray, watershed = cube["gray"], cube["ws"]
    membrane = membranes(gray, tuple(args.sigmas))
    family: dict[str, NDArray[np.int32]] = {}
    fragments = []
    for spacing in args.spacings:
        fragments.append(basins(membrane, spacing, watershed))
        print(f"seeds {spacing} voxels apart: {fragments[-1].max()} basins", flush=True)
        for threshold, labels in agglomerate(fragments[-1], membrane, sorted(args.thresholds)):
            name = f"s{spacing}-t{round(100 * threshold):03d}"
            family[name] = labels
            print(f"{name}: {labels.max()} objects", flush=True)
    supervoxels = crossed(fragments)
    print(f"supervoxels: {supervoxels.max()}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **family, supervoxels=supervoxels)


if __name__ == "__main__":
    main()
