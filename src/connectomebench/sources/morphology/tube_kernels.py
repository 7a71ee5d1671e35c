"""Compiled kernels of tubes: distance and roughness, surfaces, and slices of simulated image data.

All in one file: numba's cache on disk notices a change of the file a kernel stands in, not of another that it calls.
"""

from __future__ import annotations

import numba as nb
import numpy as np

ROUGHNESS_SHARE, ROUGHNESS_MAX_NM = 0.2, 25.0  # amplitude of the surface noise: share of the radius, at most nm
ROUGHNESS_NM = (330.0, 130.0)  # wavelengths of the surface noise
CELL_NM = 430.0  # size of the profiles that fill the space between neurites
WARP_NM = 90.0  # how far their outlines are bent
ORGANELLE_NM = 1000.0  # distance of mitochondria
MEMBRANE_NM = 11.0  # half thickness of a stained membrane
STAINING_NM = 2500.0  # size of the patches in which staining and contrast are alike
STAINING_GAIN, STAINING_SHIFT = 0.3, 30.0  # by how much contrast (a share) and grey value differ at most
SEEN_NM = 120.0  # beyond this distance from a tube its membrane cannot be seen

# columns of a tube; see tubes.py
CHAIN = 9
FACE, NORMAL, HALF_GAP, AMPLITUDE, WAVELENGTH, SALT = 10, 13, 16, 17, 18, 19
NO_FACE = -1e9  # half gap of a tube without a face


@nb.njit(cache=True, nogil=True)
def hash3(x, y, z, salt):
    """Hash a lattice point and a salt to 32 bits, held in 64, since numba widens products; lowbias32 as finaliser."""
    low = np.uint64(0xFFFFFFFF)
    h = np.uint64(x) * np.uint64(0x8DA6B343) ^ np.uint64(y) * np.uint64(0xD8163841)
    h ^= np.uint64(z) * np.uint64(0xCB1AB31F) ^ np.uint64(salt) * np.uint64(0x9E3779B1)
    h &= low
    h ^= h >> np.uint64(16)
    h = (h * np.uint64(0x7FEB352D)) & low
    h ^= h >> np.uint64(15)
    h = (h * np.uint64(0x846CA68B)) & low
    return h ^ (h >> np.uint64(16))


@nb.njit(cache=True, nogil=True)
def unit(h):
    """Convert a 32-bit hash to a number in [0, 1)."""
    return np.float64(h) * (1.0 / 4294967296.0)


@nb.njit(cache=True, nogil=True)
def smooth_noise(x, y, z, salt):
    """Compute value noise in [-1, 1] with features of about one unit, smooth in x, y and z."""
    xf, yf, zf = np.floor(x), np.floor(y), np.floor(z)
    i, j, k = np.int64(xf), np.int64(yf), np.int64(zf)
    u, v, w = x - xf, y - yf, z - zf
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for a in range(2):
        wa = u if a else 1 - u
        for b in range(2):
            wb = wa * (v if b else 1 - v)
            total += wb * (1 - w) * unit(hash3(i + a, j + b, k, salt))
            total += wb * w * unit(hash3(i + a, j + b, k + 1, salt))
    return 2 * total - 1


@nb.njit(cache=True, nogil=True)
def roughness(x, y, z):
    """Compute surface noise at a place (nm), about in [-1, 1]; the same for all tubes, ends and cuts."""
    a, b = ROUGHNESS_NM
    return 0.7 * smooth_noise(x / a, y / a, z / a, np.uint64(11)) + 0.3 * smooth_noise(
        x / b, y / b, z / b, np.uint64(12)
    )


@nb.njit(cache=True, nogil=True, inline="always")
def tube_distance(px, py, pz, c):
    """Compute the signed distance to a tapering tube with round ends, and its radius there.

    Parameters
    ----------
    px, py, pz
        Place, nm.
    c
        float64, shape (20,): both ends (x, y, z), their radii, nm, and 1 / squared distance of the ends (0 for a ball)
        come first; see :func:`tubes.cones_between`.

    Returns
    -------
    distance, radius
        nm; the distance is negative inside, and exact where both radii are equal.
    """
    bx, by, bz = c[3] - c[0], c[4] - c[1], c[5] - c[2]
    qx, qy, qz = px - c[0], py - c[1], pz - c[2]
    t = min(max((qx * bx + qy * by + qz * bz) * c[8], 0.0), 1.0)
    x, y, z = qx - t * bx, qy - t * by, qz - t * bz
    r = c[6] + t * (c[7] - c[6])
    return np.sqrt(x * x + y * y + z * z) - r, r


