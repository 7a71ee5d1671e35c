"""Connectome proofreading as Hugging Face datasets, models and metrics."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("connectomebench")
