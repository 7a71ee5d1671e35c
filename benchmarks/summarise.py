"""Time the summary of result records: sums over groups and rankings of groups drawn, against the weights of every row.

Run:
    python benchmarks/summarise.py --rows 1000 10000 100000 --json

Both ways draw the same resamples of the same synthetic records (benchmarks/scale.py), one after the other in one
process, and the largest difference of any value or bound of an interval is given with their times.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from scale import records

from connectomebench.evaluation import statistics
from connectomebench.evaluation.summary import Summary, summarise


def timed(frame: Any, many_rows: int, resamples: int) -> tuple[Summary, float, float]:
    """Summarise with more than so many rows taken by groups; return also seconds, and seconds of processor time."""
    before = statistics._MANY_ROWS
    statistics._MANY_ROWS = many_rows
    start, cpu = time.perf_counter(), time.process_time()
    try:
        [summary] = summarise(frame, resamples=resamples)
    finally:
        statistics._MANY_ROWS = before
    return summary, time.perf_counter() - start, time.process_time() - cpu


def numbers(summary: Summary) -> np.ndarray:
    """Return values and bounds of all metrics."""
    return np.array([(e.value, e.lower, e.upper) for e in summary.estimates.values()])


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--resamples", type=int, default=statistics.RESAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_args()
    timed(records(300), 0, 20)  # compiles
    for rows in options.rows:
        frame = records(rows)
        groups, seconds, cpu = timed(frame, 0, options.resamples)
        plain, plain_seconds, plain_cpu = timed(frame, sys.maxsize, options.resamples)
        difference = float(np.nanmax(np.abs(numbers(groups) - numbers(plain))))
        found = {
            "rows": rows,
            "resamples": options.resamples,
            "by_groups_s": round(seconds, 2),
            "by_groups_cpu_s": round(cpu, 2),
            "by_rows_s": round(plain_seconds, 2),
            "by_rows_cpu_s": round(plain_cpu, 2),
            "largest_difference": difference,
        }
        print(json.dumps(found) if options.json else found, flush=True)


if __name__ == "__main__":
    main()
