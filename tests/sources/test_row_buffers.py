"""Rows that do not fit move to an array of twice as many."""

from __future__ import annotations

import numpy as np

from connectomebench.sources.row_buffers import twice_as_long


def test_rows_stay_where_they_are():
    rows = np.arange(12, dtype=np.int32).reshape(4, 3)
    longer = twice_as_long(rows)
    assert longer.shape == (8, 3) and longer.dtype == rows.dtype
    np.testing.assert_array_equal(longer[:4], rows)
