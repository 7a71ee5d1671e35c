"""Files that come with the package: found in a checkout and in an installation alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_path(name: str) -> Path:
    """Return the path of a file or folder of the top level, such as ``examples/quickstart.yaml``.

    The wheel carries the top-level folders inside the package; in a checkout they lie two folders above it.

    Raises
    ------
    FileNotFoundError
        If it is in neither place: the installation is incomplete.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is missing from this installation of connectomebench; install it again")
