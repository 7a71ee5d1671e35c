"""Arguments that the benchmarks of `make bench` share."""

from __future__ import annotations

import argparse
from typing import Any


def parse_sizes(parser: argparse.ArgumentParser, **quick: Any) -> argparse.Namespace:
    """Parse the command line, with `--quick` for sizes that show whether a benchmark runs and nothing more.

    Parameters
    ----------
    parser
        With all arguments but `--quick`.
    **quick
        What takes the place of the defaults with `--quick`; what the command line names stays.
    """
    sizes = ", ".join(f"{name} {value}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"see that it runs; numbers mean nothing ({sizes})")
    if parser.parse_args().quick:
        parser.set_defaults(**quick)
    return parser.parse_args()
