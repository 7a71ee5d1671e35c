"""Sites whose data cannot be had: a few are left out and listed, too many stop the build."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from connectomebench.core.errors import ConnectomeBenchError


@dataclass(frozen=True)
class FailureRules:
    """How many sites may lack their data before a build stops. A build may be gone on with under other rules.

    Attributes
    ----------
    max_share
        Largest share of the sites of a task, of those tried so far.
    min_sites
        The share counts once so many sites of the task were tried.
    """

    max_share: float = 0.05
    min_sites: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ConnectomeBenchError(f"failures.max_share must be between 0 and 1, not {self.max_share:g}")
        if self.min_sites < 1:
            raise ConnectomeBenchError(f"failures.min_sites must be at least 1, not {self.min_sites}")


class FailureTally:
    """Counts the sites of each task that were tried and those whose data could not be had.

    Parameters
    ----------
    rules
        When there are too many.
    """

    def __init__(self, rules: FailureRules) -> None:
        self._rules = rules
        self._tried: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}

    def count(self, task: str, reason: str | None) -> None:
        """Count a site of a task; ``reason`` says why its data could not be had, None where they could."""
        self._tried[task] += 1
        if reason is not None:
            self._reasons.setdefault(task, Counter())[reason] += 1

    def check(self) -> None:
        """Give up where there are too many.

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
