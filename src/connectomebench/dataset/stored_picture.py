"""Decode the pictures of loaded rows once, and faster: rows read as before, only sooner.

`datasets` decodes the first picture of every list twice: once to see whether a list needs decoding at all
(``decode_nested_example`` in ``datasets.features.features``), and once for its value. The type below keeps the first
result for the second question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import datasets
from PIL import Image

from connectomebench.dataset.png_pixels import png_pixels

if TYPE_CHECKING:
    from datasets import Dataset

_DECODED = "decoded"
_AHEAD = 16


def decode_png(content: bytes) -> Image.Image | None:
    """Decode a PNG file of the kind that we store; None for anything else, which Pillow may know."""
    pixels = png_pixels(content)
    if pixels is None:
        return None
    image = Image.fromarray(pixels)
    image.format = "PNG"
    return image


class StoredPicture(datasets.Image):
    """`datasets.Image` that decodes a picture once; equal to it, and written to files as it.

    The dictionary that holds the encoded picture lives as long as the reading of its row, and carries the result from
    the first question to the second.
    """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, datasets.Image):
            return NotImplemented
        return (self.mode, self.decode) == (other.mode, other.decode)

    __hash__ = None  # type: ignore[assignment]

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Image.Image:
        """Decode a stored picture; see `datasets.Image`."""
        if not isinstance(value, dict):
            return super().decode_example(value, token_per_repo_id)
        known = value.pop(_DECODED, None)
        if known is not None:
            return known
        content = value.get("bytes") if self.decode and self.mode in (None, "RGB") else None
        image = decode_png(content) if content is not None else None
        value[_DECODED] = image = image or super().decode_example(value, token_per_repo_id)
        return image


def decode_once(dataset: Dataset) -> Dataset:
    """Let every list of pictures of a dataset be decoded once; returns the same dataset.

    Parameters
    ----------
    dataset
        Loaded from files; columns that are lists of `datasets.Image` get :class:`StoredPicture` in its place.
    """
    features = dataset.info.features or {}
    for name, feature in list(features.items()):
        if isinstance(feature, datasets.List) and type(feature.feature) is datasets.Image:
            inner = feature.feature
            features[name] = datasets.List(StoredPicture(mode=inner.mode, decode=inner.decode), length=feature.length)
    return dataset


def read_decoded(dataset: Dataset, threads: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset in order, decoded by several threads.

    Parameters
    ----------
    dataset
        Of :func:`connectomebench.dataset.loading.load_rows`.
    threads
        How many decode; with more than one, up to 16 rows each are read ahead.
    """
    if threads == 1:
        yield from cast("Iterator[dict[str, Any]]", iter(dataset))
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
        coming: deque[Future[dict[str, Any]]] = deque()
        try:
            for number in range(len(dataset)):
                coming.append(pool.submit(dataset.__getitem__, number))
                if len(coming) > threads * _AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
