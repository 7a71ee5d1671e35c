"""Rasterise clipped meshes into the three views with a small multi-threaded z-buffer on the CPU.

Coordinates are snapped to 1/256 of a sample and edges decided in integers with the top-left rule, as graphics cards
do, so that neighbouring faces neither overlap nor gape. A sample is one 32-bit number, nearest wins: depth (20 bits),
part (3 bits), darkness (9 bits). At equal depth the earlier part wins and then the brighter face, never the face that
was drawn first: images depend neither on the order of faces nor on the number of threads.

A face seen from behind marks where the cube shown cuts an object open: it gets the flat colour of a cut, unshaded.

At least half of the faces of a neuron lie behind others. Faces are drawn from front to back, those facing the viewer
first, and a small one that lies behind all samples around it is dropped before it is shaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.camera import view_frames
from connectomebench.rendering.clip import ViewMesh
from connectomebench.rendering.colours import BACKGROUND, RGB, cut_colour, light_direction, shade_table

SUPERSAMPLING = 2  # samples along each edge of a pixel; the four are averaged
LEVELS = 512  # of a part: one for cuts (the last, as if it were the darkest), the others for shades
MAX_PARTS = 7  # part 7 at its darkest is the background

_SUBSAMPLE = 256
_CODES = 8 * LEVELS
_EMPTY = 2**32 - 1
_DEPTH_STEPS = float(2**20 - 1)
_BAND_ROWS = 128  # rows of samples drawn at a time, to fit into the cache of a core
_FAR_AWAY = float(2**30)
_DEPTH_ORDER = 4096  # steps of depth in which cells of faces are drawn from front to back
_SMALL = 1024  # samples in the box of a face (width times height) up to which it is tested against what is drawn


def available_threads() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=8)
def _make_pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=f"connectomebench-render-{process}")


def thread_pool(threads: int) -> ThreadPoolExecutor:
    """Return the thread pool of this process; a forked child gets its own (numba's pools do not survive a fork)."""
    return _make_pool(threads, os.getpid())


def rasterize(
    meshes: list[ViewMesh],
    colours: list[RGB],
    pixels: int,
    threads: int,
    frames: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Render the three views, or those of other cameras.

    Parameters
    ----------
    meshes
        At most ``MAX_PARTS``, in cube coordinates.
    colours
        sRGB colour of each mesh.
    pixels
        Edge of an image.
    threads
        How many threads draw; the result does not depend on it.
    frames
        Right, down and forward of each camera as vectors of the world, shape (views, 3, 3); None for the three views.
        What lies outside the cube of a turned camera, from -1 to 1 along its own axes, is not drawn.

    Returns
    -------
    uint8, shape (views, pixels, pixels, 3)
        Views in the order of ``MESH_VIEWS`` or ``frames``, rows downwards, columns to the right, sRGB.
    """
    joined, parts = _joined(meshes)
    table = np.full((_CODES, 3), BACKGROUND, dtype=np.uint32)
    for i, colour in enumerate(colours):
        # brightest first: the code counts darkness
        table[i * LEVELS : (i + 1) * LEVELS - 1] = shade_table(colour, LEVELS - 1)[::-1]
        table[(i + 1) * LEVELS - 1] = cut_colour(colour)
    packed = table[:, 0] | table[:, 1] << 10 | table[:, 2] << 20
    cameras = view_frames() if frames is None else frames
    pictures = np.empty((len(cameras), pixels, pixels, 3), np.uint8)

    def resolve(band: NDArray[np.uint32], first_row: int, view: int) -> None:
        _resolve(band, packed, first_row, pictures[view])

    _draw_views(joined, parts, cameras, pixels, threads, resolve)
    return pictures


def _joined(meshes: list[ViewMesh]) -> tuple[ViewMesh, NDArray[np.uint8]]:
    """Join the meshes of a cube, and return the number of the mesh of each face."""
    if len(meshes) > MAX_PARTS:
        raise ValueError(f"at most {MAX_PARTS} parts can be drawn, not {len(meshes)}")
    points = np.concatenate([m.points for m in meshes])
    normals = np.concatenate([m.normals for m in meshes])
    offsets = np.cumsum([0] + [len(m.points) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + np.int32(o) for m, o in zip(meshes, offsets, strict=True)])
    parts = np.repeat(np.arange(len(meshes), dtype=np.uint8), [len(m.faces) for m in meshes])
    begun = np.cumsum([0] + [len(m.faces) for m in meshes], dtype=np.int32)
    cells = np.concatenate([m.cells[:-1] + b for m, b in zip(meshes, begun[:-1], strict=True)] + [begun[-1:]])
    return ViewMesh(points, normals, faces, cells), parts


def rasterize_geometry(
    meshes: list[ViewMesh], second: Sequence[bool], pixels: int, threads: int
) -> NDArray[np.float32]:
    """Draw silhouette, depth, normals and masks of the three views.

    Depth, edges and samples are those of :func:`rasterize`: the silhouette is above 0 where the picture of
    this size is not background. Normals are measured with light along every axis, so there is no second way to draw.

    Parameters
    ----------
    meshes
        At most ``MAX_PARTS``, in cube coordinates.
    second
        Of each mesh, whether it belongs to the second mask instead of the first.
    pixels, threads
        As for :func:`rasterize`.

    Returns
    -------
    float32, shape (3, 7, pixels, pixels)
        Views in the order of ``MESH_VIEWS``; channels silhouette, depth, normal x, y, z, first and second mask.
        Silhouette and masks are shares of a pixel, 0 to 1; depth goes from the near face of the cube (0) to the far one
        (1) and is that of the nearest sample; normals are unit vectors of the world, out of the object, and towards the
        viewer where the cube cuts it open. All are 0 where nothing is seen.
    """
    joined, parts = _joined(meshes)
    owners = np.asarray(second, np.uint8)[parts]
    views = len(MESH_VIEWS)
    found = np.zeros((views, 7, pixels, pixels), np.float32)
    cuts = np.zeros((views, pixels, pixels), np.float32)

    def resolve_surface(band: NDArray[np.uint32], first_row: int, view: int) -> None:
        _resolve_surface(band, first_row, found[view], cuts[view])

    _draw_views(joined, owners, view_frames(), pixels, threads, resolve_surface)
    for axis in range(3):
        for sign in (1.0, -1.0):
            lights = np.zeros((views, 3))
            lights[:, axis] = sign
            channel = found[:, 2 + axis]

            def resolve(
                band: NDArray[np.uint32],
                first_row: int,
                view: int,
                into: NDArray[np.float32] = channel,
                sign: float = sign,
            ) -> None:
                _add_cosines(band, first_row, sign, into[view])

            _draw_views(joined, owners, view_frames(), pixels, threads, resolve, lights)
    towards = -view_frames()[:, 2].astype(np.float32)
    normals = found[:, 2:5] + cuts[:, None] * towards[:, :, None, None]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    # samples of a pixel whose normals cancel: it is seen, so it faces the viewer
    normals = np.where(length > 1e-3, normals / np.maximum(length, 1e-3), towards[:, :, None, None])
    found[:, 2:5] = normals * (found[:, :1] > 0)
    return found


def rasterize_owners(
    mesh: ViewMesh, owners: NDArray[np.uint8], pixels: int, threads: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Find which part of one mesh is seen at every pixel of the three views.

    Depth, edges and samples are those of :func:`rasterize`: a pixel has an owner where the picture of the mesh is not
    background, and its owner is the part of the nearest surface among its samples.

    Parameters
    ----------
    mesh
        In cube coordinates.
    owners
        Part of each face, below ``MAX_PARTS``; uint8, shape (faces,).
    pixels, threads
        As for :func:`rasterize`.

    Returns
    -------
    owners
        uint8, shape (3, pixels, pixels): 0 where nothing is seen, else the part plus 1; views in the order of
        ``MESH_VIEWS``.
    cuts
        bool, the same shape: where the mesh is seen from inside, since the cube cuts it open.
    """
    if len(owners) and int(owners.max()) >= MAX_PARTS:
        raise ValueError(f"at most {MAX_PARTS} parts can be distinguished, not {int(owners.max()) + 1}")
    found = np.empty((len(MESH_VIEWS), pixels, pixels), np.uint8)
    cuts = np.empty(found.shape, np.bool_)

    def resolve(band: NDArray[np.uint32], first_row: int, view: int) -> None:
        _resolve_owners(band, first_row, found[view], cuts[view])

    _draw_views(mesh, owners, view_frames(), pixels, threads, resolve)
    return found, cuts


def _draw_views(
    mesh: ViewMesh,
    parts: NDArray[np.uint8],
    frames: NDArray[np.float64],
    pixels: int,
    threads: int,
    resolve: Callable[[NDArray[np.uint32], int, int], None],
    lights: NDArray[np.float64] | None = None,
) -> None:
    """Draw the samples of all views, and hand over each band of them with its first row of pixels and its view.

    ``parts`` is the part of each face, uint8, shape (faces,); ``frames`` has shape (views, 3, 3). ``lights`` are unit
    vectors of the world towards the light of each view, shape (views, 3); None takes that of the pictures.
    """
    points, normals, faces, cells = mesh.points, mesh.normals, mesh.faces, mesh.cells
    # The light vector points towards the viewer, the third axis of a frame away.
    own = np.einsum("j,vji->vi", light_direction() * (1, 1, -1), frames)
    towards = own if lights is None else lights
    samples = pixels * SUPERSAMPLING
    n_bands = -(-samples // _BAND_ROWS)
    ramp = np.arange(samples, dtype=np.float32)
    pool = thread_pool(threads)
    views = list(
        pool.map(
            lambda v: _prepare_view(points, normals, faces, cells, frames[v], towards[v], samples), range(len(frames))
        )
    )

    def draw(worker: int) -> None:
        band = np.empty((min(_BAND_ROWS, samples), samples), np.uint32)
        # Bands are assigned round-robin, so that all threads share every view's crowded middle.
        for job in range(worker, n_bands * len(frames), threads):
            b, v = divmod(job, len(frames))
            _draw_band(*views[v], normals, faces, parts, b * _BAND_ROWS, ramp, band)
            resolve(band, b * _BAND_ROWS // SUPERSAMPLING, v)

    list(pool.map(draw, range(threads)))


def average_samples(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of ``SUPERSAMPLING`` squared samples, rounding halves up, as the rasteriser does.

    Parameters
    ----------
    samples
        uint8, shape (rows, columns, channels); rows and columns multiples of ``SUPERSAMPLING``.

    Returns
    -------
    uint8, shape (rows / SUPERSAMPLING, columns / SUPERSAMPLING, channels)
    """
    s = SUPERSAMPLING
    rows, columns, channels = samples.shape
    blocks = samples.reshape(rows // s, s, columns // s, s, channels).sum(axis=(1, 3), dtype=np.uint16)
    return ((blocks + s * s // 2) // (s * s)).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
def _prepare_view(points, normals, faces, cells, frame, light, samples):
    """Project onto the samples of one view, shade vertices, and sort faces into bands of rows, from front to back.

    Returns the columns and rows (int32, 1/256 samples), depths (0 near, 1 far) and cosines of the vertices, the faces
    of each band that face the viewer, band after band, then those that face away (int32), and where each of these
    ``2 * bands`` runs starts.
    """
    n = len(points)
    columns = np.empty(n, np.int32)
    rows = np.empty(n, np.int32)
    depths = np.empty(n, np.float32)
    cosines = np.empty(n, np.float32)
    scale = 0.5 * samples * _SUBSAMPLE
    for i in range(n):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        u = (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z + 1.0) * scale
        v = (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z + 1.0) * scale
        columns[i] = np.int32(np.floor(min(max(u, -_FAR_AWAY), _FAR_AWAY) + 0.5))
        rows[i] = np.int32(np.floor(min(max(v, -_FAR_AWAY), _FAR_AWAY) + 0.5))
        depths[i] = (frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z + 1.0) * 0.5
        cosines[i] = normals[i, 0] * light[0] + normals[i, 1] * light[1] + normals[i, 2] * light[2]

    # First and last band of each face (none if it is not visible), and whether it faces away; the nearest depth of each
    # cell of faces beside each other. Sorting cells is enough: the order saves time and never changes the image.
    n_bands = (samples + _BAND_ROWS - 1) // _BAND_ROWS
    first = np.empty(len(faces), np.int16)
    last = np.empty(len(faces), np.int16)
    away = np.empty(len(faces), np.uint8)
    nearest = np.empty(len(cells) - 1, np.float32)
    starts = np.zeros(2 * n_bands + 1, np.int64)
    for cell in range(len(cells) - 1):
        near = np.float32(2)
        for f in range(cells[cell], cells[cell + 1]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            xa, ya = np.int64(columns[a]), np.int64(rows[a])
            xb, yb = np.int64(columns[b]), np.int64(rows[b])
            xc, yc = np.int64(columns[c]), np.int64(rows[c])
            low = max((min(ya, yb, yc) + 127) >> 8, 0)
            high = min((max(ya, yb, yc) - 128) >> 8, samples - 1)
            left = max((min(xa, xb, xc) + 127) >> 8, 0)
            right = min((max(xa, xb, xc) - 128) >> 8, samples - 1)
            closest = min(depths[a], depths[b], depths[c])
            outside = closest > 1.0 or max(depths[a], depths[b], depths[c]) < 0.0
            # Rows grow downwards: counter-clockwise from outside gives a negative area if a face faces the viewer.
            area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            if low > high or left > right or outside or area == 0:
                first[f], last[f] = 0, -1
                continue
            near = min(near, closest)
            away[f] = area > 0
            first[f], last[f] = low // _BAND_ROWS, high // _BAND_ROWS
            for band in range(first[f], last[f] + 1):
                starts[n_bands * away[f] + band + 1] += 1
        nearest[cell] = near
    for run in range(2 * n_bands):
        starts[run + 1] += starts[run]
    order = np.empty(starts[2 * n_bands], np.int32)
    filled = starts.copy()
    # a counting sort: numba compiles a sort by comparisons for two seconds, and cells of about one depth need no order
    begins = np.zeros(_DEPTH_ORDER + 1, np.int64)
    steps = np.empty(len(nearest), np.int64)
    for cell in range(len(nearest)):
        # bounded as an integer: a depth that is no number must not become a place outside the table
        steps[cell] = min(max(np.int64(nearest[cell] * _DEPTH_ORDER), 0), _DEPTH_ORDER - 1)
        begins[steps[cell] + 1] += 1
    for step in range(_DEPTH_ORDER):
        begins[step + 1] += begins[step]
    sorted_cells = np.empty(len(nearest), np.int64)
    for cell in range(len(nearest)):
        step = steps[cell]
        sorted_cells[begins[step]] = cell
        begins[step] += 1
    for cell in sorted_cells:
        for f in range(cells[cell], cells[cell + 1]):
            for band in range(first[f], last[f] + 1):
                run = n_bands * away[f] + band
                order[filled[run]] = f
                filled[run] += 1
    return columns, rows, depths, cosines, order, starts


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _draw_band(columns, rows, depths, cosines, order, starts, normals, faces, parts, first_row, ramp, band):
    """Draw the faces of one band of rows into ``band`` (uint32, shape (rows, columns))."""
    n_rows, n_columns = band.shape
    band[:] = _EMPTY
    flat = band.ravel()
    zero, half, one, two = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
    three_eighths, sample = np.float32(0.375), np.float32(1 / _SUBSAMPLE)
    darkest, depth_steps = np.float32(LEVELS - 2), np.float32(_DEPTH_STEPS)
    empty = np.uint32(_EMPTY)
    index, n_bands = first_row // _BAND_ROWS, (len(starts) - 1) // 2
    toward = starts[index + 1] - starts[index]
    total = toward + starts[n_bands + index + 1] - starts[n_bands + index]
    for number in range(total):
        # first the faces towards the viewer, then those facing away
        f = order[starts[index] + number] if number < toward else order[starts[n_bands + index] + number - toward]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0 = np.int64(columns[a]), np.int64(rows[a])
        x1, y1 = np.int64(columns[b]), np.int64(rows[b])
        x2, y2 = np.int64(columns[c]), np.int64(rows[c])
        left = max((min(x0, x1, x2) + 127) >> 8, 0)
        right = min((max(x0, x1, x2) - 128) >> 8, n_columns - 1)
        low = max((min(y0, y1, y2) + 127) >> 8, first_row)
        high = min((max(y0, y1, y2) - 128) >> 8, first_row + n_rows - 1)
        if left > right or low > high:
            continue
        # Behind everything that is drawn so far? Then nothing else of the face matters.
        close = np.int32(min(max(min(depths[a], depths[b], depths[c]), zero), one) * depth_steps)
        nearest = np.uint32(close) << np.uint32(12)
        hidden = (right - left + 1) * (high - low + 1) <= _SMALL
        if hidden:
            width = np.uint64(right - left + 1)
            for y in range(low - first_row, high - first_row + 1):
                start = np.uint64(y * n_columns + left)
                for k in range(width):
                    if flat[start + k] >= nearest:
                        hidden = False
                        break
                if not hidden:
                    break
        if hidden:
            continue
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        cut = area > 0
        if not cut:  # reverse it, so that all edge functions are positive inside
            b, c = c, b
            x1, y1, x2, y2 = x2, y2, x1, y1
            area = -area
        # Edge functions at the first sample; e0 is opposite to vertex a, and so on.
        px, py = (left << 8) + 128, (low << 8) + 128
        dx0, dy0 = x2 - x1, y2 - y1
        dx1, dy1 = x0 - x2, y0 - y2
        dx2, dy2 = x1 - x0, y1 - y0
        row0 = dx0 * (py - y1) - dy0 * (px - x1)
        row1 = dx1 * (py - y2) - dy1 * (px - x2)
        row2 = dx2 * (py - y0) - dy2 * (px - x0)
        # Top-left rule: samples on a top or left edge belong to the face, those on the other edges do not.
        min0 = 0 if dy0 < 0 or (dy0 == 0 and dx0 > 0) else 1
        min1 = 0 if dy1 < 0 or (dy1 == 0 and dx1 > 0) else 1
        min2 = 0 if dy2 < 0 or (dy2 == 0 and dx2 > 0) else 1
        # Weights of b and c, depth and cosine are linear; these are their steps from column to column and row to row.
        unit = np.float32(_SUBSAMPLE / area)
        w1x, w1y = np.float32(-dy1) * unit, np.float32(dx1) * unit
        w2x, w2y = np.float32(-dy2) * unit, np.float32(dx2) * unit
        dz1, dz2 = depths[b] - depths[a], depths[c] - depths[a]
        zx, zy = w1x * dz1 + w2x * dz2, w1y * dz1 + w2y * dz2
        s0 = cosines[a]
        ds1, ds2 = cosines[b] - s0, cosines[c] - s0
        sx, sy = w1x * ds1 + w2x * ds2, w1y * ds1 + w2y * ds2
        # The interpolated normal is shorter than 1 where the normals of the vertices differ: its squared length is
        # 1 - p with p = w0 w1 |na - nb|^2 + w0 w2 |na - nc|^2 + w1 w2 |nb - nc|^2, a polynomial of column and row.
        d01, d02, d12 = zero, zero, zero
        for axis in range(3):
            na, nb, nc = normals[a, axis], normals[b, axis], normals[c, axis]
            d01 += (na - nb) * (na - nb)
            d02 += (na - nc) * (na - nc)
            d12 += (nb - nc) * (nb - nc)
        cross = d01 + d02 - d12
        p_x, p_y = w1x * d01 + w2x * d02, w1y * d01 + w2y * d02
        p_xx = -(w1x * w1x * d01 + w2x * w2x * d02 + w1x * w2x * cross)
        p_yy = -(w1y * w1y * d01 + w2y * w2y * d02 + w1y * w2y * cross)
        p_xy = -(two * (w1x * w1y * d01 + w2x * w2y * d02) + (w1x * w2y + w1y * w2x) * cross)
        base = np.int32(parts[f]) << 9
        if cut:  # no light at all, and one step more: the code of a cut
            s0, sx, sy, base = zero, zero, zero, base + 1
        fx = np.float32(px - x0) * sample
        for y in range(low, high + 1):
            begin, end = _inside(row0 - min0, dy0 << 8, 0, right - left)
            begin, end = _inside(row1 - min1, dy1 << 8, begin, end)
            begin, end = _inside(row2 - min2, dy2 << 8, begin, end)
            if begin <= end:
                fy = np.float32((y << 8) + 128 - y0) * sample
                z, s = depths[a] + fy * zy, s0 + fy * sy
                p0, p1 = fy * (p_y + fy * p_yy), p_x + fy * p_xy
                start = np.uint64((y - first_row) * n_columns + left)
                for k in range(np.uint64(begin), np.uint64(end + 1)):
                    t = fx + ramp[k]
                    depth = z + t * zx
                    p = p0 + t * (p1 + t * p_xx)
                    cosine = (s + t * sx) * (one + p * (half + p * three_eighths))  # 1 / sqrt(1 - p)
                    dark = np.int32(darkest * (one - min(max(cosine, zero), one)) + half)
                    # never nearer than the nearest corner, whatever rounding does: else dropping faces would show
                    near = max(np.int32(min(max(depth, zero), one) * depth_steps), close)
                    key = (np.uint32(near) << np.uint32(12)) | np.uint32(base + dark)
                    if depth < zero or depth > one:
                        key = empty
                    flat[start + k] = min(flat[start + k], key)
            row0 += dx0 << 8
            row1 += dx1 << 8
            row2 += dx2 << 8


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _inside(value, step, begin, end):
    """Narrow a span of columns to where ``value - column * step`` is not negative."""
    if step > 0:
        end = min(end, value // step) if value >= 0 else -1
    elif step < 0:
        if value < 0:
            begin = max(begin, (value + step + 1) // step)
    elif value < 0:
        end = -1
    return begin, end


@numba.njit(cache=True, nogil=True)
def _resolve(band, table, first_row, picture):
    """Resolve samples to pixels: look up colours and average four, rounding halves up.

    ``table`` holds red, green and blue packed into 10 bits each, so that four of them add up in one number.
    """
    mask = np.uint32(_CODES - 1)
    empty = np.uint32(_EMPTY)
    n_rows = min(len(band) // 2, len(picture) - first_row)
    for y in range(n_rows):
        upper, lower, out = band[2 * y], band[2 * y + 1], picture[first_row + y]
        for x in range(len(out)):
            a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
            if a & b & c & d == empty:
                out[x, 0], out[x, 1], out[x, 2] = BACKGROUND
            else:
                packed = table[a & mask] + table[b & mask] + table[c & mask] + table[d & mask]
                out[x, 0] = ((packed & 1023) + 2) >> 2
                out[x, 1] = (((packed >> 10) & 1023) + 2) >> 2
                out[x, 2] = ((packed >> 20) + 2) >> 2


@numba.njit(cache=True, nogil=True)
def _resolve_owners(band, first_row, owners, cuts):
    """Resolve samples to the part of the nearest of four, plus 1 (0 where all are empty), and whether it is cut."""
    empty, last = np.uint32(_EMPTY), np.uint32(LEVELS - 1)
    n_rows = min(len(band) // 2, len(owners) - first_row)
    for y in range(n_rows):
        upper, lower = band[2 * y], band[2 * y + 1]
        out, cut = owners[first_row + y], cuts[first_row + y]
        for x in range(len(out)):
            nearest = min(min(upper[2 * x], upper[2 * x + 1]), min(lower[2 * x], lower[2 * x + 1]))
            # depth stands in the highest bits, then the part, then the shade
            out[x] = 0 if nearest == empty else ((nearest >> np.uint32(9)) & np.uint32(7)) + 1
            cut[x] = nearest != empty and nearest & last == last


@numba.njit(cache=True, nogil=True)
def _resolve_surface(band, first_row, channels, cuts):
    """Resolve samples to silhouette, depth and masks (channels 0, 1, 5 and 6), and count those of cuts."""
    empty, shades = np.uint32(_EMPTY), np.uint32(LEVELS - 1)
    quarter, depth_steps = np.float32(0.25), np.float32(_DEPTH_STEPS)
    n_rows = min(len(band) // 2, channels.shape[1] - first_row)
    for y in range(n_rows):
        row = first_row + y
        for x in range(channels.shape[2]):
            nearest = empty
            for k in range(4):
                key = band[2 * y + k // 2, 2 * x + k % 2]
                if key == empty:
                    continue
                nearest = min(nearest, key)
                channels[0, row, x] += quarter
                channels[5 + ((key >> np.uint32(9)) & np.uint32(1)), row, x] += quarter
                cuts[row, x] += key & shades == shades
            if nearest != empty:
                channels[1, row, x] = np.float32(nearest >> np.uint32(12)) / depth_steps


@numba.njit(cache=True, nogil=True)
def _add_cosines(band, first_row, sign, sums):
    """Add the cosines of the samples of each pixel to ``sums`` (float32, shape (rows, columns)), without cuts."""
    empty, shades = np.uint32(_EMPTY), np.uint32(LEVELS - 1)
    darkest = np.float32(LEVELS - 2)
    n_rows = min(len(band) // 2, len(sums) - first_row)
    for y in range(n_rows):
        for x in range(sums.shape[1]):
            for k in range(4):
                key = band[2 * y + k // 2, 2 * x + k % 2]
                if key != empty and key & shades != shades:
                    sums[first_row + y, x] += np.float32(sign) * (np.float32(1) - np.float32(key & shades) / darkest)
