"""Find data folders, which lie beside the package in a checkout and inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

_PACKAGE = Path(__file__).resolve().parents[1]
# the wheel carries the top-level folders (hub_cards, examples, eval ...) as data of the package
_INSTALLED = _PACKAGE / "_data"
_CHECKOUT = _PACKAGE.parents[1]


def resource_path(name: str) -> Path:
    """Return the path of a file or folder that is shipped with the package.

    Parameters
    ----------
    name
        Path as in the repository, for example ``"hub_cards/dataset.md.jinja"``.

    Raises
    ------
    ConnectomeBenchError
        If neither the installed package nor a checkout has it.
    """
    root = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    path = root / name
    if not path.exists():
        raise ConnectomeBenchError(f"{name} is missing from {root}; install connectomebench again")
    return path
