"""Counts and typical samples of a dataset folder for the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import read_mask
from connectomebench.core.places import nodes_in, read_places, relative
from connectomebench.core.tasks import ANY, EM_VIEWS, get_task
from connectomebench.core.view_layout import plane_columns, view_caption
from connectomebench.rendering.mask_overlay import draw_mask
from connectomebench.rendering.overlay import has_overlay, overlay_svg

PARTITIONS = ("train", "validation", "test")

# among so many samples of an answer the typical one is looked for: enough for a median, few enough to decode
_CONSIDERED = 40
_SMALL_COLUMNS = ("sample_id", "answer", "origin", "group")
_TRUTH = ("answer", "question", "location_nm", "target_nm", "target_images")


@dataclass(frozen=True)
class PartitionCount:
    """Samples of one partition: by answer, total, and number of groups."""

    partition: str
    by_answer: dict[str, int]
    total: int
    groups: int


@dataclass(frozen=True)
class View:
    """One picture.

    Attributes
    ----------
    name
        In the `views` column.
    uri
        The file as a data URI, byte for byte as stored.
    overlay
        Centre mark and scale bar as an SVG element, empty where the width is not known.
    """

    name: str
    uri: str
    overlay: str = ""


@dataclass(frozen=True)
class ReportSample:
    """One sample as it is shown: `extent_nm` is the edge of its views, nm.

    `columns` are its views as they stand on the page: each slice below the view of its plane, and each view with its
    true mask drawn in below the view itself. `answer` is for readers: where it is a place, the nodes nearest to it.
    """

    sample_id: str
    answer: str
    origin: str
    partition: str
    extent_nm: float
    columns: tuple[tuple[View, ...], ...]


@dataclass(frozen=True)
class DatasetSummary:
    """Counts and samples of one task and species.

    Attributes
    ----------
    answers
        Answers that occur, in the order of the task's labels; ``any`` alone where they are places or masks.
    counts
        One entry for each of train, validation and test.
    origins
        Number of samples of each origin (edit, control, simulated), over all partitions.
    samples
        One sample an answer (one alone where answers are places or masks), from the test partition where it has that
        answer.
    """

    answers: tuple[str, ...]
    counts: tuple[PartitionCount, ...]
    origins: dict[str, int]
    samples: tuple[ReportSample, ...]


def summarise_dataset(folder: Path, task: str, species: str) -> DatasetSummary:
    """Count the samples of a dataset folder and pick a typical one per answer.

    Typical is the sample whose areas of blue and orange are nearest to the median of its answer (among the first
    40 by `sample_id`), so that the picture is neither the best nor the worst.

    Parameters
    ----------
    folder
        ``OUT/TASK``, with ``SPECIES/PARTITION-*.parquet`` below.
    task, species
        What the folder holds.

    Raises
    ------
    ConnectomeBenchError
        If a partition is missing.
    """
    rows = {p: _read(_files(folder, species, p), _SMALL_COLUMNS) for p in PARTITIONS}
    for part in rows.values():
        part["answer"] = [get_task(task).counted_as(answer) for answer in part["answer"]]
    present = {a for part in rows.values() for a in part["answer"]}
    labels = get_task(task).labels
    answers = tuple(a for a in labels if a in present) + tuple(sorted(present - set(labels)))
    counts = tuple(
        PartitionCount(
            p,
            {a: part["answer"].count(a) for a in answers},
            len(part["answer"]),
            len(set(part["group"])),
        )
        for p, part in rows.items()
    )
    origins = [o for part in rows.values() for o in part["origin"]]
    samples = tuple(_typical(folder, species, rows, a) for a in answers)
    return DatasetSummary(answers, counts, {o: origins.count(o) for o in sorted(set(origins))}, samples)


def _files(folder: Path, species: str, partition: str) -> list[Path]:
    files = sorted((folder / species).glob(f"{partition}-*.parquet"))
    if not files:
        raise ConnectomeBenchError(f"{folder / species} has no {partition}-*.parquet; build the dataset first")
    return files


def _read(files: Sequence[Path], columns: Sequence[str], ids: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Read columns of some or all rows; ClassLabel columns are returned as names."""
    import pyarrow.dataset as pad
    from datasets import ClassLabel, Features

    stored = pad.dataset([str(f) for f in files])
    chosen = None if ids is None else pad.field("sample_id").isin(list(ids))
    values = stored.to_table(columns=list(columns), filter=chosen).to_pydict()
    features = Features.from_arrow_schema(stored.schema)
    for name in columns:
        feature = features[name]
        if isinstance(feature, ClassLabel):
            values[name] = [None if v is None else feature.names[v] for v in values[name]]
    return values