@nb.njit(cache=True, nogil=True, inline="always")
def _plane_distance(x, y, z, c):
    """Compute the signed distance to the plane of a tube's face, positive in front of it, nm."""
    dx, dy, dz = x - c[FACE], y - c[FACE + 1], z - c[FACE + 2]
    return dx * c[NORMAL] + dy * c[NORMAL + 1] + dz * c[NORMAL + 2] + c[HALF_GAP]


@nb.njit(cache=True, nogil=True)
def _face_noise(x, y, z, c):
    """Compute the noise of a tube's face, in [-1, 1]; tubes cut by one face share it."""
    a, b = c[WAVELENGTH], 0.4 * c[WAVELENGTH]
    salt = np.uint64(c[SALT])
    return 0.65 * smooth_noise(x / a, y / a, z / a, salt) + 0.35 * smooth_noise(x / b, y / b, z / b, salt)


@nb.njit(cache=True, nogil=True)
def cut_off(x, y, z, d, c):
    """Cut off a tube of distance ``d`` (nm) at its face, if it has one; return the distance to the rest, nm.

    A face is a noisy plane. Two tubes cut at the two sides of one face fit without gap or overlap.
    """
    if c[HALF_GAP] == NO_FACE:
        return d
    f = _plane_distance(x, y, z, c)
    if c[AMPLITUDE] != 0.0 and f + abs(c[AMPLITUDE]) > d:
        f += c[AMPLITUDE] * _face_noise(x, y, z, c)
    return max(d, f)


@nb.njit(cache=True, nogil=True)
def face_field(lower, voxel, face, field):
    """Write the distance to a face into a grid (nm, negative behind it).

    Parameters
    ----------
    lower
        Centre of the first voxel (x, y, z), nm.
    voxel
        Edges of a voxel (x, y, z), nm.
    face
        float64, shape (10,): see :func:`faces.face_row`; its gap is left out.
    field
        float32, axes x, y, z; written.
    """
    c = np.zeros(20)
    for row in range(len(face)):
        c[FACE + row] = face[row]
    c[HALF_GAP] = 0.0
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            for k in range(field.shape[2]):
                place = lower[0] + i * voxel[0], lower[1] + j * voxel[1], lower[2] + k * voxel[2]
                field[i, j, k] = cut_off(place[0], place[1], place[2], -1e12, c)


@nb.njit(cache=True, nogil=True, inline="always")
def _blended(d, old, width):
    """Blend two distances with a polynomial smooth minimum, which rounds off creases at branch points."""
    blend = max(width - abs(d - old), 0.0)
    return min(d, old) - blend * blend / (8 * width)


@nb.njit(cache=True, nogil=True)
def _distance2_2d(x, y, c):
    """Compute the squared distance of a place to the axis of a tube, both seen along z, nm²."""
    bx, by = c[3] - c[0], c[4] - c[1]
    length2 = bx * bx + by * by
    t = 0.0
    if length2 > 0.0:
        t = min(max(((x - c[0]) * bx + (y - c[1]) * by) / length2, 0.0), 1.0)
    dx, dy = x - c[0] - t * bx, y - c[1] - t * by
    return dx * dx + dy * dy


