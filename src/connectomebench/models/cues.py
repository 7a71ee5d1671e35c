"""Cheap cues: what an answer can be guessed from without looking at a neuron as a whole.

Each cue turns a stored row into a few numbers; :mod:`connectomebench.evaluation.cue_scores` says how far they lead. A
cue that scores well above one half is a short cut that models may take, too.

========== =============================================================================================
trivial    brightness and area of each colour; controls are matched on these, so one half by design
one_piece  one piece of each colour in every view, yes or no
silhouette pieces, holes, area and share at the centre, for each colour and view of meshes
slice      grey values in rings around the centre of each slice of image data
grey       what is left of the images when they are grey all over: their size
metadata   sizes of the PNG files, place, ids, extent of the view, number of segments and of pictures
========== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.task_explanations import CUE_TITLES
from connectomebench.core.tasks import EM_VIEWS, SHAPE_VIEWS
from connectomebench.models.features import FeatureStore, stored_rows
from connectomebench.models.images import StoredImage, image_size
from connectomebench.rendering.colour_features import MIN_SATURATION, NAMES, image_features
from connectomebench.rendering.em_slices import untinted
from connectomebench.rendering.silhouette_features import SILHOUETTE_NAMES, silhouette_features

if TYPE_CHECKING:
    from datasets import Dataset

RINGS = (0.0, 0.03, 0.06, 0.1, 0.16, 0.25)  # borders of the rings, in edges of the picture
GREY_BINS = 8
_WHOLE = ("segment_classification",)  # what it is follows from size and outline, and its size is in the question
IDS_ANSWER = ("segment_identity",)
"""Tasks in which the ids of segments are the answer itself."""

Names = tuple[str, ...]
Measured = tuple[Names, NDArray[np.float32]]


@dataclass(frozen=True)
class CheapCue:
    """One way to guess without looking at a neuron.

    Attributes
    ----------
    name
        Short name, for files and tables.
    measure
        Turns rows into names of the numbers and numbers, float32, shape (rows, numbers).
    views
        The views that are looked at; empty for a cue that needs none. It applies to tasks that have one of them.
    inherent_in
        Tasks in which the cue is part of what is asked, so that a score above one half is no flaw of the dataset.
    """

    name: str
    measure: Callable[[Dataset, Path | None, bool], Measured]
    views: tuple[str, ...] = ()
    inherent_in: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it looks at, for people."""
        return CUE_TITLES[self.name]


def cues_of(views: Sequence[str]) -> tuple[CheapCue, ...]:
    """Return the cues that can be measured on rows with these views."""
    return tuple(cue for cue in CUES if not cue.views or any(view in cue.views for view in views))


def cue_features(rows: Dataset, cue: CheapCue, cache: Path | None = None, *, progress: bool = False) -> Measured:
    """Turn every row into the numbers of a cue.

    Parameters
    ----------
    rows
        Stored rows (:mod:`connectomebench.dataset.schema`).
    cue
        One of :data:`CUES`.
    cache
        Folder for what is measured on pictures; None keeps it in memory.
    progress
        Show a bar for what takes over a second.

    Returns
    -------
    names, values
        Names of the numbers, and float32 of shape (rows, numbers).

    Raises
    ------
    ConnectomeBenchError
        If there are no rows, a column is missing, or the rows differ in their views.
    """
    missing = {"images", "views"} - set(rows.column_names)
    if missing:
        raise ConnectomeBenchError(f"rows have no column {min(missing)!r}; load the dataset without dropping it")
    return cue.measure(rows, cache, progress)


