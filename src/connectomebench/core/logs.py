"""What the log of a command shows."""

from __future__ import annotations

import logging
import sys

_NOISY = ("numba", "matplotlib", "datasets", "fsspec", "urllib3", "httpx", "httpx2", "openai")


def show_log() -> None:
    """Write our log to the error stream, one line a message, and only warnings of libraries that say much."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
