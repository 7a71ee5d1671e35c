"""Check what a build needs: packages, token, network, renderer, disk. Changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from connectomebench.doctor.access import access_of
from connectomebench.doctor.checks import Check, CheckResult, as_json, as_text, is_ready, run_checks
from connectomebench.doctor.machine import cores, memory, renderer, space
from connectomebench.doctor.packages import cluster, packages, python
from connectomebench.doctor.targets import Target, config_target, species_target

__all__ = [
    "CheckResult",
    "Target",
    "as_json",
    "as_text",
    "config_target",
    "diagnose",
    "is_ready",
    "species_target",
]


def diagnose(target: Target, out: Path, offline: bool = False) -> list[CheckResult]:
    """Check everything that a build needs.

    Parameters
    ----------
    target
        What is built, from :func:`species_target` or :func:`config_target`.
    out
        Folder for the datasets, which need not exist yet; it also holds the caches of a build.
    offline
        Skip all server checks.

    Returns
    -------
    list of CheckResult
        Results in display order. A check that fails unexpectedly is ``missing``. No result contains a token.
    """
    extra = target.source if target.source != "morphology" else "neurons" if target.embedded else None
    checks: list[tuple[str, Check]] = [
        ("python", python),
        ("packages", partial(packages, extra)),
        ("cluster", cluster),
        ("access", partial(access_of, target, offline)),
        ("renderer", renderer),
        ("disk", partial(space, out, target.source, target.cache_gb)),
        ("memory", memory),
        ("cores", cores),
    ]
    return run_checks(checks)
