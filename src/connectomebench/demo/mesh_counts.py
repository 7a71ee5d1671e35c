"""Read the declared size of a mesh file and its references to other files, without parsing it.

Formats: Wavefront OBJ; PLY 1.0 (Turk 1994); STL (3D Systems 1989); binary glTF 2.0 (Khronos, ISO/IEC 12113).
"""

from __future__ import annotations

import codecs
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

SUFFIXES = ("obj", "ply", "stl", "glb")

_PLY_HEADER = 65_536
_PLY_ELEMENT = re.compile(rb"element\s+(\w+)\s+(\d{1,12})")
_JSON_BYTES = 2_000_000
_MOST_NODES = 1_000
# parts that rendering does not need; textures in a file would be decoded
_DRESS = ("materials", "textures", "images", "samplers", "animations", "skins", "cameras", "extensions")
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


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
    """Read the JSON chunk of a GLB file, count what its nodes draw, and drop the parts not needed for rendering."""
    magic, version, length, json_bytes, kind = struct.unpack_from("<4sIII4s", data)
    if magic != b"glTF" or version != 2 or kind != b"JSON" or length > len(data) or json_bytes > _JSON_BYTES:
        raise ValueError("no GLB file")
    tree = json.loads(data[20 : 20 + json_bytes])
    rest = data[20 + json_bytes : length]
    if any("uri" in buffer for buffer in tree.get("buffers", ())):
        return Counts(0, 0, b"", "keeps its numbers in another one")
    if named := tree.get("extensionsRequired"):
        return Counts(0, 0, b"", f"needs {', '.join(str(one)[:40] for one in named[:3])}")
    plain: dict[str, Any] = {name: value for name, value in tree.items() if name not in _DRESS}
    for name in ("extensionsUsed", "extensionsRequired"):
        plain.pop(name, None)
    faces, vertices = _count_nodes(plain, len(rest))
    text = json.dumps(plain).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return Counts(vertices, faces, header + text + rest)


def _count_nodes(tree: dict[str, Any], stored: int) -> tuple[int, int]:
    """Count faces and vertices over all nodes, each as often as it is drawn; ``stored`` bytes hold the numbers."""
    nodes, meshes, accessors = (tree.get(name, []) for name in ("nodes", "meshes", "accessors"))
    if len(nodes) > _MOST_NODES or len(meshes) > _MOST_NODES:
        raise ValueError("too many nodes")
    children = [child for node in nodes for child in node.get("children", ())]
    if len(set(children)) != len(children):
        raise ValueError("a node has several parents")
    for accessor in accessors:
        # one without a view is all zeros and takes no bytes, whatever count it declares
        if "bufferView" not in accessor or accessor["count"] > stored or accessor["count"] < 0:
            raise ValueError("it says that it holds more than it can")
        accessor.pop("sparse", None)
    sizes = []
    for mesh in meshes:
        faces = vertices = 0
        for primitive in mesh["primitives"]:
            primitive.pop("material", None)
            primitive.pop("extensions", None)
            corners = accessors[primitive["attributes"]["POSITION"]]["count"]
            indices = accessors[primitive["indices"]]["count"] if "indices" in primitive else corners
            mode = primitive.get("mode", _TRIANGLES)
            vertices += corners
            faces += {_TRIANGLES: indices // 3, _STRIP: indices, _FAN: indices}.get(mode, 0)
        sizes.append((faces, vertices))
    drawn = [sizes[node["mesh"]] for node in nodes if "mesh" in node]
    return sum(faces for faces, _ in drawn), sum(vertices for _, vertices in drawn)
