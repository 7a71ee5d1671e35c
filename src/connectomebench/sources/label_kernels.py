"""Compiled kernels over label volumes."""

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True)
def count_label(labels, label, factor, counts):
    """Count the voxels of a label in each group of voxels, in one pass.

    Parameters
    ----------
    labels
        Integers, shape (n0, n1, n2); fastest where the last axis is contiguous.
    label
        The id, of the same type.
    factor
        Three integers: voxels of a group along each axis; groups start at the first voxel.
    counts
        uint16, shape ``ceil(n / factor)``: added to.
    """
    n0, n1, n2 = labels.shape
    f0, f1, f2 = factor
    for i in range(n0):
        for j in range(n1):
            row, out = labels[i, j], counts[i // f0, j // f1]
            k = 0
            for group in range(len(out)):
                stop = min(k + f2, n2)
                found = 0
                while k < stop:
                    found += row[k] == label
                    k += 1
                out[group] += found
