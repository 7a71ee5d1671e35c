"""A real browser for tests of pages, started in one way for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium in /usr/bin")

# SwiftShader, which emulates a graphics card, draws WebGL and nothing else: where Chromium lets it draw whole pages, a
# process of the graphics card takes more time than all others together
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Yield a ``playwright`` browser, which ends with the block.

    Parameters
    ----------
    *options
        Further words of its command line.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip("needs Chromium in /usr/bin")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*_OPTIONS, *options])
        try:
            yield browser
        finally:
            browser.close()
