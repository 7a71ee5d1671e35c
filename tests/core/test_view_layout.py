"""Every slice stands under the view of its own plane."""

from __future__ import annotations

import pytest

from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, TASKS
from connectomebench.core.view_layout import PLANES, plane, plane_columns, plane_rows, view_caption


@pytest.mark.parametrize("task", TASKS)
def test_every_picture_stands_once_and_slices_below_their_views(task: str) -> None:
    views = TASKS[task].views
    columns = plane_columns(views)
    assert sorted(i for column in columns for i in column) == list(range(len(views)))
    for column in columns:
        assert len({plane(views[i]) for i in column}) == 1
        assert [views[i] for i in column] == sorted((views[i] for i in column), key=views.index)
    assert [i for row in plane_rows(views) for i in row][: len(columns)] == [column[0] for column in columns]


def test_planes_and_captions() -> None:
    assert {f"em_{axes}" for axes in PLANES.values()} == set(EM_VIEWS) and set(PLANES) == set(MESH_VIEWS)
    assert plane("first") is None
    assert len({view_caption(view) for view in (*MESH_VIEWS, *EM_VIEWS)}) == 6
    # a slice whose view is not shown stands alone
    assert plane_columns(["em_xz", "top", "em_xy"]) == [[1, 0], [2]]
