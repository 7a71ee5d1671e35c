"""Differences between local files and a repository."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from connectomebench.dataset.repo_layout import MAIN
from connectomebench.hub.remote import RemoteFile, RemoteRepo

_BINARY = (".parquet", ".png", ".jpg", ".webp", ".safetensors", ".skops", ".npz", ".ico")


@dataclass(frozen=True)
class FileChange:
    """A file to add, change or delete.

    Attributes
    ----------
    kind
        What happens to it.
    path
        In the repository.
    size
        Bytes; those that go, for a deleted file.
    content
        A file, or bytes; None for a deleted file.
    """

    kind: Literal["add", "change", "delete"]
    path: str
    size: int
    content: Path | bytes | None


@dataclass(frozen=True)
class PublicationPlan:
    """A publication to one repository.

    Attributes
    ----------
    remote
        What the repository holds now.
    private
        Whether a new repository is made private.
    changes
        In order of their paths; none where the branch holds all already.
    kept
        Number of files that stay as they are.
    summary, description
        Of the commit.
    tag
        Follows ``main``; None for none.
    sdk
        Of a Space (``gradio``); None for other repositories.
    """

    remote: RemoteRepo
    private: bool
    changes: tuple[FileChange, ...]
    kept: int
    summary: str
    description: str
    tag: str | None = None
    sdk: str | None = None

    @property
    def moves_tag(self) -> bool:
        """Whether the tag must be created or moved; it follows ``main`` only."""
        remote = self.remote
        stale = bool(self.changes) or remote.tagged is None or remote.tagged != remote.head
        return self.tag is not None and remote.branch == MAIN and stale

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes and not self.moves_tag and self.remote.has_branch


def compare(contents: Mapping[str, Path | bytes], files: Mapping[str, RemoteFile]) -> tuple[list[FileChange], int]:
    """Compare local files with a repository.

    Parameters
    ----------
    contents
        Path in the repository -> file, or bytes.
    files
        Path -> file on the Hub.

    Returns
    -------
    list[Change], int
        Files to add and to change, and the number of those that stay; nothing is deleted.
    """
    changes: list[FileChange] = []
    kept = 0
    for path, content in contents.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        there = files.get(path)
        if there is None:
            changes.append(FileChange("add", path, size, content))
        elif there.size == size and _digest(content, size, there) == (there.sha256 or there.blob_id):
            kept += 1
        else:
            changes.append(FileChange("change", path, size, content))
    return changes, kept


def texts(changes: list[FileChange]) -> dict[str, str]:
    """Return the text files to send, path -> content; images, rows and weights are left out."""
    return {c.path: _text(c) for c in changes if c.content is not None and not c.path.endswith(_BINARY)}


def _digest(content: Path | bytes, size: int, there: RemoteFile) -> str:
    """Hash a file as the Hub does: SHA-256 of a large one, git's SHA-1 of others."""
    digest = hashlib.sha256() if there.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
        return digest.hexdigest()
    with open(content, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _text(change: FileChange) -> str:
    content = change.content
    raw = content.read_bytes() if isinstance(content, Path) else content or b""
    return raw.decode("utf-8", errors="replace")
