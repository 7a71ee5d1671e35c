"""A person who follows a script instead of looking at the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connectomebench.human_eval.session import Item, RatingSession


def follow(script: Callable[[Item], Sequence[str]], seconds: float = 2.5, stop_after: int | None = None) -> Any:
    """Stand in for :func:`connectomebench.human_eval.app.show`."""

    def show(sitting: RatingSession, *_: object) -> None:
        while sitting.done < len(sitting.items):
            if stop_after is not None and sitting.done >= stop_after:
                raise KeyboardInterrupt
            assert sitting.rate(sitting.done, script(sitting.items[sitting.done]), seconds)

    return show
