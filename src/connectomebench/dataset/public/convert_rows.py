"""Fill the stored columns from a sample of a public dataset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from connectomebench.core.site import Origin
from connectomebench.core.tasks import get_task
from connectomebench.dataset.public.unmapped import Unmapped


def stored_row(
    task_name: str,
    species: str,
    sample_id: str,
    images: Sequence[bytes],
    answer: str,
    group: str,
    origin: Origin,
    source: tuple[str, str],
    *,
    location_nm: Sequence[float] = (),
    extent_nm: float | None = None,
    segment_ids: Sequence[int] = (),
    body_ids: Sequence[int] = (),
    edit_id: str | None = None,
    edit_time: datetime | None = None,
    choices: Sequence[int] = (),
) -> dict[str, Any]:
    """Make a stored row (:func:`connectomebench.dataset.schema.features`) from a sample of a public dataset.

    Parameters
    ----------
    task_name, species, sample_id, answer, group, origin
        As in our rows.
    images
        PNG files, in the order of the task's views; of a choice the views of each candidate in turn.
    source
        Repository and version.
    location_nm, extent_nm, segment_ids, body_ids, edit_id, edit_time, choices
        As in our rows; empty or None where the public dataset lacks them.

    Returns
    -------
    dict
        Column -> value.

    Raises
    ------
    Unmapped
        If the answer is none of the task's, or there are not as many images as views.
    """
    task = get_task(task_name)
    views, labels = task.views_of(len(choices)), task.labels_of(len(choices))
    if labels and answer not in labels:
        raise Unmapped("the answer is none of the task's")
    if len(images) != len(views):
        raise Unmapped("a view is missing")
    return {
        "sample_id": sample_id,
        "task": task.name,
        "species": species,
        "images": [{"bytes": image, "path": None} for image in images],
        "views": list(views),
        "question": task.ask(len(choices)),
        "answer": answer,
        "label": task.labels.index(answer) if task.labels else None,
        "target_nm": [],
        "choices": list(choices),
        "target_images": [],
        "location_nm": list(location_nm),
        "extent_nm": extent_nm,
        "second_place": [],
        "segment_ids": list(segment_ids),
        "body_ids": list(body_ids),
        "group": group,
        "origin": origin,
        "edit_id": edit_id,
        "edit_time": edit_time,
        "source": source[0],
        "source_version": source[1],
    }
