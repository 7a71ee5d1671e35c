"""What trained models look at, for the report: measures of the maps, the sweep over the layers, and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectomebench.evaluation.attribution_files import RECORD, SWEEP, read_attribution
from connectomebench.evaluation.attribution_pictures import METHOD_NAMES

_PICTURES = 2
_MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Measured:
    """A measure with its interval; NaN where it is undefined."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class MapRow:
    """Measures of a method at its last layer; None where a measure was not taken."""

    method: str
    layer: str
    deletion: Measured | None
    insertion: Measured | None
    near: Measured | None
    near_by_drawing: Measured | None
    like_shuffled: Measured | None


@dataclass(frozen=True)
class Looks:
    """What one model looks at; pictures are data URIs."""

    model: str
    rows: int
    groups: int
    removal: str
    methods: tuple[MapRow, ...]
    shown: str
    sweep: str | None
    pictures: tuple[str, ...]


def read_looks(folder: Path, task: str, species: str) -> list[Looks]:
    """Read the attributions of all models of a task that lie in ``FOLDER/TASK/SPECIES/MODEL``.

    Parameters
    ----------
    folder
        ``OUT/attribution``; may be absent.
    task, species
        Whose.

    Raises
    ------
    ConnectomeBenchError
        If a record is damaged.
    """
    own = sorted(path.parent for path in (folder / task / species).glob(f"*/{RECORD}"))
    return [_looks(path, record) for path in own if (record := read_attribution(path)) is not None]


def _looks(folder: Path, record: Mapping[str, Any]) -> Looks:
    known = {(m["method"], m["layer"], m["measure"]): m for m in record["measures"]}
    last = {method: layer for method, layer, measure in known if measure == "deletion"}
    shown = record.get("shown", {})
    names = [name for name in record.get("pictures", []) if Path(name).name == name]
    return Looks(
        model=str(record["model"]),
        rows=len(record["samples"]),
        groups=len({sample["group"] for sample in record["samples"]}),
        removal=str(record.get("removal", "")),
        methods=tuple(_map_row(known, method, layer) for method, layer in last.items()),
        shown=f"{METHOD_NAMES.get(shown.get('method'), 'LayerCAM')}, {shown.get('layer', '')}",
        sweep=next(_uris(folder, [SWEEP]), None),
        pictures=tuple(_uris(folder, names[:_PICTURES])),
    )


def _map_row(known: Mapping[tuple[str, str, str], Mapping[str, Any]], method: str, layer: str) -> MapRow:
    def of(measure: str) -> Measured | None:
        return _measured(known.get((method, layer, measure)))

    return MapRow(
        method=METHOD_NAMES.get(method, method),
        layer=layer,
        deletion=of("deletion"),
        insertion=of("insertion"),
        near=of("near"),
        near_by_drawing=of("near_by_drawing"),
        like_shuffled=of("like_shuffled"),
    )


def _measured(one: Mapping[str, Any] | None) -> Measured | None:
    if one is None or one["value"] is None:
        return None
    value = float(one["value"])
    low, high = (float("nan") if one[key] is None else float(one[key]) for key in ("lower", "upper"))
    return Measured(value, low, high)


def _uris(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        path = folder / name
        if path.is_file() and path.stat().st_size <= _MOST_BYTES:
            yield f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
