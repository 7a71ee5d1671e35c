"""Read the declared size of a mesh file and its references to other files, without parsing it.

Formats: Wavefront OBJ; PLY 1.0 (Turk 1994); STL (3D Systems 1989); binary glTF 2.0 (Khronos, ISO/IEC 12113).
"""

from __future__ import annotations

import codecs
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SUFFIXES = ("obj", "ply", "stl", "glb")

_PLY_HEADER = 65_536
_PLY_ELEMENT = re.compile(rb"element\s+(\w+)\s+(\d{1,12})")
_JSON_BYTES = 2_000_000
_MOST_NODES = 1_000
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_FLOAT = 5126
_CHUNK_HEADER = 8
# bytes of each kind of number
_COMPONENTS = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, _FLOAT: 4}
# where a node is, and of how many numbers that is made
_PLACES = {"matrix": 16, "translation": 3, "rotation": 4, "scale": 3}


@dataclass(frozen=True)
class Counts:
    """Facts about a file before it is parsed.

    Attributes
    ----------
    vertices, faces
        Upper bounds; polygons count as the triangles they make.
    data
        Bytes to parse: the file without the parts that rendering does not need.
    refers
        Why the file is rejected, worded to follow "the file"; empty if it is accepted.
    """

    vertices: int
    faces: int
    data: bytes
    refers: str = ""


