"""Meshes of strangers: every format comes out the same, and nothing that a file says makes us follow or swell."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.mesh_counts import SUFFIXES
from connectomebench.demo.mesh_files import MOST_FACES, read_mesh

BALL = trimesh.creation.icosphere(subdivisions=2, radius=120.0)


def exported(kind: str, mesh: Any = BALL, **options: Any) -> bytes:
    data = mesh.export(file_type=kind, **options)
    return data.encode() if isinstance(data, str) else data


def glb(tree: dict[str, Any], rest: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest


def tree_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size]), data[20 + size :]


def refused(data: bytes, words: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        read_mesh(data)
    assert "\n" not in str(caught.value) and "/" not in str(caught.value)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_every_format_comes_out_the_same(kind: str) -> None:
    mesh = read_mesh(exported(kind), unit_nm=(8.0, 8.0, 8.0))
    assert mesh.vertices_nm.dtype == np.float32 and mesh.faces.dtype == np.int32
    got = trimesh.Trimesh(mesh.vertices_nm, mesh.faces, process=True, merge_norm=True)
    assert got.area == pytest.approx(BALL.area * 64, rel=1e-4)
    assert got.volume == pytest.approx(BALL.volume * 512, rel=1e-4)
    assert len(mesh.faces) == len(BALL.faces)


def test_units_may_be_the_edges_of_a_voxel() -> None:
    mesh = read_mesh(exported("ply", trimesh.creation.box((10.0, 20.0, 30.0))), unit_nm=(4.0, 8.0, 40.0))
    assert np.ptp(mesh.vertices_nm, axis=0).tolist() == [40.0, 160.0, 1200.0]


@pytest.mark.parametrize(("kind", "options"), [("ply", {"encoding": "ascii"}), ("stl_ascii", {})])
def test_written_formats(kind: str, options: dict[str, Any]) -> None:
    mesh = read_mesh(exported(kind, **options))
    assert len(mesh.faces) == len(BALL.faces)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", "utf-16"], ids=["UTF-8", "UTF-16"])
@pytest.mark.parametrize(("kind", "options"), [("obj", {}), ("ply", {"encoding": "ascii"}), ("stl_ascii", {})])
def test_text_with_a_byte_order_mark_is_read(kind: str, options: dict[str, Any], mark: bytes | str) -> None:
    data = exported(kind, **options)
    data = mark + data if isinstance(mark, bytes) else data.decode().encode(mark)
    assert len(read_mesh(data).faces) == len(BALL.faces)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_vertex_that_no_face_uses_does_not_matter(value: float) -> None:
    corners = np.asarray([[0, 0, 0], [value] * 3, [9, 0, 0], [0, 9, 0], [value] * 3], np.float32)
    header = "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in corners)
    mesh = read_mesh((header + rows + "3 0 2 3\n").encode())
    assert mesh.vertices_nm.tolist() == [[0, 0, 0], [9, 0, 0], [0, 9, 0]] and mesh.faces.tolist() == [[0, 1, 2]]
    refused((header + rows + "3 0 1 3\n").encode(), "no numbers, or far too large")


@pytest.mark.parametrize("kind", SUFFIXES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_in_one_sentence(kind: str, data: st.DataObject) -> None:
    whole = bytearray(exported(kind, trimesh.creation.box()))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        mesh = read_mesh(cut)
    except ConnectomeBenchError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(mesh.vertices_nm).all() and mesh.faces.max() < len(mesh.vertices_nm)


@pytest.mark.parametrize("kind", SUFFIXES)
@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=300))
def test_rubbish_is_refused(kind: str, content: bytes) -> None:
    start = {"glb": b"glTF\x02\x00\x00\x00", "ply": b"ply\n", "stl": b"solid\nfacet", "obj": b"v 1 2 3\nf "}[kind]
    refused(start + content, "file|mesh")


def test_what_is_too_large_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimesh, "load_scene", lambda *_, **__: pytest.fail("was parsed"))
    many = MOST_FACES + 1
    refused(b"x" * 20_000_001, "20 MB; at most 20")
    # a count in a header that its bytes cannot hold, and one that they can
    refused(b"ply\nformat ascii 1.0\nelement vertex 3\nelement face 999999999\nend_header\n", "no whole PLY")
    refused(b"\0" * 80 + struct.pack("<I", 2_000_000_000), "no whole STL")
    refused(b"v 1 2 3\n" + b"f 1 1 1\n" * many, f"has {many} faces")
    refused(b"v 1 2 3\n" + b"f" + b" 1" * (many + 2) + b"\n", f"has {many} faces")
    tree, rest = tree_of(exported("glb"))
    for accessor in tree["accessors"]:
        del accessor["bufferView"]
        accessor["count"] = 4_000_000_000
    refused(glb(tree, rest), "no whole GLB")
    # one small mesh, drawn very often
    tree, rest = tree_of(exported("glb", trimesh.creation.icosphere(subdivisions=4)))
    drawing = next(number for number, node in enumerate(tree["nodes"]) if "mesh" in node)
    tree["nodes"] += [dict(tree["nodes"][drawing]) for _ in range(900)]
    refused(glb(tree, rest), "at most 500000")
    tree["nodes"] += [{"children": [1]}, {"children": [1]}]
    refused(glb(tree, rest), "no whole GLB")
    refused(glb({"x": "y" * 2_000_001}), "no whole GLB")


def test_nothing_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.5)
        asked: list[Any] = []

        def listen() -> None:
            try:
                asked.append(server.accept())
            except OSError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.bin"
        opened: list[str] = []
        real = open
        monkeypatch.setattr("builtins.open", lambda path, *a, **k: (opened.append(str(path)), real(path, *a, **k))[1])
        for uri in (address, "file:///etc/passwd", "../../etc/passwd"):
            tree, rest = tree_of(exported("glb"))
            tree["buffers"][0]["uri"] = uri
            refused(glb(tree, rest), "keeps its numbers in another one")
            tree, rest = tree_of(exported("glb"))
            tree["images"] = [{"uri": uri}]
            tree["textures"] = [{"source": 0}]
            assert len(read_mesh(glb(tree, rest)).faces) == len(BALL.faces)
            material = f"mtllib {uri}\nusemtl a\ncall {uri}\n".encode()
            assert len(read_mesh(material + exported("obj")).faces) == len(BALL.faces)
        thread.join()
    assert not asked
    assert not [path for path in opened if "passwd" in path]
    tree, rest = tree_of(exported("glb"))
    refused(glb({**tree, "extensionsRequired": ["KHR_draco_mesh_compression"]}, rest), "needs KHR_draco")
    texture = exported("ply").replace(b"ply\n", b"ply\ncomment TextureFile ../a.png\n", 1)
    refused(texture, "names a texture")


def test_what_is_no_surface_is_told() -> None:
    refused(b"v 1 2 3\nv 2 3 4\n", "no faces")
    refused(b"v 1 2 3\nv 1 2 3\nv 1 2 3\nf 1 2 3\n", "one point")
    refused(b"v nan 2 3\nv 1 2 3\nv 1 5 3\nf 1 2 3\n", "no numbers")
    refused(b"v 1e30 2 3\nv 1 2 3\nv 1 5 3\nf 1 2 3\n", "far too large")

    with pytest.raises(ConnectomeBenchError, match="above 0"):
        read_mesh(exported("stl"), unit_nm=(1.0, float("nan"), 1.0))
    refused(b"", "no faces")
    refused(b"MZ this is a program", "no faces")
