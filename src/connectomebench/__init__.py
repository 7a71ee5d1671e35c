"""Connectome proofreading as Hugging Face datasets, models and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectomebench.core.version import __version__

if TYPE_CHECKING:
    from connectomebench.models.registry import load_model

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # what most of the package does not need is imported when it is asked for
    if name == "load_model":
        from connectomebench.models.registry import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
