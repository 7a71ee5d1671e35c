from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from public_files import channels, npz

from connectomebench.dataset.public.archives import MAX_BYTES, MAX_RATIO, read_channels
from connectomebench.dataset.public.unmapped import Unmapped


def test_pictures_of_the_published_size_come_back_as_they_are() -> None:
    pair = channels(True, 1, px=224)
    read = read_channels(npz(pair))
    assert read.dtype == np.float32 and np.array_equal(read, pair.astype(np.float32))
    assert read_channels(npz(pair[:, :5].astype(np.float64))).shape == (3, 5, 224, 224)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.one_of(
        st.tuples(st.sampled_from([1, 3, 4]), st.sampled_from([4, 5, 7, 11]), st.just(16), st.sampled_from([16, 17])),
        st.lists(st.integers(0, 20), max_size=5).map(tuple),
        st.just((3, 7, 8, 8)),
    ),
    dtype=st.sampled_from(["f2", "f8", "i4", "u1", "?", "c8", "U3", "M8[s]"]),
)
def test_only_the_known_shape_of_numbers_is_read(shape: tuple[int, ...], dtype: str) -> None:
    known = shape[:2] in ((3, 5), (3, 7)) and len(shape) == 4 and shape[2] == shape[3] >= 16
    data = npz(np.zeros(shape, dtype))
    if known and np.dtype(dtype).kind in "fiub":
        assert read_channels(data).shape == shape
    else:
        with pytest.raises(Unmapped, match=r"shape of three views|unusual size|no numbers"):
            read_channels(data)


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, 400), junk=st.binary(max_size=40))
def test_damaged_bytes_are_told_in_a_few_words(cut: int, junk: bytes) -> None:
    whole = npz(channels(True, 1, px=16))
    for data in (whole[:cut], whole[:cut] + junk, junk):
        with pytest.raises(Unmapped, match="geometry is no readable npz file"):
            read_channels(data)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "run",)

    stream = io.BytesIO()
    np.savez(stream, np.array([[[[Trap()]]]], object))
    with pytest.raises(Unmapped, match="holds no numbers"):
        read_channels(stream.getvalue())
    assert not list(tmp_path.iterdir())
    # a bare pickle in the place of the array
    with pytest.raises(Unmapped, match="no readable npz file"):
        read_channels(archive({"arr_0.npy": b"\x80\x04\x95."}))


def archive(entries: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def announced(size: int) -> bytes:
    """An archive of which the directory announces ``size`` bytes, with rubbish where the packed bytes should be."""
    content = np.random.default_rng(0).bytes(100_000)
    data = bytearray(archive({"arr_0.npy": content}))
    directory = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, directory + 24, size)
    data[60:-200] = b"\xff" * len(data[60:-200])
    return bytes(data)


def array_file(shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": np.dtype(dtype).str}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def test_sizes_are_refused_before_anything_is_unpacked() -> None:
    # the packed bytes are rubbish: whoever unpacks them first says so instead
    with pytest.raises(Unmapped, match=f"more than {MAX_BYTES} bytes"):
        read_channels(announced(MAX_BYTES + 1))
    with pytest.raises(Unmapped, match="no readable npz file"):
        read_channels(announced(MAX_BYTES))
    small = bytearray(archive({"arr_0.npy": bytes(1000)}))
    struct.pack_into("<I", small, small.rindex(b"PK\x01\x02") + 24, 40_000_000)
    with pytest.raises(Unmapped, match=f"more than {MAX_RATIO}:1"):
        read_channels(bytes(small))
    with pytest.raises(Unmapped, match="larger than 16000000 bytes"):
        read_channels(bytes(16_000_001))
    # numpy would make room for 176 MB
    with pytest.raises(Unmapped, match="not as large as its shape says"):
        read_channels(archive({"arr_0.npy": array_file((3, 7, 1024, 1024), "f8", bytes(100))}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (archive({f"{i}.npy": b"" for i in range(5)}), "more than 4 entries"),
        (archive({"vertices.npy": b"", "faces.npy": b""}), "the one array arr_0"),
        (archive({"../arr_0.npy": b""}), "the one array arr_0"),
        (archive({"arr_0.npy": b""}, zipfile.ZIP_LZMA), "packed in an unusual way"),
        (npz(np.full((3, 7, 16, 16), np.nan, np.float16)), "not finite"),
    ],
)
def test_other_archives(data: bytes, told: str) -> None:
    with pytest.raises(Unmapped, match=told):
        read_channels(data)
