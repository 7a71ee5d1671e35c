"""Lay out the FIB-25 cube that examples/fib25.yaml and examples/fib25_family.yaml read, from its public files.

The four files, with their arrays (axes z, y, x; 250 voxels of 10 nm each way):

    grayscale_maps.h5, array raw       image data, of google/ffn (third_party/neuroproof_examples/training_sample2; the
                                       bucket gs://ffn-flyem-fib25 that its README names holds it unpacked)
    groundtruth.h5, array stack        proofread segmentation, of the same folder
    oversegmented_stack_labels.h5,     watershed, of janelia-flyem/neuroproof_examples (training_sample2, unpacked)
      array stack
    sample-training2.npz,              flood-filling networks, of google/ffn (results/fib25)
      array segmentation

Data: FlyEM, HHMI Janelia (Creative Commons attribution); Januszewski et al. (Apache-2.0). Get the repositories yourself
with git, put the four files into one folder, and run

    python examples/lay_out_fib25.py FOLDER

It writes the file at the path that examples/fib25.yaml names, or where --out says. Files that end in .gz are unpacked.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.sources.volumes.containers import open_array

# name in the cube -> file, array in it, dtype in the cube
PARTS = {
    "gray": ("grayscale_maps.h5", "raw", np.uint8),
    "gt": ("groundtruth.h5", "stack", np.uint32),
    "ws": ("oversegmented_stack_labels.h5", "stack", np.uint32),
    "ffn": ("sample-training2.npz", "segmentation", np.uint8),
}
CONFIG = Path(__file__).with_name("fib25.yaml")
# voxels of a watershed piece that lie in its largest body; far lower where the axes of one file are swapped
LEAST_PURITY = 0.9


def lay_out(folder: Path, out: Path) -> None:
    """Write the cube.

    Parameters
    ----------
    folder
        Holds the four files.
    out
        Compressed npz file to write.

    Raises
    ------
    ConnectomeBenchError
        If a file is missing or damaged, or they do not show the same place.
    """
    arrays = {name: read(folder, *part) for name, part in PARTS.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        told = ", ".join(f"{PARTS[name][0]} {array.shape}" for name, array in arrays.items())
        raise ConnectomeBenchError(f"the files differ in shape ({told}); take all of training_sample2")
    for name in ("ws", "ffn"):
        share = purity(arrays[name], arrays["gt"])
        if name == "ws" and share < LEAST_PURITY:
            raise ConnectomeBenchError(
                f"only {share:.0%} of the voxels of {PARTS[name][0]} lie in the main body of their piece; the axes of "
                "one file are swapped, or the files are of different places"
            )
        print(f"{PARTS[name][0]}: {share:.1%} of its voxels lie in the main body of their object")
    with atomic_path(out) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    print(f"{out} written; see examples/fib25.yaml")


def read(folder: Path, file: str, key: str, dtype: Any) -> NDArray[Any]:
    """Read one array, which has to fit the dtype of the cube."""
    path, packed = folder / file, folder / f"{file}.gz"
    with tempfile.TemporaryDirectory() as unpacked:
        if not path.exists():
            if not packed.exists():
                raise ConnectomeBenchError(f"there is no {file} in {folder}; see the head of {Path(__file__).name}")
            path = Path(unpacked) / file
            with gzip.open(packed) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        try:
            array = np.asarray(open_array(path, key, file).array[:])
        except (OSError, ValueError) as error:
            raise ConnectomeBenchError(f"{file} cannot be read ({error}); get it again") from None
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.min() < 0 or array.max() > np.iinfo(dtype).max:
        raise ConnectomeBenchError(f"{file}, {key}: {array.dtype} of shape {array.shape} is not what is expected here")
    return array.astype(dtype)


def purity(labels: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the share of labelled voxels that lie in the body with most voxels of their object."""
    inside = (labels != 0) & (truth != 0)
    _, pieces = np.unique(labels[inside], return_inverse=True)
    bodies, owner = np.unique(truth[inside], return_inverse=True)
    pairs, counts = np.unique(pieces.astype(np.int64) * len(bodies) + owner, return_counts=True)
    largest = np.zeros(int(pieces.max(initial=-1)) + 1, np.int64)
    np.maximum.at(largest, pairs // max(len(bodies), 1), counts)
    return float(largest.sum() / max(counts.sum(), 1))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the four files")
    parser.add_argument("--out", type=Path, help="file to write (default: the path in examples/fib25.yaml)")
    arguments = parser.parse_args()
    named = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["source"]["volumes"]["automatic"]["path"]
    lay_out(arguments.folder, arguments.out or (CONFIG.parent / named).resolve())


if __name__ == "__main__":
    try:
        main()
    except ConnectomeBenchError as problem:
        sys.exit(f"error: {problem}")
