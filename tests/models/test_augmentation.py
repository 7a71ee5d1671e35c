from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.models.augmentation import DEGREES, LIGHT, Change, change_views, draw_change
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE

STILL = Change(frozenset(), 0.0, 1.0, 1.0)
SLICES = ("em_xy", "em_xz", "em_yz")


def pictures(volume: np.ndarray) -> torch.Tensor:
    """Outlines of a volume (x, y, z) in the three views, then its middle slices; rows down, columns to the right."""
    middle = len(volume) // 2
    outlines = [volume.any(axis=2).T, volume.any(axis=0).T, volume.any(axis=1).T]
    slices = [volume[:, :, middle].T, volume[:, middle].T, volume[middle].T]
    grey = np.stack([*outlines, *slices]).astype(np.uint8) * 200
    return torch.from_numpy(np.repeat(grey[..., None], 3, axis=3))


@pytest.mark.parametrize("axes", ["x", "y", "z", "xz", "xyz"])
def test_a_mirror_is_one_of_the_world(axes: str) -> None:
    volume = np.random.default_rng(0).random((9, 9, 9)) > 0.85
    mirrored = np.flip(volume, ["xyz".index(axis) for axis in axes])
    change = Change(frozenset(axes), 0.0, 1.0, 1.0)
    changed = change_views(pictures(volume), (*MESH_VIEWS, *SLICES), change)
    assert torch.equal(changed, pictures(mirrored))
    assert not torch.equal(changed, pictures(volume))


@given(st.integers(0, 10**6), st.integers(0, 99), st.integers(0, 10**6))
def test_blue_stays_blue_and_orange_orange(seed: int, turn: int, row: int) -> None:
    cells = torch.full((3, 24, 24, 3), 255, dtype=torch.uint8)
    shades = torch.linspace(0.25, 1, 12)[:, None]
    cells[:, 8:16, :12] = (shades * torch.tensor(BLUE)).to(torch.uint8)
    cells[:, 8:16, 12:] = (shades * torch.tensor(ORANGE)).to(torch.uint8)
    drawn = draw_change(seed, turn, row)
    assert abs(drawn.degrees) <= DEGREES
    assert max(abs(drawn.brightness - 1), abs(drawn.contrast - 1)) <= LIGHT
    lit = change_views(cells, MESH_VIEWS, Change(frozenset(), 0.0, drawn.brightness, drawn.contrast)).int()
    blue, orange = lit[:, 8:16, :12], lit[:, 8:16, 12:]
    assert ((blue[..., 2] >= blue[..., 1]) & (blue[..., 1] >= blue[..., 0])).all()
    assert (blue[..., 2] > blue[..., 0]).all()
    assert ((orange[..., 0] >= orange[..., 1]) & (orange[..., 1] >= orange[..., 2])).all()
    assert (orange[..., 0] > orange[..., 2]).all()


def test_views_turn_together_about_their_middles() -> None:
    cell = torch.full((41, 41, 3), 255, dtype=torch.uint8)
    cell[19:22] = torch.tensor(BLUE, dtype=torch.uint8)  # a line to the right
    turned = change_views(torch.stack([cell] * 3), MESH_VIEWS, Change(frozenset(), 10.0, 1.0, 1.0))
    assert torch.equal(turned[0], turned[1]) and torch.equal(turned[0], turned[2])
    blue = turned[0, :, :, 0] < 128
    rows, columns = torch.nonzero(blue).double().T
    slope = np.polyfit(columns.numpy(), rows.numpy(), 1)[0]
    assert np.degrees(np.arctan(slope)) == pytest.approx(10, abs=1)  # to the right, so down on the right
    assert turned[0, 20, 20].tolist() == list(BLUE)
    assert turned[0, 0, 0].tolist() == list(BACKGROUND)
    # a cell of half the width shows the same square: the line is as steep in it
    narrow = change_views(cell[None, :, ::2].contiguous(), ("front",), Change(frozenset(), 10.0, 1.0, 1.0))
    rows, columns = torch.nonzero(narrow[0, :, :, 0] < 128).double().T
    assert np.polyfit(columns.numpy() * 2, rows.numpy(), 1)[0] == pytest.approx(slope, abs=0.03)


def test_corners_of_a_slice_are_grey_and_nothing_changes_without_a_change() -> None:
    random = np.random.default_rng(1)
    cells = torch.from_numpy(random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    assert torch.equal(change_views(cells, ("front", "em_xy"), STILL), cells)
    turned = change_views(cells, ("front", "em_xy"), Change(frozenset(), 10.0, 1.0, 1.0))
    assert turned[0, 0, 0].tolist() == list(BACKGROUND)
    assert turned[1, 0, 0].tolist() == pytest.approx(cells[1].float().mean(dim=(0, 1)).tolist(), abs=1)


def test_brightness_and_contrast_are_those_of_the_formula() -> None:
    cells = torch.tensor([100, 150, 200], dtype=torch.uint8).reshape(1, 1, 1, 3).repeat(2, 4, 4, 1)
    changed = change_views(cells, ("front", "side"), Change(frozenset(), 0.0, 1.1, 0.8))
    # mean 150: 100 -> 110 -> 121, 150 -> 165, 200 -> 190 -> 209
    assert changed[1, 2, 3].tolist() == [121, 165, 209]


def test_all_mirrors_are_drawn() -> None:
    drawn = [draw_change(0, turn, row) for turn in range(4) for row in range(50)]
    assert len({change.mirrored for change in drawn}) == 8
    assert len({change.degrees for change in drawn}) == 200
