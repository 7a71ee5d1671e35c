"""Assumptions behind a cost: each with unit, meaning, range and where its value comes from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError, unknown_name

PRICINGS = ("hardware", "tokens")


def _assumption(value: Any, unit: str, meaning: str, origin: str, low: float = 0.0, high: float = math.inf) -> Any:
    notes = {"unit": unit, "meaning": meaning, "origin": origin, "low": low, "high": high}
    return field(default=value, metadata=notes)


_SMALL = 1e-9
_DRAFT = "published draft"
_OURS = "no published figure: set your own"


@dataclass(frozen=True)
class Assumptions:
    """Everything a cost depends on besides the edits. Units, meanings and ranges are in the fields' metadata.

    Examples
    --------
    >>> from connectomebench.economics.assumptions import Assumptions
    >>> Assumptions(votes=5).votes, Assumptions().merge_precision
    (5.0, 0.02)
    """

    merge_precision: float = _assumption(
        0.02,
        "share",
        "of the places looked at for a merge, the share with an error: at 0.02, fifty for each error",
        "published: 2% of candidates are errors",
        _SMALL,
        1,
    )
    split_precision: float = _assumption(
        0.02, "share", "the same for splits", "published: 2% of candidates are errors", _SMALL, 1
    )
    merge_s: float = _assumption(
        2.0, "s", "model time of one decision on a merge", f"{_DRAFT}: 1 to 5 s, 2.0 in the middle"
    )
    split_s: float = _assumption(
        2.5, "s", "model time of one decision on a split", f"{_DRAFT}: 1 to 5 s, 2.5 in the middle"
    )
    votes: float = _assumption(1.0, "calls", "model calls for each decision", "one answer, no vote")
    deferred_share: float = _assumption(
        1.0,
        "share",
        "of candidates that a cheaper first model leaves to the main model; 1: all, no cascade",
        "no cascade",
        0,
        1,
    )
    first_s: float = _assumption(0.0, "s", "time of the first model for each candidate; 0: no cascade", "no cascade")
    first_usd_hour: float = _assumption(0.10, "$/h", "price of the machine of the first model", _OURS)
    pricing: str = _assumption(
        "hardware", "", "what the main model is paid by: hardware or tokens", f"{_DRAFT}: GPU-hours"
    )
    gpus: float = _assumption(
        2.0, "GPUs", "that the main model occupies while it decides", f"{_DRAFT}: 32B on two H100"
    )
    gpu_usd_hour: float = _assumption(2.0, "$/GPU-h", "price of an hour of one GPU", f"{_DRAFT}: $2 a GPU-hour")
    prompt_tokens: float = _assumption(1500.0, "tokens", "read in each call", _OURS)
    generated_tokens: float = _assumption(300.0, "tokens", "written in each call", _OURS)
    prompt_usd_million: float = _assumption(1.0, "$/10⁶ tokens", "price of reading", _OURS)
    generated_usd_million: float = _assumption(4.0, "$/10⁶ tokens", "price of writing", _OURS)
    recall: float = _assumption(
        0.9, "share", "of errors that the model accepts for correction", "mark of Autoproof: 90%", 0, 1
    )
    accepted_precision: float = _assumption(
        0.9, "share", "of the places the model accepts, the share that are errors", "mark of Autoproof: 90%", _SMALL, 1
    )
    review_share: float = _assumption(
        1.0, "share", "of accepted places that a person checks", "every one is checked", 0, 1
    )
    person_s: float = _assumption(9.5, "s", "of a person for each check", "published sessions: 8 to 11 s a decision")
    by_hand_share: float = _assumption(
        0.0, "share", "of the errors the model leaves, the share that people find and correct by hand", "none", 0, 1
    )
    edit_s: float = _assumption(79.0, "s", "of a person for an edit by hand", "FlyWire: about 79 s an edit")
    person_usd_hour: float = _assumption(25.0, "$/h", "price of an hour of a person", _OURS)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, notes = getattr(self, item.name), item.metadata
            if item.name == "pricing":
                if value not in PRICINGS:
                    raise ConnectomeBenchError(f"pricing is {value!r}; choose hardware or tokens")
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConnectomeBenchError(f"{item.name} is {value!r}; give a number ({notes['meaning']})")
            if not notes["low"] <= value <= notes["high"]:
                limits = f"between {notes['low']:g} and {notes['high']:g}" if notes["high"] < math.inf else "at least 0"
                raise ConnectomeBenchError(f"{item.name} is {value:g}; it must be {limits} ({notes['meaning']})")
            object.__setattr__(self, item.name, float(value))


@dataclass(frozen=True)
class Sourced:
    """Assumptions, and where each value comes from.

    Attributes
    ----------
    values
        The assumptions.
    origins
        Name -> origin, for every one.
    """

    values: Assumptions
    origins: dict[str, str]

    def changed(self, values: Mapping[str, Any], origin: str | Mapping[str, str]) -> Sourced:
        """Replace some values.

        Parameters
        ----------
        values
            Name -> new value.
        origin
            Where all of them come from, or name -> origin.

        Raises
        ------
        ConnectomeBenchError
            If there is no such assumption, or a value is out of range.
        """
        for name in values:
            if name not in self.origins:
                raise unknown_name("assumption", str(name), self.origins)
        named = {name: origin if isinstance(origin, str) else origin[name] for name in values}
        return Sourced(dataclasses.replace(self.values, **values), {**self.origins, **named})


def defaults() -> Sourced:
    """Return the default assumptions."""
    return Sourced(Assumptions(), {f.name: f.metadata["origin"] for f in dataclasses.fields(Assumptions)})


def read_assumptions(path: Path, base: Sourced) -> Sourced:
    """Replace assumptions by those of a YAML file: a mapping of name to value.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be read, is no such mapping, or a value is unknown or out of range.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read assumptions {path}: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConnectomeBenchError(f"{path} must be a mapping of assumptions, such as `merge_precision: 0.05`")
    return base.changed(data, f"file {path.name}")


def listed(sourced: Sourced) -> list[dict[str, Any]]:
    """Return every assumption as plain values: name, value, unit, meaning, origin, low, high (None: no limit)."""
    return [
        {
            "name": f.name,
            "value": getattr(sourced.values, f.name),
            "unit": f.metadata["unit"],
            "meaning": f.metadata["meaning"],
            "origin": sourced.origins[f.name],
            "low": f.metadata["low"],
            "high": f.metadata["high"] if math.isfinite(f.metadata["high"]) else None,
        }
        for f in dataclasses.fields(Assumptions)
    ]
