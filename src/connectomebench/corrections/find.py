"""Find ground-truth merges and splits by comparing an automatic with a proofread segmentation.

A body in several segments is a split error, corrected by a merge. A segment over several bodies is a merge error,
corrected by a split.
"""

from __future__ import annotations

import logging

from connectomebench.core.correction import CorrectionConfig, Corrections
from connectomebench.core.volume import IntPoint, Volume
from connectomebench.corrections.block_walk import BlockWalk
from connectomebench.corrections.steps import assemble, count_overlaps, error_parts, find_interfaces

_log = logging.getLogger(__name__)


def find_corrections(
    automatic: Volume,
    proofread: Volume,
    rules: CorrectionConfig,
    *,
    block: IntPoint = (256, 256, 256),
    threads: int | None = None,
    progress: bool = False,
) -> Corrections:
    """Find every merge and split that turns the automatic segmentation into the proofread one.

    1. Overlaps are counted; a (segment, body) pair is real by its voxels in the core of the body, so that boundary
       slop is no error. A body with several real segments is a split error, corrected by merges; a segment with
       several real bodies is a merge error, corrected by splits.
    2. Each pair of parts of an error is localised where they touch: at the contiguous patch of contact where both are
       substantial nearby, and at every further patch that is an error of its own. Pairs that never touch inside the
       volume, or only graze each other, are counted as not localised.
    3. A merge of a segment that is itself fused is a tangle (merging it would join other bodies too): it is left out,
       counted, and its location is stored in ``unresolved_nm``. Splits stand, however many segments their bodies
       are: where to cut a segment does not depend on what else belongs to its parts.

    The volumes are read twice, block by block (blocks without an error once). Memory follows the blocks, the number of
    overlapping pairs and the extent of the errors, and the result does not depend on ``block`` or ``threads``.

    Parameters
    ----------
    automatic, proofread
        Label volumes of the same box: segments and bodies, integers, 0 = background.
    rules
        What counts as an error.
    block
        Voxels along x, y, z read at one time, without the halo.
    threads
        Blocks in work at one time; None takes one per core, fewer for large blocks, to stay well under 4 GB.
    progress
        Show a progress bar for each pass.

    Returns
    -------
    Corrections
        With ``counts``: `segments`, `bodies`; of what is wrong: `merge_errors` (segments), `merge_error_pairs`
        (pairs of bodies in them), `split_error_bodies`, `extra_fragments` (real segments of these bodies beyond the
        first of each); of what came out: `merges`, `splits`, `excluded_tangles` (places), `not_localised_merges`
        (fragments that no localised interface, tangled or not, joins to the rest of their body),
        `not_localised_splits` (bodies likewise within a segment), `not_localised` (both together),
        `ambiguous_segments`, and `bodies_without_core` and `segments_without_core`, which are too thin to have errors
        by the rules. ``warnings`` say what seems wrong with the input; they are logged too.

    Raises
    ------
    ConnectomeBenchError
        Shapes, voxel sizes or offsets differ; labels are not integers, or negative; one of the two is all background;
        or no voxel has both a segment and a body.

    Examples
    --------
    A body that the segmentation breaks in two gives one merge.

    >>> import numpy as np
    >>> from connectomebench import CorrectionConfig, VolumeSpec, find_corrections, open_volume
    >>> body = np.zeros((40, 20, 20), np.uint64)
    >>> body[2:38, 4:16, 4:16] = 7
    >>> segments = body.copy()
    >>> segments[20:38, 4:16, 4:16] = 8
    >>> np.savez("volumes.npz", automatic=segments, proofread=body)
    >>> automatic, proofread = (
    ...     open_volume(VolumeSpec("volumes.npz", key, "xyz", (10, 10, 10), (0, 0, 0)), kind="labels")
    ...     for key in ("automatic", "proofread")
    ... )
    >>> found = find_corrections(automatic, proofread, CorrectionConfig(min_core_voxels=100))
    >>> found.counts["merges"], found.counts["splits"]
    (1, 0)
    >>> sorted(int(segment) for segment in found.merges[0].segments)
    [7, 8]
    """
    walk = BlockWalk(automatic, proofread, block, threads, progress)
    overlaps = count_overlaps(walk, rules)
    parts = error_parts(overlaps, rules)
    found = assemble(overlaps, parts, find_interfaces(walk, rules, overlaps, parts), walk, rules)
    for warning in found.warnings:
        _log.warning("warning: %s", warning)
    return found
