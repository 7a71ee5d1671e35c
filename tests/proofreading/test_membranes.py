"""Dark sheets in an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.proofreading.membranes import SCALE_NM, sheetness


def sheet(normal: np.ndarray, dark: int, voxel_nm: tuple[float, float, float], shape=(25, 25, 25)) -> np.ndarray:
    """Draw a sheet of 20 nm through the middle of an image."""
    grid = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij"), axis=-1) * np.asarray(voxel_nm)
    away = np.abs(grid @ (normal / np.linalg.norm(normal)))
    return np.where(away <= 10, dark, 150).astype(np.uint8)


normals = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda n: np.linalg.norm(n) > 0.1)


@settings(max_examples=25, deadline=None)
@given(normals)
def test_a_dark_sheet_counts_whichever_way_it_lies_and_a_bright_one_does_not(normal):
    middle = np.array([[12, 12, 12]])
    dark, bright = (sheetness(sheet(normal, value, (10, 10, 10)), middle, (10, 10, 10))[0] for value in (50, 250))
    # the steps of slanting sheets curve a little
    assert dark > 20 and dark > 4 * bright


def test_it_is_the_largest_eigenvalue_of_the_hessian_of_another_library():
    from skimage.feature import hessian_matrix, hessian_matrix_eigvals

    rng = np.random.default_rng(3)
    gray = rng.integers(0, 256, (24, 24, 24), dtype=np.uint8)
    at = rng.integers(0, 24, (50, 3))
    width = SCALE_NM / 10
    kernel = hessian_matrix(gray.astype(float), sigma=width, mode="nearest", order="rc", use_gaussian_derivatives=True)
    largest = hessian_matrix_eigvals(kernel)[0] * width**2
    # derivatives of a truncated Gaussian: that library derives once twice, ours twice at once
    found = sheetness(gray, at, (10, 10, 10))
    assert np.corrcoef(found, largest[tuple(at.T)])[0, 1] > 0.95


def test_points_say_the_same_whatever_else_is_asked():
    rng = np.random.default_rng(5)
    gray = rng.integers(0, 256, (40, 30, 30), dtype=np.uint8)
    at = rng.integers(0, 30, (20, 3))
    together = sheetness(gray, at, (10, 10, 10))
    alone = np.concatenate([sheetness(gray, one[None], (10, 10, 10)) for one in at])
    assert together == pytest.approx(alone, abs=1e-3)
    assert sheetness(gray, np.zeros((0, 3), np.int64), (10, 10, 10)).shape == (0,)


def test_thick_sections_are_looked_at_one_by_one():
    voxel = (4.0, 4.0, 40.0)
    gray = sheet(np.array([1.0, 0.4, 0.0]), 50, voxel, (41, 41, 7))
    at = np.array([[20, 20, 3]])
    found = sheetness(gray, at, voxel)
    assert found[0] > 20
    other = gray.copy()
    other[:, :, [2, 4]] = 0  # the next sections do not matter
    assert sheetness(other, at, voxel) == pytest.approx(found)


def test_voxels_wider_than_a_membrane_set_the_scale():
    gray = np.full((11, 11, 11), 200, np.uint8)
    gray[5] = 100
    on, off = sheetness(gray, np.array([[5, 5, 5], [1, 5, 5]]), (32, 32, 32))
    assert on > 20 > off
