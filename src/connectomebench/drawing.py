"""Draw sites in chunks that are kept on disk, so that a killed build goes on where it was."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.files import atomic_path, content_key
from connectomebench.rendering.engines import CpuEngine, Engine
from connectomebench.rendering.rasterizer import available_threads
from connectomebench.rendering.views import EmptyView, ViewRules, render_site
from connectomebench.sites import Site
from connectomebench.sources.base import Source
from connectomebench.tasks import get_task

CHUNK = 32


@dataclass(frozen=True)
class Drawing:
    """The pictures of a site.

    Attributes
    ----------
    images
        PNG bytes by view, in the order of the task's views; empty where the site cannot be drawn.
    features
        Trivial features of the pictures (see :mod:`connectomebench.models.trivial`); float64, shape (k,).
    problem
        Why it cannot be drawn; None where it can.
    """

    images: dict[str, bytes]
    features: NDArray[np.float64]
    problem: str | None = None


def draw_sites(
    sites: Sequence[Site], source: Source, engine: Engine, rules: ViewRules, folder: Path
) -> Iterator[Drawing]:
    """Yield the drawing of each site, in order.

    Parameters
    ----------
    sites
        Sites of one task.
    source
        Gives meshes and image data.
    engine, rules
        How they are drawn.
    folder
        Chunks already there are read, not drawn again.
    """
    # kernels release the GIL, so sites are drawn side by side; a graphics card takes one at a time
    workers = available_threads() if isinstance(engine, CpuEngine) else 1
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(sites), desc=f"draw {sites[0].task}" if sites else "draw", unit="site", delay=1) as bar,
    ):
        for start in range(0, len(sites), CHUNK):
            chunk = sites[start : start + CHUNK]
            ids = [source.info.sample_id(site) for site in chunk]
            path = folder / f"{content_key(ids, engine.name, repr(rules))}.parquet"
            drawings = _read(path)
            if drawings is None:
                drawings = list(pool.map(lambda site: _draw(site, source, engine, rules), chunk))
                _write(path, drawings)
            bar.update(len(chunk))
            yield from drawings


def _draw(site: Site, source: Source, engine: Engine, rules: ViewRules) -> Drawing:
    from connectomebench.models.trivial import trivial_features

    meshes = source.meshes(site)
    nothing = np.zeros(0)
    if any(mesh.is_empty for mesh in meshes):
        return Drawing({}, nothing, "a segment has no mesh in the view")
    em = None
    if get_task(site.task).has_em:
        em = source.em_slices(site, rules.em_px)
        if em is None:
            return Drawing({}, nothing, "no image data at this place")
    try:
        pictures = render_site(site, meshes, em, rules=rules, engine=engine)
    except EmptyView:
        return Drawing({}, nothing, "a segment cannot be seen in the view")
    features = trivial_features(list(pictures.values()), list(pictures))[1]
    return Drawing({view: _png(picture) for view, picture in pictures.items()}, features)


def _png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=False, compress_level=3)
    return stream.getvalue()


def _write(path: Path, drawings: list[Drawing]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "views": pa.array([list(d.images) for d in drawings], pa.list_(pa.string())),
            "images": pa.array([list(d.images.values()) for d in drawings], pa.list_(pa.binary())),
            "features": pa.array([d.features.tolist() for d in drawings], pa.list_(pa.float64())),
            "problem": pa.array([d.problem for d in drawings], pa.string()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="none")


def _read(path: Path) -> list[Drawing] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid:  # cut short by a crash of the machine: draw the chunk again
        return None
    return [
        Drawing(dict(zip(r["views"], r["images"], strict=True)), np.asarray(r["features"], np.float64), r["problem"])
        for r in rows
    ]
