"""The published draft's numbers, and what does not follow from them: each stated number beside the recomputed one.

What the draft states is transcribed here; what stands beside it is computed by :mod:`connectomebench.economics.cost`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from connectomebench.economics.assumptions import Assumptions
from connectomebench.economics.cost import SCENARIOS, Totals, cost

POPULATIONS = {"mouse": 2314, "fly": 139_255}
"""Proofread neurons in the tables of minnie65_public and flywire_fafb_public."""
_EDITS_ONLY = next(s for s in SCENARIOS if s.name == "edits_only")


@dataclass(frozen=True)
class PublishedSample:
    """One row of the draft's table; None where it states nothing.

    Attributes
    ----------
    species, n
        Of the sample.
    mean, sd, median
        Edits a neuron.
    merge_share
        Of edits.
    threshold, tail_neurons, tail_share
        Of the heavy tail: edits, neurons above, their share of edits.
    total
        Extrapolated edits.
    """

    species: str
    n: int
    mean: float
    sd: float | None
    median: float
    merge_share: float
    threshold: float | None
    tail_neurons: int
    tail_share: float
    total: int

    @property
    def name(self) -> str:
        """Species and size."""
        return f"{self.species} n={self.n:,}"


SAMPLES = (
    PublishedSample("mouse", 100, 421.8, 266.1, 354, 0.471, 964, 4, 0.106, 975_929),
    PublishedSample("mouse", 500, 411.1, 288.0, 335, 0.463, 971, 24, 0.141, 951_000),
    PublishedSample("fly", 100, 17.84, 32.4, 8, 0.719, 60, 5, 0.376, 2_484_309),
    PublishedSample("fly", 500, 19.02, None, 8, 0.739, None, 25, 0.364, 2_649_187),
    PublishedSample("fly", 1000, 17.5, 32.0, 8, 0.74, 58, 47, 0.333, 2_442_000),
)
# what its text and its Figure 8 give for hours, dollars and shares
_TEXT_HOURS = {"mouse": 614.0, "fly": 1568.0}
_TEXT_SHARES = {"mouse": 0.46, "fly": 0.74}
_TEXT_USD = {"mouse": (600.0, 768.0), "fly": (1568.0, 1960.0)}
_OTHER_USD = {"mouse": 1200.0, "fly": 3100.0}
_FIGURE8_HOURS = {"mouse": 1228.0, "fly": 1568.0}
_FIGURE8_MERGE_SHARE = {"mouse": 0.42}
_FIGURE8_USD = {"fly": 3136.0}
_STATED_RATE = 2.0
_HEADLINE = {"mouse": 500, "fly": 1000}
_RATIOS = (23.6, 23.4)


@dataclass(frozen=True)
class Slip:
    """A stated number that does not follow, or that another one contradicts.

    Attributes
    ----------
    subject
        What it is about.
    stated
        What the draft says, and where it differs from itself.
    recomputed
        What its own inputs give.
    reading
        What probably happened.
    """

    subject: str
    stated: str
    recomputed: str
    reading: str


def headline_totals() -> list[Totals]:
    """Return the draft's headline totals, without intervals: it gives none for them."""
    rows = [sample(species, n) for species, n in _HEADLINE.items()]
    return [
        Totals(
            f"{row.species} (published)",
            row.n,
            POPULATIONS[row.species],
            row.total * row.merge_share,
            row.total * (1 - row.merge_share),
            np.zeros((0, 2)),
            simulated=False,
        )
        for row in rows
    ]


def sample(species: str, n: int) -> PublishedSample:
    """Return one row of the published table."""
    return next(s for s in SAMPLES if (s.species, s.n) == (species, n))


def decision_hours(row: PublishedSample) -> tuple[float, float]:
    """Return hours of decisions on merges and on splits by the published formula: 2.0 s a merge, 2.5 s a split."""
    merges = row.total * row.merge_share
    found = cost(merges, row.total - merges, _formula())
    return found["merge_gpu_hours"], found["split_gpu_hours"]


