"""Format estimates as text and JSON values."""

from __future__ import annotations

import math
from typing import Any

from connectomebench.evaluation.statistics import Estimate


def interval_text(estimate: Estimate, sign: str = "") -> str:
    """Format a value with its interval, three digits each; ``sign="+"`` shows the sign of positive numbers."""
    if math.isnan(estimate.value):
        return "undefined"
    value = f"{estimate.value:{sign}.3f}"
    if math.isnan(estimate.lower):
        return f"{value} (no interval)"
    return f"{value} [{estimate.lower:{sign}.3f}, {estimate.upper:{sign}.3f}]"


def p_text(p: float) -> str:
    """Format a p-value with two digits."""
    return "undefined" if math.isnan(p) else f"{p:.2g}"


def without_nan(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by None in nested dicts, lists and tuples."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
