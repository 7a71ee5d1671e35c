"""The record of loaded rows says where they are, so that a model is never used where it learnt."""

from __future__ import annotations

from stored_rows import write_dataset

from connectomebench.dataset.loading import load_rows


def test_the_record_holds_the_box_of_everything_shown(tmp_path):
    folder = write_dataset(tmp_path)
    source = load_rows(str(folder), "fly", "validation").data.source
    # rows 8 to 11 lie at x = 800 to 1100 nm, y = z = 5 nm, with views of 10 nm
    assert source["places_nm"] == [[795.0, 0.0, 0.0], [1105.0, 10.0, 10.0]]
    assert source["name"] == "cube"
