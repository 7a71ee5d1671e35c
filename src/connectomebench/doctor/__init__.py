"""What this machine lacks to build a species: packages, token, network, renderer, disk. Looks, and changes nothing."""

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
    """Look for everything that a build of a species needs.

    Parameters
    ----------
    species
        What shall be built: from the source ``cave`` where there is a CAVE server, else from ``volumes``.
    out
        Folder for the datasets, which need not exist yet. The caches of a build are in it.
    server
        CAVE server to ask in place of the species', as ``source.cave.server``.
    offline
        Ask no server.

    Returns
    -------
    list of Finding
        In reading order. A check that fails in an unforeseen way is ``missing``. No finding holds any part of a token.

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