def without_mark(data: bytes) -> bytes:
    """Drop the byte order mark that some editors put before a text file, and turn UTF-16 text into UTF-8."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            return data
        # a binary file may begin with these bytes by chance
        return text.encode() if text[:80].isascii() else data
    return data


def kind_of(data: bytes) -> str:
    """Detect the mesh format from the first bytes; text without a signature counts as OBJ.

    Returns
    -------
    str
        One of `SUFFIXES`.
    """
    if data[:4] == b"glTF":
        return "glb"
    if data[:3] == b"ply" and data[3:4] in (b"\n", b"\r"):
        return "ply"
    if _is_written_stl(data) or b"\0" in data[:_PLY_HEADER]:
        return "stl"
    return "obj"


def _is_written_stl(data: bytes) -> bool:
    return data[:5] == b"solid" and b"facet" in data[:_PLY_HEADER]


def count_obj(data: bytes) -> Counts:
    """Count an OBJ file and keep only vertices and faces: nothing else is rendered or may be followed."""
    kept, vertices, faces = [], 0, 0
    for line in data.replace(b"\\\n", b" ").replace(b"\\\r\n", b" ").splitlines():
        word = line.split(maxsplit=1)[:1]
        if word == [b"v"]:
            vertices += 1
        elif word == [b"f"]:
            faces += max(len(line.split()) - 3, 1)
        else:
            continue
        kept.append(line)
    return Counts(vertices, faces, b"\n".join(kept) + b"\n")


def count_ply(data: bytes) -> Counts:
    """Read the counts in the header of a PLY file."""
    if not data.startswith(b"ply"):
        raise ValueError("no PLY file")
    end = data.index(b"end_header", 0, _PLY_HEADER)
    header = data[:end]
    found = {name: int(number) for name, number in _PLY_ELEMENT.findall(header)}
    if sum(found.values()) > len(data):  # every element takes a byte at least
        raise ValueError("it says that it holds more than it can")
    faces = found.get(b"face", 0)
    if b"TextureFile" in header:
        return Counts(found.get(b"vertex", 0), faces, data, "names a texture")
    return Counts(found.get(b"vertex", 0), faces, data)


def count_stl(data: bytes) -> Counts:
    """Read the count of a binary STL file, or count the facets of a text one."""
    if _is_written_stl(data):
        faces = data.count(b"endfacet")
    else:
        (faces,) = struct.unpack_from("<I", data, 80)
        if len(data) < 84 + 50 * faces:
            raise ValueError("it is cut off")
    return Counts(3 * faces, faces, data)


def count_glb(data: bytes) -> Counts:
    """Read the JSON chunk of a GLB file, count what its nodes draw, and keep the positions and faces of that alone."""
    magic, version, length, json_bytes, kind = struct.unpack_from("<4sIII4s", data)
    if magic != b"glTF" or version != 2 or kind != b"JSON" or length > len(data) or json_bytes > _JSON_BYTES:
        raise ValueError("no GLB file")
    tree = json.loads(data[20 : 20 + json_bytes])
    rest = _binary_chunk(data[20 + json_bytes : length])
    if any("uri" in buffer for buffer in tree.get("buffers", ())):
        return Counts(0, 0, b"", "keeps its numbers in another one")
    if named := tree.get("extensionsRequired"):
        return Counts(0, 0, b"", f"needs {', '.join(str(one)[:40] for one in named[:3])}")
    drawn = _drawn_alone(tree, max(len(rest) - _CHUNK_HEADER, 0))
    text = json.dumps(drawn.tree).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return Counts(drawn.vertices, drawn.faces, header + text + rest)


def _binary_chunk(data: bytes) -> bytes:
    """Return the chunk of numbers with its header, which stands first; other chunks are of extensions."""
    if not data:
        return b""
    size, kind = struct.unpack_from("<I4s", data)
    if kind != b"BIN\0" or size > len(data) - _CHUNK_HEADER:
        raise ValueError("it is cut off")
    return data[: _CHUNK_HEADER + size]


@dataclass(frozen=True)
class _Drawn:
    """What the nodes of a glTF tree draw: a tree of positions and faces alone, and how many there are."""

    tree: dict[str, Any]
    vertices: int
    faces: int


def _drawn_alone(tree: dict[str, Any], stored: int) -> _Drawn:
    """Build a tree of the drawn nodes, their meshes, and the positions and faces of these; ``stored`` bytes hold them.

    Nothing else of a file comes into it, so that a parser has nothing else to read. Counts are over all drawn nodes: a
    mesh that several nodes draw counts for each.
    """
    nodes = _reachable(tree)
    views = _Renumbered(tree.get("bufferViews", []), lambda view: _plain_view(view, stored))
    accessors = _Renumbered(tree.get("accessors", []), lambda one: _plain_accessor(one, views))
    sizes: dict[int, tuple[int, int]] = {}

    def plain_mesh(mesh: dict[str, Any]) -> dict[str, Any]:
        primitives = [_plain_primitive(one, accessors) for one in mesh["primitives"]]
        return {"primitives": [one for one in primitives if one is not None]}

    meshes = _Renumbered(tree.get("meshes", []), plain_mesh)
    kept = [_plain_node(node, meshes) for node in nodes]
    for number, mesh in enumerate(meshes.kept):
        vertices = faces = 0
        for primitive in mesh["primitives"]:
            corners = accessors.kept[primitive["attributes"]["POSITION"]]["count"]
            indices = accessors.kept[primitive["indices"]]["count"] if "indices" in primitive else corners
            vertices += corners
            faces += indices // 3 if primitive["mode"] == _TRIANGLES else indices
        sizes[number] = vertices, faces
    drawn = [sizes[node["mesh"]] for node in kept if "mesh" in node]
    children = {child for node in kept for child in node.get("children", ())}
    plain = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [number for number in range(len(kept)) if number not in children]}],
        "nodes": kept,
        "meshes": meshes.kept,
        "accessors": accessors.kept,
        "bufferViews": views.kept,
        "buffers": [{"byteLength": stored}],
    }
    return _Drawn(plain, sum(vertices for vertices, _ in drawn), sum(faces for _, faces in drawn))


class _Renumbered:
    """Entries of a list that something refers to, made plain when they are first asked for; ``kept`` in new order."""

    def __init__(self, entries: Any, plain: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        if not isinstance(entries, list):
            raise ValueError("no list")
        self.kept: list[dict[str, Any]] = []
        self._entries, self._plain = entries, plain
        self._numbers: dict[int, int] = {}

    def number(self, old: Any) -> int:
        """Return the new number of an entry."""
        at = _whole(old, len(self._entries) - 1)
        if at not in self._numbers:
            made = self._plain(self._entries[at])
            self._numbers[at] = len(self.kept)
            self.kept.append(made)
        return self._numbers[at]


def _reachable(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of the scene that is shown, with ``children`` as numbers in this list.

    A file without scenes shows all nodes.
    """
    nodes = tree.get("nodes", [])
    if len(nodes) > _MOST_NODES:
        raise ValueError("too many nodes")
    scenes = tree.get("scenes")
    if scenes:
        roots = scenes[_whole(tree.get("scene", 0), len(scenes) - 1)].get("nodes", [])
    else:
        inner = {child for node in nodes for child in node.get("children", ())}
        roots = [number for number in range(len(nodes)) if number not in inner]
    order: dict[int, int] = {}
    waiting = [_whole(root, len(nodes) - 1) for root in roots]
    while waiting:
        at = waiting.pop()
        if at in order:
            raise ValueError("a node has several parents")
        order[at] = len(order)
        waiting += [_whole(child, len(nodes) - 1) for child in nodes[at].get("children", ())]
    return [{**nodes[at], "children": [order[child] for child in nodes[at].get("children", ())]} for at in order]