@nb.njit(cache=True, nogil=True)
def tube_field(cones, first, voxel, field):
    """Write the distance to the union of rough tubes into the voxels near them.

    Tubes of one chain, which must be contiguous, use a plain union: a smooth union would bulge at every joint.
    Chains are blended smoothly.
    """
    nx, ny, nz = field.shape
    reach_out = 1.5 * voxel + ROUGHNESS_MAX_NM
    count = len(cones)
    low = np.empty((count, 3), np.int64)
    high = np.empty((count, 3), np.int64)
    for n in range(count):
        c = cones[n]
        reach = max(c[6], c[7]) + reach_out
        for k in range(3):
            low[n, k] = max(0, int(np.floor((min(c[k], c[k + 3]) - reach) / voxel)) - first[k])
            high[n, k] = min(field.shape[k], int(np.ceil((max(c[k], c[k + 3]) + reach) / voxel)) - first[k] + 1)
    # a voxel depends on no other, so one layer at a time: what is kept of a layer stays in the cache of the processor
    noise = np.empty((ny, nz), np.float32)
    chain_of = np.empty((ny, nz), np.int64)
    chain_d = np.empty((ny, nz), np.float32)
    chain_r = np.empty((ny, nz), np.float32)
    face_of = np.empty((ny, nz), np.float64)
    face_noise = np.empty((ny, nz), np.float64)
    for i in range(nx):
        x = (i + first[0]) * voxel
        noise[:] = 9  # not yet known
        chain_of[:] = -1
        face_of[:] = -1.0
        for n in range(count):
            if i < low[n, 0] or i >= high[n, 0]:
                continue
            c = cones[n]
            chain = np.int64(c[CHAIN])
            farthest2 = (max(c[6], c[7]) + reach_out) ** 2
            for j in range(low[n, 1], high[n, 1]):
                y = (j + first[1]) * voxel
                # most of the box around a slanting tube is far from it; the margin is for rounding
                if _distance2_2d(x, y, c) > farthest2 + 1.0:
                    continue
                for m in range(low[n, 2], high[n, 2]):
                    z = (m + first[2]) * voxel
                    d, r = tube_distance(x, y, z, c)
                    if d >= reach_out:
                        continue
                    if d > -reach_out:
                        if noise[j, m] == 9:
                            noise[j, m] = roughness(x, y, z)
                        d += min(ROUGHNESS_SHARE * r, ROUGHNESS_MAX_NM) * noise[j, m]
                    if chain_of[j, m] == chain and d >= chain_d[j, m]:
                        continue  # a face takes away, and the rest of the chain is nearer already
                    if c[HALF_GAP] != NO_FACE:
                        # as in cut_off; the tubes of a chain meet the same face, so its noise is computed once a voxel
                        f = _plane_distance(x, y, z, c)
                        if c[AMPLITUDE] != 0.0 and f + abs(c[AMPLITUDE]) > d:
                            if face_of[j, m] != c[SALT]:
                                face_of[j, m], face_noise[j, m] = c[SALT], _face_noise(x, y, z, c)
                            f += c[AMPLITUDE] * face_noise[j, m]
                        d = max(d, f)
                    if chain_of[j, m] != chain:
                        if chain_of[j, m] >= 0:
                            field[i, j, m] = _blended(chain_d[j, m], field[i, j, m], 0.2 * chain_r[j, m])
                        chain_of[j, m] = chain
                        chain_d[j, m], chain_r[j, m] = d, r
                    elif d < chain_d[j, m]:
                        chain_d[j, m], chain_r[j, m] = d, r
        for j in range(ny):
            for m in range(nz):
                if chain_of[j, m] >= 0:
                    field[i, j, m] = _blended(chain_d[j, m], field[i, j, m], 0.2 * chain_r[j, m])


