"""Time the drawing of samples: our path against plain octarine and against moderngl, on the same meshes in one run.

    python benchmarks/render.py --json
    python benchmarks/render.py --json --meshes pinky40     # real neurons, where ../shared/data/pinky40_labels is

One sample is three views (front, side, top) of two meshes in a cube of 6 um, from meshes in memory to RGB arrays in
memory. What each one does for it:

ours
    clips the whole meshes to the cube, computes normals, draws the views with 4 samples a pixel (the CPU engine).
octarine
    as one uses it: one offscreen viewer for all samples, ``pixel_ratio`` 1, default light and material; removes the
    last meshes, adds the whole meshes, draws and reads back three views.
moderngl
    one standalone EGL context, one framebuffer, one sample a pixel; uploads the clipped meshes with their normals
    (clipping and normals are done beforehand and not timed), draws and reads back three views. Two-sided Lambert.

Samples lie along the first mesh; every renderer draws the same ones after one to warm up, octarine only the first few
since it is slow. The figure is the median. What is not installed or cannot use the graphics adapter is null, and
standard error says why.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_arguments import parse_sizes
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.adapters import find_adapter, octarine_problem, prepare_drivers
from connectomebench.rendering.camera import view_frame
from connectomebench.rendering.clip import ViewMesh, clip_mesh
from connectomebench.rendering.colours import BLUE, ORANGE, light_direction
from connectomebench.rendering.engines import CpuEngine

VIEW_NM = 6000.0
COLOURS = (BLUE, ORANGE)
PINKY40 = Path(__file__).parents[2] / "shared/data/pinky40_labels/connectomics.npy.ckl.gz"

Draw = Callable[[int], Any]


def tube(path_nm: NDArray[np.float64], radii_nm: NDArray[np.float64], sides: int = 16) -> Mesh:
    """Sweep a circle along a path (shape (n, 3), nm) with a radius at each point (shape (n,), nm)."""
    along = np.gradient(path_nm, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, (0.31, 0.52, 0.79))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    angles = np.arange(sides) * 2 * np.pi / sides
    ring = (
        np.cos(angles)[None, :, None] * across[:, None]
        + np.sin(angles)[None, :, None] * np.cross(along, across)[:, None]
    )
    vertices = path_nm[:, None] + radii_nm[:, None, None] * ring
    a = (np.arange(len(path_nm) - 1)[:, None] * sides + np.arange(sides)).ravel()
    b = (np.arange(len(path_nm) - 1)[:, None] * sides + (np.arange(sides) + 1) % sides).ravel()
    faces = np.concatenate([np.stack([a, b, a + sides], 1), np.stack([b, b + sides, a + sides], 1)])
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def synthetic_neuron(seed: int, cable_nm: float, box_nm: float = 40_000.0, step_nm: float = 70.0) -> Mesh:
    """Grow smooth, branching, swelling neurites of a given total length through a box."""
    rng = np.random.default_rng(seed)
    grown: list[NDArray[np.float64]] = []
    parts: list[Mesh] = []
    left = int(cable_nm / step_nm)
    while left > 10:
        n = min(int(rng.integers(300, 900)), left)
        start = grown[rng.integers(len(grown))][rng.integers(50, 250)] if grown else np.full(3, box_nm / 2)
        directions = np.cumsum(rng.normal(0, 0.12, (n, 3)), axis=0) + rng.normal(0, 1, 3)
        steps = step_nm * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        path = start + np.cumsum(steps, axis=0)
        path = np.abs((path + box_nm) % (2 * box_nm) - box_nm)  # reflected at the walls
        radii = 180 + 90 * np.sin(np.arange(n) * 0.05 + rng.uniform(0, 6)) + 40 * np.sin(np.arange(n) * 0.31)
        grown.append(path)
        parts.append(tube(path, radii))
        left -= n
    return join(parts)


def join(meshes: list[Mesh]) -> Mesh:
    """Make one mesh of several."""
    offsets = np.cumsum([0] + [len(m.vertices_nm) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices_nm for m in meshes]),
        np.concatenate([m.faces + np.int32(o) for m, o in zip(meshes, offsets, strict=True)]),
    )


def synthetic_meshes() -> list[Mesh]:
    """Two neurons of about 170,000 and 30,000 faces in a box of 40 um."""
    return [synthetic_neuron(1, 375_000), synthetic_neuron(2, 70_000)]


def pinky40_meshes() -> list[Mesh]:
    """Two real neurons of the mouse cortex by marching cubes, at 32 x 32 x 40 nm."""
    import crackle
    from zmesh import Mesher  # pyright: ignore[reportAttributeAccessIssue]

    labels = crackle.decompress(gzip.decompress(PINKY40.read_bytes()))[::2, ::2]
    meshes = []
    for label in (28673074, 28794499):
        mesher = Mesher((32, 32, 40))
        mesher.mesh((labels == label).astype(np.uint8))
        mesh = mesher.get(1)
        meshes.append(Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)))
    return meshes


def choose_centers(mesh: Mesh, n: int) -> list[Point]:
    """Take places on the mesh, evenly along its vertices."""
    picked = mesh.vertices_nm[np.linspace(0, len(mesh.vertices_nm) - 1, n + 2).astype(int)[1:-1]]
    return [(float(x), float(y), float(z)) for x, y, z in picked]


def our_path(meshes: list[Mesh], centers: list[Point], pixels: int) -> Draw:
    """Build the function that draws sample ``i`` with our CPU engine."""
    engine = CpuEngine()
    return lambda i: engine.render(meshes, COLOURS, centers[i], VIEW_NM, pixels)


def plain_octarine(meshes: list[Mesh], centers: list[Point], pixels: int) -> Draw:
    """Build the function that draws sample ``i`` with octarine as one uses it."""
    import octarine
    import trimesh

    viewer: Any = octarine.Viewer(offscreen=True, show=False, size=(pixels, pixels))
    viewer.renderer.pixel_ratio = 1
    viewer.set_bgcolor("white")
    viewer.show()
    loaded = [trimesh.Trimesh(m.vertices_nm, m.faces, process=False) for m in meshes]

    def draw(i: int) -> list[Any]:
        viewer.clear()
        for mesh, colour in zip(loaded, COLOURS, strict=True):
            viewer.add_mesh(mesh, color=tuple(c / 255 for c in colour), center=False)
        pictures = []
        viewer.camera.width = viewer.camera.height = VIEW_NM
        viewer.camera.depth_range = (0, VIEW_NM)
        for view in MESH_VIEWS:
            frame = view_frame(view)
            matrix = np.eye(4)
            matrix[:3, :3] = (frame * [[1], [-1], [-1]]).T  # columns: right, up, backward
            matrix[:3, 3] = np.array(centers[i]) - frame[2] * VIEW_NM / 2
            viewer.camera.local.matrix = matrix
            pictures.append(viewer.screenshot(filename=None, alpha=False))
        return pictures

    return draw


_VERTEX_SHADER = """
#version 330
uniform mat3 frame; in vec3 point; in vec3 normal; out vec3 n;
void main() { vec3 p = frame * point; n = frame * normal; gl_Position = vec4(p.x, -p.y, p.z, 1.0); }
"""
_FRAGMENT_SHADER = """
#version 330
uniform vec3 light; uniform vec3 colour; in vec3 n; out vec3 pixel;
void main() {
  vec3 facing = normalize(gl_FrontFacing ? n : -n);
  pixel = colour * (0.2 + 0.8 * max(dot(facing, light), 0.0));
}
"""


def moderngl_clipped(meshes: list[Mesh], centers: list[Point], pixels: int) -> Draw:
    """Build the function that draws sample ``i`` of clipped meshes with OpenGL."""
    import moderngl

    context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[call-arg]
    context.enable(moderngl.DEPTH_TEST)
    program: Any = context.program(vertex_shader=_VERTEX_SHADER, fragment_shader=_FRAGMENT_SHADER)
    program["light"].value = tuple(light_direction() * (1, 1, -1))
    framebuffer = context.framebuffer(
        [context.renderbuffer((pixels, pixels), 4)], context.depth_renderbuffer((pixels, pixels))
    )
    framebuffer.use()
    clipped: list[list[ViewMesh]] = [[clip_mesh(m, center, VIEW_NM) for m in meshes] for center in centers]
    frames = [tuple(view_frame(view).T.ravel()) for view in MESH_VIEWS]

    def draw(i: int) -> list[NDArray[np.uint8]]:
        loaded = []
        for mesh in clipped[i]:
            if len(mesh.faces):
                buffers = [context.buffer(a) for a in (mesh.points, mesh.normals, mesh.faces)]
                content = [(buffers[0], "3f", "point"), (buffers[1], "3f", "normal")]
                loaded.append((context.vertex_array(program, content, buffers[2]), buffers))
        pictures = []
        for frame in frames:
            framebuffer.clear(1.0, 1.0, 1.0)
            program["frame"].value = frame
            for (array, _), colour in zip(loaded, COLOURS, strict=False):
                program["colour"].value = tuple(c / 255 for c in colour)
                array.render()
            pictures.append(np.frombuffer(framebuffer.read(components=3), np.uint8).reshape(pixels, pixels, 3))
        for array, buffers in loaded:
            array.release()
            for buffer in buffers:
                buffer.release()
        return pictures

    return draw


def open_moderngl() -> str:
    """Name the OpenGL renderer behind a standalone EGL context."""
    import moderngl

    context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[call-arg]
    name = context.info["GL_RENDERER"]
    context.release()
    return name


def moderngl_adapter() -> tuple[str | None, str | None]:
    """Return the OpenGL renderer that moderngl finds and no problem, or None and why it finds none."""
    try:
        return open_moderngl(), None
    except Exception as error:  # not installed, no libEGL, no device: each has its own exception class
        return None, str(error)


def time_samples(draw: Draw, n: int, name: str) -> float:
    """Draw one sample to warm up and then ``n``; return the median seconds a sample."""
    draw(0)
    seconds = []
    for i in range(n):
        start = time.perf_counter()
        draw(i)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"{name}: {1000 * median:.1f} ms a sample", file=sys.stderr)
    return median


def measure(meshes: list[Mesh], n: int, n_octarine: int) -> dict[str, Any]:
    """Time all renderers at 512 and 1024 pixels and put the ratios beside each other."""
    centers = choose_centers(meshes[0], n)
    clipped = [sum(len(clip_mesh(m, c, VIEW_NM).faces) for m in meshes) for c in centers]
    prepare_drivers()
    gl_name, gl_problem = moderngl_adapter()
    problems = {"ours": None, "moderngl": gl_problem, "octarine": octarine_problem()}
    for name, problem in problems.items():
        if problem is not None:
            print(f"{name} is left out: {problem}", file=sys.stderr)
    adapter = find_adapter()
    rates: dict[str, dict[str, float | None]] = {"ours": {}, "octarine": {}, "moderngl": {}}
    builders: dict[str, tuple[Callable[..., Draw], int]] = {
        "ours": (our_path, n),
        "moderngl": (moderngl_clipped, n),
        "octarine": (plain_octarine, n_octarine),
    }
    for pixels in (512, 1024):
        for name, (build, count) in builders.items():
            if problems[name] is None:
                seconds = time_samples(build(meshes, centers, pixels), count, f"{name} {pixels}")
                rates[name][str(pixels)] = round(1 / seconds, 2)
            else:
                rates[name][str(pixels)] = None

    def ratio(other: str, pixels: str) -> float | None:
        ours, theirs = rates["ours"][pixels], rates[other][pixels]
        return None if ours is None or theirs is None else round(ours / theirs, 2)

    return {
        "ratio_vs_octarine_512": ratio("octarine", "512"),
        "ratio_vs_octarine_1024": ratio("octarine", "1024"),
        "ratio_vs_moderngl_512": ratio("moderngl", "512"),
        "ratio_vs_moderngl_1024": ratio("moderngl", "1024"),
        "samples_per_s": rates,
        "faces": [len(m.faces) for m in meshes],
        "faces_in_view_median": int(statistics.median(clipped)),
        "samples": {"ours": n, "moderngl": n, "octarine": n_octarine},
        "octarine_adapter": str(adapter) if adapter is not None and problems["octarine"] is None else None,
        "moderngl_adapter": gl_name,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshes", choices=("synthetic", "pinky40"), default="synthetic")
    parser.add_argument("--samples", type=int, default=15, help="samples drawn by us and by moderngl")
    parser.add_argument("--octarine-samples", type=int, default=3, help="samples drawn by octarine (slow on a CPU)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parse_sizes(parser, samples=2, octarine_samples=1)
    if arguments.meshes == "pinky40" and not PINKY40.exists():
        sys.exit(f"{PINKY40} is not there; take --meshes synthetic")
    meshes = pinky40_meshes() if arguments.meshes == "pinky40" else synthetic_meshes()
    result: dict[str, Any] = {
        "meshes": arguments.meshes,
        **measure(meshes, arguments.samples, min(arguments.samples, arguments.octarine_samples)),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": sys.version.split()[0],
        },
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
