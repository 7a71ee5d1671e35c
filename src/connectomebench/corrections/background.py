"""Notice labels that seem to be background: they cover the border of the volume and much of its inside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.volume import IntPoint
from connectomebench.corrections.block_walk import LabelBlock

_VOLUME_SHARE = 1 / 3
_BORDER_SHARE = 1 / 2

# segmentation, labels on a face of the volume, voxels of each there
FaceLabels = list[tuple[str, NDArray[np.unsignedinteger], NDArray[np.integer]]]


def labels_on_faces(block: LabelBlock, shape: IntPoint) -> FaceLabels:
    """Count the labels of a block on those of its faces that are faces of the volume."""
    found: FaceLabels = []
    start, stop = block.lower + block.origin, block.upper + block.origin
    for position, axis in enumerate(block.axes):
        for at, is_face in ((block.lower, start[position] == 0), (block.upper - 1, stop[position] == shape[axis])):
            if not is_face:
                continue
            box: list[slice | int] = [slice(a, b) for a, b in zip(block.lower, block.upper, strict=True)]
            box[position] = int(at[position])
            for which, labels in (("automatic", block.automatic), ("proofread", block.proofread)):
                found.append((which, *np.unique(labels[tuple(box)], return_counts=True)))
    return found


def background_suspects(
    labels: Mapping[str, NDArray[np.unsignedinteger]], voxels: NDArray[np.integer], faces: FaceLabels
) -> tuple[str, ...]:
    """Word a warning for each segmentation in which one label seems to be background.

    Parameters
    ----------
    labels
        Segmentation -> its label in each pair of a table of overlaps, shape (n,).
    voxels
        Shape (n,): voxels of each pair.
    faces
        From :func:`labels_on_faces`, of all blocks.

    Returns
    -------
    tuple of str
        Empty where none covers most of the border and over a third of the volume.
    """
    found = []
    for which, ids in labels.items():
        unique, inverse = np.unique(ids, return_inverse=True)
        shares = np.bincount(inverse, voxels) / voxels.sum()
        largest = int(np.argmax(shares))
        label, share = int(unique[largest]), float(shares[largest])
        own = [(values, counts) for name, values, counts in faces if name == which]
        border = sum(int(counts.sum()) for _, counts in own)
        of_label = sum(int(counts[values == unique[largest]].sum()) for values, counts in own)
        if label != 0 and share > _VOLUME_SHARE and of_label > _BORDER_SHARE * border:
            found.append(
                f"label {label} of the {which} segmentation covers {of_label / border:.0%} of the border and "
                f"{share:.0%} of the volume: if it is no object, set `background: {label}` there"
            )
    return tuple(found)
