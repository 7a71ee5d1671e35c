"""Repositories as the Hub keeps them: commits with parents, branches, tags, git blobs, and large files by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LARGE_BYTES = 10_000_000
LARGE_NAMES = (".parquet", ".png", ".safetensors", ".bin", ".npz", ".skops")
GIT_ATTRIBUTES = "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LARGE_NAMES).encode()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit; ``sha256`` where it is a large one, whose git blob is only a pointer."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    files: Mapping[str, File]


@dataclass
class Repo:
    kind: str
    name: str
    private: bool
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(oid)

    def add(self, branch: str, title: str, description: str, files: Mapping[str, File]) -> Commit:
        parent = self.branches.get(branch)
        lines = [f"{path} {file.oid}" for path, file in sorted(files.items())]
        text = "\n".join([self.kind, self.name, str(parent), title, str(len(self.commits)), *lines])
        commit = Commit(hashlib.sha1(text.encode()).hexdigest(), parent, title, description, dict(files))
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def history(self, revision: str) -> list[Commit]:
        found: list[Commit] = []
        commit = self.find(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found


class Store:
    """All repositories; contents lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repos: dict[tuple[str, str], Repo] = {}
        for name in ("blobs", "large"):
            (folder / name).mkdir(parents=True)

    def create(self, kind: str, name: str, private: bool, sdk: str | None = None) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private, sdk)
        repo.add("main", "initial commit", "", {".gitattributes": self.put_blob(GIT_ATTRIBUTES)})
        return repo

    def put_blob(self, content: bytes) -> File:
        oid = blob_id(content)
        (self.folder / "blobs" / oid).write_bytes(content)
        return File(oid, len(content))

    def put_large(self, sha256: str, content: bytes) -> bool:
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
        (self.folder / "large" / sha256).write_bytes(content)
        return True

    def large(self, sha256: str) -> File | None:
        path = self.folder / "large" / sha256
        if not path.exists():
            return None
        size = path.stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return File(blob_id(pointer), size, sha256)

    def content(self, file: File) -> bytes:
        path = self.folder / "large" / file.sha256 if file.sha256 else self.folder / "blobs" / file.oid
        return path.read_bytes()

    def is_large(self, path: str, size: int, sample: bytes) -> bool:
        return size > LARGE_BYTES or path.endswith(LARGE_NAMES) or b"\0" in sample
