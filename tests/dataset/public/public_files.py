"""Small Parquet files with the columns of the public datasets, as their authors' code writes them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

REPO = "jeffbbrown2/ConnectomeBench2"
# an id that needs all 64 bits
HIGH = 2**63 + 2**40
MERGE_KINDS = {"merge_edit": True, "adjacent_control": False, "synapse_control": False}
ERROR_KINDS = {"split_edit": False, "junction_control": True}
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def channels(pair: bool, number: int, candidate_px: int = 6, px: int = 32) -> NDArray[np.float16]:
    """Three views of a bar (mask A), and beside it a second one (mask B) ``candidate_px`` wide; (3, 7, px, px)."""
    rng = np.random.default_rng(number)
    views = np.zeros((3, 7, px, px), np.float16)
    left = px // 4 + int(rng.integers(0, px // 8))
    views[:, 5, 4:-4, left : left + px // 6] = 1
    if pair:
        views[:, 6, 6:-6, left + px // 6 : left + px // 6 + candidate_px] = 1
    views[:, 0] = np.maximum(views[:, 5], views[:, 6])
    views[:, 1] = views[:, 0] * np.float16(0.5)
    normal = rng.normal(size=(3, 3, px, px))
    views[:, 2:5] = views[:, :1] * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return views


def npz(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, array)
    return stream.getvalue()


def png(seed: int, px: int = 224) -> bytes:
    stream = io.BytesIO()
    colour = tuple(int(c) for c in np.random.default_rng(seed).integers(0, 255, 3))
    Image.new("RGB", (px, px), colour).save(stream, "PNG")
    return stream.getvalue()


def parts(view: NDArray[np.float16]) -> bytes:
    """The two masks of a view in two colours on black."""
    picture = np.zeros((*view.shape[1:], 3), np.uint8)
    picture[view[5] > 0.5] = (0, 255, 0)
    picture[view[6] > 0.5] = (0, 0, 255)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def metadata(number: int, kind: str) -> dict[str, Any]:
    """The keys that rows of each kind have, as seen on the dataset's page and in its users' code."""
    known: dict[str, Any] = {
        "cutout_timestamp": None,
        "interface_point_nm": [586292.0, 712884.0, 839200.0 + number],
        "render_center_nm": [585970.0, 713252.5, 839140.0 + number],
        "species": "mouse",
        "strategy": kind,
        "timestamp": 1733125249.0,
        "view_extent_nm": 7500.0,
        "image_types": ["geometry"],
    }
    ids = [str(HIGH + 100 * number + i) for i in range(3)]
    if kind in ("merge_edit", "split_edit"):
        before, after = (ids[:2], ids[2:]) if kind == "merge_edit" else (ids[2:], ids[:2])
        roots = {"before_root_ids": before, "after_root_ids": after, "latest_root_id": ids[2]}
        if kind == "split_edit":
            roots["cutout_timestamp"] = 1733125248.9
        return known | roots | {"operation_id": str(1_340_000 + number), "base_root": None, "adjacent_root": None}
    if kind == "synapse_control":
        return known | {"pre_pt_root_id": int(ids[0]), "post_pt_root_id": int(ids[1]), "operation_id": None}
    if kind == "junction_control":
        return known | {"base_root": ids[0], "source_operation_id": "77"}
    return known | {"base_root": ids[0], "adjacent_root": ids[1], "root_ids": ids[:2]}


def row(number: int, kind: str, split: str, species: str = "mouse", release: int = 1) -> dict[str, Any]:
    """A row of the first or the second release; in those of split edits the dual geometry gives the answer away."""
    same = (MERGE_KINDS | ERROR_KINDS)[kind]
    merge = kind in MERGE_KINDS
    routes = ["false_split_correction" if merge else "false_merge_identification"]
    wide = 8 if same else 3
    dual = channels(True, number, wide)
    single = channels(False, number)
    if kind == "split_edit":  # something to learn: a merged segment has an arm
        single[:, 0, 10:14, :] = 1
        single[:, 0] = np.maximum(single[:, 0], dual[:, 0])
    common = {
        "combined_sample_hash": hashlib.md5(f"{species}{split}{kind}{number}".encode()).hexdigest(),
        "source_archive_sample_hash": f"{number:012x}",
        "source_archive": f"unified_{species}",
        "sample_type": kind,
        "same_neuron": same,
        "task_routing": routes + (["split_mask_generation"] if kind == "split_edit" else []),
        "split": split,
        "species": species,
        "has_em": True,
        "present_slots": ["geometry"],
        "metadata": json.dumps(metadata(number, kind)),
    }
    if release == 2:
        return common | {
            "false_split_correction_label": float(same) if merge else None,
            "false_merge_identification_label": None if merge else float(not same),
            "geometry": npz(dual if merge else single),
            "has_after_mask": kind == "split_edit",
            # the pieces of the true split, which may be read as the answer alone
            **{
                f"split_mask_{view}": {"bytes": parts(dual[i]), "path": None} if kind == "split_edit" else None
                for i, view in enumerate(("front", "side", "top"))
            },
            **{f"em_{plane}_before": {"bytes": png(number), "path": None} for plane in ("xy", "xz", "yz", "best")},
        }
    # all controls have slices, and two edits in five
    slices = not kind.endswith("_edit") or number % 5 < 2
    common["has_em"] = slices
    return common | {
        # both labels stand in every row of the first release: the routing alone tells which one counts
        "false_split_correction_label": same,
        "false_merge_identification_label": not same,
        "has_single_mask": True,
        "has_dual_mask": True,
        "geometry": npz(dual),
        "geometry_single": npz(single),
        **{
            f"em_{plane}": {"bytes": png(number), "path": None} if slices else None
            for plane in ("xy", "xz", "yz", "best")
        },
    }


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with groups of 10 and the image features in the schema, as the authors do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    images = [name for name in table.column_names if name.startswith(("em_", "split_mask_"))]
    fields = [pa.field(f.name, _IMAGE) if f.name in images else f for f in table.schema]
    about = json.dumps({"info": {"features": {name: {"_type": "Image"} for name in images}}})
    schema = pa.schema(fields, metadata={"huggingface": about})
    pq.write_table(table.cast(schema), path, row_group_size=10, write_page_index=True)


def write_second(folder: Path, release: int) -> Path:
    """ConnectomeBench2 with two shards of `train`, its extract without pictures, and a file with examples."""
    kinds = [*MERGE_KINDS, *ERROR_KINDS, "merge_edit"]
    train = [row(n, kinds[n % 6], "train", release=release) for n in range(72)]
    train += [row(n, "merge_edit", "train", "fly", release) for n in range(4)]
    write(folder / "train" / "train-00000.parquet", train[:38])
    write(folder / "train" / "train-00001.parquet", train[38:])
    val = [row(500 + n, kinds[n % 6], "val", release=release) for n in range(12)]
    write(folder / "val" / "val-00000.parquet", val)
    test = [row(1000 + n, kinds[n % 6], "test", release=release) for n in range(60)]
    write(folder / "test" / "test-00000.parquet", test)
    small = [{k: v for k, v in r.items() if k not in ("metadata", "geometry", "geometry_single")} for r in test]
    write(folder / "metadata" / "test.parquet", small)
    write(folder / "demo.parquet", train[:3])
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    return folder


CARD = """---
license: mit
configs:
- config_name: MICrONS, Merge Error Identification
  data_files:
  - split: train
    path: data/merge-*.parquet
