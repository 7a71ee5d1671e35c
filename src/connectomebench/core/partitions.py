"""Names of the partitions."""

from __future__ import annotations

PARTITIONS = ("train", "validation", "test")
