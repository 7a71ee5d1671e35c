"""Precomputed volumes on a server that are rewritten in place are other volumes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field_volumes import precomputed, toy

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.arrays import VolumeSpec, open_volume
from connectomebench.sources.volumes.precomputed_chunks import ChunkFiles
from connectomebench.sources.volumes.server_marks import _mark, chunk_sample, server_marks

SCALE = {"key": "10.0_10.0_10.0", "size": [120, 64, 56], "voxel_offset": [0, 0, 0], "chunk_sizes": [[60, 32, 28]]}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; says nothing on HEAD where ``silent`` is set, and fails as often as ``failures`` says."""

    silent = False
    failures = 0

    def do_HEAD(self) -> None:
        if type(self).failures:
            type(self).failures -= 1
            self.send_error(503)
        elif self.silent:
            self.send_error(405)
        else:
            super().do_HEAD()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    precomputed(tmp_path / "pre", toy()[0], "raw", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield tmp_path / "pre", f"http://127.0.0.1:{server.server_address[1]}/pre"
        server.shutdown()
        thread.join()


def fingerprint(url: str) -> str:
    return open_volume(VolumeSpec(f"precomputed://{url}"), kind="labels").fingerprint


def test_a_rewritten_chunk_is_seen(served: tuple[Path, str]) -> None:
    folder, url = served
    volume = open_volume(VolumeSpec(f"precomputed://{url}"), kind="labels")
    assert np.array_equal(volume.read((0, 0, 0), volume.shape), toy()[0])
    assert fingerprint(url) == volume.fingerprint
    chunk = folder / "10.0_10.0_10.0/60-120_32-64_0-28"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    os.utime(chunk, (1_000_000_000, 1_000_000_000))
    changed = fingerprint(url)
    assert changed != volume.fingerprint
    chunk.unlink()
    assert fingerprint(url) not in (changed, volume.fingerprint)


def test_servers_that_say_nothing_and_servers_that_fail(
    served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served
    whole = server_marks(f"precomputed://{url}", SCALE)
    assert len(whole) == 8 and all(len(mark) == 3 for mark in whole)
    monkeypatch.setattr(Handler, "failures", 3)
    assert server_marks(url, SCALE) == whole  # asked again
    monkeypatch.setattr(Handler, "silent", True)
    assert server_marks(url, SCALE) == []
    silent = fingerprint(url)
    monkeypatch.setattr(Handler, "silent", False)
    assert fingerprint(url) != silent
    monkeypatch.setattr(Handler, "failures", 10_000)
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    with pytest.raises(ConnectomeBenchError, match=r"check the network and the address") as caught:
        open_volume(VolumeSpec(f"precomputed://{url}"), kind="labels")
    assert "\n" not in str(caught.value)


def test_chunks_are_spread_and_named_as_they_are_stored(tmp_path: Path) -> None:
    large = {**SCALE, "size": [1000, 64, 10], "voxel_offset": [7, -5, 0]}
    found = chunk_sample(large)
    stored = {name for name, _, _ in ChunkFiles(tmp_path, large, np.dtype(np.uint8)).boxes((7, -5, 0), (1007, 59, 10))}
    assert set(found) <= stored and len(found) == len(set(found)) == 3 * 2 * 1
    assert {name.split("_")[0] for name in found} == {"127-187", "487-547", "847-907"}
    assert set(chunk_sample(SCALE)) == {
        name for name, _, _ in ChunkFiles(tmp_path, SCALE, np.dtype(np.uint8)).boxes((0, 0, 0), (120, 64, 56))
    }


def test_check_sums_come_before_times() -> None:
    head = {"Content-Md5": "m", "ETag": "e", "Last-Modified": "l", "Content-Length": 5}
    assert _mark(head) == ["m"]
    assert _mark({**head, "Content-Md5": None}) == ["e"]
    assert _mark({"Last-Modified": "l", "Content-Length": 5}) == ["l", "5"]
    assert _mark({"Last-Modified": "l"}) == []


def test_object_stores_are_asked_through_their_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store in memory has the client of gs:// and s3://, but knows no ETags: they are added as S3's are."""
    from cloudfiles import CloudFiles
    from cloudfiles.interfaces import MemoryInterface

    known = MemoryInterface.head
    monkeypatch.setattr(
        MemoryInterface, "head", lambda self, path: {**known(self, path), "ETag": f'"{hash(self.get_file(path)[0])}"'}
    )
    folder, chunk = CloudFiles("mem://marks/pre/10.0_10.0_10.0"), "0-60_0-32_0-28"
    found = []
    try:
        for content in (b"abc", b"abc", b"abd"):
            folder.put(chunk, content)
            found.append(server_marks("precomputed://mem://marks/pre", SCALE))
    finally:
        folder.delete(chunk)
    assert found[0] == found[1] != found[2]
    assert [name for name, _ in found[0]] == [chunk]
    assert server_marks("precomputed://mem://marks/pre", SCALE) == []
