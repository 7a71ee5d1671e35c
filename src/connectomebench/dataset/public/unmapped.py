"""The exception for a row of a public dataset that cannot be converted."""

from __future__ import annotations


class Unmapped(Exception):
    """Reason why a row is skipped, without any value of the row, so that equal reasons add up."""