def nearest_sample(species: str, hours: float) -> PublishedSample:
    """Return the published sample whose edits give the hours that are nearest."""
    return min((s for s in SAMPLES if s.species == species), key=lambda s: abs(sum(decision_hours(s)) - hours))


def tail_without_ties(n: int) -> int:
    """Return how many of n different numbers are above their 95th percentile, interpolated linearly."""
    return n - 1 - math.floor(0.95 * (n - 1))


def slips() -> list[Slip]:
    """Compute the draft's numbers again and list what does not agree."""
    return [
        *(_hours(species) for species in _TEXT_HOURS),
        _figure8_hours(),
        _figure8_shares(),
        _fly_hours_and_dollars(),
        *(_rate(species) for species in _TEXT_HOURS),
        _counted_once(),
        *(_candidates(species) for species in _TEXT_HOURS),
        _ratio(),
        *_tails(),
    ]


def _formula(gpus: float = 1.0) -> Assumptions:
    return replace(Assumptions(), **_EDITS_ONLY.changes, gpus=gpus, merge_s=2.0, split_s=2.5, gpu_usd_hour=_STATED_RATE)


def _hours(species: str) -> Slip:
    stated, headline = _TEXT_HOURS[species], sample(species, _HEADLINE[species])
    near = nearest_sample(species, stated)
    found = sum(decision_hours(headline))
    reading = (
        f"the hours belong to the sample of {near.name} ({sum(decision_hours(near)):,.1f} h from {near.total:,} edits)"
        if near is not headline
        else "they agree"
    )
    return Slip(
        f"{species}: GPU-hours",
        f"{stated:,.0f} h beside {headline.total:,} edits (n={headline.n:,})",
        f"{found:,.1f} h at 2.0 s a merge and 2.5 s a split",
        reading,
    )


def _figure8_hours() -> Slip:
    figure, text = _FIGURE8_HOURS["mouse"], _TEXT_HOURS["mouse"]
    near = nearest_sample("mouse", text)
    merge, split = decision_hours(near)
    return Slip(
        "mouse: hours in Figure 8",
        f"{figure:,.0f} GPU-hours in Figure 8, {text:,.0f} in the text",
        f"{merge:,.0f} h on merges + {split:,.0f} h on splits = {merge + split:,.0f} h",
        f"the figure seems to count both GPUs ({text:,.0f} x 2 = {text * 2:,.0f}); {text:,.0f} + {text:,.0f} cannot be "
        "merges + splits",
    )


def _figure8_shares() -> Slip:
    shown, text = _FIGURE8_MERGE_SHARE["mouse"], _TEXT_SHARES["mouse"]
    near = nearest_sample("mouse", _TEXT_HOURS["mouse"])
    merge, split = decision_hours(near)
    share = merge / (merge + split)
    head = sample("mouse", _HEADLINE["mouse"])
    return Slip(
        "mouse: merges / splits in Figure 8",
        f"{shown:.0%} / {1 - shown:.0%} in Figure 8, {text:.0%} / {1 - text:.0%} in the text",
        f"merges are {head.merge_share:.1%} of edits and {share:.1%} of hours ({near.name})",
        "the figure seems to show shares of hours, the text shares of edits",
    )


def _fly_hours_and_dollars() -> Slip:
    hours, low = _TEXT_HOURS["fly"], _TEXT_USD["fly"][0]
    return Slip(
        "fly: hours or dollars",
        f"{hours:,.0f} GPU-hours, and ${low:,.0f}; elsewhere ${_FIGURE8_USD['fly']:,.0f} for the same hours",
        f"{hours:,.0f} h x ${_STATED_RATE:g} = ${hours * _STATED_RATE:,.0f}; "
        f"with two GPUs ${hours * 2 * _STATED_RATE:,.0f}",
        f"one number is called both; it is dollars only at ${low / hours:.2f} an hour",
    )


