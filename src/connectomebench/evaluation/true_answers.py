"""The truth of stored rows as it stands in result records: the answer, or the masks that are the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.part_masks import encode_masks, stored_masks
from connectomebench.core.tasks import get_task

if TYPE_CHECKING:
    from datasets import Dataset

_MASK_COLUMNS = ("task", "views", "target_images")
_ROWS = 64


def true_answers(batch: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the truth of each row of a batch.

    Parameters
    ----------
    batch
        Columns of stored rows of one task; ``answer``, and for masks ``views`` and ``target_images``.

    Raises
    ------
    ConnectomeBenchError
        If a row has no masks, or one cannot be read.
    """
    tasks = batch.get("task") or []
    if not len(tasks) or get_task(str(tasks[0])).scoring != "masks":
        return list(batch["answer"])
    if "target_images" not in batch:
        raise ConnectomeBenchError("rows have no column 'target_images'; load the dataset without dropping that column")
    try:
        rows = zip(batch["views"], batch["target_images"], strict=True)
        return [encode_masks(stored_masks(views, targets)) for views, targets in rows]
    except ValueError as error:
        raise ConnectomeBenchError(f"{error}; fetch or build the dataset again") from None


def dataset_answers(dataset: Dataset) -> list[str]:
    """Return the truth of every row of a dataset; as :func:`true_answers`, some rows in memory at a time."""
    if not len(dataset) or "target_images" not in dataset.column_names:
        return list(dataset["answer"])
    if get_task(str(dataset.select_columns(["task"])[0]["task"])).scoring != "masks":
        return list(dataset["answer"])
    own = dataset.select_columns(list(_MASK_COLUMNS))
    return [answer for start in range(0, len(own), _ROWS) for answer in true_answers(own[start : start + _ROWS])]
