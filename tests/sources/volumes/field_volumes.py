"""The toy volume of the field reports, and how to write it into every container."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import tifffile
import zarr
from cloudvolume import CloudVolume
from PIL import Image

from connectomebench.sources.volumes.arrays import VolumeSpec

NM = (10.0, 10.0, 10.0)
ORIGIN = (0, 0, 0)
SHAPE = (120, 64, 56)


def toy() -> tuple[np.ndarray, np.ndarray]:
    """Segments and bodies, axes x, y, z: one merge (segments 1 and 2) and one split (bodies 12 and 13 in segment 3)."""
    bodies, segments = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint32)
    bodies[4:116, 8:24, 8:24] = 11
    segments[4:60, 8:24, 8:24], segments[60:116, 8:24, 8:24] = 1, 2
    bodies[4:116, 32:44, 8:24], bodies[4:116, 44:56, 8:24] = 12, 13
    segments[4:116, 32:56, 8:24] = 3
    bodies[4:116, 8:24, 32:48], segments[4:116, 8:24, 32:48] = 14, 4
    return segments, bodies


def spec(path: Path, axes: str | None = "zyx", key: str | None = None, **more) -> VolumeSpec:
    return VolumeSpec(str(path), key, axes, NM, ORIGIN, **more)


def write(container: str, folder: Path, xyz: np.ndarray) -> VolumeSpec:
    """Write labels (axes x, y, z) into a container with several chunks, where it has chunks."""
    zyx = np.ascontiguousarray(xyz.T)
    folder.mkdir(parents=True, exist_ok=True)
    if container == "npy":
        np.save(folder / "a.npy", zyx)
        return spec(folder / "a.npy")
    if container == "npz":
        np.savez_compressed(folder / "a.npz", labels=zyx)
        return spec(folder / "a.npz")
    if container == "h5":
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("labels", data=zyx, chunks=(28, 32, 60), compression="gzip")
        return spec(folder / "a.h5")
    if container == "zarr":
        zarr.create_array(folder / "a.zarr", data=zyx, chunks=(28, 32, 60))
        return spec(folder / "a.zarr")
    if container == "zarr-gzip":
        zarr.create_array(folder / "g.zarr", data=zyx, chunks=(28, 32, 60), compressors=zarr.codecs.GzipCodec())
        return spec(folder / "g.zarr")
    if container == "zarr-raw":
        zarr.create_array(folder / "r.zarr", data=zyx, chunks=(28, 32, 60), compressors=None)
        return spec(folder / "r.zarr")
    if container == "zarr-shards":
        zarr.create_array(folder / "s.zarr", data=zyx, chunks=(14, 16, 30), shards=(28, 32, 60))
        return spec(folder / "s.zarr")
    if container in ("tif", "tif-lzw"):
        tifffile.imwrite(
            folder / "a.tif", zyx, photometric="minisblack", compression={"tif": "zlib", "tif-lzw": "lzw"}[container]
        )
        return spec(folder / "a.tif")
    if container == "tif-pages":
        with tifffile.TiffWriter(folder / "p.tif") as file:
            for page in zyx:
                file.write(page, compression="zlib")
        return spec(folder / "p.tif")
    if container in ("tif-folder", "tif-lzw-folder", "png-folder"):
        made = folder / "slices"
        made.mkdir()
        for i, page in enumerate(zyx):
            if container == "png-folder":
                Image.fromarray(page.astype(np.uint16)).save(made / f"s{i:04d}.png")
            else:
                method = "lzw" if "lzw" in container else "zlib"
                tifffile.imwrite(made / f"s{i:04d}.tif", page, photometric="minisblack", compression=method)
        return spec(made)
    if container == "ckl":
        import crackle

        (folder / "a.ckl").write_bytes(crackle.compress(np.asfortranarray(xyz)))
        return spec(folder / "a.ckl", "xyz")
    return precomputed(
        folder / "pre", xyz, *{"precomputed": ("raw", "gzip"), "cseg": _CSEG, "cseg-bare": _BARE}[container]
    )


_CSEG = ("compressed_segmentation", "gzip")
_BARE = ("compressed_segmentation", False)
CONTAINERS = (
    "npy",
    "npz",
    "h5",
    "zarr",
    "zarr-gzip",
    "zarr-raw",
    "zarr-shards",
    "tif",
    "tif-lzw",
    "tif-pages",
    "tif-folder",
    "tif-lzw-folder",
    "png-folder",
    "ckl",
    "precomputed",
    "cseg",
    "cseg-bare",
)


def precomputed(folder: Path, xyz: np.ndarray, encoding: str = "raw", compress: str | bool = "gzip") -> VolumeSpec:
    info = CloudVolume.create_new_info(
        1, "segmentation", str(xyz.dtype), encoding, list(NM), list(ORIGIN), xyz.shape, chunk_size=(60, 32, 28)
    )
    cloud = CloudVolume(f"file://{folder}", info=info, compress=compress, progress=False)
    cloud.commit_info()
    cloud[:, :, :] = np.asfortranarray(xyz)
    return VolumeSpec(str(folder))
