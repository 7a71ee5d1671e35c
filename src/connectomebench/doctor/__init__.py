"""Check what building a species needs: packages, token, network, renderer, disk. Changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from connectomebench.core.species import Species
from connectomebench.doctor.access import access, login_server
from connectomebench.doctor.checks import Check, CheckResult, as_json, as_text, is_ready, run_checks
from connectomebench.doctor.machine import cores, memory, renderer, space
from connectomebench.doctor.packages import cluster, packages, python

__all__ = ["CheckResult", "as_json", "as_text", "diagnose", "is_ready"]


def diagnose(species: Species, out: Path, server: str | None = None, offline: bool = False) -> list[CheckResult]:
    """Check everything a build of a species needs.

    Parameters
    ----------
    species
        Species to build: from the source ``cave`` if it has a CAVE server, else from ``volumes``.
    out
        Folder for the datasets, which need not exist yet; it also holds the caches of a build.
    server
        CAVE server instead of the species' own, as ``source.cave.server``.
    offline
        Skip all server checks.

    Returns
    -------
    list of CheckResult
        Results in display order. A check that fails unexpectedly is ``missing``. No result contains a token.

    Raises
    ------
    ConnectomeBenchError
        If ``server`` is not a plain address.
    """
    login = login_server(species, server)
    extra = "volumes" if login is None else "cave"
    checks: list[tuple[str, Check]] = [
        ("python", python),
        ("packages", partial(packages, extra)),
        ("cluster", cluster),
        ("access", partial(access, species, server, offline)),
        ("renderer", renderer),
        ("disk", partial(space, out, extra)),
        ("memory", memory),
        ("cores", cores),
    ]
    return run_checks(checks)