@nb.njit(cache=True, nogil=True)
def surface_nets(field):
    """Run naive surface nets (Gibson 1998) at level 0: one vertex per crossed cell, one quad per crossed grid edge."""
    nx, ny, nz = field.shape
    index = np.full((2, ny, nz), -1, np.int32)  # vertices of the last two layers of cells
    vertices = np.empty((1024, 3), np.float32)
    faces = np.empty((2048, 3), np.int32)
    n_vertices, n_faces = 0, 0
    corner = np.empty(8, np.float32)
    for i in range(nx - 1):
        now, last = i % 2, (i + 1) % 2
        index[now, :, :] = -1
        for j in range(ny - 1):
            for k in range(nz - 1):
                inside = 0
                for c in range(8):
                    corner[c] = field[i + (c & 1), j + ((c >> 1) & 1), k + (c >> 2)]
                    if corner[c] < 0:
                        inside += 1
                if inside == 0 or inside == 8:
                    continue
                x, y, z, crossings = 0.0, 0.0, 0.0, 0
                for c in range(8):
                    for axis in range(3):
                        bit = 1 << axis
                        if c & bit:
                            continue
                        a, b = corner[c], corner[c | bit]
                        if (a < 0) == (b < 0):
                            continue
                        t = a / (a - b)
                        x += (c & 1) + (t if axis == 0 else 0.0)
                        y += ((c >> 1) & 1) + (t if axis == 1 else 0.0)
                        z += (c >> 2) + (t if axis == 2 else 0.0)
                        crossings += 1
                if n_vertices == len(vertices):
                    grown = np.empty((2 * n_vertices, 3), np.float32)
                    # number by number: numba compiles an assignment of rows, with its errors, for three seconds
                    for v in range(n_vertices):
                        for axis in range(3):
                            grown[v, axis] = vertices[v, axis]
                    vertices = grown
                vertices[n_vertices, 0] = i + x / crossings
                vertices[n_vertices, 1] = j + y / crossings
                vertices[n_vertices, 2] = k + z / crossings
                index[now, j, k] = n_vertices
                n_vertices += 1
                if n_faces + 6 > len(faces):
                    more = np.empty((2 * len(faces), 3), np.int32)
                    for f in range(n_faces):
                        for side in range(3):
                            more[f, side] = faces[f, side]
                    faces = more
                # the three grid edges that leave corner 0: each is shared by this cell and three before it
                for axis in range(3):
                    a, b = corner[0], corner[1 << axis]
                    if (a < 0) == (b < 0):
                        continue
                    if axis == 0:
                        p, q, r = index[now, j - 1, k], index[now, j - 1, k - 1], index[now, j, k - 1]
                    elif axis == 1:
                        p, q, r = index[now, j, k - 1], index[last, j, k - 1], index[last, j, k]
                    else:
                        p, q, r = index[last, j, k], index[last, j - 1, k], index[now, j - 1, k]
                    here = n_vertices - 1
                    if a < 0:
                        q1, q3 = p, r
                    else:
                        q1, q3 = r, p
                    faces[n_faces, 0], faces[n_faces, 1], faces[n_faces, 2] = here, q1, q
                    faces[n_faces + 1, 0], faces[n_faces + 1, 1], faces[n_faces + 1, 2] = here, q, q3
                    n_faces += 2
    return vertices[:n_vertices].copy(), faces[:n_faces].copy()


@nb.njit(cache=True, nogil=True)
def distances(cones, numbers, lower, pixel, column, row, normal, pixels):
    """Compute distance and number of the nearest owner, and distance of the next owner; shape (rows, columns)."""
    best = np.full((pixels, pixels), 1e6)
    owner = np.full((pixels, pixels), -1, np.int64)
    second = np.full((pixels, pixels), 1e6)
    noise = np.full((pixels, pixels), 9.0)  # 9: not yet known
    place = np.empty(3)
    for n in range(len(cones)):
        c = cones[n]
        reach = max(c[6], c[7]) + SEEN_NM
        if (
            lower[normal] < min(c[normal], c[normal + 3]) - reach
            or lower[normal] > max(c[normal], c[normal + 3]) + reach
        ):
            continue
        left = max(0, int((min(c[column], c[column + 3]) - reach - lower[column]) / pixel))
        right = min(pixels, int((max(c[column], c[column + 3]) + reach - lower[column]) / pixel) + 1)
        bottom = max(0, int((min(c[row], c[row + 3]) - reach - lower[row]) / pixel))
        top = min(pixels, int((max(c[row], c[row + 3]) + reach - lower[row]) / pixel) + 1)
        place[normal] = lower[normal]
        for i in range(bottom, top):
            place[row] = lower[row] + (i + 0.5) * pixel
            for j in range(left, right):
                place[column] = lower[column] + (j + 0.5) * pixel
                d, r = tube_distance(place[0], place[1], place[2], c)
                if d > SEEN_NM:
                    continue
                if d > -SEEN_NM:
                    if noise[i, j] == 9.0:
                        noise[i, j] = roughness(place[0], place[1], place[2])
                    d += min(ROUGHNESS_SHARE * r, ROUGHNESS_MAX_NM) * noise[i, j]
                d = cut_off(place[0], place[1], place[2], d, c)
                if d < best[i, j]:
                    if owner[i, j] != numbers[n]:
                        second[i, j] = best[i, j]
                    best[i, j], owner[i, j] = d, numbers[n]
                elif d < second[i, j] and owner[i, j] != numbers[n]:
                    second[i, j] = d
    return best, owner, second


