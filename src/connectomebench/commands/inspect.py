"""``connectomebench inspect``."""

from __future__ import annotations

import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("inspect", help="say what a file or folder holds", description=_run.__doc__)
    parser.add_argument(
        "path",
        metavar="PATH",
        help="volume (file, folder or address; PATH:KEY for one array of a container), folder of SWC files or meshes, "
        "dataset, results or model",
    )
    parser.add_argument("other", nargs="?", metavar="PATH", help="a second segmentation of the same place (the truth)")
    parser.add_argument("--key", help="name of the array inside containers")
    parser.add_argument("--axes", help="order of the axes as stored, for example zyx")
    parser.add_argument("--voxel-size-nm", nargs=3, type=float, metavar=("X", "Y", "Z"), help="edge of a voxel, nm")
    parser.add_argument("--offset-vx", nargs=3, type=int, metavar=("X", "Y", "Z"), help="first voxel")
    parser.add_argument("--mip", type=int, default=0, help="resolution level of precomputed volumes (default: 0)")
    parser.add_argument(
        "--background", type=int, nargs="+", default=[0], metavar="LABEL", help="labels of the background (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Say what a file or folder is and holds, and which lines of a configuration read it; compare two segmentations."""
    from connectomebench.inspection import as_json, as_text, inspect_pair, inspect_path
    from connectomebench.sources.volumes.arrays import VolumeSpec

    size, offset = arguments.voxel_size_nm, arguments.offset_vx
    spec = VolumeSpec(
        arguments.path,
        arguments.key,
        arguments.axes,
        size and (size[0], size[1], size[2]),
        offset and (offset[0], offset[1], offset[2]),
        arguments.mip,
        background=tuple(arguments.background),
    )
    if arguments.other is None:
        findings = inspect_path(arguments.path, spec)
    else:
        findings = inspect_pair(arguments.path, arguments.other, spec)
    print((as_json if arguments.json else as_text)(findings))
