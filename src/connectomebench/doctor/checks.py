"""What checks find, running them, and writing it down."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

from connectomebench.core.species import Species

Check = Callable[[], "list[CheckResult]"]


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes
    ----------
    name
        What was looked at.
    mark
        ``ok``; ``warning``: a build can run, but something is less than it could be or was not looked at; ``missing``:
        a build cannot run.
    found
        What is there.
    todo
        What to do; empty where nothing is.
    """

    name: str
    mark: Literal["ok", "warning", "missing"]
    found: str
    todo: str = ""


def run_checks(checks: Sequence[tuple[str, Check]]) -> list[CheckResult]:
    """Run named checks at the same time, each :func:`guarded`; the findings are in the order of the checks."""
    with ThreadPoolExecutor(len(checks)) as pool:
        return [finding for group in pool.map(lambda check: guarded(*check), checks) for finding in group]


def guarded(name: str, check: Check) -> list[CheckResult]:
    """Run a check; what it raises becomes a finding: the exception's type and its first line."""
    try:
        return check()
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        return [
            CheckResult(name, "missing", f"{type(error).__name__}: {first}", "mend this, then run the doctor again")
        ]


def is_ready(findings: Sequence[CheckResult]) -> bool:
    """Tell whether a build can run: nothing is missing."""
    return all(finding.mark != "missing" for finding in findings)


def as_text(species: Species, findings: Sequence[CheckResult]) -> str:
    """Write one line a finding, aligned, and one that sums up."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"{f.mark:7}  {f.name:{width}}  {f.found}{' -> ' if f.todo else ''}{f.todo}" for f in findings]
    missing, warnings = (sum(finding.mark == mark for finding in findings) for mark in ("missing", "warning"))
    verdict = "can be built" if is_ready(findings) else "cannot be built yet"
    sum_up = f"{species.name} {verdict}: {missing} missing, {warnings} warnings"
    return "\n".join([*lines, sum_up])


def as_json(species: Species, findings: Sequence[CheckResult]) -> str:
    """Write ``species``, ``ready`` and ``checks``, a list with the fields of each :class:`CheckResult`, as JSON."""
    value = {"species": species.name, "ready": is_ready(findings), "checks": [asdict(finding) for finding in findings]}
    return json.dumps(value, indent=2, ensure_ascii=False)
