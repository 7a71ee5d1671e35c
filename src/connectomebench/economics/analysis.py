"""All results together: distributions, sample checks, costs and slips, as text and as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from connectomebench.economics.assumptions import Sourced, listed
from connectomebench.economics.cost import RESULTS, SCENARIOS, CostEstimate, Totals, estimate, extrapolate
from connectomebench.economics.distribution import Distribution, SampleDifference, by_size, compare_samples, describe
from connectomebench.economics.edit_table import EditTable
from connectomebench.economics.published import Slip, headline_totals, slips
from connectomebench.evaluation.statistics import RESAMPLES, Estimate

_STATISTICS = {
    "mean": "mean",
    "median": "median",
    "sd": "standard deviation",
    "p25": "25th percentile",
    "p75": "75th percentile",
    "p90": "90th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "merge_share": "share of merges",
    "tail_share": "heavy tail's share of edits",
    "total": "extrapolated total",
}
_SHARES = ("merge_share", "tail_share")


@dataclass(frozen=True)
class Analysis:
    """Results of one run.

    Attributes
    ----------
    populations
        Name -> its samples, from the smallest to the largest.
    checks
        Differences between smaller samples and the largest of the same population.
    totals
        Errors that costs are computed for: the largest sample of each population, and the published ones.
    sourced
        Assumptions with their origins.
    slips
        What does not agree in the published draft; empty where it was not asked for.
    """

    populations: dict[str, list[Distribution]]
    checks: list[SampleDifference]
    totals: list[Totals]
    sourced: Sourced
    slips: list[Slip]


def analyse(
    tables: Mapping[str, Sequence[tuple[EditTable, int | None]]],
    sourced: Sourced,
    *,
    published: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Analysis:
    """Compute everything.

    Parameters
    ----------
    tables
        Population -> its samples, each with the number of neurons to extrapolate to (None: the sample itself).
    sourced
        Assumptions.
    published
        Add the draft's totals and slips.
    resamples, seed
        Of every bootstrap.
    """
    options = {"resamples": resamples, "seed": seed}
    populations = {
        name: by_size([describe(table, of, **options) for table, of in samples]) for name, samples in tables.items()
    }
    checks = [
        difference
        for group in populations.values()
        for small in group[:-1]
        for difference in compare_samples(small, group[-1], **options)
    ]
    totals = [extrapolate(group[-1].table, group[-1].population, **options) for group in populations.values()]
    if published:
        totals += headline_totals()
    return Analysis(populations, checks, totals, sourced, slips() if published else [])


def costs(found: Analysis) -> dict[str, dict[str, dict[str, CostEstimate]]]:
    """Return sample -> scenario -> quantity -> value with interval."""
    return {t.name: {s.name: estimate(t, found.sourced.values, s) for s in SCENARIOS} for t in found.totals}


def as_dict(found: Analysis) -> dict[str, Any]:
    """Return plain values for JSON; what is undefined is None."""
    values = {
        "samples": [_sample(name, d) for name, group in found.populations.items() for d in group],
        "checks": [asdict(check) for check in found.checks],
        "assumptions": listed(found.sourced),
        "scenarios": [asdict(s) | {"changes": dict(s.changes)} for s in SCENARIOS],
        "quantities": RESULTS,
        "costs": [
            {"sample": name, "scenario": scenario, **{q: asdict(e) for q, e in quantities.items()}}
            for name, scenarios in costs(found).items()
            for scenario, quantities in scenarios.items()
        ],
        "published": [asdict(slip) for slip in found.slips],
    }
    return _finite(values)


def as_text(found: Analysis) -> str:
    """Return everything as text for a terminal."""
    lines: list[str] = []
    for group in found.populations.values():
        for d in group:
            lines += [*_sample_lines(d), ""]
    for check in found.checks:
        lines.append(
            f"{check.small} against {check.large}: {_STATISTICS[check.statistic]} {check.relative:+.1%} "
            f"({_interval(check.difference, check.statistic)})"
        )
    lines += ["", "assumptions"] if lines else ["assumptions"]
    for one in listed(found.sourced):
        value = one["value"] if isinstance(one["value"], str) else f"{one['value']:g}"
        lines.append(f"  {one['name']:22} {value:>9} {one['unit']:13} {one['meaning']} [{one['origin']}]")
    for name, scenarios in costs(found).items():
        lines += ["", f"cost of {name}"]
        for scenario in SCENARIOS:
            lines.append(f"  {scenario.title:34} {cost_line(scenarios[scenario.name])}")
    if found.slips:
        lines += ["", "the published draft against itself"]
        for slip in found.slips:
            lines += [f"  {slip.subject}: {slip.stated}", f"    computed: {slip.recomputed}", f"    {slip.reading}"]
    return "\n".join(lines)


def cost_line(quantities: Mapping[str, CostEstimate]) -> str:
    """Return one scenario in a line."""
    usd, left = quantities["total_usd"], quantities["left"].value / max(quantities["edits"].value, 1e-12)
    interval = f" [{usd.lower:,.0f} to {usd.upper:,.0f}]" if math.isfinite(usd.lower) else ""
    return (
        f"${usd.value:,.0f}{interval}; {quantities['candidates'].value:,.0f} places, "
        f"{quantities['gpu_hours'].value:,.0f} GPU-hours, {quantities['people_hours'].value:,.0f} hours of people, "
        f"{left:.0%} of errors left"
    )


def statistic_rows(d: Distribution) -> list[tuple[str, str, str]]:
    """Return name, value and 95% interval of every statistic of a sample, for people."""
    rows = []
    for name, title in _STATISTICS.items():
        if name in d.estimates:
            e = d.estimates[name]
            rows.append((title, _number(e.value, name), _bounds(e, name)))
    return rows


def difference_rows(found: Analysis) -> list[tuple[str, str, str, str]]:
    """Return samples, statistic, relative difference, and difference with interval, for people."""
    return [
        (
            f"{c.small} against {c.large}",
            _STATISTICS[c.statistic],
            f"{c.relative:+.1%}",
            _interval(c.difference, c.statistic),
        )
        for c in found.checks
    ]


def tail_sentence(d: Distribution) -> str:
    """Return the heavy tail in a sentence."""
    t = d.tail
    share = f"{t.edit_share:.1%} of edits" if math.isfinite(t.edit_share) else "no edits"
    return f"{t.neurons:,} neurons ({t.neuron_share:.1%}) have more than {t.threshold:,.1f} edits: {share}"


def _sample(population: str, d: Distribution) -> dict[str, Any]:
    return {
        "population_name": population,
        "name": d.table.name,
        "simulated": d.table.simulated,
        "n": len(d.table),
        "failed": d.table.failed,
        "population": d.population,
        "range": [d.smallest, d.largest],
        "heavy_tail": asdict(d.tail),
        "estimates": {name: asdict(e) for name, e in d.estimates.items()},
    }


def _sample_lines(d: Distribution) -> list[str]:
    mark = "SIMULATED " if d.table.simulated else ""
    failed = f", {d.table.failed:,} could not be read" if d.table.failed else ""
    lines = [f"{mark}{d.table.name}: {len(d.table):,} neurons{failed}, {d.smallest:,} to {d.largest:,} edits"]
    lines += [f"  {title:28} {value:>12} {interval}" for title, value, interval in statistic_rows(d)]
    return [*lines, f"  heavy tail: {tail_sentence(d)}"]


def _number(value: float, name: str, sign: str = "") -> str:
    if not math.isfinite(value):
        return "n/a"
    if name in _SHARES:
        return f"{value:{sign}.1%}"
    return f"{value:{sign},.0f}" if name == "total" else f"{value:{sign},.1f}"


def _bounds(e: Estimate, name: str) -> str:
    return f"[{_number(e.lower, name)} to {_number(e.upper, name)}]" if math.isfinite(e.lower) else ""


def _interval(e: Estimate, name: str) -> str:
    bounds = f" [{_number(e.lower, name, '+')} to {_number(e.upper, name, '+')}]" if math.isfinite(e.lower) else ""
    return f"{_number(e.value, name, '+')}{bounds}"


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
