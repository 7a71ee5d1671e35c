"""Handle sites whose data are unavailable: leave out and list a few, stop the build at too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from connectomebench.core.errors import ConnectomeBenchError


@dataclass(frozen=True)
class FailureConfig:
    """How many sites may lack their data before a build stops. A build can be resumed under other rules.

    Attributes
    ----------
    max_share
        Largest allowed share of the sites of a task tried so far.
    min_sites
        The share is checked once this many sites of the task were tried.
    """

    max_share: float = 0.05
    min_sites: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ConnectomeBenchError(f"failures.max_share must be between 0 and 1, not {self.max_share:g}")
        if self.min_sites < 1:
            raise ConnectomeBenchError(f"failures.min_sites must be at least 1, not {self.min_sites}")


class FailureTally:
    """Count the sites of each task that were tried and those whose data were unavailable.

    Parameters
    ----------
    rules
        When there are too many failures.
    """

    def __init__(self, rules: FailureConfig) -> None:
        self._rules = rules
        self._tried: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}

    def count(self, task: str, reason: str | None) -> None:
        """Count a site of a task; ``reason`` is why its data were unavailable, None if they were available."""
        self._tried[task] += 1
        if reason is not None:
            self._reasons.setdefault(task, Counter())[reason] += 1

    def check(self) -> None:
        """Stop the build if there are too many failures.

        Raises
        ------
        ConnectomeBenchError
            With the share, the most frequent reason and what to do.
        """
        for task, reasons in self._reasons.items():
            failed, tried = reasons.total(), self._tried[task]
            if tried >= self._rules.min_sites and failed > self._rules.max_share * tried:
                raise ConnectomeBenchError(
                    f"{task}: the data of {failed} of {tried} sites ({failed / tried:.1%}) cannot be had, more than "
                    f"failures.max_share ({self._rules.max_share:.1%}); most often: {reasons.most_common(1)[0][0]}; "
                    "run the same command again later: it goes on where it was and tries these sites again"
                )
