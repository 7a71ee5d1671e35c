from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from public_files import HIGH, metadata

from connectomebench.dataset.public.metadata import MAX_CHARACTERS, read_metadata
from connectomebench.dataset.public.unmapped import Unmapped


def test_what_each_kind_of_sample_tells() -> None:
    edit = read_metadata(json.dumps(metadata(1, "merge_edit") | {"unknown": {"a": [None]}}))
    first = HIGH + 100
    assert edit.pair == (first, first + 1) and edit.neuron == first + 2 and edit.operation == "1340001"
    assert edit.center_nm == (585970.0, 713252.5, 839141.0) and edit.half_extent_nm == 7500.0
    assert edit.time == datetime(2024, 12, 2, 7, 40, 49)
    split = read_metadata(json.dumps(metadata(1, "split_edit")))
    assert split.single == (first + 2,) and split.neuron == first + 2
    synapse = read_metadata(json.dumps(metadata(1, "synapse_control")))
    assert synapse.pair == (first, first + 1) and synapse.neuron == first
    assert split.pieces == (first, first + 1) and split.newest == (first + 2,)
    cut = read_metadata(json.dumps({"timestamp": None, "cutout_timestamp": "2024-12-02T08:40:49+01:00"}))
    assert cut.time == datetime(2024, 12, 2, 7, 40, 49)
    pair = read_metadata(json.dumps({"root_ids": [5, 6]}))
    assert pair.pieces == (5, 6)
    junction = read_metadata(json.dumps(metadata(1, "junction_control")))
    assert junction.single == (first,) and junction.pair == ()
    bare = read_metadata(json.dumps({"interface_point_nm": [1, 2, 3]}))
    assert bare.center_nm == (1.0, 2.0, 3.0) and bare.neuron is bare.time is bare.half_extent_nm is None
    assert read_metadata(None).single == ()


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["12", "1e3", "²"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
_KEYS = ["latest_root_id", "before_root_ids", "render_center_nm", "view_extent_nm", "timestamp", "operation_id"]


@settings(deadline=None, max_examples=80)
@given(raw=st.dictionaries(st.sampled_from(_KEYS), _anything, min_size=1))
def test_any_value_is_in_range_or_refused(raw: dict[str, object]) -> None:
    try:
        known = read_metadata(json.dumps(raw))
    except Unmapped as reason:
        assert str(reason) in ("metadata are no JSON", "metadata hold a value of the wrong kind or out of range")
        return
    ids = [*known.ids.values(), *(i for ids in known.lists.values() for i in ids)]
    assert all(type(i) is int and 0 <= i < 2**64 for i in ids)
    assert len(known.center_nm) in (0, 3) and all(abs(c) <= 1e10 for c in known.center_nm)
    assert known.half_extent_nm is None or 0 < known.half_extent_nm <= 1e10
    assert known.operation is None or (0 < len(known.operation) <= 64 and known.operation.isprintable())
    assert known.time is None or 1970 <= known.time.year <= 2100


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 60_000, "no JSON"),
        ('{"a": NaN}', "no JSON"),
        ('{"latest_root_id": ' + "9" * 5000 + "}", "no JSON"),
        ("[]", "no JSON object"),
        ('"' + "x" * MAX_CHARACTERS + '"', "longer than"),
        (json.dumps({"latest_root_id": str(2**64)}), "wrong kind or out of range"),
        (json.dumps({"latest_root_id": True}), "wrong kind or out of range"),
        ('{"view_extent_nm": 1e400}', "wrong kind or out of range"),
        ('{"render_center_nm": [0, 0, -1e11]}', "wrong kind or out of range"),
        ('{"interface_point_nm": [0, 1e400, 0]}', "wrong kind or out of range"),
        (json.dumps({"before_root_ids": ["1"] * 1001}), "wrong kind or out of range"),
    ],
)
def test_refused(text: str, told: str) -> None:
    with pytest.raises(Unmapped, match=told):
        read_metadata(text)
