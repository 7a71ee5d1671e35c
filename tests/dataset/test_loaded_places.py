"""The record of loaded rows says where they are, so that a model is never used where it learnt."""

from __future__ import annotations

from dataclasses import replace

from stored_rows import png, row, site, source_info, write_dataset

from connectomebench.core.site import SecondPlace
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.schema import make_row, places_of


def test_the_record_holds_the_box_of_everything_shown(tmp_path):
    folder = write_dataset(tmp_path)
    source = load_rows(str(folder), "fly", "validation").data.source
    # rows 8 to 11 lie at x = 800 to 1100 nm, y = z = 5 nm, with views of 10 nm
    assert source["places_nm"] == [[795.0, 0.0, 0.0], [1105.0, 10.0, 10.0]]
    assert source["name"] == "cube"


def test_a_pair_shows_two_places_and_a_whole_segment_none(tmp_path):
    from datasets import Dataset

    from connectomebench.dataset.loading import _places_nm

    pair = row(3, "yes", "segment_identity")
    assert pair["second_place"] == [] and places_of(pair) == (((300.0, 5.0, 5.0), 10.0),)
    pair["second_place"] = [400.0, 5.0, 25.0, 4.0]
    assert places_of(pair) == (((300.0, 5.0, 5.0), 10.0), ((400.0, 5.0, 25.0), 4.0))
    two = replace(
        site(300.0, [7], task="segment_identity"), second=SecondPlace(7, (400.0, 5.0, 25.0), 4.0, (0.0, 0.0, 1.0))
    )
    stored = make_row(two, {view: png(1) for view in two.views}, "g", source_info())
    assert stored["second_place"] == pair["second_place"] and places_of(stored) == two.places
    assert places_of(row(3, "a", "segment_classification")) == ()
    columns = ("location_nm", "extent_nm", "second_place")
    rows = Dataset.from_list([{name: one[name] for name in columns} for one in (pair, row(3, "yes"))])
    assert _places_nm(rows) == [[295.0, 0.0, 0.0], [402.0, 10.0, 27.0]]
