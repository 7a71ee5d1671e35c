"""Time `load_dataset` on a dataset folder of ours, and count the bytes that its small columns cost.

Run:
    python benchmarks/load.py --json

The dataset is synthetic and lives in a temporary folder: rows of three 512 x 512 shaded pictures with noise, PNG files
of about the size that real views have. In the same run the same rows lie as PNG files in folders with a
`metadata.jsonl` (the `imagefolder` layout of `datasets`), one row a picture there, as that layout wants it. A row is
three pictures in both rates. `_map` and `_two_threads` read as `load_rows` does; `_stock` reads the same files with
`datasets` alone, which decodes the first picture of a list twice, so that its ratio cannot reach 1 where decoding is
all that costs. With bytes alone (`_undecoded`) the layouts themselves are compared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes

from connectomebench.core.geometry import Box
from connectomebench.core.site import Part, Site
from connectomebench.core.source import SourceInfo
from connectomebench.core.tasks import get_task
from connectomebench.dataset.schema import SMALL_COLUMNS, make_row, shard_paths, write_partition
from connectomebench.dataset.stored_picture import decode_once, read_decoded

TASK = "merge_action"
SPECIES = "fly"
PIXELS = 512
INFO = SourceInfo("synthetic", "1", SPECIES, Box((0, 0, 0), (1e6, 1e6, 1e6)), True, True, 1.0, "cc0-1.0", "none")


def picture(rng: np.random.Generator) -> bytes:
    """Draw a few shaded tubes on white with a little noise; PNG bytes."""
    from PIL import Image

    y, x = np.mgrid[0:PIXELS, 0:PIXELS].astype(np.float32)
    pixels = np.full((PIXELS, PIXELS, 3), 255, np.float32)
    for colour in ((0, 114, 178), (230, 159, 0)):
        for _ in range(2):
            angle, offset, width = rng.uniform(0, np.pi), rng.uniform(-150, 150), rng.uniform(20, 70)
            across = (x - PIXELS / 2) * np.sin(angle) - (y - PIXELS / 2) * np.cos(angle) - offset
            across += 15 * np.sin((x + y) / rng.uniform(20, 60))
            shade = np.sqrt(np.clip(1 - (across / width) ** 2, 0, 1))[..., None]
            tube = np.array(colour, np.float32) * (0.3 + 0.7 * shade) + rng.normal(0, 0.5, (PIXELS, PIXELS, 1))
            pixels = np.where(shade > 0, tube, pixels)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make_rows(count: int, different: int = 60) -> list[dict[str, Any]]:
    """Make rows; they draw their pictures from a pool, which Parquet does not notice (images are stored plain)."""
    rng = np.random.default_rng(0)
    views = get_task(TASK).views
    pool = [picture(rng) for _ in range(different)]
    rows = []
    for i in range(count):
        x, y, z = rng.uniform(0, 1e6, 3).tolist()
        ids = tuple(int(s) for s in rng.integers(2**56, 2**62, 2))
        parts = (Part(ids[0], "base"), Part(ids[1], "candidate"))
        edit = f"merge-{i}" if i % 2 else None
        site = Site(TASK, (x, y, z), 8000.0, parts, ("no", "yes")[i % 2], ids, ids, "simulated", edit)
        rows.append(
            make_row(site, {v: pool[(3 * i + k) % len(pool)] for k, v in enumerate(views)}, f"segment-{min(ids)}", INFO)
        )
    return rows


def write_imagefolder(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as files, the layout people use without Parquet."""
    folder.mkdir(parents=True)
    with open(folder / "metadata.jsonl", "w") as stream:
        for row in rows:
            small = {name: row[name] for name in SMALL_COLUMNS if name not in ("views", "edit_time")}
            for view, image in zip(row["views"], row["images"], strict=True):
                name = f"{row['sample_id']}_{view}.png"
                (folder / name).write_bytes(image["bytes"])
                stream.write(json.dumps({"file_name": name, "view": view, **small}) + "\n")


def rate(count: int, read: Callable[[], Iterator[Any]]) -> float:
    """Rows a second of the better of two passes."""
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        for _row in read():
            pass
        best = min(best, time.perf_counter() - start)
    return count / best


