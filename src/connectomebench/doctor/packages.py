"""Check Python and the packages a build imports."""

from __future__ import annotations

import sys
import tempfile

from connectomebench.doctor.checks import CheckResult
from connectomebench.doctor.subprocess_checks import apart

_VOLUMES = (
    ("cloud-volume", "cloudvolume", "12.4"),
    ("connected-components-3d", "cc3d", "3.20"),
    ("edt", "edt", "3.0"),
    ("fastremap", "fastremap", "1.15"),
    ("kimimaro", "kimimaro", "5.8"),
    ("zmesh", "zmesh", "1.9"),
)
# Distribution, module and minimum version of each package of an extra, as in pyproject.toml.
EXTRAS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "volumes": _VOLUMES,
    "cave": (
        ("caveclient", "caveclient", "8.0"),
        ("diskcache", "diskcache", "5.6"),
        *_VOLUMES,
    ),
    "neurons": (("navis", "navis", "1.10"),),
    "cluster": (("dask", "dask", "2024.8"), ("distributed", "distributed", "2024.8")),
}


def python() -> list[CheckResult]:
    """Report the versions of Python and of this package."""
    from connectomebench.core.version import __version__

    return [CheckResult("python", "ok", f"Python {sys.version.split()[0]}, connectomebench {__version__}")]


def packages(extra: str | None) -> list[CheckResult]:
    """Check that an extra (a key of ``EXTRAS``; None for none) is installed, recent and importable with the build."""
    if extra is None:
        versions, problems, modules = {}, [], []
    else:
        versions, problems = _versions(extra)
        modules = [module for name, module, _ in EXTRAS[extra] if name in versions]
    # cloud-volume creates a folder on import: use a temporary one
    with tempfile.TemporaryDirectory() as folder:
        failed = apart(try_imports, "connectomebench.build", *modules, CLOUD_VOLUME_DIR=folder)
    problems += [f"{module} cannot be imported ({why})" for module, why in failed.items()]
    if problems:
        wanted = "connectomebench" if extra is None else f"connectomebench[{extra}]"
        todo = f"pip install --upgrade '{wanted}', or make setup in a checkout"
        return [CheckResult("packages", "missing", "; ".join(problems), todo)]
    found = ", ".join(f"{name} {version}" for name, version in versions.items()) or "no extra is needed"
    return [CheckResult("packages", "ok", found)]


def cluster() -> list[CheckResult]:
    """Check that Dask is installed, which only ``build --scheduler`` needs."""
    versions, problems = _versions("cluster")
    if problems:
        todo = "for build --scheduler: pip install --upgrade 'connectomebench[cluster]'"
        return [CheckResult("cluster", "warning", "; ".join(problems), todo)]
    return [CheckResult("cluster", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))]


def _versions(extra: str) -> tuple[dict[str, str], list[str]]:
    """Return the installed packages of an extra (name -> version) and their problems."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    versions: dict[str, str] = {}
    problems = []
    for name, _, least in EXTRAS[extra]:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if Version(versions[name]) < Version(least):
            problems.append(f"{name} {versions[name]} is older than {least}")
    return versions, problems


def try_imports(*modules: str) -> dict[str, str]:
    """Import modules and return the errors by name; meant to run in a subprocess."""
    import importlib

    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            failed[module] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return failed
