"""Feature cache: one vector per image, computed once and stored by content hash."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, content_key, write_json
from connectomebench.models import streamed_fit
from connectomebench.models.encoders import BATCH, Encoder, Pooling, check_pooling, encode_pooled
from connectomebench.models.images import StoredImage, decode, grid_image, image_key
from connectomebench.models.view_grid import Layout

CHUNK = 256
Compute = Callable[[list[Image.Image]], NDArray[np.float32]]


class FeatureStore:
    """Feature vectors by image content, in npz files of up to 256 images (never pickled).

    Files are written atomically and named by their images, so that a killed run loses at most one file and two runs may
    share a folder. A damaged file counts as absent and is recomputed.

    Parameters
    ----------
    folder
        Root of the cache, shared by all encoders; None keeps the vectors in memory.
    settings
        Everything the vectors depend on besides the image; each distinct value has its own folder.
    compute
        Maps RGB images to vectors, float32, shape (images, dim).
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], compute: Compute) -> None:
        self._compute = compute
        self._memory: dict[str, NDArray[np.float32]] = {}
        self._where: dict[str, tuple[Path, int]] = {}
        self.folder: Path | None = None
        if folder is None:
            return
        slug = "".join(c if c.isalnum() else "-" for c in str(settings.get("name", "features")).rsplit("/", 1)[-1])
        self.folder = folder / f"{slug}-{content_key(dict(settings))[:16]}"
        if not (self.folder / "settings.json").exists():
            write_json(self.folder / "settings.json", dict(settings))
        for path in sorted(self.folder.glob("*.npz")):
            self._index(path)

    def _index(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                keys = stored["keys"].tolist()
        except Exception:  # cut short by a crash of the machine
            self._discard(path)
            return
        self._where.update({key: (path, row) for row, key in enumerate(keys)})

    def _discard(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink()
        self._where = {key: place for key, place in self._where.items() if place[0] != path}

    def _has(self, key: str) -> bool:
        return key in self._memory or key in self._where

    def _encode(self, pending: Mapping[str, StoredImage], progress: Any) -> None:
        """Compute and store the vectors of up to ``CHUNK`` images, decoded batch by batch."""
        images = list(pending.values())
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        parts = []
        with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
            coming = pool.map(decode, batches[0])
            for following in [*batches[1:], []]:
                batch, coming = list(coming), pool.map(decode, following)  # these are decoded while those are encoded
                parts.append(self._compute(batch).astype(np.float32, copy=False))
                progress.update(len(batch))
        vectors = np.concatenate(parts)
        if self.folder is None:
            self._memory.update(zip(pending, vectors, strict=True))
            return
        path = self.folder / f"{content_key(list(pending))}.npz"
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, keys=np.array(list(pending)), vectors=vectors)
        self._where.update({key: (path, row) for row, key in enumerate(pending)})

    def _fill(self, rows: Iterable[Sequence[StoredImage]], total: int | None, progress: str | None) -> list[list[str]]:
        """Compute missing vectors; return the keys of each row's images."""
        from tqdm.auto import tqdm

        keys: list[list[str]] = []
        pending: dict[str, StoredImage] = {}
        with tqdm(total=total, desc=progress, unit="image", disable=progress is None, delay=1) as bar:
            for row in rows:
                keys.append([])
                for image in row:
                    key = image_key(image)
                    keys[-1].append(key)
                    if key in pending or self._has(key):
                        bar.update(1)
                        continue
                    pending[key] = image
                    if len(pending) == CHUNK:
                        self._encode(pending, bar)
                        pending = {}
            if pending:
                self._encode(pending, bar)
        return keys

    def _gather(self, keys: Sequence[str]) -> NDArray[np.float32] | None:
        """Look up all vectors; None if a file was damaged (it is then removed)."""
        wanted: dict[Path, list[int]] = {}
        for place, key in enumerate(keys):
            if key not in self._memory:
                wanted.setdefault(self._where[key][0], []).append(place)
        vectors: NDArray[np.float32] | None = None
        for place, key in enumerate(keys if self._memory else ()):
            if key in self._memory:
                vectors = self._empty(len(keys), self._memory[key]) if vectors is None else vectors
                vectors[place] = self._memory[key]
        damaged = False
        for path, places in wanted.items():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    chunk = stored["vectors"]
                rows = [self._where[keys[place]][1] for place in places]
                found = chunk[rows]
            except Exception:  # the keys could be read but not the vectors
                self._discard(path)
                damaged = True
                continue
            vectors = self._empty(len(keys), found[0]) if vectors is None else vectors
            vectors[places] = found
        return None if damaged else vectors

    def _empty(self, count: int, like: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make room for vectors: in memory, or in a file of the cache that is gone when they are no longer needed."""
        if self.folder is None or count * like.nbytes <= streamed_fit.IN_MEMORY_BYTES:
            return np.empty((count, len(like)), np.float32)
        size, free = count * like.nbytes, shutil.disk_usage(self.folder).free
        if size > free:
            raise ConnectomeBenchError(
                f"{size / 1e9:.1f} GB of features do not fit in the {free / 1e9:.1f} GB of {self.folder}; free space "
                "there, or name another cache"
            )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(size)
            return np.memmap(file, np.float32, "r+", shape=(count, len(like)))

    def rows(
        self,
        rows: Callable[[], Iterable[Sequence[StoredImage]]],
        total: int | None = None,
        progress: str | None = None,
    ) -> NDArray[np.float32]:
        """Return the vectors of every row's images, concatenated in image order.

        Parameters
        ----------
        rows
            Returns a fresh iterator over the images of each row (read again if a file on disk was damaged).
        total
            Number of images, for the progress bar.
        progress
            Label of the progress bar, shown after a second; None for no bar.

        Returns
        -------
        float32, shape (rows, images per row * dim)
            Above :data:`connectomebench.models.streamed_fit.IN_MEMORY_BYTES`, a memory map of a file in the cache; all
            in memory where there is no cache.

        Raises
        ------
        ConnectomeBenchError
            If there are no rows, or the rows differ in their number of images.
        """
        while True:
            keys = self._fill(rows(), total, progress)
            counts = sorted({len(row) for row in keys})
            if not counts:
                raise ConnectomeBenchError("there are no rows; build the dataset again or choose another")
            if len(counts) > 1 or counts == [0]:
                found = " and ".join(map(str, counts))
                raise ConnectomeBenchError(f"every row must have the same number of images, found {found}")
            vectors = self._gather([key for row in keys for key in row])
            if vectors is not None:
                return vectors.reshape(len(keys), -1)


def encoder_store(encoder: Encoder, pooling: Pooling, folder: Path | None) -> FeatureStore:
    """Return the store of an encoder's pooled vectors.

    Raises
    ------
    ConnectomeBenchError
        If the encoder does not support the pooling.
    """
    check_pooling(pooling, encoder)
    settings = {
        "name": encoder.name,
        "revision": encoder.revision,
        "input_px": encoder.input_px,
        "pooling": pooling,
        "format": 1,
    }
    return FeatureStore(folder, settings, lambda images: encode_pooled(images, pooling, encoder))


def stored_rows(
    dataset: Any, change: Callable[[StoredImage], StoredImage] | None = None, layout: Layout = "views"
) -> Any:
    """Return a function that iterates over the undecoded images of a dataset's rows in small batches.

    Parameters
    ----------
    dataset
        ``datasets.Dataset`` with an ``images`` column.
    change
        Applied to every image.
    layout
        ``grid`` yields one image a row, with all of them in it.
    """
    # The Arrow format returns the stored bytes. Casting the column to `Image(decode=False)` would too, but
    # for a list of images it first writes the whole dataset to disk again.
    only_images = dataset.select_columns(["images"]).with_format("arrow")

    def rows() -> Iterator[list[StoredImage]]:
        for batch in only_images.iter(batch_size=64):
            for images in batch["images"].to_pylist():
                own = images if change is None else [change(image) for image in images]
                yield own if layout == "views" else [grid_image(own)]

    return rows
