"""Tell whether a precomputed volume on a server was rewritten: what the server says of some of its chunks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# the first that a server gives is taken: check sums stay when a file is copied within a server
_MARKS = (("Content-Md5",), ("Content-Crc32c",), ("ETag",), ("Last-Modified", "Content-Length"))
_PLACES = (1 / 6, 1 / 2, 5 / 6)
_TIMEOUT_S = 30


def server_marks(location: str, scale: Mapping[str, Any]) -> list[list[Any]]:
    """Return check sum, ETag or time of up to 27 chunks of one resolution level, spread over the volume.

    Parameters
    ----------
    location
        Of the volume: ``gs://``, ``s3://``, ``http://`` or ``https://``, also after ``precomputed://``.
    scale
        Entry of the level in ``scales`` of the info; not sharded.

    Returns
    -------
    list
        Name and mark of each chunk that is there and of which the server says something; empty if there is none.

    Raises
    ------
    Exception
        Of the client of the server, if it cannot be reached.
    """
    names = chunk_sample(scale)
    folder = f"{location.removeprefix('precomputed://').rstrip('/')}/{scale['key']}"
    heads = _http_heads(folder, names) if folder.startswith("http") else _store_heads(folder, names)
    marks = {name: mark for name, head in heads.items() if head and (mark := _mark(head))}
    return [[name, *marks[name]] for name in sorted(marks)]


def chunk_sample(scale: Mapping[str, Any]) -> list[str]:
    """Return names of chunks at a sixth, a half and five sixths of each axis; all chunks where there are few."""
    spans = []
    for offset, size, edge in zip(
        scale.get("voxel_offset", [0, 0, 0]), scale["size"], scale["chunk_sizes"][0], strict=True
    ):
        count = -(-size // edge)
        starts = sorted({offset + edge * int(place * count) for place in _PLACES})
        spans.append([f"{start}-{min(start + edge, offset + size)}" for start in starts])
    return ["_".join(span) for span in itertools.product(*spans)]


def _mark(head: Mapping[str, Any]) -> list[str]:
    for fields in _MARKS:
        if all(head.get(field) for field in fields):
            return [str(head[field]) for field in fields]
    return []


def _http_heads(folder: str, names: list[str]) -> dict[str, Mapping[str, Any] | None]:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    session = requests.Session()
    again = Retry(4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))

    def head(name: str) -> Mapping[str, Any] | None:
        with session.head(f"{folder}/{name}", timeout=_TIMEOUT_S, allow_redirects=True) as answer:
            # absent, or a server that answers GET alone
            return answer.headers if answer.ok else None

    with session, ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(head, names), strict=True))


def _store_heads(folder: str, names: list[str]) -> dict[str, Mapping[str, Any] | None]:
    from cloudfiles import CloudFiles

    files: Any = CloudFiles(folder, progress=False)
    there = files.exists(names)
    present = [name for name in names if there[name]]
    return dict(files.head(present)) if present else {}
