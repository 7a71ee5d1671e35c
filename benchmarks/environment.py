"""Time looking around: views a second of an environment, one thread, meshes kept between views.

Run:
    python benchmarks/environment.py --json
    python benchmarks/environment.py --dataset OUT/merge_action --species fly --json

Without a dataset the places are two tubes that cross, of the number of triangles asked for. Each episode takes views by
lot, of meshes and slices, and ends with an answer; times are those of ``step`` with everything an agent gets.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_arguments import parse_sizes

from connectomebench.core.geometry import Mesh
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.neighbourhoods import NEIGHBOUR, Neighbourhood, neighbourhoods_path, write_neighbourhoods
from connectomebench.dataset.schema import write_partition
from connectomebench.environment.camera import VIEW_ACTIONS
from connectomebench.environment.episode import EpisodeConfig
from connectomebench.environment.gym_environment import LookAround
from connectomebench.environment.samples import Samples, open_samples


def tube(radius_nm: float, length_nm: float, faces: int, axis: int) -> Mesh:
    """Make an open tube round an axis, with about so many triangles."""
    around = max(int(np.sqrt(faces / 8)), 8)
    along = faces // (2 * around)
    angle, place = np.meshgrid(
        np.linspace(0, 2 * np.pi, around, endpoint=False), np.linspace(-length_nm / 2, length_nm / 2, along + 1)
    )
    points = np.stack([radius_nm * np.cos(angle), radius_nm * np.sin(angle), place], axis=-1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    first, beside = row * around + column, row * around + (column + 1) % around
    faces_of = np.concatenate(
        [np.stack([first, beside, beside + around], -1), np.stack([first, beside + around, first + around], -1)]
    )
    return Mesh(np.roll(points, axis + 1, axis=1).astype(np.float32), faces_of.reshape(-1, 3).astype(np.int32))


def synthetic(out: Path, rows: int, faces: int) -> Path:
    """Write a dataset of crossing tubes; returns OUT/TASK."""
    from load import SPECIES, TASK, make_rows

    made = make_rows(rows)
    folder = out / TASK
    write_partition(folder / SPECIES, TASK, "test", made, len(made), 1000)
    source = {"name": "synthetic", "simulated_errors": True, "simulated_em": True, "license": "cc0-1.0"}
    counts = {"test": {answer: sum(row["answer"] == answer for row in made) for answer in ("no", "yes")}}
    add_species(folder, TASK, SPECIES, {"fingerprint": "synthetic", "counts": counts, "source": source})
    noise = np.random.default_rng(0).integers(0, 253, (3, 9, 128, 128)).astype(np.uint8)
    meshes = (tube(300, 8000, faces // 3, 0), tube(200, 8000, faces // 3, 1), tube(250, 8000, faces // 3, 2))
    place = Neighbourhood(
        (0.0, 0.0, 0.0), 4000.0, 8000.0, ("base", "candidate", NEIGHBOUR), meshes, noise, noise % 4, 250.0
    )
    write_neighbourhoods(neighbourhoods_path(folder, SPECIES, "test"), ((row["sample_id"], place) for row in made))
    return folder


def measure(samples: Samples, config: EpisodeConfig, views: int) -> dict[str, object]:
    """Play until so many views were taken; return rates and times."""
    environment, rng = LookAround(samples, config), np.random.default_rng(0)
    environment.reset(seed=0)
    environment.step(np.int64(1))  # compiles, or reads the compiled code
    resets: list[float] = []
    steps: list[float] = []
    while len(steps) < views:
        began = time.perf_counter()
        environment.reset()
        resets.append(time.perf_counter() - began)
        for _ in range(config.max_views - 1):
            action = np.int64(rng.integers(len(VIEW_ACTIONS)))
            began = time.perf_counter()
            environment.step(action)
            steps.append(time.perf_counter() - began)
    faces = [sum(len(mesh.faces) for mesh in samples.place(i).meshes) for i in range(min(len(samples), 32))]
    return {
        "pixels": config.pixels,
        "rows": len(samples),
        "median_triangles": int(np.median(faces)),
        "views": len(steps),
        "views_per_s": round(len(steps) / sum(steps), 1),
        "views_per_s_with_resets": round(len(steps) / (sum(steps) + sum(resets)), 1),
        "step_ms": {f"p{q}": round(float(np.percentile(steps, q)) * 1000, 2) for q in (50, 95)},
        "reset_ms_p50": round(float(np.median(resets)) * 1000, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="OUT/TASK with neighbourhoods; synthetic by default")
    parser.add_argument("--species", default="fly")
    parser.add_argument("--partition", default="test")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--views", type=int, default=1000)
    parser.add_argument("--faces", type=int, default=30_000, help="triangles of a synthetic place")
    parser.add_argument("--json", action="store_true")
    options = parse_sizes(parser, views=50, faces=3000)
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or synthetic(Path(folder), 16, options.faces)
        samples = open_samples(dataset, options.species, options.partition)
        found = measure(samples, EpisodeConfig(pixels=options.pixels), options.views)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
