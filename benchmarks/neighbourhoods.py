"""Time the slices of a neighbourhood: from one block a row, against one call of ``em_slices`` for each page.

Run:
    python benchmarks/neighbourhoods.py --json

Two sources: the embedded neurons, whose slices are drawn, and a precomputed volume written here (labels and image data
of 8 nm voxels in chunks of 64, compressed as such volumes are). Both ways must give the same bytes, else it stops. The
figure is the median over rows; pages, pixels and distances are those of ``build --neighbourhoods``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes

from connectomebench.build.write_neighbourhoods import NeighbourhoodConfig
from connectomebench.core.site import Part, Site
from connectomebench.core.source import EMSlice, SiteSource
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import MorphologyConfig, SourceConfig, open_source
from connectomebench.sources.volumes.arrays import VolumeSpec
from connectomebench.sources.volumes.volume_source import VolumesConfig, VolumeSource

EXTENT_NM = 3000.0
TASK = "endpoint_error_identification_with_em"
_NORMALS = {"em_xy": 2, "em_xz": 1, "em_yz": 0}
Pages = dict[str, list[EMSlice]]


def page_by_page(source: SiteSource, site: Site, pixels: int, offsets_nm: list[float]) -> Pages:
    """Cut each page by a call of its own, and the planes through the place once more, to find neighbours."""
    source.em_slices(site, pixels)
    found: Pages = {view: [] for view in _NORMALS}
    for offset in offsets_nm:
        centre = source.em_slices(site, pixels) if offset == 0 else None
        for view, axis in _NORMALS.items():
            place = list(site.location_nm)
            place[axis] += offset
            cut = centre or source.em_slices(replace(site, location_nm=(place[0], place[1], place[2])), pixels)
            assert cut is not None
            found[view].append(cut[view])
    return found


def at_once(source: SiteSource, site: Site, pixels: int, offsets_nm: list[float]) -> Pages:
    """Cut all pages from one block."""
    found = source.em_pages(site, pixels, offsets_nm)
    assert found is not None
    return found


def written_volume(folder: Path, edge_vx: int) -> tuple[VolumeSource, list[tuple[float, float, float]]]:
    """Write image data and labels of columns of 40 voxels; return the source and places in its middle."""
    from cloudvolume import CloudVolume

    rng = np.random.default_rng(0)
    x, y, z = np.indices((edge_vx,) * 3, np.uint16)
    labels = ((x + z // 8) // 40 + 64 * (y // 40) + 1).astype(np.uint64)
    image = rng.integers(0, 256, labels.shape, np.uint8)
    for name, array, kind, encoding in (
        ("labels", labels, "segmentation", "compressed_segmentation"),
        ("image", image, "image", "raw"),
    ):
        info = CloudVolume.create_new_info(
            num_channels=1,
            layer_type=kind,
            data_type=str(array.dtype),
            encoding=encoding,
            resolution=(8, 8, 8),
            voxel_offset=(0, 0, 0),
            chunk_size=(64, 64, 64),
            volume_size=array.shape,
        )
        volume: Any = CloudVolume(f"precomputed://file://{folder / name}", info=info, progress=False)
        volume.commit_info()
        volume[:] = array[..., np.newaxis]
    config = VolumesConfig(
        "columns", "1", VolumeSpec(str(folder / "labels")), VolumeSpec(str(folder / "labels")),
        image=VolumeSpec(str(folder / "image")),
    )  # fmt: skip
    middle = edge_vx * 8 / 2
    return VolumeSource(config, "fly", folder / "cache"), [(middle + 8 * i, middle, middle) for i in range(64)]


def drawn_neurons(folder: Path) -> tuple[SiteSource, list[tuple[float, float, float]]]:
    """Open the embedded neurons; return the source and places on them."""
    source = open_source(SourceConfig(morphology=MorphologyConfig()), "fly", folder, folder, SerialRunner())
    nodes = source.reconstruction.nodes_nm  # type: ignore[union-attr]
    return source, [(float(x), float(y), float(z)) for x, y, z in nodes[:: len(nodes) // 64]]  # type: ignore[return-value]


def measure(source: SiteSource, places: list[tuple[float, float, float]], rows: int) -> dict[str, Any]:
    """Time both ways on the same rows, in turns, after one row of each."""
    rules = NeighbourhoodConfig()
    offsets = [(page - rules.pages // 2) * rules.page_share * EXTENT_NM for page in range(rules.pages)]
    ways: dict[str, Callable[..., Pages]] = {"page_by_page": page_by_page, "at_once": at_once}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rows + 1):
        site = Site(TASK, places[number % len(places)], EXTENT_NM, (Part(1, "base"),), "no", (1,), (), "edit")
        made = {}
        for name, way in ways.items():
            began = time.process_time()
            made[name] = way(source, site, rules.slice_px, offsets)
            if number:
                times[name].append(time.process_time() - began)
        if _bytes(made["page_by_page"]) != _bytes(made["at_once"]):
            sys.exit("error: the two ways gave different slices")
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = round(medians["page_by_page"] / medians["at_once"], 2)
    return {"rows": rows, **{f"{name}_s": round(value, 4) for name, value in medians.items()}, "ratio": ratio}


def _bytes(pages: Pages) -> bytes:
    return b"".join(
        part.tobytes() for view in sorted(pages) for one in pages[view] for part in (one.gray, one.segments, one.inside)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--edge", type=int, default=448, help="edge of the written volume, voxels of 8 nm")
    parser.add_argument("--json", action="store_true")
    options = parse_sizes(parser, rows=1, edge=128)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        found["precomputed"] = measure(*written_volume(Path(folder), options.edge), options.rows)
        found["drawn"] = measure(*drawn_neurons(Path(folder)), options.rows)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