def _rate(species: str) -> Slip:
    hours, (low, high) = _TEXT_HOURS[species], _TEXT_USD[species]
    return Slip(
        f"{species}: price of an hour",
        f"${low:,.0f} to ${high:,.0f} for {hours:,.0f} h, at ${_STATED_RATE:g} a GPU-hour",
        f"${hours * _STATED_RATE:,.0f} with one GPU counted, ${hours * 2 * _STATED_RATE:,.0f} with two",
        f"the range is ${low / hours:.2f} to ${high / hours:.2f} an hour, not ${_STATED_RATE:g}",
    )


def _counted_once() -> Slip:
    hours = _TEXT_HOURS
    both = {s: hours[s] * _STATED_RATE for s in hours}
    return Slip(
        "a dual-GPU hour counted once or twice",
        "; ".join(f"{s} ${_TEXT_USD[s][0]:,.0f} in one place, ${_OTHER_USD[s]:,.0f} in another" for s in hours),
        "; ".join(
            f"{s} {hours[s]:,.0f} h x ${_STATED_RATE:g} = ${both[s]:,.0f}, x 2 GPUs = ${2 * both[s]:,.0f}"
            for s in hours
        ),
        "the higher figure is one GPU at $2; two H100 at $2 each are counted in neither",
    )


def _candidates(species: str) -> Slip:
    row = sample(species, _HEADLINE[species])
    merges = row.total * row.merge_share
    alone = cost(merges, row.total - merges, _formula(2))
    a = Assumptions()
    with_all = cost(
        merges,
        row.total - merges,
        replace(_formula(2), merge_precision=a.merge_precision, split_precision=a.split_precision),
    )
    return Slip(
        f"{species}: candidates left out",
        f"${_TEXT_USD[species][0]:,.0f} to ${_TEXT_USD[species][1]:,.0f}: the model sees only errors",
        f"at {a.merge_precision:.0%} precision {1 / a.merge_precision:.0f} places are looked at for each error: "
        f"{with_all['gpu_hours']:,.0f} GPU-hours and ${with_all['total_usd']:,.0f} on two GPUs, "
        f"against {alone['gpu_hours']:,.0f} and ${alone['total_usd']:,.0f}",
        "a model does not know beforehand which candidates are errors",
    )


def _ratio() -> Slip:
    pairs = [(sample("mouse", n), sample("fly", n)) for n in (100, 500)]
    pairs.append((sample("mouse", _HEADLINE["mouse"]), sample("fly", _HEADLINE["fly"])))
    found = [f"{m.mean / f.mean:.1f} ({m.name} / {f.name})" for m, f in pairs]
    mouse, fly = (sample(s, n).total / POPULATIONS[s] for s, n in _HEADLINE.items())
    found.append(f"{mouse / fly:.1f} (headline totals a neuron)")
    return Slip(
        "edits a neuron, mouse / fly",
        " and ".join(f"{r:.1f}" for r in _RATIOS),
        "; ".join(found),
        "each stated ratio belongs to other samples",
    )


def _tails() -> list[Slip]:
    small, large = sample("mouse", 100), sample("mouse", 500)
    found = [
        Slip(
            "mouse: heavy tail",
            f"{small.tail_share:.1%} beside {large.tail_share:.1%} of edits, "
            f"{large.threshold:g} beside {small.threshold:g} edits",
            "; ".join(f"{s.tail_share:.1%} above {s.threshold:g} is {s.name}" for s in (small, large)),
            "two samples are quoted as one",
        )
    ]
    odd = [s for s in SAMPLES if s.tail_neurons != tail_without_ties(s.n)]
    if odd:
        found.append(
            Slip(
                "neurons above the 95th percentile",
                "; ".join(f"{s.name}: {s.tail_neurons}" for s in odd),
                "; ".join(f"{tail_without_ties(s.n)} of {s.n:,} where no two neurons are equal" for s in odd),
                "equal counts at the threshold, or a threshold rounded up or taken from the data without interpolation",
            )
        )
    return found