@nb.njit(cache=True, nogil=True)
def seeds(lower, extent, normal):
    """Place neuropil profile seeds around a slice: first lattice point (3,), and x, y, z, weight, gray of each."""
    first = np.empty(3, np.int64)
    shape = np.empty(3, np.int64)
    for k in range(3):
        edge = 0.0 if k == normal else extent
        first[k] = int(np.floor((lower[k] - WARP_NM) / CELL_NM)) - 1
        shape[k] = int(np.floor((lower[k] + edge + WARP_NM) / CELL_NM)) + 2 - first[k]
    seeds = np.empty((shape[0], shape[1], shape[2], 5))
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                x, y, z = i + first[0], j + first[1], k + first[2]
                seeds[i, j, k, 0] = (x + unit(hash3(x, y, z, np.uint64(1)))) * CELL_NM
                seeds[i, j, k, 1] = (y + unit(hash3(x, y, z, np.uint64(2)))) * CELL_NM
                seeds[i, j, k, 2] = (z + unit(hash3(x, y, z, np.uint64(3)))) * CELL_NM
                seeds[i, j, k, 3] = 0.5 * CELL_NM * unit(hash3(x, y, z, np.uint64(4))) ** 2
                seeds[i, j, k, 4] = unit(hash3(x, y, z, np.uint64(5)))
    return first, seeds


@nb.njit(cache=True, nogil=True)
def organelles(lower, extent, normal):
    """Place mitochondria near a slice: centre (x, y, z), axis (x, y, z), half length and radius; shape (n, 8), nm."""
    found = np.empty((4096, 8))
    count = 0
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for k in range(3):
        edge = 0.0 if k == normal else extent
        first[k] = int(np.floor(lower[k] / ORGANELLE_NM)) - 1
        last[k] = int(np.floor((lower[k] + edge) / ORGANELLE_NM)) + 2
    for x in range(first[0], last[0]):
        for y in range(first[1], last[1]):
            for z in range(first[2], last[2]):
                if count == len(found):
                    more = np.empty((2 * count, 8))
                    for row in range(count):
                        for column in range(8):
                            more[row, column] = found[row, column]
                    found = more
                found[count, 0] = (x + unit(hash3(x, y, z, np.uint64(21)))) * ORGANELLE_NM
                found[count, 1] = (y + unit(hash3(x, y, z, np.uint64(22)))) * ORGANELLE_NM
                found[count, 2] = (z + unit(hash3(x, y, z, np.uint64(23)))) * ORGANELLE_NM
                up = 2 * unit(hash3(x, y, z, np.uint64(24))) - 1
                turn = 2 * np.pi * unit(hash3(x, y, z, np.uint64(25)))
                flat = np.sqrt(1 - up * up)
                found[count, 3], found[count, 4], found[count, 5] = flat * np.cos(turn), flat * np.sin(turn), up
                found[count, 6] = 150 + 350 * unit(hash3(x, y, z, np.uint64(26)))
                found[count, 7] = 90 + 90 * unit(hash3(x, y, z, np.uint64(27)))
                count += 1
    return found[:count]


@nb.njit(cache=True, nogil=True)
def _neuropil(x, y, z, seeds, first):
    """Compute the distance to the nearest border between profiles (nm), and the profile's gray, at a place (nm)."""
    bend = smooth_noise(x / 260, y / 260, z / 260, np.uint64(31)) * WARP_NM
    twist = smooth_noise(x / 260, y / 260, z / 260, np.uint64(32)) * WARP_NM
    x, y, z = x + bend, y + twist, z + (bend - twist) * 0.5
    i0 = int(np.floor(x / CELL_NM)) - first[0]
    j0 = int(np.floor(y / CELL_NM)) - first[1]
    k0 = int(np.floor(z / CELL_NM)) - first[2]
    nearest, next_one, gray = 1e9, 1e9, 0.0
    for i in range(max(i0 - 1, 0), min(i0 + 2, seeds.shape[0])):
        for j in range(max(j0 - 1, 0), min(j0 + 2, seeds.shape[1])):
            for k in range(max(k0 - 1, 0), min(k0 + 2, seeds.shape[2])):
                dx, dy, dz = seeds[i, j, k, 0] - x, seeds[i, j, k, 1] - y, seeds[i, j, k, 2] - z
                d = np.sqrt(dx * dx + dy * dy + dz * dz) - seeds[i, j, k, 3]
                if d < nearest:
                    next_one, nearest, gray = nearest, d, seeds[i, j, k, 4]
                elif d < next_one:
                    next_one = d
    return (next_one - nearest) / 2, gray