def ring_features(image: Image.Image) -> NDArray[np.float32]:
    """Grey values round the centre of a slice.

    Parameters
    ----------
    image
        Any size; coloured pixels (the outline of the segment) are left out, and tints are taken off.

    Returns
    -------
    float32, shape (40,)
        In the order of :data:`RING_NAMES`: for each ring, from the centre outwards, the share of its pixels in each of
        8 equal bins of grey.
    """
    rgb = Image.fromarray(untinted(np.asarray(image.convert("RGB"))))
    grey = np.asarray(rgb.convert("L"), np.int64)
    plain = np.asarray(rgb.convert("HSV"))[..., 1] < MIN_SATURATION
    rows, columns = (np.arange(n) + 0.5 for n in grey.shape)
    height, width = grey.shape
    distance = np.hypot((rows[:, None] - height / 2) / height, (columns[None, :] - width / 2) / width)
    values = []
    for inner, outer in pairwise(RINGS):
        here = (distance >= inner) & (distance < outer) & plain
        counts = np.bincount(grey[here] * GREY_BINS // 256, minlength=GREY_BINS)
        values.append(counts / max(int(counts.sum()), 1))
    return np.concatenate(values).astype(np.float32)


RING_NAMES: Names = tuple(f"ring{ring}_grey{grey}" for ring in range(len(RINGS) - 1) for grey in range(GREY_BINS))


def _on_views(
    name: str, wanted: tuple[str, ...], names: Names, measure: Callable[[Image.Image], NDArray[np.floating]]
) -> Callable[[Dataset, Path | None, bool], Measured]:
    """Measure some views of every row, picture by picture, kept by content."""

    def measured(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
        views = _views(rows)
        chosen = [k for k, view in enumerate(views) if view in wanted]
        settings = {"name": f"cue {name}", "names": list(names), "format": 1}
        store = FeatureStore(cache, settings, lambda images: np.stack([measure(i) for i in images]).astype(np.float32))
        images = stored_rows(rows)

        def of_views() -> Iterator[list[StoredImage]]:
            return ([row[k] for k in chosen] for row in images())

        words = f"measure {name}" if progress else None
        values = store.rows(of_views, len(chosen) * len(rows), words)
        return tuple(f"{views[k]}_{number}" for k in chosen for number in names), values

    return measured


def _views(rows: Dataset) -> Sequence[str]:
    """Return the views of the rows, which must all have the same."""
    if len(rows) == 0:
        raise ConnectomeBenchError("there are no rows to look at; build the dataset again or choose another")
    kinds = {tuple(views) for views in rows["views"]}
    if len(kinds) > 1:
        raise ConnectomeBenchError("the rows differ in their views; give rows of one task")
    return kinds.pop()


def _one_piece(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
    names, values = _silhouettes(rows, cache, progress)
    pieces = values[:, [k for k, name in enumerate(names) if name.endswith(("blue_pieces", "orange_pieces"))]]
    pieces = pieces[:, pieces.any(axis=0)]  # a colour that no row has is not asked for
    return ("one_piece_each",), (pieces == 1).all(axis=1, keepdims=True).astype(np.float32)


def _grey(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
    views = _views(rows)
    values = [[length for image in row for length in image_size(image)] for row in stored_rows(rows)()]
    return tuple(f"{view}_{what}" for view in views for what in ("width", "height")), np.array(values, np.float32)


def _metadata(rows: Dataset, cache: Path | None, progress: bool) -> Measured:
    views = _views(rows)
    sizes = [_file_sizes(row) for row in stored_rows(rows)()]
    names = [f"{view}_bytes" for view in views]
    parts = [np.array(sizes, np.float64)]
    known = set(rows.column_names)
    if "location_nm" in known:
        parts.append(np.array(list(rows["location_nm"]), np.float64).reshape(len(rows), -1)[:, :3])
        names += ["x", "y", "z"]
    if "extent_nm" in known:
        parts.append(np.array(list(rows["extent_nm"]), np.float64)[:, None])
        names.append("extent")
    if "segment_ids" in known and rows[0].get("task") not in IDS_ANSWER:
        ids = list(rows["segment_ids"])
        parts.append(np.array([_ids(row) for row in ids]))
        names += ["segments", "first_id", "last_id", "first_id_low", "last_id_low", "ids_in_order"]
    if "sample_id" in known:
        parts.append(np.array([[_as_share(str(name))] for name in rows["sample_id"]]))
        names.append("sample_id")
    return tuple(names), np.concatenate(parts, axis=1).astype(np.float32)


def _file_sizes(images: Iterable[StoredImage]) -> list[int]:
    return [len(_encoded(image)) for image in images]


def _encoded(image: StoredImage) -> bytes:
    if isinstance(image, Mapping):
        content = image.get("bytes")
        return content if content is not None else Path(image["path"]).read_bytes()
    raise ConnectomeBenchError("the pictures of these rows are decoded; give rows as they are stored")


def _ids(row: Sequence[Any]) -> list[float]:
    """Measure ids: their number, size and low bits of the first and the last, and whether they ascend."""
    ids = [int(i) for i in row]
    if not ids:
        return [0.0] * 6
    ends = (ids[0], ids[-1])
    return [float(len(ids)), *(i / 2**64 for i in ends), *(float(i % 64) for i in ends), float(ids == sorted(ids))]


def _as_share(name: str) -> float:
    """Place of a name among all names, 0 to 1: its first bytes as a number."""
    return int.from_bytes(name.encode()[:8].ljust(8, b"\0"), "big") / 2**64


_silhouettes = _on_views("silhouette", SHAPE_VIEWS, SILHOUETTE_NAMES, silhouette_features)

CUES: tuple[CheapCue, ...] = (
    CheapCue(
        "trivial",
        _on_views("trivial", SHAPE_VIEWS + EM_VIEWS, NAMES, image_features),
        SHAPE_VIEWS + EM_VIEWS,
        _WHOLE,
    ),
    CheapCue("one_piece", _one_piece, SHAPE_VIEWS, _WHOLE),
    CheapCue("silhouette", _silhouettes, SHAPE_VIEWS, _WHOLE),
    CheapCue(
        "slice",
        _on_views("slice", EM_VIEWS, RING_NAMES, ring_features),
        EM_VIEWS,
        # membranes at the end of a segment, in it, or between two, are what people look at, too
        (
            "endpoint_error_identification_with_em",
            "merge_action_with_em",
            "merge_error_identification_with_em",
            "split_action_with_em",
        ),
    ),
    CheapCue("grey", _grey),
    CheapCue("metadata", _metadata, (), _WHOLE),
)
"""All cues, the plainest first."""
