"""All results together, as text and as plain values."""

from __future__ import annotations

import json

import pytest

from connectomebench.economics.analysis import Analysis, as_dict, as_text, costs
from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.cost import RESULTS, SCENARIOS


def test_plain_values_are_the_results(analysis: Analysis) -> None:
    found = json.loads(json.dumps(as_dict(analysis), allow_nan=False))
    assert [(s["name"], s["n"], s["simulated"]) for s in found["samples"]] == [
        ("mouse n=40", 40, True),
        ("mouse n=100", 100, True),
        ("fly n=120", 120, True),
    ]
    assert {c["statistic"] for c in found["checks"]} == {"mean", "total", "tail_share"}
    assert {(c["small"], c["large"]) for c in found["checks"]} == {("mouse n=40", "mouse n=100")}
    assert {c["sample"] for c in found["costs"]} == {t.name for t in analysis.totals}
    one = next(c for c in found["costs"] if (c["sample"], c["scenario"]) == ("fly n=120", "stated"))
    expected = costs(analysis)["fly n=120"]["stated"]
    assert {q: one[q]["value"] for q in RESULTS} == {q: e.value for q, e in expected.items()}
    published = next(c for c in found["costs"] if c["sample"] == "mouse (published)")
    assert published["total_usd"]["lower"] is None and published["edits"]["value"] == pytest.approx(951_000)


def test_text_names_everything(analysis: Analysis) -> None:
    text = as_text(analysis)
    for name in (*(s.title for s in SCENARIOS), *(t.name for t in analysis.totals), *Assumptions.__dataclass_fields__):
        assert name in text
    assert text.count("SIMULATED ") == 3
    assert "mouse n=40 against mouse n=100: mean" in text and "599.3 h" in text
    mean = analysis.populations["fly"][0].estimates["mean"]
    assert f"{mean.value:,.1f} [{mean.lower:,.1f} to {mean.upper:,.1f}]" in " ".join(text.split())
