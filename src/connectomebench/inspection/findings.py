"""What was found about a file or folder, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What a file or folder is.

    Attributes
    ----------
    path
        As it was given.
    kind
        In a few words, for example ``labels in HDF5``.
    facts
        Name -> value: text, a number, or lists and mappings of these.
    warnings
        What seems wrong, one line each.
    usage
        Lines of a configuration (YAML), or of Python, that read it.
    """

    path: str
    kind: str
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    usage: tuple[str, ...] = field(default_factory=tuple)


def as_json(findings: Sequence[Finding]) -> str:
    """Write findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False, default=str)


def as_text(findings: Sequence[Finding]) -> str:
    """Write findings for people: facts, warnings, and the lines that read it, last."""
    blocks = []
    for finding in findings:
        lines = [f"{finding.path}: {finding.kind}"]
        width = max((len(name) for name in finding.facts), default=0)
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in finding.facts.items()]
        lines += [f"  warning: {warning}" for warning in finding.warnings]
        if finding.usage:
            lines += ["", *finding.usage]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(part) for part in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not stated" if value is None else str(value)
