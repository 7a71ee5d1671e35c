"""Read image channels from untrusted npz bytes: sizes are checked before inflating, nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.npy_header import npy_header
from connectomebench.dataset.public.unmapped import Unmapped

ENTRY = "arr_0.npy"
VIEWS = 3
# silhouette, depth, normal x y z; a pair also has the masks of its two segments
CHANNELS = (5, 7)

MAX_PACKED_BYTES = 16_000_000
MAX_ENTRIES = 4
# three views of seven channels, 512 px, in double precision are 44 MB
MAX_BYTES = 48_000_000
# deflate compresses at most 1032:1, so a higher ratio is forged (an empty image comes near it)
MAX_RATIO = 1040
_EDGE_PX = (16, 1024)


def read_channels(data: bytes) -> NDArray[np.float32]:
    """Read the image channels of one sample of ConnectomeBench2.

    Parameters
    ----------
    data
        An npz file with one array ``arr_0``, written by ``numpy.savez_compressed``.

    Returns
    -------
    float32, shape (view 3, channel 5 or 7, row, column)
        Views front, side, top. Channels: silhouette 0 or 1, depth 0 to 1, surface normal x, y, z, and mask A, mask B.

    Raises
    ------
    Unmapped
        If it is no such file, or larger than it may be. Sizes are those that the archive announces; zipfile hands out
        no byte beyond them.
    """
    if len(data) > MAX_PACKED_BYTES:
        raise Unmapped(f"geometry is larger than {MAX_PACKED_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_sizes(archive)
            with archive.open(ENTRY) as stream:
                _check_header(stream, archive.getinfo(ENTRY).file_size)
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            channels = stored[ENTRY.removesuffix(".npy")]
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise Unmapped("geometry is no readable npz file") from error
    if not np.isfinite(channels).all():
        raise Unmapped("geometry holds numbers that are not finite")
    with np.errstate(over="ignore"):
        return channels.astype(np.float32)


def _check_sizes(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise Unmapped(f"geometry has more than {MAX_ENTRIES} entries")
    names = [entry.filename for entry in entries]
    if names != [ENTRY]:
        raise Unmapped(f"geometry does not hold the one array {ENTRY.removesuffix('.npy')}")
    entry = entries[0]
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unmapped("geometry is packed in an unusual way")
    if entry.file_size > MAX_BYTES:
        raise Unmapped(f"geometry would unpack to more than {MAX_BYTES} bytes")
    if entry.file_size > MAX_RATIO * max(1, entry.compress_size):
        raise Unmapped(f"geometry announces a packing of more than {MAX_RATIO}:1")


def _check_header(stream: Any, size: int) -> None:
    """Check the header of the array, because numpy allocates its announced size before it reads."""
    shape, dtype, announced = npy_header(stream)
    if dtype.kind not in "fiub":
        raise Unmapped("geometry holds no numbers")
    if len(shape) != 4 or shape[0] != VIEWS or shape[1] not in CHANNELS or shape[2] != shape[3]:
        raise Unmapped("geometry does not have the shape of three views of channels")
    if not _EDGE_PX[0] <= shape[2] <= _EDGE_PX[1]:
        raise Unmapped("geometry has views of an unusual size")
    if announced != size:
        raise Unmapped("geometry is not as large as its shape says")
