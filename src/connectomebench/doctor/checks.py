"""Run checks and format their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

Check = Callable[[], "list[CheckResult]"]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes
    ----------
    name
        Name of the check.
    mark
        ``ok``; ``warning``: a build can run, but something is suboptimal or unchecked; ``missing``:
        a build cannot run.
    found
        What was found.
    todo
        What to do; may be empty.
    """

    name: str
    mark: Literal["ok", "warning", "missing"]
    found: str
    todo: str = ""


def run_checks(checks: Sequence[tuple[str, Check]]) -> list[CheckResult]:
    """Run named checks concurrently, each :func:`guarded`; results keep the order of the checks."""
    with ThreadPoolExecutor(len(checks)) as pool:
        return [finding for group in pool.map(lambda check: guarded(*check), checks) for finding in group]


def guarded(name: str, check: Check) -> list[CheckResult]:
    """Run a check; an exception becomes a result with its type and first line."""
    try:
        return check()
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        return [CheckResult(name, "missing", f"{type(error).__name__}: {first}", "fix this, then run the doctor again")]


def is_ready(findings: Sequence[CheckResult]) -> bool:
    """Return whether a build can run: nothing is missing."""
    return all(finding.mark != "missing" for finding in findings)


def as_text(name: str, findings: Sequence[CheckResult]) -> str:
    """Format one aligned line per result, and a summary line."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"{f.mark:7}  {f.name:{width}}  {f.found}{' -> ' if f.todo else ''}{f.todo}" for f in findings]
    missing, warnings = (sum(finding.mark == mark for finding in findings) for mark in ("missing", "warning"))
    verdict = "can be built" if is_ready(findings) else "cannot be built yet"
    sum_up = f"{name} {verdict}: {missing} missing, {warnings} warnings"
    return "\n".join([*lines, sum_up])


def as_json(name: str, findings: Sequence[CheckResult]) -> str:
    """Format ``species``, ``ready`` and ``checks``, a list of :class:`CheckResult` fields, as JSON."""
    value = {"species": name, "ready": is_ready(findings), "checks": [asdict(finding) for finding in findings]}
    return json.dumps(value, indent=2, ensure_ascii=False)
