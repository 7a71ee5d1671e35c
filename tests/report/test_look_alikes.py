"""The closest look-alike pictures are shown with their distance."""

from __future__ import annotations

import base64
from pathlib import Path

from stored_rows import partition_rows, write_dataset

from connectomebench.dataset.leak_words import LookAlike
from connectomebench.report.look_alikes import show_closest


def test_the_two_pictures_are_those_of_the_pair(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path) / "fly"
    rows = partition_rows()
    first, second = rows["train"][3], rows["test"][1]
    pair = LookAlike(f"{first['sample_id']}/side", f"{second['sample_id']}/front", "train", "test", 3, 0.9912)
    shown = show_closest(folder, [pair])
    assert shown is not None and shown.distance == "hashes 3 of 64 bits apart, thumbnails correlated by 0.991"
    contents = [base64.b64decode(picture.split(",", 1)[1]) for picture in shown.pictures]
    assert contents == [first["images"][1]["bytes"], second["images"][0]["bytes"]]
    assert show_closest(folder, []) is None
    missing = LookAlike("gone/side", f"{second['sample_id']}/front", "train", "test", 3, 0.9912)
    assert show_closest(folder, [missing]) is None
