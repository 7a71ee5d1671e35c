"""Tables of edits: ids survive digit by digit, and what is no table of whole numbers is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.economics.edit_table import EditTable, read_edit_table, write_edit_table

LARGE = [2**64 - 1, 2**53 + 1, 864691135682378744]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_ids_keep_every_digit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"edits.{ending}"
    if ending == "parquet":
        pq.write_table(
            pa.table({"neuron": pa.array(LARGE, pa.uint64()), "merges": [1, 2, 3], "splits": [4, 5, 6]}), path
        )
    else:
        mark = {"csv": ",", "tsv": "\t"}[ending]
        rows = [["splits", "neuron", "other", "merges"], *([4 + i, n, "x", 1 + i] for i, n in enumerate(LARGE))]
        path.write_text("\n".join(mark.join(map(str, row)) for row in rows) + "\n")
    table = read_edit_table(path, "large")
    assert table.neurons.dtype == np.uint64 and table.neurons.tolist() == LARGE
    assert table.merges.tolist() == [1, 2, 3] and table.splits.tolist() == [4, 5, 6]
    assert table.edits.tolist() == [5, 7, 9]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**6), st.integers(0, 10**6)),
        min_size=1,
        unique_by=lambda r: r[0],
    )
)
def test_written_tables_come_back(rows: list[tuple[int, int, int]]) -> None:
    import tempfile

    ids, merges, splits = zip(*rows, strict=True)
    table = EditTable("t", np.array(ids, np.uint64), np.array(merges, np.int64), np.array(splits, np.int64))
    with tempfile.TemporaryDirectory() as folder:
        back = read_edit_table(write_edit_table(table, Path(folder) / "t.parquet"), "t")
    assert (back.neurons.tolist(), back.merges.tolist(), back.splits.tolist()) == (
        list(ids),
        list(merges),
        list(splits),
    )


def test_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    path.write_text("root_id,joins,cuts\n7,1,2\n")
    assert read_edit_table(path, "t", ("root_id", "joins", "cuts")).neurons.tolist() == [7]
    with pytest.raises(ConnectomeBenchError, match=r"no column 'neuron'.*root_id, joins, cuts"):
        read_edit_table(path, "t")


BAD = {
    "1.5 of a merge": ("neuron,merges,splits\n1,1.5,2\n", "whole numbers"),
    "a word": ("neuron,merges,splits\nfirst,1,2\n", "whole numbers"),
    "an id below zero": ("neuron,merges,splits\n-1,1,2\n", "whole numbers"),
    "an id above 64 bits": ("neuron,merges,splits\n18446744073709551616,1,2\n", "whole numbers"),
    "an empty cell": ("neuron,merges,splits\n1,,2\n", "1 empty cells"),
    "fewer than none": ("neuron,merges,splits\n1,-1,2\n", "merges holds -1"),
    "one neuron twice": ("neuron,merges,splits\n5,1,2\n5,1,2\n", "neuron 5 has several rows"),
    "no rows": ("neuron,merges,splits\n", "has no neurons"),
    "nothing": ("", "cannot be read"),
}


@pytest.mark.parametrize(("text", "problem"), BAD.values(), ids=BAD)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "edits.csv"
    path.write_text(text)
    with pytest.raises(ConnectomeBenchError, match=problem) as caught:
        read_edit_table(path, "t")
    assert "\n" not in str(caught.value)


def test_ids_stored_as_floating_point_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "edits.parquet"
    pq.write_table(pa.table({"neuron": [1.0], "merges": [1], "splits": [2]}), path)
    with pytest.raises(ConnectomeBenchError, match=r"'neuron' is stored as double.*lose digits"):
        read_edit_table(path, "t")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        with pytest.raises(ConnectomeBenchError, match=r"cannot read .*check the path"):
            read_edit_table(tmp_path / f"none.{ending}", "t")
