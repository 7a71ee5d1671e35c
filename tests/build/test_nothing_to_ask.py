"""A volume without an end or a branch point: every task is left out with one line, and nothing is half-written."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from connectomebench.cli import main


def test_rods_from_face_to_face_leave_every_task_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.zeros((120, 64, 56), np.uint64)
    for body, y in enumerate((8, 26, 44), 1):
        labels[:, y : y + 12, 20:32] = body
    np.savez(tmp_path / "rods.npz", labels=labels)
    place = {
        "path": "rods.npz",
        "key": "labels",
        "axes": "xyz",
        "voxel_size_nm": [10, 10, 10],
        "offset_vx": [0, 0, 0],
    }
    tasks = ["merge_action", "endpoint_error_identification", "merge_error_identification", "split_action"]
    config = {
        "species": "fly",
        "source": {
            "volumes": {
                "name": "rods",
                "version": "1",
                "license": "cc0-1.0",
                "citation": "None.",
                "automatic": place,
                "proofread": place,
                "corrections": {"min_core_voxels": 200},
                "border_nm": 30,
            }
        },
        "tasks": tasks,
        "sites": {"extent_nm": [400, 400], "min_segment_voxels": 200},
        "candidates": {"radius_nm": 200, "merge_radius_nm": 200, "min_distance_nm": 60},
    }
    (tmp_path / "rods.yaml").write_text(yaml.safe_dump(config))
    caplog.set_level(logging.INFO, "connectomebench")
    assert main(["build", "--config", str(tmp_path / "rods.yaml"), "--out", str(tmp_path / "out")]) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.splitlines()[-1].startswith("connectomebench: ")
    left_out = [line.split(" is left out: ")[0] for line in caplog.messages if " is left out: " in line]
    assert left_out == tasks
    assert sum("kind interface are left out: the source has no supervoxels" in line for line in caplog.messages) == 1
    assert not [path for path in (tmp_path / "out").rglob("*.parquet") if ".cache" not in path.parts]
