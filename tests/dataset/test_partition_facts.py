"""What a card says of Parquet files: the same as the whole files say, from a small part of them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.dataset.dataset_card import PartitionFacts, partition_facts

SCHEMA = pa.schema(
    [("images", pa.binary()), ("answer", pa.string()), ("origin", pa.string()), ("extent_nm", pa.float64())]
)


class Counting(io.BytesIO):
    n_read = 0
    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.n_read += len(content)
        self.n_reads += 1
        return content


def parquet(groups: list[int], picture_bytes: int, seed: int) -> bytes:
    """Rows with pictures beside small columns, as the library stores them."""
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for n in groups:
            rows = [
                {
                    "images": rng.bytes(picture_bytes),
                    "answer": str(rng.integers(3)),
                    "origin": "edit" if rng.random() < 0.5 else "control",
                    "extent_nm": float(rng.integers(1, 4) * 1000),
                }
                for _ in range(n)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return stream.getvalue()


def opening(*contents: bytes) -> list[Callable[[], BinaryIO]]:
    return [partial(io.BytesIO, content) for content in contents]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 99))
def test_facts_are_those_of_the_whole_files(shards: list[list[int]], seed: int) -> None:
    contents = [parquet(groups, 300 * i, seed + i) for i, groups in enumerate(shards)]
    rows = [row for content in contents for row in pq.read_table(io.BytesIO(content)).to_pylist()]
    metadata = [pq.read_metadata(io.BytesIO(content)) for content in contents]
    facts = partition_facts(opening(*contents))
    assert facts == PartitionFacts(
        answers=Counter(row["answer"] for row in rows),
        origins=Counter(row["origin"] for row in rows),
        extents_nm=frozenset(row["extent_nm"] for row in rows),
        file_bytes=sum(map(len, contents)),
        table_bytes=sum(m.row_group(i).total_byte_size for m in metadata for i in range(m.num_row_groups)),
    )
    assert facts.rows == len(rows) == sum(map(sum, shards))


def test_pictures_are_not_read() -> None:
    whole = parquet([10, 10, 10], 400_000, 1)
    source = Counting(whole)
    assert partition_facts([lambda: source]).rows == 30
    # the tail, and one range for each row group
    assert source.n_reads <= 4 and source.n_read < 1 << 17 < len(whole) / 50


def test_a_footer_longer_than_the_first_read() -> None:
    whole = parquet([1] * 400, 10, 2)
    assert int.from_bytes(whole[-8:-4], "little") > 1 << 16
    assert partition_facts(opening(whole)).rows == 400


def test_files_are_closed_one_after_the_other() -> None:
    opened: list[io.BytesIO] = []

    def one_more() -> BinaryIO:
        assert all(stream.closed for stream in opened)
        opened.append(io.BytesIO(parquet([2], 10, 3)))
        return opened[-1]

    assert partition_facts([one_more] * 5).rows == 10 and opened[-1].closed


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.binary(min_size=1, max_size=8), st.integers(0, 9))
def test_damaged_files_are_refused_or_read(place: int, noise: bytes, seed: int) -> None:
    whole = bytearray(parquet([2, 2], 50, seed))
    whole[-place : len(whole) - place + len(noise)] = noise
    try:
        facts = partition_facts(opening(bytes(whole)))
    except (ValueError, KeyError):
        return
    assert facts.file_bytes == len(whole)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 99, bytes(100), b"\xff" * 50 + b"PAR1"])
def test_what_is_no_parquet(content: bytes) -> None:
    with pytest.raises(ValueError, match="Parquet"):
        partition_facts(opening(content))


def test_a_lost_connection_stays_one() -> None:
    class Lost(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionError("the line is down")

    with pytest.raises(ConnectionError, match="the line is down"):
        partition_facts([lambda: Lost(parquet([2], 50, 1))])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"answer": ["yes"], "origin": ["edit"]}), path)
    with pytest.raises(KeyError, match="extent_nm"):
        partition_facts([partial(open, path, "rb")])
