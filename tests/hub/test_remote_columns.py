from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_rows import TASK, add_rows

from connectomebench.dataset.repo_layout import check_species_name, is_shard, species_of
from connectomebench.hub.remote_columns import copy_outline

COLUMNS = ("answer", "extent_nm")


class Counting(io.BytesIO):
    n_read = 0
    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.n_read += len(content)
        self.n_reads += 1
        return content


def parquet(groups: list[int], picture_bytes: int, seed: int) -> bytes:
    """Rows with pictures between small columns, as `connectomebench.dataset.schema` lays them out."""
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    schema = pa.schema([("images", pa.binary()), ("answer", pa.string()), ("extent_nm", pa.float64())])
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for n in groups:
            rows = [
                {"images": rng.bytes(picture_bytes), "answer": str(rng.integers(9)), "extent_nm": rng.random()}
                for _ in range(n)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return stream.getvalue()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 60_000), st.integers(0, 99))
def test_small_columns_and_size_are_those_of_the_whole(
    tmp_path: Path, groups: list[int], picture_bytes: int, seed: int
) -> None:
    whole = parquet(groups, picture_bytes, seed)
    copy_outline(Counting(whole), len(whole), COLUMNS, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == len(whole)
    columns = list(COLUMNS)
    expected = pq.ParquetFile(io.BytesIO(whole))
    found = pq.ParquetFile(tmp_path / "copy")
    assert found.read(columns=columns).equals(expected.read(columns=columns))
    assert found.metadata.equals(expected.metadata)


def test_pictures_are_not_read(tmp_path: Path) -> None:
    whole = parquet([10, 10, 10], 400_000, 1)
    source = Counting(whole)
    copy_outline(source, len(whole), COLUMNS, tmp_path / "copy")
    # the tail, and one range for each row group
    assert source.n_reads <= 4 and source.n_read < 1 << 17 < len(whole) / 50
    assert (tmp_path / "copy").stat().st_blocks * 512 < len(whole) / 20


def test_a_footer_longer_than_the_tail(tmp_path: Path) -> None:
    whole = parquet([1] * 400, 10, 2)
    assert int.from_bytes(whole[-8:-4], "little") > 1 << 16
    copy_outline(Counting(whole), len(whole), COLUMNS, tmp_path / "copy")
    assert pq.ParquetFile(tmp_path / "copy").read(columns=["answer"]).num_rows == 400


def test_a_shard_of_ours(tmp_path: Path) -> None:
    path = add_rows(tmp_path / TASK, "fly") / "fly" / "train-00000-of-00001.parquet"
    with open(path, "rb") as source:
        copy_outline(source, path.stat().st_size, ("answer", "origin", "extent_nm"), tmp_path / "copy")
    found = pq.ParquetFile(tmp_path / "copy").read(columns=["origin", "answer"])
    assert found.to_pydict() == pq.ParquetFile(path).read(columns=["origin", "answer"]).to_pydict()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 400), st.binary(min_size=1, max_size=8), st.integers(0, 9))
def test_damaged_files_are_refused_or_read(tmp_path: Path, place: int, noise: bytes, seed: int) -> None:
    whole = bytearray(parquet([2, 2], 50, seed))
    whole[-place : len(whole) - place + len(noise)] = noise
    try:
        copy_outline(Counting(bytes(whole)), len(whole), COLUMNS, tmp_path / "copy")
    except ValueError:
        return
    assert (tmp_path / "copy").stat().st_size == len(whole)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 99, bytes(100), b"\xff" * 50 + b"PAR1"])
def test_what_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="Parquet"):
        copy_outline(Counting(content), len(content), COLUMNS, tmp_path / "copy")


@given(st.text(max_size=40) | st.from_regex(r"[./a-z]+/(train|test)-00000-of-0000[1-9]\.parquet", fullmatch=True))
def test_names_from_outside_never_leave_the_folder(path: str) -> None:
    species = species_of(path)
    if species is not None:
        check_species_name(species, "here")
        assert Path(path).parts in ((species, path.rsplit("/", 1)[-1]), (path,))
        assert is_shard(path) == ("/" in path)
    else:
        assert not is_shard(path)
