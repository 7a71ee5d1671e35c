"""Count false controls among written rows again, from the raw volumes or neurons and with other code than the build's.

    python benchmarks/recount_controls.py OUT --config examples/fib25.yaml
    python benchmarks/recount_controls.py OUT --config examples/quickstart.yaml

For volumes: a "no" end is false where the core of its segment's body (eroded twice, each body by itself) goes on beyond
it with at least 200 connected voxels, any of them within 200 nm of the end; a "no" place of
`merge_error_identification` where the cores of two bodies inside the segment do. For simulated errors: a "no" end is
false where it lies on a node at which a neuron was cut. Prints JSON; exit status 1 where there is a false one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.schema import read_small_columns

END, FUSION = "endpoint_error_identification_with_em", "merge_error_identification"
RADIUS_NM, MIN_VOXELS, EROSION = 200.0, 200, 2


def rows_of(out: Path, task: str, species: str) -> Iterator[dict[str, Any]]:
    """Yield the written rows that say "no", with their partition."""
    columns = ["sample_id", "answer", "segment_ids", "location_nm"]
    for partition in PARTITIONS:
        for row in read_small_columns(out / task / species, partition, columns).to_pylist():
            if row["answer"] == "no":
                yield row | {"partition": partition}


def large_parts(mask: NDArray[np.bool_], near: NDArray[np.bool_]) -> int:
    """Voxels of the largest connected part (26 neighbours, in the whole volume) that has a voxel near; 0 below 200."""
    if not (mask & near).any():
        return 0
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    mask, near = mask[box], near[box]
    parts = np.zeros(mask.shape, np.int64)
    ndimage.label(mask, np.ones((3, 3, 3)), output=parts)
    sizes = np.bincount(parts.ravel())
    found = sizes[np.unique(parts[near & mask])]
    return int(found[found >= MIN_VOXELS].max(initial=0))


def volumes(out: Path, config: BuildConfig, base: Path) -> dict[str, list[dict[str, Any]]]:
    """List false controls among ends and places of merge errors, from the arrays themselves."""
    source = config.source.volumes
    assert source is not None and source.proofread is not None and not isinstance(source.automatic, dict)

    def read(spec: Any) -> NDArray[Any]:
        array = np.load(base / spec.path)[spec.key]
        return np.transpose(array, [spec.axes.index(axis) for axis in "xyz"])

    automatic, proofread = read(source.automatic), read(source.proofread)
    offset, voxel = np.asarray(source.automatic.offset_vx), np.asarray(source.automatic.voxel_size_nm)
    axes = [(np.arange(n) + offset[a] + 0.5) * voxel[a] for a, n in enumerate(automatic.shape)]
    cores: dict[int, Any] = {}

    def core(body: int) -> Any:
        if body not in cores:
            cores[body] = ndimage.binary_erosion(proofread == body, iterations=EROSION, border_value=1)
        return cores[body]

    wrong: dict[str, list[dict[str, Any]]] = {}
    for task in (END, FUSION):
        if not (out / task / config.species).exists():
            continue
        wrong[task] = []
        for row in rows_of(out, task, config.species):
            (segment,), place = row["segment_ids"], row["location_nm"]
            x, y, z = ((axis - c) ** 2 for axis, c in zip(axes, place, strict=True))
            near = x[:, None, None] + y[None, :, None] + z[None, None, :] <= RADIUS_NM**2
            own = automatic == segment
            held, counts = np.unique(proofread[own], return_counts=True)
            bodies = [int(b) for b, n in zip(held, counts, strict=True) if b and n >= MIN_VOXELS]
            if task == END:
                # the body of the segment is the one that it holds most of
                largest = max(bodies, key=lambda b: int(counts[held == b][0]))
                voxels = large_parts(core(largest) & ~own, near)
                is_wrong = voxels > 0
            else:
                found = [large_parts(core(b) & own, near) for b in bodies]
                voxels = sorted([0, 0, *found])[-2]
                is_wrong = sum(n > 0 for n in found) > 1
            if is_wrong:
                wrong[task].append(row | {"voxels": voxels})
    return wrong


def neurons(out: Path, config: BuildConfig, base: Path) -> dict[str, list[dict[str, Any]]]:
    """List controls on a node at which a simulated cut was made."""
    from connectomebench.execution.open_runner import open_runner
    from connectomebench.execution.runner import IN_PROCESS
    from connectomebench.sources.factory import open_source

    with open_runner(IN_PROCESS, 1) as runner:
        source: Any = open_source(config.source, config.species, out / ".recount", base, runner)
    rec = source.reconstruction
    ends = rec.nodes_nm[rec.gaps.ravel()]
    wrong = [
        row
        for row in rows_of(out, END, config.species)
        if np.linalg.norm(ends - np.asarray(row["location_nm"]), axis=1).min() < 1.0
    ]
    return {END: wrong}


def main() -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the datasets")
    parser.add_argument("--config", type=Path, required=True, help="configuration that they were built from")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    count = neurons if config.source.volumes is None else volumes
    wrong = count(arguments.out, config, arguments.config.parent)
    totals = {task: len(list(rows_of(arguments.out, task, config.species))) for task in wrong}
    print(json.dumps({task: {"no": totals[task], "false": len(rows), "rows": rows} for task, rows in wrong.items()}))
    return int(any(wrong.values()))


if __name__ == "__main__":
    raise SystemExit(main())
