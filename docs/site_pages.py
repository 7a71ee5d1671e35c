"""MkDocs hook: the README and other pages outside docs/ become pages of the site, and links to them follow."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "measured-speed.md",
    "training/README.md": "training.md",
}
"""Path in the repository -> page of the site."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links of a page point to pages of the site; where the site has no such file, keep their words alone."""
    uri = page.file.src_uri
    origin = next((source for source, target in PAGES.items() if target == uri), f"docs/{uri}")

    def follow(match: re.Match[str]) -> str:
        mark, words, link, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
        if not (ROOT / path).exists():
            return match[0]  # MkDocs names it as broken
        target = PAGES.get(path, path.removeprefix("docs/"))
        if path not in PAGES and not path.startswith("docs/"):
            return words
        return f"{mark}[{words}]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{anchor or ''})"

    return _LINK.sub(follow, markdown)
