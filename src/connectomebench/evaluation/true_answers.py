"""The truth of stored rows as it stands in result records: the answer, or the places or masks that are the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import encode_masks, stored_masks
from connectomebench.core.place_score import write_truth
from connectomebench.core.tasks import get_task

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMNS = {
    "masks": ("task", "views", "target_images"),
    "places": ("task", "answer", "target_nm", "location_nm", "question", "extent_nm"),
}
_ROWS = 64


def true_answers(batch: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the truth of each row of a batch.

    Parameters
    ----------
    batch
        Columns of stored rows of one task; ``answer``, for masks ``views`` and ``target_images``, for places
        ``target_nm``, ``location_nm``, ``question`` and ``extent_nm``.

    Raises
    ------
    ConnectomeBenchError
        If a row has no masks or places, or one cannot be read.
    """
    tasks = batch.get("task") or []
    scoring = get_task(str(tasks[0])).scoring if len(tasks) else "exact"
    if scoring == "exact":
        return list(batch["answer"])
    if scoring == "places":
        if missing := [name for name in _COLUMNS["places"] if name not in batch]:
            raise ConnectomeBenchError(
                f"rows have no column {missing[0]!r}; load the dataset without dropping that column"
            )
        columns = {name: batch[name] for name in _COLUMNS["places"]}
        return [write_truth(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    if "target_images" not in batch:
        raise ConnectomeBenchError("rows have no column 'target_images'; load the dataset without dropping that column")
    try:
        rows = zip(batch["views"], batch["target_images"], strict=True)
        return [encode_masks(stored_masks(views, targets)) for views, targets in rows]
    except ValueError as error:
        raise ConnectomeBenchError(f"{error}; fetch or build the dataset again") from None


def dataset_answers(dataset: Dataset) -> list[str]:
    """Return the truth of every row of a dataset; as :func:`true_answers`, some rows in memory at a time."""
    if not len(dataset) or "task" not in dataset.column_names:
        return list(dataset["answer"])
    wanted = _COLUMNS.get(get_task(str(dataset.select_columns(["task"])[0]["task"])).scoring)
    if wanted is None or not set(wanted) <= set(dataset.column_names):
        return list(dataset["answer"])
    own = dataset.select_columns(list(wanted))
    return [answer for start in range(0, len(own), _ROWS) for answer in true_answers(own[start : start + _ROWS])]