def _plain_node(node: dict[str, Any], meshes: _Renumbered) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: [float(value) for value in node[name]] for name, n in _PLACES.items() if len(node.get(name, ())) == n
    }
    if node["children"]:
        kept["children"] = node["children"]
    if "mesh" in node:
        kept["mesh"] = meshes.number(node["mesh"])
    return kept


def _plain_primitive(primitive: dict[str, Any], accessors: _Renumbered) -> dict[str, Any] | None:
    """Return the positions and faces of a primitive; None if it is not made of triangles."""
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in (_TRIANGLES, _STRIP, _FAN):
        return None
    kept: dict[str, Any] = {
        "mode": mode,
        "attributes": {"POSITION": accessors.number(primitive["attributes"]["POSITION"])},
    }
    position = accessors.kept[kept["attributes"]["POSITION"]]
    if (position["type"], position["componentType"]) != ("VEC3", _FLOAT):
        raise ValueError("positions are three floats")
    if "indices" in primitive:
        kept["indices"] = accessors.number(primitive["indices"])
        if accessors.kept[kept["indices"]]["type"] != "SCALAR":
            raise ValueError("indices are numbers")
    return kept


def _plain_accessor(accessor: dict[str, Any], views: _Renumbered) -> dict[str, Any]:
    """Return an accessor whose numbers all lie in its view; one without a view is all zeros and takes no bytes."""
    kind, component = accessor["type"], accessor["componentType"]
    size = {"SCALAR": 1, "VEC3": 3}[kind] * _COMPONENTS[component]
    view = views.number(accessor["bufferView"])
    length, step = views.kept[view]["byteLength"], views.kept[view].get("byteStride", size)
    offset, count = _whole(accessor.get("byteOffset", 0), length), _whole(accessor["count"], length)
    if step < size or (count and offset + (count - 1) * step + size > length):
        raise ValueError("it says that it holds more than it can")
    return {"bufferView": view, "byteOffset": offset, "componentType": component, "count": count, "type": kind}


def _plain_view(view: dict[str, Any], stored: int) -> dict[str, Any]:
    offset, length = _whole(view.get("byteOffset", 0), stored), _whole(view["byteLength"], stored)
    if _whole(view["buffer"], 0) != 0 or offset + length > stored:
        raise ValueError("a view of bytes that are not there")
    kept = {"buffer": 0, "byteOffset": offset, "byteLength": length}
    if "byteStride" in view:
        kept["byteStride"] = _whole(view["byteStride"], 252)
    return kept


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("no number from 0 to its largest")
    return value
