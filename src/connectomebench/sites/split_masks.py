"""Sites for masks of a split: true merge errors of which a right split is known.

The place is that of a candidate for a merge error, found on the skeleton alone, and never the place of the split. The
split itself is no part of what is shown: it gives the masks of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from connectomebench.core.cut import ProposedCut
from connectomebench.core.part_masks import MASK
from connectomebench.core.site import Site
from connectomebench.sites.labels import LabelledSites

TASK = "split_mask_generation"
NO_SPLIT = "no right split of the merge error is known"
BEYOND = "the view reaches beyond the cube in which the segment is split"


def split_mask_sites(merge_errors: Iterable[Site], splits: Sequence[ProposedCut]) -> LabelledSites:
    """Make a site of every merge error with a right split.

    Parameters
    ----------
    merge_errors
        Sites of ``merge_error_identification``; those that are no merge error are passed over.
    splits
        Right splits of the same source (:meth:`connectomebench.core.source.Source.right_splits`); the first of each
        correction counts.

    Returns
    -------
    LabelledSites
        In the order of the merge errors.
    """
    right: dict[tuple[str, int], ProposedCut] = {}
    for split in splits:
        right.setdefault((split.edit_id, split.segment), split)
    dropped: Counter[str] = Counter()
    sites = []
    for error in merge_errors:
        if error.answer != "yes":
            continue
        found = right.get((str(error.edit_id), error.segment_ids[0]))
        if found is None:
            dropped[NO_SPLIT] += 1
        elif not _covers(found, error):
            dropped[BEYOND] += 1
        else:
            sites.append(
                replace(error, task=TASK, answer=MASK, target_cut=found.cut, covariates={}, hard_negative=False)
            )
    return LabelledSites(sites, dropped)


def _covers(split: ProposedCut, site: Site) -> bool:
    """Return whether the whole view lies in the cube in which the segment is in pieces."""
    off = np.abs(np.asarray(site.location_nm) - np.asarray(split.cut.center_nm)).max()
    return bool(off + site.extent_nm / 2 <= split.cut.cutout_nm / 2)
