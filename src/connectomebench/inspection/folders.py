"""Look at folders of neurons (SWC) and of meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.inspection.findings import Finding

_MESHES = (".obj", ".ply", ".stl", ".glb")
_SHOWN = 3


def files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files with one of these suffixes, in a folder or the file itself, by name."""
    every = sorted(path.iterdir()) if path.is_dir() else [path]
    return [p for p in every if p.is_file() and p.suffix.lower() in suffixes and not p.name.startswith(".")]


def swc_files(path: Path) -> list[Path]:
    """Return the SWC files of a folder, or the file itself."""
    return files_of(path, (".swc",))


def mesh_files(path: Path) -> list[Path]:
    """Return the mesh files of a folder, or the file itself."""
    return files_of(path, _MESHES)


def describe_neurons(path: Path) -> Finding:
    """Describe SWC files: points, extent, and radii that are unknown."""
    from connectomebench.sources.morphology.swc import read_swc

    files = swc_files(path)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    points = unknown = ends = branches = 0
    radii: list[np.ndarray[Any, Any]] = []
    warnings = []
    for file in files:
        try:
            neuron = read_swc(file, 1.0)
        except ConnectomeBenchError as error:
            warnings.append(str(error))
            continue
        skeleton = neuron.skeleton
        low, high = np.minimum(low, skeleton.nodes_nm.min(0)), np.maximum(high, skeleton.nodes_nm.max(0))
        degrees = skeleton.degrees()
        points, ends, branches = (
            points + len(degrees),
            ends + int((degrees == 1).sum()),
            branches + int((degrees > 2).sum()),
        )
        unknown += neuron.interpolated_radii
        radii.append(skeleton.radii_nm)
    if unknown:
        warnings.append(f"{unknown} of {points} points have no radius above zero; they are read as if between others")
    facts: dict[str, Any] = {"neurons": len(files), "readable": len(radii)}
    if radii:
        known = np.concatenate(radii)
        facts |= {
            "points": points,
            "ends": ends,
            "branch points": branches,
            "extent x, y, z (units of the file)": [round(float(v), 1) for v in high - low],
            "radius (units of the file)": {"median": float(np.median(known)), "largest": float(known.max())},
        }
    folder = path if path.is_dir() else path.parent
    usage = (
        "source:",
        "  morphology:",
        f"    path: {folder}",
        "    unit_nm: 1000  # not in the files: 1000 for micrometres, 1 for nanometres, else the voxel size",
        "    license: unknown",
        '    citation: ""',
    )
    return Finding(str(path), f"neurons in {len(files)} SWC files", facts, tuple(warnings), usage)


def describe_meshes(path: Path) -> Finding:
    """Describe mesh files: vertices, faces and extent."""
    from connectomebench.demo.mesh_files import read_mesh

    files = mesh_files(path)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    vertices = faces = readable = 0
    warnings = []
    for file in files:
        try:
            mesh = read_mesh(file.read_bytes())
        except (ConnectomeBenchError, OSError) as error:
            warnings.append(f"{file.name}: {error}")
            continue
        readable += 1
        vertices, faces = vertices + len(mesh.vertices_nm), faces + len(mesh.faces)
        low, high = np.minimum(low, mesh.vertices_nm.min(0)), np.maximum(high, mesh.vertices_nm.max(0))
    facts: dict[str, Any] = {"meshes": len(files), "readable": readable, "vertices": vertices, "faces": faces}
    if readable:
        facts["extent x, y, z (units of the files)"] = [round(float(v), 1) for v in high - low]
        facts["files"] = [f.name for f in files[:_SHOWN]] + (["..."] if len(files) > _SHOWN else [])
    usage = (
        "# meshes are read by the demo: connectomebench demo, tab Ask, one file a segment",
        "# a configuration reads label volumes (source.volumes) or skeletons (source.morphology) instead",
    )
    return Finding(str(path), f"meshes in {len(files)} files", facts, tuple(warnings), usage)
