"""Reproducible balanced subsample of a partition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError


def balanced_sample(answers: Sequence[str], n: int, seed: int = 0) -> list[int]:
    """Draw rows balanced over the answers.

    Parameters
    ----------
    answers
        Answers of all rows, in stored order.
    n
        Number of rows. Counts of two answers differ by at most 1 while rows of both remain.
    seed
        The same seed draws the same rows in the same order.

    Returns
    -------
    list[int]
        Row indices, in random order.

    Raises
    ------
    ConnectomeBenchError
        If there are fewer than ``n`` rows.
    """
    if not 1 <= n <= len(answers):
        raise ConnectomeBenchError(f"{n} rows cannot be drawn from {len(answers)}; ask for 1 to {len(answers)}")
    # a column of `datasets` is read as a whole, not row by row
    answers = list(answers)
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
    """Name a subsample in the condition of its records: ``sample64-seed0``."""
    return f"sample{n}-seed{seed}"