class CountingFile(io.RawIOBase):
    """A file that counts the bytes that are read from it."""

    def __init__(self, path: Path) -> None:
        self.stream = open(path, "rb")  # noqa: SIM115 (closed by close)
        self.bytes_read = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be positioned."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Position the file."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self.stream.tell()

    def read(self, size: int = -1) -> bytes:
        """Read and count."""
        data = self.stream.read(size)
        self.bytes_read += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        super().close()


def small_columns_share(paths: list[Path]) -> float:
    """Share of all bytes that reading every small column of every row touches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = 0
    for path in paths:
        with CountingFile(path) as file:
            pq.ParquetFile(pa.PythonFile(file, mode="r")).read(columns=list(SMALL_COLUMNS))
            read += file.bytes_read
    return read / sum(path.stat().st_size for path in paths)


def check_same(stock: Any, ours: Any) -> None:
    """Exit if the first row's pictures are not the same pixels in both; compiles what decodes them, too."""
    for one, other in zip(stock[0]["images"], ours[0]["images"], strict=True):
        if not np.array_equal(np.asarray(one), np.asarray(other)):
            raise SystemExit("the two ways of reading give different pixels")


def measure(count: int, folder: Path) -> dict[str, float]:
    """Write the dataset in both layouts and time reading it; see the module."""
    import datasets
    from datasets import load_dataset

    datasets.disable_progress_bars()
    rows = make_rows(count)
    ours, plain, cache = folder / TASK, folder / "images" / "train", str(folder / "cache")
    n_bytes = sum(len(image["bytes"]) for row in rows for image in row["images"])
    write_partition(ours / SPECIES, TASK, "train", rows, count, n_bytes)
    write_imagefolder(plain, rows)

    files = {"train": str(ours / SPECIES / "train-*.parquet")}
    start = time.perf_counter()
    data = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    prepare_s = time.perf_counter() - start
    start = time.perf_counter()
    pictures = load_dataset("imagefolder", data_dir=str(plain.parent), split="train", cache_dir=cache)
    prepare_plain_s = time.perf_counter() - start
    if (len(data), len(pictures)) != (count, 3 * count):
        raise SystemExit(f"expected {count} rows and {3 * count} pictures, found {len(data)} and {len(pictures)}")
    stream = load_dataset("parquet", data_files=files, split="train", streaming=True)
    stock_rate = rate(count, lambda: iter(data))
    picture_rate = rate(count, lambda: iter(pictures))
    raw = data.cast_column("images", datasets.List(datasets.Image(decode=False)))
    raw_pictures: Any = pictures.cast_column("image", datasets.Image(decode=False))
    raw_rate = rate(count, lambda: iter(raw))
    quick = decode_once(load_dataset("parquet", data_files=files, split="train", cache_dir=cache))
    check_same(data, quick)
    ours_rate, two_rate = (rate(count, partial(read_decoded, quick, threads)) for threads in (1, 2))
    return {
        "rows_per_s_map": ours_rate,
        "rows_per_s_two_threads": two_rate,
        "rows_per_s_stock": stock_rate,
        "rows_per_s_streaming": rate(count, lambda: iter(stream)),
        "small_columns_share": small_columns_share(shard_paths(ours / SPECIES, "train")),
        "ratio_vs_imagefolder": ours_rate / picture_rate,
        "ratio_vs_imagefolder_two_threads": two_rate / picture_rate,
        "ratio_vs_imagefolder_stock": stock_rate / picture_rate,
        "ratio_vs_imagefolder_undecoded": raw_rate
        / rate(count, lambda: (Path(row["image"]["path"]).read_bytes() for row in raw_pictures)),
        "ratio_vs_imagefolder_first_load": prepare_plain_s / prepare_s,
        "rows": count,
        "bytes_per_row": n_bytes / count,
    }


def main() -> None:
    """Parse the command line and print the numbers."""
    parser = argparse.ArgumentParser(description="Time load_dataset and count the bytes of the small columns.")
    parser.add_argument("--rows", type=int, default=600, help="rows of three pictures (default: 600)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parse_sizes(parser, rows=8)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        numbers = measure(arguments.rows, Path(folder))
    if arguments.json:
        print(json.dumps(numbers))
    else:
        for name, value in numbers.items():
            print(f"{name:34} {value:.4g}")


if __name__ == "__main__":
    main()
