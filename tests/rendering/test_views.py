"""Pictures of a site: never empty, all parts seen, image data in the right place."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import middle, voxel_meshes

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import EMPTY_MESH
from connectomebench.core.site import Part, Site
from connectomebench.core.source import EMSlice
from connectomebench.core.tasks import EM_VIEWS, get_task
from connectomebench.rendering.colours import EM_OUTLINE, EM_OUTSIDE
from connectomebench.rendering.em_slices import draw_em
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.views import EmptyView, ViewRules, render_site

RULES = ViewRules(image_px=96, em_px=128)


def site(task: str, roles: tuple[str, ...], location=None) -> Site:
    parts = tuple(Part(i + 1, role) for i, role in enumerate(roles))  # type: ignore[arg-type]
    return Site(task, location or middle(48), 700.0, parts, "yes", (1,), (1,), "control")


def em_slice(inside: bool = True) -> EMSlice:
    segments = np.zeros((64, 64), np.uint64)
    segments[16:48, 16:32] = 1
    return EMSlice(np.full((64, 64), 120, np.uint8), segments, np.full((64, 64), inside))


def test_views_come_in_the_order_of_the_task() -> None:
    meshes = voxel_meshes(2, size=48)
    drawn = render_site(site("merge_action", ("base", "candidate")), meshes, None, rules=RULES, engine=CpuEngine())
    assert list(drawn) == list(get_task("merge_action").views)
    name = "endpoint_error_identification_with_em"
    em = dict.fromkeys(EM_VIEWS, em_slice())
    drawn = render_site(site(name, ("base",)), meshes[:1], em, rules=RULES, engine=CpuEngine())
    assert list(drawn) == list(get_task(name).views)
    assert {p.size for v, p in drawn.items() if v in EM_VIEWS} == {(128, 128)}


def test_a_site_that_would_be_empty_is_not_drawn() -> None:
    meshes = voxel_meshes(2, size=48)
    far = site("merge_error_identification", ("base",), location=(90_000.0, 0.0, 0.0))
    with pytest.raises(EmptyView):
        render_site(far, meshes[:1], None, rules=RULES, engine=CpuEngine())
    with pytest.raises(EmptyView, match="candidate"):
        both = site("merge_action", ("base", "candidate"))
        render_site(both, [meshes[0], EMPTY_MESH], None, rules=RULES, engine=CpuEngine())
    name = "endpoint_error_identification_with_em"
    with pytest.raises(EmptyView, match="outside"):
        em = dict.fromkeys(EM_VIEWS, em_slice(inside=False))
        render_site(site(name, ("base",)), meshes[:1], em, rules=RULES, engine=CpuEngine())
    with pytest.raises(ConnectomeBenchError, match="image data"):
        render_site(site(name, ("base",)), meshes[:1], None, rules=RULES, engine=CpuEngine())


def test_the_outline_runs_round_the_segment_and_tissue_keeps_its_grey() -> None:
    picture = draw_em(em_slice(), 1, 128)
    rows, columns = np.nonzero((picture == EM_OUTLINE).all(axis=2))
    assert (rows.min(), rows.max()) == (31, 96) and (columns.min(), columns.max()) == (31, 64)
    assert (picture[64, 48] == 120).all() and (picture[4, 4] == 120).all()
    assert not (draw_em(em_slice(), 2, 128) == EM_OUTLINE).all(axis=2).any()


def test_where_there_are_no_data_a_hatch_is_drawn() -> None:
    picture = draw_em(em_slice(inside=False), 1, 64)
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert colours == set(EM_OUTSIDE)
