"""What is kept on disk: the same bytes, up to a size, and never a pickle."""

from __future__ import annotations

import ast
import io
import os
import pickle
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, unsigned_integer_dtypes

from connectomebench.sources.cave.cache import BlobCache

ROOM = 10**8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> BlobCache:
    return BlobCache(tmp_path_factory.mktemp("cache"), ROOM)


KINDS = boolean_dtypes() | unsigned_integer_dtypes() | floating_dtypes(endianness="<")


@given(
    kept=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9._]{0,12}", fullmatch=True),
        KINDS.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, min_side=0, max_side=6))),
        max_size=4,
    ),
    key=st.text("0123456789abcdef", min_size=1, max_size=64),
)
@settings(max_examples=100, deadline=None)
def test_arrays_come_back_as_they_were(cache: BlobCache, kept: dict[str, np.ndarray], key: str) -> None:
    cache.put(key, **kept)
    found = cache.get(key)
    assert found is not None and found.keys() == kept.keys()
    for name, values in kept.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        assert found[name].tobytes() == values.tobytes()


@given(value=st.binary(max_size=100), other=st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_the_last_bytes_are_kept(cache: BlobCache, value: bytes, other: bytes) -> None:
    cache.put_bytes("bytes", value)
    assert cache.get_bytes("bytes") == value
    cache.put_bytes("bytes", other)
    assert cache.get_bytes("bytes") == other


def test_large_bytes_come_back_in_another_object_and_process(tmp_path: Path) -> None:
    value = np.random.default_rng(0).bytes(500_000)
    BlobCache(tmp_path, ROOM).put_bytes("large", value)
    assert BlobCache(tmp_path, ROOM).get_bytes("large") == value
    code = (
        "import sys, zlib; from pathlib import Path; from connectomebench.sources.cave.cache import BlobCache;"
        "print(zlib.crc32(BlobCache(Path(sys.argv[1]), 10**8).get_bytes('large')))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(run.stdout) == zlib.crc32(value)


def test_what_was_never_kept_is_absent(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "made" / "if" / "needed", ROOM)
    assert cache.get_bytes("key") is None
    assert cache.get("key") is None


# ------------------------------------------------------------------ size


def test_the_limit_is_kept_and_what_was_used_last_stays(tmp_path: Path) -> None:
    limit, piece = 1_000_000, 50_000
    cache = BlobCache(tmp_path, limit)
    rng = np.random.default_rng(1)
    values = {f"key{i}": rng.bytes(piece) for i in range(100)}
    cache.put_bytes("often", rng.bytes(piece))
    for key, value in values.items():
        assert cache.get_bytes("often") is not None, key
        cache.put_bytes(key, value)
        held = sum(p.stat().st_size for p in tmp_path.rglob("*.val"))
        assert held <= limit + piece, key
    kept = [key for key, value in values.items() if cache.get_bytes(key) == value]
    lost = [key for key in values if cache.get_bytes(key) is None]
    # every entry is whole or gone, the newest are there; ten are dropped at a time
    assert sorted(kept + lost) == sorted(values)
    assert set(list(values)[-5:]) <= set(kept)
    assert limit / 2 <= (len(kept) + 1) * piece <= limit


def test_an_entry_above_the_limit_does_no_harm(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 100_000)
    cache.put_bytes("huge", bytes(os.urandom(1_000_000)))
    cache.put_bytes("small", b"small")
    cache.put_bytes("smaller", b"s")
    assert cache.get_bytes("huge") is None
    assert cache.get_bytes("smaller") == b"s"


# ------------------------------------------------------------------ what stands there and is not ours


class Planted:
    """Leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_is_neither_kept_nor_loaded(tmp_path: Path) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "cache"
    with diskcache.Cache(str(folder)) as raw:
        raw["small"] = Planted(mark)
        raw["large"] = [Planted(mark), os.urandom(100_000)]
    cache = BlobCache(folder, ROOM)
    assert cache.get_bytes("small") is None and cache.get("large") is None
    assert not mark.exists()
    # an unwary reader would have loaded it
    with diskcache.Cache(str(folder)) as raw:
        raw.get("small")
    assert mark.exists()


def test_a_pickle_inside_kept_bytes_is_not_loaded(cache: BlobCache, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.savez(stream, voxels=np.asarray([Planted(mark)], dtype=object), allow_pickle=True)
    for content in (stream.getvalue(), pickle.dumps(Planted(mark))):
        cache.put_bytes("planted", zlib.compress(content))
        assert cache.get("planted") is None
    assert not mark.exists()


@pytest.mark.parametrize("value", ["text", 7, 1.5, None, [1], np.zeros(3)])
def test_only_bytes_are_taken(cache: BlobCache, value: Any) -> None:
    with pytest.raises(TypeError, match="only bytes"):
        cache.put_bytes("other", value)
    with pytest.raises(ValueError, match="allow_pickle"):
        cache.put("objects", voxels=np.asarray([{}], dtype=object))
    assert cache.get_bytes("other") is None and cache.get("objects") is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_counts_as_absent_and_can_be_kept_again(tmp_path: Path, share: float) -> None:
    voxels = np.random.default_rng(2).integers(0, 2**60, 20_000).astype(np.uint64)
    cache = BlobCache(tmp_path, ROOM)
    cache.put("block", voxels=voxels)
    (file,) = tmp_path.rglob("*.val")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert cache.get("block") is None
    cache.put("block", voxels=voxels)
    found = cache.get("block")
    assert found is not None and np.array_equal(found["voxels"], voxels)
    for file in tmp_path.rglob("*.val"):
        file.unlink()
    assert cache.get("block") is None


# ------------------------------------------------------------------ side by side


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, ROOM)

    def work(i: int) -> bool:
        values = np.full(5000, i % 10, np.uint64)
        cache.put(f"key{i % 10}", values=values)
        found = cache.get(f"key{i % 10}")
        return found is not None and np.array_equal(found["values"], values)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))


def test_a_header_that_python_fails_to_parse_is_parsed_again(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    # what a race in Python 3.11.7 raises now and then when two threads read arrays at once
    cache.put("read", values=np.arange(3))
    parse, failures = ast.literal_eval, [SystemError("AST constructor recursion depth mismatch (before=24, after=21)")]

    def raced(text: str) -> Any:
        if failures:
            raise failures.pop()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", raced)
    found = cache.get("read")
    assert found is not None and found["values"].tolist() == [0, 1, 2] and not failures


def test_processes_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from connectomebench.sources.cave.cache import BlobCache;"
        "cache = BlobCache(Path(sys.argv[1]), 10**8);"
        "[cache.put(f'key{i}', a=np.full(9000, i)) for i in range(40)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    cache = BlobCache(tmp_path, ROOM)
    for i in range(40):
        found = cache.get(f"key{i}")
        assert found is not None and np.array_equal(found["a"], np.full(9000, i))
