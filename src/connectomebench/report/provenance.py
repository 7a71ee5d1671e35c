"""Provenance of a dataset for the report, from its manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.leak_words import LookAlike, look_alike_text, read_look_alikes


@dataclass(frozen=True)
class CoverageRow:
    """Recall and precision of candidates against corrections; None if undefined."""

    title: str
    candidates: int
    corrections: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class CueRow:
    """Score of a cheap cue: balanced accuracy and its interval, NaN if undefined; ``note`` says what to expect."""

    looks_at: str
    value: float
    lower: float
    upper: float
    n: int
    n_groups: int
    note: str


@dataclass(frozen=True)
class Dropped:
    """Number of sites that a step dropped for a reason."""

    step: str
    reason: str
    count: int


@dataclass(frozen=True)
class Provenance:
    """Provenance and partition of a dataset, partly as text for readers."""

    source: str
    simulated_errors: bool
    simulated_em: bool
    shows_em: bool
    license: str
    citation: str
    fingerprint: str
    versions: list[tuple[str, str]]
    coverage: list[CoverageRow]
    cues: list[CueRow]
    dropped: list[Dropped]
    group_by: str
    partition_rule: str
    leak_check: str
    look_alikes: tuple[LookAlike, ...] = ()


def read_provenance(folder: Path, task: str, species: str) -> Provenance:
    """Read the provenance of a dataset.

    Parameters
    ----------
    folder
        Dataset folder with ``manifest.json``.
    task, species
        What to read of it.

    Raises
    ------
    ConnectomeBenchError
        If there is no manifest, or it lacks the species or a field.
    """
    path = folder / "manifest.json"
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["species"][species]
        return _provenance(entry, task)
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error.strerror}; build the dataset first") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(
            f"{path} is not a manifest of {task}/{species} ({error!r:.200}); build again"
        ) from error


def _provenance(entry: Mapping[str, Any], task: str) -> Provenance:
    source = entry["source"]
    look_alikes = read_look_alikes(entry)
    rules = entry["config"]["partition"]
    return Provenance(
        source=f"{source['name']} {source['version']}",
        simulated_errors=source["simulated_errors"],
        simulated_em=source["simulated_em"],
        shows_em=get_task(task).has_em,
        license=source["license"],
        citation=source["citation"],
        fingerprint=entry["fingerprint"],
        versions=list(entry["versions"].items()),
        coverage=_coverage(entry["candidates"], task),
        cues=[_cue(row) for row in entry.get("cues", [])],
        dropped=[
            Dropped(step, reason, count)
            for step, reasons in entry["dropped"].items()
            for reason, count in reasons.items()
            if count
        ],
        group_by=rules["group_by"],
        partition_rule=_partition_rule(rules, entry["partition"]),
        leak_check=_leak_check(entry["leaks"], look_alikes),
        look_alikes=look_alikes,
    )


_KINDS = {
    "end": "ends, for split errors",
    "branch": "branch points, for merge errors",
    "waist": "waists, for merge errors",
    "parallel": "parallel branches, for merge errors",
    "interface": "contacts of supervoxels, for merge errors",
}


def _coverage(measured: Mapping[str, Any] | None, task: str) -> list[CoverageRow]:
    if not measured:
        return []
    kinds = measured.get("kinds", {})  # datasets of format 1.0 have one kind
    rows = {_KINDS[kind]: kinds[kind] for kind in _KINDS if kind in kinds}
    if len(rows) != 1:
        errors = "merge errors" if get_task(task).correction == "split" else "split errors"
        rows |= {f"all, one a place, for {errors}": measured}
    return [
        CoverageRow(title, m["candidates"], m["corrections"], m["recall"], m["precision"]) for title, m in rows.items()
    ]


def _cue(row: Mapping[str, Any]) -> CueRow:
    notes = {"inherent": "part of what the task asks", "matched": "at chance by design"}
    note = "; ".join(words for key, words in notes.items() if row[key])
    value, lower, upper = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    return CueRow(row["looks_at"], value, lower, upper, int(row["n"]), int(row["n_groups"]), note)


def _partition_rule(rules: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    kept_apart = "no segment, no body and no place" if rules["group_by"] == "body" else "no segment and no place"
    half = rules.get("test_half")  # datasets of format 1.0 have none
    held_out = f"The half of the volume towards {half} is test, and nothing else is. " if half else ""
    text = (
        f"{held_out}Cubes of {rules['cube_nm'] / 1000:g} µm go to one partition each; then whatever is shared is "
        f"dropped, so that {kept_apart} is in two partitions."
    )
    if rules["group_by"] != "body":
        text += (
            f" Whole bodies are not kept apart: {result['bodies_shared']} of {result['bodies']} are in more than one "
            "partition, at different places."
        )
    return text


def _leak_check(leaks: Mapping[str, Any], pairs: Sequence[LookAlike]) -> str:
    ids = {name.replace("_", " "): count for name, count in leaks.items() if name != "pictures"}
    found = ", ".join(f"{count} {name}" for name, count in ids.items() if count)
    first = f"Leaks found: {found}." if found else f"Passed on the written files: {', '.join(ids)}."
    return f"{first} {look_alike_text(leaks, pairs)}"
