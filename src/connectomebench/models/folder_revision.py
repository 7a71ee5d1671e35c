"""Revision of a model in a local folder, which has no commit."""

from __future__ import annotations

import hashlib
from pathlib import Path


def folder_revision(folder: Path) -> str:
    """Hash the files of a local model: 16 hex digits of SHA-256."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in {".json", ".safetensors"}:
            digest.update(path.name.encode())
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
