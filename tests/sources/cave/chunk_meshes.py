"""Level-2 nodes of a small ChunkedGraph, meshed and stored chunk by chunk as its server does, and served."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from scipy import ndimage

from connectomebench.core.geometry import Mesh

VOXEL_NM = 10.0
CHUNK = 16
OFFSET = (1024, 2048, 2600)
GRID_NM = 6  # of draco: level-2 chunks of 16 voxels of 10 nm get 5 bits and bins of 6 nm
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "hash": "murmurhash3_x86_128",
    "minishard_bits": 1,
    "shard_bits": 1,
    "minishard_index_encoding": "gzip",
    "data_encoding": "raw",
}
Chunk = tuple[int, int, int]


def node_id(chunk: Chunk, number: int) -> int:
    """The id layout of the recorded server: 8 bits layer, 10 bits each for x, y, z, then a counter."""
    x, y, z = chunk
    return 2 << 56 | x << 46 | y << 36 | z << 26 | number


@dataclass
class Node:
    chunk: Chunk
    mesh: Mesh
    voxels: np.ndarray  # bool, the whole volume


def level2_nodes(mask: np.ndarray) -> dict[int, Node]:
    """Mesh the pieces of an object in each chunk, with one more voxel on the far sides, as the server does."""
    import zmesh

    nodes = {}
    for index in np.ndindex(*(n // CHUNK for n in mask.shape)):
        low = np.multiply(index, CHUNK)
        crop = mask[tuple(slice(a, a + CHUNK + 1) for a in low)]
        pieces, count = ndimage.label(crop)
        mesher = zmesh.Mesher((VOXEL_NM,) * 3)
        mesher.mesh(np.asfortranarray(pieces.astype(np.uint32)), close=False)
        for number in range(1, count + 1):
            core = pieces[:CHUNK, :CHUNK, :CHUNK] == number
            made = mesher.get(number, reduction_factor=0, max_error=0)
            if not core.any() or not len(made.faces):
                continue
            voxels = np.zeros(mask.shape, bool)
            voxels[tuple(slice(a, a + CHUNK) for a in low)] = core
            vertices = made.vertices + (low + OFFSET) * VOXEL_NM
            chunk = (int(index[0]), int(index[1]), int(index[2]))
            nodes[node_id(chunk, number)] = Node(
                chunk, Mesh(vertices.astype(np.float32), made.faces.astype(np.int32)), voxels
            )
    return nodes


def draco(mesh: Mesh, chunk: Chunk) -> bytes:
    import DracoPy

    start = (np.multiply(chunk, CHUNK) + OFFSET) * VOXEL_NM
    return DracoPy.encode(
        mesh.vertices_nm,
        mesh.faces.astype(np.uint32),
        quantization_bits=5,
        compression_level=1,
        quantization_range=31 * GRID_NM,
        quantization_origin=start - start % GRID_NM,
        create_metadata=True,
    )


def file_name(node: int, chunk: Chunk) -> str:
    return f"{node}:0:" + "_".join(f"{c * CHUNK}-{(c + 1) * CHUNK}" for c in chunk)


def shard_files(blobs: dict[int, tuple[Chunk, bytes]]) -> dict[str, bytes]:
    """Files below ``initial/2``, made by cloud-volume."""
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

    spec = ShardingSpecification.from_dict(SHARDING)
    files = {}
    for chunk in {chunk for chunk, _ in blobs.values()}:
        position = chunk[0] << 20 | chunk[1] << 10 | chunk[2]
        made = spec.synthesize_shards({i: blob for i, (c, blob) in blobs.items() if c == chunk})
        files |= {f"{position}-{name}": content for name, content in made.items()}
    return files


@dataclass
class Served:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)  # answers to the first requests of a path
    requests: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"graphene://{self.url}/segmentation/table/tiny"

    def info(self, mesh: str | None = "meshes") -> dict:
        scale = {
            "chunk_sizes": [[CHUNK] * 3],
            "encoding": "raw",
            "key": "10_10_10",
            "resolution": [10, 10, 10],
            "size": [48, 32, 16],
            "voxel_offset": list(OFFSET),
        }
        return {
            "app": {"supported_api_versions": [0, 1]},
            "chunks_start_at_voxel_offset": True,
            "data_dir": f"{self.url}/data",
            "data_type": "uint64",
            "graph": {
                "chunk_size": [CHUNK] * 3,
                "cv_mip": 0,
                "n_bits_for_layer_id": 8,
                "n_layers": 4,
                "spatial_bit_masks": {"1": 10, "2": 10, "3": 1, "4": 1},
            },
            "mesh_metadata": {"uniform_draco_grid_size": GRID_NM, "unsharded_mesh_dir": "dynamic"},
            "num_channels": 1,
            "scales": [scale],
            "type": "segmentation",
        } | ({"mesh": mesh} if mesh else {})


@contextmanager
def serve() -> Iterator[Served]:
    """Serve files below ``/data`` (whole or a byte range), and the info."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.requests.append(self.path)
            forced = served.statuses.get(self.path)
            if forced:
                return self.answer(forced.pop(0), b"")
            content = served.files.get(self.path)
            if content is None:
                return self.answer(404, b"")
            asked = self.headers.get("Range")
            if asked is None:
                return self.answer(200, content)
            first, last = asked.removeprefix("bytes=").split("-")
            return self.answer(206, content[int(first) : int(last) + 1])

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    served.files["/segmentation/table/tiny/info"] = json.dumps(served.info()).encode()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
