"""Meshes of strangers: every format comes out the same, and nothing that a file says makes us follow or swell."""

from __future__ import annotations

import json
import resource
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
from connectomebench.demo.mesh_counts import SUFFIXES, count_glb
from connectomebench.demo.mesh_files import MOST_FACES, read_mesh, read_meshes_apart

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
    scene = tree["scenes"][tree["scene"]]
    scene["nodes"] += range(len(tree["nodes"]), len(tree["nodes"]) + 900)
    tree["nodes"] += [dict(tree["nodes"][drawing]) for _ in range(900)]
    refused(glb(tree, rest), "at most 500000")
    del tree["scenes"], tree["scene"]
    refused(glb(tree, rest), "at most 500000")
    tree, rest = tree_of(exported("glb"))
    tree["scenes"][tree["scene"]]["nodes"] += [len(tree["nodes"]), len(tree["nodes"]) + 1]
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


def sphere_tree() -> tuple[dict[str, Any], bytes]:
    return tree_of(exported("glb", trimesh.creation.icosphere(subdivisions=4)))


def drawn_tree(data: bytes) -> dict[str, Any]:
    return tree_of(count_glb(data).data)[0]


def test_positions_and_faces_alone_are_parsed() -> None:
    tree, rest = sphere_tree()
    primitive = tree["meshes"][0]["primitives"][0]
    position = primitive["attributes"]["POSITION"]
    # each would be an array of its own
    primitive["attributes"] |= {f"_A{number}": position for number in range(5000)}
    primitive["targets"] = [{"POSITION": position}] * 100
    # nothing draws these
    tree["meshes"] += [{"primitives": [{"attributes": {"POSITION": position}}] * 50} for _ in range(20)]
    tree["nodes"] += [{"mesh": 3}]
    lost = len(tree["accessors"])
    tree["accessors"].append({"bufferView": 0, "componentType": 5126, "count": 1, "type": "MAT4", "sparse": {}})
    kept = drawn_tree(glb(tree, rest))
    assert len(kept["meshes"]) == 1 and len(kept["accessors"]) == 2 and lost >= 2
    assert kept["meshes"][0]["primitives"] == [{"mode": 4, "attributes": {"POSITION": 0}, "indices": 1}]
    mesh = read_mesh(glb(tree, rest))
    assert len(mesh.faces) == 20 * 4**4


def test_counts_are_those_of_the_parser() -> None:
    tree, rest = sphere_tree()
    drawing = next(number for number, node in enumerate(tree["nodes"]) if "mesh" in node)
    tree["nodes"].append({"mesh": tree["nodes"][drawing]["mesh"], "translation": [1000.0, 0.0, 0.0]})
    tree["scenes"][tree["scene"]]["nodes"].append(len(tree["nodes"]) - 1)
    data = glb(tree, rest)
    counts, mesh = count_glb(data), read_mesh(data)
    assert (counts.vertices, counts.faces) == (len(mesh.vertices_nm), len(mesh.faces)) == (2 * 2562, 2 * 5120)
    assert np.ptp(mesh.vertices_nm, axis=0)[0] == pytest.approx(1000 + 2, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"accessors": {"count": 10_000_000}},
        {"accessors": {"count": -1}},
        {"accessors": {"count": True}},
        {"accessors": {"byteOffset": 10**9}},
        {"accessors": {"type": "MAT4"}},
        {"bufferViews": {"byteLength": 10**9}},
        {"bufferViews": {"byteOffset": 10**9}},
        {"bufferViews": {"byteStride": 0}},
        {"bufferViews": {"buffer": 1}},
    ],
)
def test_numbers_that_are_not_in_the_file_are_refused(change: dict[str, dict[str, Any]]) -> None:
    tree, rest = sphere_tree()
    for name, values in change.items():
        for entry in tree[name]:
            entry.update(values)
    refused(glb(tree, rest), "no whole GLB")


def test_a_process_reads_the_same_and_refuses_in_the_same_words() -> None:
    data = exported("ply")
    here = read_mesh(data, (8.0, 8.0, 40.0))
    apart, other = read_meshes_apart([data, exported("stl")], (8.0, 8.0, 40.0))
    assert len(other.faces) == len(BALL.faces)
    assert np.array_equal(here.vertices_nm, apart.vertices_nm) and np.array_equal(here.faces, apart.faces)
    assert apart.vertices_nm.flags.writeable
    with pytest.raises(ConnectomeBenchError, match=r"^the file is no whole PLY file; export it again$"):
        read_meshes_apart([data, b"ply\n<b>rubbish</b>"])


def test_the_attack_that_took_14_gb_takes_no_more_than_its_positions() -> None:
    points = np.zeros((1_400_000, 3), "<f4")
    points[:3] = np.eye(3)
    attributes = {"POSITION": 0, **{f"_A{number}": 0 for number in range(5000)}}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3"},
            {"bufferView": 0, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": points.nbytes}],
        "buffers": [{"byteLength": points.nbytes}],
    }
    numbers = b"\0\0\0\0" + struct.pack("<II", 1, 2) + points.tobytes()[12:]
    data = glb(tree, struct.pack("<I4s", len(numbers), b"BIN\0") + numbers)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert [len(mesh.faces) for mesh in read_meshes_apart([data])] == [1]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 1_000_000)  # kB
