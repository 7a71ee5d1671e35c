"""Where a command serves its page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable


def address(printed: Callable[[], str], timeout_s: float = 120) -> str:
    """Wait for the address of a page, with its key, among what a command prints.

    Parameters
    ----------
    printed
        Returns what was printed since it was called last.
    timeout_s
        Longest wait.
    """
    text, deadline = "", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        text += printed()
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?key=[\w-]+", text):
            return found.group()
        time.sleep(0.05)
    raise AssertionError(text)
