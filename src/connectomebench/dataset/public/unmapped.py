"""A row of a public dataset that cannot become one of ours; it is counted with its reason."""

from __future__ import annotations


class Unmapped(Exception):
    """Why a row is left out, in a few words without anything of that row, so that equal reasons add up."""
