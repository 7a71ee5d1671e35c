"""The trivial model without what takes nearly all its time; its own tests have the forests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from connectomebench.models import trivial_baseline
from connectomebench.models.heads import HeadCandidate


@contextmanager
def no_forests() -> Iterator[None]:
    """Choose among logistic heads only."""
    all_heads = trivial_baseline._candidates

    def logistic(seed: int) -> list[HeadCandidate]:
        return [head for head in all_heads(seed) if head.settings["head"] == "logistic"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trivial_baseline, "_candidates", logistic)
        yield
