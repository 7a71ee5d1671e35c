"""Scene files: what the views of a site show, in 3D, as binary glTF (``.glb``) that a browser or Blender opens.

A scene holds one node per part of the site, in drawing order, with the faces that the views draw. Vertices are nm
relative to the centre of the cube shown, axes x, y, z (``asset.extras`` gives the centre and the edge of the cube).
Faces at the border of the cube stay whole, and the viewer cuts them as the views do. Positions are quantised to
1/65,535 of the box of a part, normals to 8 bits (extension ``KHR_mesh_quantization``): 12 bytes a vertex.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point, Site
from connectomebench.rendering.clip import clip_mesh
from connectomebench.rendering.colours import RGB, ROLE_COLOURS, srgb_to_linear

NAME = "scene.glb"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_BYTE, _USHORT, _UINT = 5120, 5123, 5125
_QUANTISED = "KHR_mesh_quantization"
_FULL = 65_535


def site_scene(site: Site, meshes: Sequence[Mesh]) -> bytes:
    """Make the scene of a site.

    Parameters
    ----------
    site
        The site.
    meshes
        Mesh of each part, in the order of ``site.parts``, as :func:`connectomebench.rendering.views.render_site` draws
        them.

    Returns
    -------
    bytes
        A ``.glb`` file; the same input gives the same bytes. Nodes are named after the role of their part, and
        ``extras.segment_id`` holds the id as text.
    """
    names = [(part.role, str(part.segment_id)) for part in site.parts]
    colours = [ROLE_COLOURS[part.role] for part in site.parts]
    return write_scene(meshes, names, colours, site.location_nm, site.extent_nm)


def write_scene(
    meshes: Sequence[Mesh],
    names: Sequence[tuple[str, str]],
    colours: Sequence[RGB],
    center_nm: Point,
    extent_nm: float,
    text: str = "",
) -> bytes:
    """Write meshes as they show in a cube.

    Parameters
    ----------
    meshes
        Vertices in nm; clipped to the cube as the views clip them.
    names, colours
        Name, segment id as text, and sRGB colour of each mesh.
    center_nm, extent_nm
        Centre (x, y, z) and edge of the cube, nm.
    text
        What people read with it, in ``asset.extras.text``.

    Returns
    -------
    bytes
        A ``.glb`` file; see :func:`site_scene`.
    """
    chunk = _Chunk()
    nodes, drawn, materials = [], [], []
    for mesh, (name, segment), colour in zip(meshes, names, colours, strict=True):
        node: dict[str, Any] = {"name": name, "extras": {"segment_id": segment}}
        seen = clip_mesh(mesh, center_nm, extent_nm)
        if len(seen.faces):
            points = seen.points.astype(np.float64) * (extent_nm / 2)
            lower, step = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-6) / _FULL
            whole = np.round((points - lower) / step).astype(np.uint16)
            normals = np.round(seen.normals * 127).astype(np.int8)
            small = len(points) <= _FULL
            indices = seen.faces.ravel().astype(np.uint16 if small else np.uint32)
            primitive = {
                "attributes": {
                    "POSITION": chunk.add_vectors(
                        _padded(whole), _USHORT, corners=(whole.min(axis=0), whole.max(axis=0))
                    ),
                    "NORMAL": chunk.add_vectors(_padded(normals), _BYTE, normalized=True),
                },
                "indices": chunk.add_indices(indices, _USHORT if small else _UINT),
                "material": len(materials),
            }
            node |= {"mesh": len(drawn), "translation": lower.tolist(), "scale": step.tolist()}
            drawn.append({"name": name, "primitives": [primitive]})
            materials.append(_material(name, colour))
        nodes.append(node)
    content: dict[str, Any] = {
        "asset": {
            "version": "2.0",
            "generator": "connectomebench",
            "extras": {
                "unit": "nm",
                "center_nm": [float(c) for c in center_nm],
                "extent_nm": float(extent_nm),
                **({"text": text} if text else {}),
            },
        },
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
    }
    if drawn:
        content |= {
            "meshes": drawn,
            "materials": materials,
            "accessors": chunk.accessors,
            "bufferViews": chunk.views,
            "buffers": [{"byteLength": len(chunk.data)}],
            "extensionsUsed": [_QUANTISED],
            "extensionsRequired": [_QUANTISED],
        }
    return _container(content, bytes(chunk.data))


class _Chunk:
    """The binary part of a file, with the views and accessors that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_vectors(
        self,
        values: NDArray[Any],
        kind: int,
        *,
        normalized: bool = False,
        corners: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> int:
        """Add vectors of four numbers, of which the first three count; return the accessor."""
        view = self._view(values.tobytes(), {"byteStride": values.itemsize * 4, "target": 34962})
        accessor: dict[str, Any] = {"bufferView": view, "componentType": kind, "count": len(values), "type": "VEC3"}
        if normalized:
            accessor["normalized"] = True
        if corners is not None:
            accessor |= {"min": corners[0].tolist(), "max": corners[1].tolist()}
        return self._accessor(accessor)

    def add_indices(self, values: NDArray[Any], kind: int) -> int:
        """Add vertex numbers of faces; return the accessor."""
        view = self._view(values.tobytes(), {"target": 34963})
        return self._accessor({"bufferView": view, "componentType": kind, "count": len(values), "type": "SCALAR"})

    def _view(self, data: bytes, more: dict[str, int]) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **more})
        self.data += data
        self.data += b"\0" * (-len(self.data) % 4)
        return len(self.views) - 1

    def _accessor(self, accessor: dict[str, Any]) -> int:
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """Add a fourth column, since vertices must begin at multiples of four bytes."""
    return np.ascontiguousarray(np.pad(values, ((0, 0), (0, 1))))


def _material(name: str, colour: RGB) -> dict[str, Any]:
    linear = [round(float(c), 6) for c in srgb_to_linear(colour)]
    surface = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
    return {"name": name, "doubleSided": True, "pbrMetallicRoughness": surface}


def _container(content: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = [(_JSON, text), *([(_BIN, data)] if data else [])]
    length = 12 + sum(8 + len(body) for _, body in chunks)
    parts = [struct.pack("<III", _MAGIC, 2, length)]
    parts += [struct.pack("<II", len(body), kind) + body for kind, body in chunks]
    return b"".join(parts)


def read_cube(content: bytes) -> tuple[Point, float]:
    """Return the centre (x, y, z) and the edge of the cube that a scene shows, nm.

    Raises
    ------
    ValueError
        If it is no scene file.
    """
    extras = _extras(content)
    try:
        x, y, z = (float(c) for c in extras["center_nm"])
        return (x, y, z), float(extras["extent_nm"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("this is no scene file") from None


def read_text(content: bytes) -> str:
    """Return what people read with a scene; empty where there is nothing. Raises as :func:`read_cube`."""
    return str(_extras(content).get("text", ""))


def _extras(content: bytes) -> dict[str, Any]:
    try:
        magic, _, _, length, kind = struct.unpack_from("<IIIII", content)
        extras = dict(json.loads(content[20 : 20 + length])["asset"]["extras"])
    except (struct.error, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("this is no scene file") from None
    if magic != _MAGIC or kind != _JSON:
        raise ValueError("this is no scene file")
    return extras