- config_name: MICrONS, Split Error Correction
  data_files:
  - split: train
    path: data/split.parquet
- config_name: MICrONS, Segment Classification
  data_dir: data
  data_files: class.parquet
- config_name: FlyWire, Segment Classification
  data_files: ../../secret.parquet
- config_name: mouse, merge errors
  data_files:
  - split: train
    path: mouse.jsonl
---
# ConnectomeBench
"""


def options(number: int, count: int, end: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in range(1, count + 1):
        found[f"option_{option}_neuron_id"] = str(HIGH + 10 * number + option)
        for i, view in enumerate(("front", "side", "top")):
            image = {"bytes": png(100 * number + 10 * option + i, 96), "path": "/etc/passwd"}
            found[f"option_{option}_{view}_{end}"] = image
    return found


def write_first(folder: Path) -> Path:
    """ConnectomeBench: a config of each of its tasks, one of whose files lies in two parts."""

    def asked(number: int, end: str) -> dict[str, Any]:
        truth = str(HIGH + 10 * number + 1 + number % 2)
        about = {"operation_id": str(number), "species": "mouse", "coords": [1, 2, 3], "ground_truth": truth}
        return about | options(number, 2, end) | {"one_valid_option": True}

    merges = [asked(n, "image") | {"base_neuron_id": str(HIGH + 10 * n)} for n in range(4)]
    merges[3]["one_valid_option"] = False
    merges[2]["option_2_side_image"] = {"bytes": b"\xff\xd8\xff jpeg" * 9, "path": None}
    write(folder / "data" / "merge-0.parquet", merges[:2])
    write(folder / "data" / "merge-1.parquet", merges[2:])
    write(folder / "data" / "split.parquet", [asked(n, "path") for n in range(10, 13)])
    described = ["a single soma and process(es)", "None of the above.", "Unsure", "a ghost"]
    classes = [
        {"proofread_root_id": n, "species": "mouse", "class_description": d} | options(20 + n, 1, "path")
        for n, d in enumerate(described)
    ]
    write(folder / "data" / "class.parquet", classes)
    (folder / "README.md").write_text(CARD)
    return folder
