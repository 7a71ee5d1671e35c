"""Pictures of a site: never empty, all parts seen, image data in the right place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import middle, voxel_meshes

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import EMPTY_MESH
from connectomebench.core.site import Part, Site
from connectomebench.core.source import EMSlice
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, get_task
from connectomebench.core.view_layout import plane_columns
from connectomebench.rendering.colours import EM_OUTLINE, EM_OUTSIDE, ORANGE
from connectomebench.rendering.em_slices import TINT, draw_em, slice_colours, untinted
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.silhouette_features import matched_features
from connectomebench.rendering.views import EmptyView, ViewConfig, render_site
from connectomebench.sources.label_shapes import MeshConfig, mesh_labels

GOLDEN = Path(__file__).parent / "golden"
RULES = ViewConfig(image_px=96, em_px=128)


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
    em = dict.fromkeys(EM_VIEWS, em_slice())
    for name in ("endpoint_error_identification_with_em", "merge_error_identification_with_em"):
        drawn = render_site(site(name, ("base",)), meshes[:1], em, rules=RULES, engine=CpuEngine())
        assert list(drawn) == list(get_task(name).views)
    pair = site("merge_action_with_em", ("base", "candidate"))
    drawn = render_site(pair, meshes, em, rules=RULES, engine=CpuEngine())
    assert list(drawn) == list(get_task("merge_action_with_em").views)
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
    picture = draw_em(em_slice(), {1: EM_OUTLINE}, 128)
    rows, columns = np.nonzero((picture == EM_OUTLINE).all(axis=2))
    assert (rows.min(), rows.max()) == (31, 96) and (columns.min(), columns.max()) == (31, 64)
    assert (picture[64, 48] == 120).all() and (picture[4, 4] == 120).all()
    assert not (draw_em(em_slice(), {2: EM_OUTLINE}, 128) == EM_OUTLINE).all(axis=2).any()


def test_two_segments_are_tinted_and_the_grey_between_them_stays() -> None:
    slices = em_slice()
    slices.segments[16:48, 36:44] = 2  # 4 columns of neither between the two
    picture = draw_em(slices, slice_colours([Part(1, "base"), Part(2, "candidate")]), 64)
    base, candidate = (np.round(120 * (1 - TINT) + np.array(colour) * TINT) for colour in (EM_OUTLINE, ORANGE))
    assert (picture[32, 20:30] == base).all() and (picture[32, 38:42] == candidate).all()
    assert (picture[32, 33:35] == 120).all() and (picture[4, 4] == 120).all()
    assert (untinted(picture) == 120).all()
    assert slice_colours([Part(1, "source"), Part(1, "sink")]) == {1: EM_OUTLINE}


def test_tints_come_off_every_grey_and_lines_and_hatches_stay() -> None:
    slices = em_slice()
    slices.gray[:] = np.arange(64 * 64).reshape(64, 64) % 256
    slices.segments[:] = np.arange(64 * 64).reshape(64, 64) // 256 % 3
    tinted = draw_em(slices, slice_colours([Part(1, "base"), Part(2, "candidate")]), 64)
    assert np.abs(untinted(tinted).astype(int) - slices.gray[..., None]).max() <= 1
    slices.inside[:8] = False
    outlined = draw_em(slices, {1: EM_OUTLINE}, 64)
    np.testing.assert_array_equal(untinted(outlined), outlined)


def test_pixels_within_one_of_a_tint_are_grey_below_it_and_others_stay() -> None:
    rng = np.random.default_rng(0)
    colours = [np.array(colour) for colour in (EM_OUTLINE, ORANGE)]
    # rounding may leave the scale by 1
    scales = np.stack([np.round(np.arange(-1, 257)[:, None] * (1 - TINT) + colour * TINT) for colour in colours])
    picture = scales[rng.integers(0, 2, (80, 80)), rng.integers(1, 257, (80, 80))] + rng.integers(-3, 4, (80, 80, 3))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    plain = untinted(picture)
    # by brute force: every grey of either scale against every pixel
    near = [np.abs(scale[:, None, None] - picture).max(axis=3).min(axis=0) for scale in scales]
    taken = (plain != picture).any(axis=2)
    assert taken[(near[0] == 0) ^ (near[1] == 0)].all() and taken.sum() > 500
    assert not taken[np.minimum(*near) > 1].any() and (np.minimum(*near) > 1).sum() > 500
    assert (plain[taken] == plain[taken][:, :1]).all()


def test_where_there_are_no_data_a_hatch_is_drawn() -> None:
    picture = draw_em(em_slice(inside=False), {1: EM_OUTLINE}, 64)
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert colours == set(EM_OUTSIDE)


def test_the_outline_of_a_slice_lies_in_the_silhouette_of_the_view_above_it() -> None:
    """Three arms, none of which lies where another does in any view: only the view of its own plane holds an outline.

    x to the left, y to the right or down, z up; so any other outline has an arm outside.
    """
    size, voxel_nm = 60, 10.0
    labels = np.zeros((size,) * 3, np.uint8, order="F")
    labels[4:34, 26:34, 27:33] = labels[27:33, 28:56, 26:34] = labels[26:34, 27:33, 4:33] = 1
    (mesh,) = mesh_labels(labels, 1, (0, 0, 0), (voxel_nm,) * 3, np.ones((3, 2), bool), MeshConfig())
    middle_vx = size // 2
    cuts = {"em_xy": labels[:, :, middle_vx], "em_xz": labels[:, middle_vx], "em_yz": labels[middle_vx]}
    # columns run along the first named axis
    slices = {
        name: EMSlice(np.full((size, size), 120, np.uint8), cut.T.astype(np.uint64), np.ones((size, size), bool))
        for name, cut in cuts.items()
    }
    name = "endpoint_error_identification_with_em"
    place = Site(name, (size * voxel_nm / 2,) * 3, size * voxel_nm, (Part(1, "base"),), "yes", (1,), (1,), "control")
    drawn = render_site(place, [mesh], slices, rules=ViewConfig(image_px=256, em_px=256), engine=CpuEngine())
    views = list(drawn)

    def inside(view: str, cut: str) -> float:
        outline = (np.asarray(drawn[cut]) == EM_OUTLINE).all(axis=2)
        silhouette = (np.asarray(drawn[view]) < 255).any(axis=2)
        return float(silhouette[outline].mean())

    for view, cut in plane_columns(views):
        found = {other: inside(views[view], other) for other in views if other.startswith("em_")}
        assert found[views[cut]] == max(found.values()) > 0.85
        assert sorted(found.values())[-2] < 0.8


@pytest.mark.parametrize("pixels", [384, 1024])
def test_large_pictures_show_the_same(pixels: int) -> None:
    meshes = voxel_meshes(2, size=48)
    place = site("merge_action", ("base", "candidate"))
    small, large = (
        render_site(place, meshes, None, rules=ViewConfig(image_px=n), engine=CpuEngine()) for n in (128, pixels)
    )
    for view, picture in large.items():
        assert picture.size == (pixels, pixels)
        shrunk = np.asarray(picture.resize((128, 128), Image.Resampling.BOX), int)
        assert np.abs(shrunk - np.asarray(small[view], int)).mean() < 1.5


def test_each_candidate_is_drawn_with_the_base_alone_and_the_same_camera() -> None:
    meshes = [*voxel_meshes(2, size=48), voxel_meshes(3, size=48)[0]]
    parts = (Part(1, "base"), Part(2, "candidate"), Part(3, "candidate"))
    both = Site(
        "merge_action_multiple_choice", middle(48), 700.0, parts, "b", (1, 2, 3), (1, 2, 1), "edit", choices=(2, 3)
    )
    drawn = render_site(both, meshes, None, rules=RULES, engine=CpuEngine())
    assert list(drawn) == [f"{letter}_{view}" for letter in "ab" for view in MESH_VIEWS]
    for letter, mesh in zip("ab", meshes[1:], strict=True):
        alone = render_site(
            site("merge_action", ("base", "candidate")), [meshes[0], mesh], None, rules=RULES, engine=CpuEngine()
        )
        for view in MESH_VIEWS:
            assert np.array_equal(np.asarray(alone[view]), np.asarray(drawn[f"{letter}_{view}"]))
    lines = [np.hstack([np.asarray(drawn[f"{letter}_{view}"]) for view in MESH_VIEWS]) for letter in "ab"]
    golden = np.asarray(Image.open(GOLDEN / "choices.png"))
    assert np.mean(np.abs(golden.astype(int) - np.vstack(lines).astype(int)) > 24) < 0.002
    with pytest.raises(EmptyView, match="segment 3"):
        render_site(both, [*meshes[:2], EMPTY_MESH], None, rules=RULES, engine=CpuEngine())
    features = matched_features(drawn)
    each = [matched_features({v: drawn[f"{a}_{v}"] for v in MESH_VIEWS}) for a in "ab"]
    assert np.allclose(features, np.mean(each, axis=0)) and features.shape == each[0].shape
