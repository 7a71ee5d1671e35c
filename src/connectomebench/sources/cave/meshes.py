"""Fetch the level-2 meshes of a ChunkedGraph server, join them and crop them to a view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.geometry import EMPTY_MESH, Box, Mesh
from connectomebench.sources.cave.cache import BlobCache
from connectomebench.sources.cave.cave_config import RequestConfig
from connectomebench.sources.cave.retries import with_retries

# cloud-files tries seven times by itself, so nothing is retried on top
_ONCE = RequestConfig(attempts=1)


def require_meshes(volume: Any) -> None:
    """Check that a volume has level-2 meshes.

    Parameters
    ----------
    volume
        A ``CloudVolume``.

    Raises
    ------
    ConnectomeBenchError
        If its path is no ``graphene://`` one, or its info names no meshes.
    """
    if not hasattr(volume.meta, "decode_layer_id"):  # only paths of a ChunkedGraph know layers
        raise ConnectomeBenchError(
            f"{volume.cloudpath} is no graphene:// path, so it has no level-2 meshes; set source.cave.meshes to voxels"
        )
    if not volume.info.get("mesh"):
        raise ConnectomeBenchError(
            f"{volume.cloudpath} does not state where its meshes are; set source.cave.meshes to voxels"
        )


def level2_meshes(
    volume: Any, level2_ids: Iterable[int], cache: BlobCache, key: str, login: str | None = None
) -> dict[int, Mesh]:
    """Fetch the meshes of level-2 nodes (parts of a segment inside one chunk), or read them from the cache.

    Only the files of the requested nodes are read: no manifest is requested, so the meshing service is not
    needed, only its files. In the sharded layout these are ``dynamic/{id}:0:{bounds}`` for nodes made by an edit, and
    else a byte range of a file under ``initial/2``; in the unsharded one ``{id}:0:{bounds}``. cloud-volume knows the
    names and reads the shards (``GrapheneShardedMeshSource.get_meshes_on_bypass``, all nodes in one call). Its
    ``mesh.get`` takes a level-2 id too, but asks for one after the other, so unsharded files are read with one call of
    cloud-files. Vertices stay as they are stored, in nm from the origin of the dataset.

    Failed requests are tried again by cloud-files and nowhere else: any exception, seven times in all, with random
    waits that grow from 0.5 s (up to half a minute in total). It takes 404 and, from an http(s) address, 403 at once
    for a file that is not there; a bucket that lets nobody in thus looks like one without meshes.

    Run against a local server in both layouts; no public server has been asked.

    Parameters
    ----------
    volume
        A ``graphene://`` ``CloudVolume``. It is not safe for several threads: give each its own.
    level2_ids
        Ids of layer 2.
    cache
        Cache of meshes. A level-2 node never changes, so its id is the key; that a node has no mesh is not kept,
        since servers mesh new nodes some time after an edit.
    key
        Stands for the path of the volume.
    login
        Server that hands out tokens, for messages; that of the graph where left out.

    Returns
    -------
    dict of int to Mesh
        By id, ascending; ids without a mesh are absent (very small nodes are not meshed).

    Raises
    ------
    ConnectomeBenchError
        If the server has no meshes, or refuses the token (401).
    SiteUnavailable
        If files cannot be read after all tries, or are damaged.
    ValueError
        If an id is not one of layer 2.
    """
    ids = sorted({int(i) for i in level2_ids})
    wrong = [i for i in ids if int(volume.meta.decode_layer_id(i)) != 2]
    if wrong:
        raise ValueError(f"{wrong[0]} is not the id of a level-2 node")
    require_meshes(volume)
    names = {i: content_key("level-2 mesh 1", key, i) for i in ids}
    found: dict[int, Mesh] = {}
    for i in ids:
        stored = cache.get(names[i])
        if stored is not None:
            found[i] = Mesh(stored["vertices"], stored["faces"])
    missing = [i for i in ids if i not in found]
    if missing:
        read = _read_sharded if volume.mesh.meta.is_sharded() else _read_unsharded
        server = login or volume.meta.base_path.rstrip("/")
        for i, mesh in with_retries(
            f"meshes of {volume.cloudpath}", lambda: read(volume, missing), _ONCE, server
        ).items():
            cache.put(names[i], vertices=mesh.vertices_nm, faces=mesh.faces)
            found[i] = mesh
    return {i: found[i] for i in ids if i in found}


def _read_sharded(volume: Any, ids: Sequence[int]) -> dict[int, Mesh]:
    meshes = volume.mesh.get_meshes_on_bypass(ids, allow_missing=True)
    return {int(i): _mesh(mesh) for i, mesh in meshes.items()}


def _read_unsharded(volume: Any, ids: Sequence[int]) -> dict[int, Mesh]:
    from cloudfiles import CloudFiles
    from cloudvolume import Mesh as StoredMesh

    names = {volume.mesh.compute_filename(i): i for i in ids}
    folder = volume.meta.join(volume.meta.cloudpath, volume.mesh.path)
    files: Any = CloudFiles(folder, progress=False, secrets=volume.config.secrets).get(list(names), return_dict=True)
    found = {}
    for name, content in files.items():
        if content is not None:
            decode = StoredMesh.from_draco if content.startswith(b"DRACO") else StoredMesh.from_precomputed
            found[names[name]] = _mesh(decode(content))
    return found


def _mesh(stored: Any) -> Mesh:
    return Mesh(
        np.ascontiguousarray(stored.vertices, np.float32).reshape(-1, 3),
        np.ascontiguousarray(stored.faces, np.int32).reshape(-1, 3),
    )


def join_meshes(meshes: Iterable[Mesh]) -> Mesh:
    """Join meshes into one and merge equal vertices, so that seams between chunks close.

    A ChunkedGraph server rounds vertices to one grid for all chunks (README of ``pychunkedgraph/meshing``), so those
    on a border are equal in both chunks to the last bit. CloudVolume merges pairs of equal vertices on chunk borders
    alone; here all equal vertices are merged, which needs no knowledge of the chunks and joins two surfaces only where
    they meet in a point.

    Parameters
    ----------
    meshes
        Vertices in nm.

    Returns
    -------
    Mesh
        Faces in the order given, without those that have two equal corners; vertices that no face uses are dropped.
    """
    parts = [mesh for mesh in meshes if not mesh.is_empty]
    if not parts:
        return EMPTY_MESH
    vertices = np.concatenate([mesh.vertices_nm for mesh in parts])
    starts = np.cumsum([0] + [len(mesh.vertices_nm) for mesh in parts[:-1]])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(parts, starts, strict=True)])
    order = np.lexsort(vertices.T)
    new = np.ones(len(order), np.bool_)
    new[1:] = (vertices[order[1:]] != vertices[order[:-1]]).any(axis=1)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    faces = number[faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return compact(vertices[order[new]], faces[whole])


def compact(vertices_nm: NDArray[np.float32], faces: NDArray[np.integer]) -> Mesh:
    """Make a mesh of the faces and only the vertices they use, in order; ``vertices_nm`` has shape (n, 3), nm."""
    used = np.zeros(len(vertices_nm), np.bool_)
    used[faces] = True
    number = np.cumsum(used) - 1
    return Mesh(vertices_nm[used], number[faces].astype(np.int32).reshape(-1, 3))


def segment_mesh(meshes: Iterable[Mesh], box_nm: Box) -> Mesh:
    """Join the fragments of a segment and keep the faces that may be visible in a box.

    Parameters
    ----------
    meshes
        Fragments, nm.
    box_nm
        The box shown.

    Returns
    -------
    Mesh
        The faces whose bounding box touches the box, and as a margin those that share a vertex with them: so the smooth
        normals inside the box are those of the whole mesh. Faces stay whole. Empty where nothing touches the box.
    """
    # far faces are dropped before the join, which sorts all vertices
    parts = [(mesh, _touching(mesh, box_nm)) for mesh in meshes]
    ends = [mesh.vertices_nm[mesh.faces[touching].ravel()] for mesh, touching in parts if touching.any()]
    if not ends:
        return EMPTY_MESH
    lower, upper = np.min([e.min(axis=0) for e in ends], axis=0), np.max([e.max(axis=0) for e in ends], axis=0)
    close = []
    for mesh, _ in parts:
        inside = ((mesh.vertices_nm >= lower) & (mesh.vertices_nm <= upper)).all(axis=1)
        close.append(compact(mesh.vertices_nm, mesh.faces[inside[mesh.faces].any(axis=1)]))
    mesh = join_meshes(close)
    near = np.zeros(len(mesh.vertices_nm), np.bool_)
    near[mesh.faces[_touching(mesh, box_nm)]] = True
    return compact(mesh.vertices_nm, mesh.faces[near[mesh.faces].any(axis=1)])


def _touching(mesh: Mesh, box_nm: Box) -> NDArray[np.bool_]:
    """Return which faces have a bounding box that touches the box; bool, shape (n_faces,)."""
    found = np.ones(len(mesh.faces), np.bool_)
    for axis, (lower, upper) in enumerate(zip(box_nm.lower_nm, box_nm.upper_nm, strict=True)):
        values = mesh.vertices_nm[:, axis].astype(np.float64)[mesh.faces]
        found &= (values.max(axis=1) >= lower) & (values.min(axis=1) <= upper)
    return found
