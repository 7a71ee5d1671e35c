"""A part of a partition, drawn so that everyone who asks for it gets the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError


def balanced_sample(answers: Sequence[str], n: int, seed: int = 0) -> list[int]:
    """Draw rows so that every answer occurs as often as the others.

    Parameters
    ----------
    answers
        Of all rows, in stored order.
    n
        How many to draw. Counts of two answers differ by 1 at most, as long as there are rows of both left.
    seed
        The same seed draws the same rows, in the same order.

    Returns
    -------
    list[int]
        Numbers of rows, in a drawn order.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer rows.
    """
    if not 1 <= n <= len(answers):
        raise ConnectomeBenchError(f"{n} rows cannot be drawn from {len(answers)}; ask for 1 to {len(answers)}")
    generator = np.random.default_rng(seed)
    of: dict[str, list[int]] = {}
    numbers: list[int] = generator.permutation(len(answers)).tolist()
    for number in numbers:
        of.setdefault(answers[number], []).append(number)
    # the k-th rows of all answers come before the (k+1)-th of any
    order: list[str] = generator.permutation(sorted(of)).tolist()
    dealt = [of[answer][k] for k in range(max(map(len, of.values()))) for answer in order if k < len(of[answer])]
    return generator.permutation(dealt[:n]).tolist()


def sample_name(n: int, seed: int) -> str:
    """Name a sample in the condition of its records: ``sample64-seed0``."""
    return f"sample{n}-seed{seed}"