def _typical(folder: Path, species: str, rows: dict[str, dict[str, list[Any]]], answer: str) -> ReportSample:
    partition = next(p for p in ("test", "validation", "train") if answer in rows[p]["answer"])
    part = rows[partition]
    ids = sorted(i for i, a in zip(part["sample_id"], part["answer"], strict=True) if a == answer)[:_CONSIDERED]
    columns = ("sample_id", "images", "views", "extent_nm", "origin")
    truth = _TRUTH if answer == ANY else ()
    stored = _read(_files(folder, species, partition), (*columns, *truth), ids)
    order = np.argsort(np.asarray(stored["sample_id"]), kind="stable").tolist()
    areas = np.asarray([_coloured_areas(stored["images"][i], stored["views"][i]) for i in order])
    distance = np.abs(areas - np.median(areas, axis=0)).sum(axis=1)
    pick = order[int(np.argmin(distance))]
    extent = stored["extent_nm"][pick]
    views = [
        View(name, _data_uri(image["bytes"]), overlay_svg(extent) if has_overlay(name, extent) else "")
        for name, image in zip(stored["views"][pick], stored["images"][pick], strict=True)
    ]
    shown = [[views[i] for i in column] for column in plane_columns([view.name for view in views])]
    if answer == ANY:
        row = {name: values[pick] for name, values in stored.items()}
        answer = _answer_text(row)
        if row["target_images"]:
            answer = "the part in red"
            shown = [[*column, _with_mask(row, column[0].name)] for column in shown]
    columns = tuple(map(tuple, shown))
    return ReportSample(stored["sample_id"][pick], answer, stored["origin"][pick], partition, extent, columns)


def _with_mask(row: dict[str, Any], view: str) -> View:
    """Draw the true mask of a view into it."""
    from PIL import Image

    place = row["views"].index(view)
    with Image.open(io.BytesIO(row["images"][place]["bytes"])) as picture:
        drawn = draw_mask(picture, read_mask(row["target_images"][place]))
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return View(f"{view_caption(view)}, with the answer", _data_uri(stream.getvalue()))


def _answer_text(row: dict[str, Any]) -> str:
    """Say where the true place is: the node nearest to each of its points; the stored text where there are none."""
    nodes, true = nodes_in(row["question"]), read_places(row["answer"])
    true = true and true.points(nodes)
    if true is None or not nodes:
        return str(row["answer"])

    def near(place: Any) -> int:
        return min(nodes, key=lambda number: float(np.linalg.norm(np.subtract(nodes[number], place))))

    sides = [sorted({near(place) for place in side}) for side in (true.sources, true.sinks) if side]
    if len(sides) == 1:
        wanted: list[Any] = [relative(place, row["location_nm"]) for place in row["target_nm"]] or [*true.sources]
        sides = [sorted({near(place) for place in wanted})]
    return " against ".join(" and ".join(f"node {number}" for number in side) for side in sides)


def _coloured_areas(images: Sequence[dict[str, Any]], views: Sequence[str]) -> NDArray[np.float64]:
    """Return the log of the bluish and the orange area over the mesh views; shape (2,)."""
    from PIL import Image

    total = np.zeros(2)
    for image, view in zip(images, views, strict=True):
        if view in EM_VIEWS:
            continue
        with Image.open(io.BytesIO(image["bytes"])) as picture:
            # a quarter of the size is enough for an area
            small = picture.convert("RGB").resize((max(1, picture.width // 4), max(1, picture.height // 4)))
        pixels = np.asarray(small, np.int16)
        difference = pixels[..., 2] - pixels[..., 0]
        total += [np.mean(difference > 20), np.mean(difference < -20)]
    return np.log(total + 1e-3)


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
