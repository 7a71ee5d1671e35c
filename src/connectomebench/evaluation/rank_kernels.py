"""Statistics of ranked rows for many bootstrap resamples, without the weights of every row in memory.

Each function takes how often each group was drawn in each resample, shape (resamples, groups); and for each row, in the
order of the ranking, its group, a flag, and whether it is the last of a tie.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Groups = NDArray[np.int32]
Flags = NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def auroc_of_groups(times: Times, groups: Groups, positive: Flags, last: Flags) -> NDArray[np.float64]:
    """Return the area under the ROC; rows by increasing score, flags are true labels; NaN without both classes."""
    values = np.empty(len(times))
    for resample in range(len(times)):
        drawn = times[resample]
        below = ones = zeros = total_ones = 0
        won = 0.0
        for row in range(len(groups)):
            if positive[row]:
                ones += drawn[groups[row]]
            else:
                zeros += drawn[groups[row]]
            if last[row]:
                won += ones * (below + zeros / 2)
                below += zeros
                total_ones += ones
                ones = zeros = 0
        pairs = float(total_ones) * float(below)
        values[resample] = won / pairs if pairs > 0 else np.nan
    return values


@numba.njit(cache=True, nogil=True)
def risk_of_groups(times: Times, groups: Groups, wrong: Flags, last: Flags, coverage: float) -> NDArray[np.float64]:
    """Return the risk at a coverage; rows by decreasing confidence, flags are wrong answers."""
    values = np.empty(len(times))
    for resample in range(len(times)):
        drawn = times[resample]
        total = 0
        for row in range(len(groups)):
            total += drawn[groups[row]]
        answered = coverage * total
        reached = reached_wrong = mass = mass_wrong = 0
        for row in range(len(groups)):
            mass += drawn[groups[row]]
            if wrong[row]:
                mass_wrong += drawn[groups[row]]
            if last[row]:
                reached += mass
                reached_wrong += mass_wrong
                if reached >= answered:
                    break
                mass = mass_wrong = 0
        values[resample] = (reached_wrong - (reached - answered) * (mass_wrong / mass)) / answered
    return values


@numba.njit(cache=True, nogil=True)
def aurc_of_groups(
    times: Times, groups: Groups, wrong: Flags, last: Flags, harmonic: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the risk-coverage curve; ``harmonic`` holds digamma(n + 1) for n rows, up to all drawn."""
    values = np.empty(len(times))
    for resample in range(len(times)):
        drawn = times[resample]
        reached = reached_wrong = mass = mass_wrong = 0
        area = lost = 0.0
        for row in range(len(groups)):
            mass += drawn[groups[row]]
            if wrong[row]:
                mass_wrong += drawn[groups[row]]
            if last[row] and mass:
                excess = reached_wrong - mass_wrong / mass * reached
                # with what rounding took from the sum so far (Kahan)
                term = mass_wrong + excess * (harmonic[reached + mass] - harmonic[reached]) - lost
                summed = area + term
                lost = (summed - area) - term
                area = summed
                reached += mass
                reached_wrong += mass_wrong
                mass = mass_wrong = 0
        values[resample] = area / reached
    return values
