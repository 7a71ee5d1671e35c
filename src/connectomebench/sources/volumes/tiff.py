"""Read a TIFF file with many pages as an array, page by page where it is compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.volumes.placement import NOTHING, UNNAMED, Placement, length_nm
from connectomebench.sources.volumes.read_errors import reading
from connectomebench.sources.volumes.slices import PageStack
from connectomebench.sources.volumes.tiff_checks import check_whole, quiet


def open_tiff(path: Path, name: str) -> tuple[Any, Placement]:
    """Open a TIFF file.

    Parameters
    ----------
    path
        The file.
    name
        Name of the volume in messages.

    Returns
    -------
    array-like
        With shape, dtype and slicing; axes page, row, column, and others as the file has them.
    Placement
        What ImageJ's or OME's description says.

    Raises
    ------
    ConnectomeBenchError
        If the file is cut, or its pages are not one stack.
    """
    import tifffile

    with quiet():
        file = tifffile.TiffFile(path)
        check_whole(file, name, path)
        series = _full_size(file)
    stack = _pages_of_one_stack(series, name, path)
    file.filehandle.set_lock(True)  # blocks are read from several threads
    if stack is not None:
        first = stack[0]

        def load(i: int) -> Any:
            with reading(name, path, f"page {i}"):
                return stack[i].asarray().reshape(first.shape[-2:])

        return PageStack(len(stack), first.shape[-2:], first.dtype, load), NOTHING
    only = series[0]
    placement = _placement(file, only)
    if len(only.pages) == 1:  # a single page holds all data: contiguous (ImageJ, tifffile) or a single slice
        array = only.asarray()
        return (array[None], NOTHING) if array.ndim == 2 else (array, placement)
    if len(only.shape) != 3 or only.shape[0] != len(only.pages):
        return only.asarray(), placement
    pages: Any = only.pages

    def load_page(i: int) -> Any:
        with reading(name, path, f"page {i}"):
            return pages[i].asarray()

    return PageStack(len(pages), only.shape[1:], only.dtype, load_page), placement


def _full_size(file: Any) -> list[Any]:
    """Return the series without previews, masks and smaller levels of a pyramid."""
    every = list(file.series)
    kept = [s for s in every if not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    return kept or every


def _pages_of_one_stack(series: list[Any], name: str, path: Path) -> list[Any] | None:
    """Return the pages of a file that was written one page at a time; None where the file is one series."""
    if len(series) == 1:
        return None
    alike = {(s.keyframe.shape[-2:], str(s.dtype)) for s in series}
    if all(len(s.pages) == 1 and int(_pages_in(s)) == 1 for s in series) and len(alike) == 1:
        return [s.pages[0] for s in series]
    shapes = ", ".join(str(tuple(s.shape)) for s in series[:3]) + (" ..." if len(series) > 3 else "")
    raise ConnectomeBenchError(
        f"{name}: {path} holds {sum(len(s.pages) for s in series)} pages in {len(series)} series that are not one "
        f"stack ({shapes}); save the one that is meant as a file of its own"
    )


def _pages_in(series: Any) -> int:
    """Count the pages in a series, also in one that is stored as a single block."""
    rows, columns = series.keyframe.shape[:2] if series.keyframe.ndim > 1 else (1, 1)
    return series.size // max(rows * columns * series.keyframe.samplesperpixel, 1)


def _placement(file: Any, series: Any) -> Placement:
    """Read voxel sizes from ImageJ's or OME's description, where they have a unit of length."""
    names = tuple(str(a).lower() for a in series.axes)
    sizes = _imagej_sizes(file) if file.is_imagej else _ome_sizes(file) if file.is_ome else None
    # names of axes are tifffile's guesses, and a stack is often called a time series: only the channel is certain
    known = tuple("c" if n in "sc" else f"{UNNAMED}{i}" for i, n in enumerate(names))
    if sizes is None:
        return Placement(names=known) if "c" in known else NOTHING
    in_order = tuple(sizes.get(n, float("nan")) for n in names)
    return Placement(
        known if "c" in known else None, in_order, None, (1.0,) * len(names), "the description in the TIFF file"
    )


def _imagej_sizes(file: Any) -> dict[str, float] | None:
    metadata = file.imagej_metadata or {}
    unit = length_nm(metadata.get("unit"))
    if unit is None:
        return None
    sizes = {}
    if isinstance(metadata.get("spacing"), int | float):
        sizes["z"] = float(metadata["spacing"]) * unit
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        ratio = file.pages[0].tags.get(tag)
        if ratio is not None and min(ratio.value) > 0:
            sizes[axis] = ratio.value[1] / ratio.value[0] * unit
    return sizes


def _ome_sizes(file: Any) -> dict[str, float] | None:
    import tifffile

    try:
        image: Any = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        sizes = {}
        for axis in "xyz":
            value = pixels.get(f"PhysicalSize{axis.upper()}")
            unit = length_nm(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
            if value is not None and unit is not None:
                sizes[axis] = float(value) * unit
        return sizes or None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