@nb.njit(cache=True, nogil=True)
def _organelle_depth(x, y, z, organelles):
    """Compute the depth of a place in a mitochondrion (nm, negative outside) and its position along the axis (nm)."""
    deepest, along = -1e6, 0.0
    for n in range(len(organelles)):
        o = organelles[n]
        dx, dy, dz = x - o[0], y - o[1], z - o[2]
        length = o[6] + o[7]
        if abs(dx) > length or abs(dy) > length or abs(dz) > length:
            continue
        t = dx * o[3] + dy * o[4] + dz * o[5]
        s = min(max(t, -o[6]), o[6])
        dx, dy, dz = dx - s * o[3], dy - s * o[4], dz - s * o[5]
        depth = o[7] - np.sqrt(dx * dx + dy * dy + dz * dz)
        if depth > deepest:
            deepest, along = depth, t
    return deepest, along


@nb.njit(cache=True, nogil=True)
def shade(own, owner, other, seeds, first, organelles, lower, pixel, column, row, normal, grain):
    """Shade each pixel; uint8, shape (rows, columns)."""
    rows, columns = own.shape
    gray = np.empty((rows, columns), np.uint8)
    place = np.empty(3)
    place[normal] = lower[normal]
    soft = max(MEMBRANE_NM, 0.55 * pixel)
    a_nm = STAINING_NM
    near = organelles[np.abs(organelles[:, normal] - lower[normal]) < organelles[:, 6] + organelles[:, 7]]
    for i in range(rows):
        place[row] = lower[row] + (i + 0.5) * pixel
        for j in range(columns):
            place[column] = lower[column] + (j + 0.5) * pixel
            x, y, z = place[0], place[1], place[2]
            d = own[i, j]
            if d < 0:
                depth = min(-d, (other[i, j] - d) / 2)
                tone = unit(hash3(owner[i, j], 0, 0, np.uint64(41)))
            else:
                depth, tone = _neuropil(x, y, z, seeds, first)
                depth = min(depth, d)
            slow = smooth_noise(x / 420, y / 420, z / 420, np.uint64(51))
            fine = smooth_noise(x / 42, y / 42, z / 42, np.uint64(52))
            value = 158 + 26 * tone + 7 * slow + (5 + 9 * max(slow, 0.0)) * fine
            if depth > 30:
                inner, along = _organelle_depth(x, y, z, near)
                inner = min(inner, depth - 30)
                if inner > 0:
                    rim = np.exp(-((inner / soft) ** 2))
                    value = 108 + 14 * np.sin(along / 9 + 2 * slow) + 6 * fine - 38 * rim
            value -= 112 * np.exp(-((depth / soft) ** 2))
            # staining and contrast vary in space, so that a grey value alone carries little information
            gain = 1.0 + STAINING_GAIN * smooth_noise(x / a_nm, y / a_nm, z / a_nm, np.uint64(71))
            shift = STAINING_SHIFT * smooth_noise(x / a_nm, y / a_nm, z / a_nm, np.uint64(72))
            value = 150.0 + gain * (value - 150.0) + shift
            a, b, c = int(np.floor(x / grain)), int(np.floor(y / grain)), int(np.floor(z / grain))
            h = hash3(a, b, c, np.uint64(61))
            value += 26 * (np.float64(h & np.uint64(0xFFFF)) + np.float64(h >> np.uint64(16)) - 65535) / 65536
            gray[i, j] = np.uint8(min(max(value, 0.0), 255.0))
    return gray
