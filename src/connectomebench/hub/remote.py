"""The current content of a repository on the Hub."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.repo_layout import MAIN

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset", "space"]
# made by the Hub with the repository
_MADE_BY_HUB = frozenset({".gitattributes"})


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub.

    Attributes
    ----------
    size
        Bytes.
    blob_id
        Git's SHA-1, 40 hex digits; of the pointer, for a large file.
    sha256
        Of a large file, 64 hex digits; else None.
    """

    size: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True)
class RemoteRepo:
    """A branch of a repository at one commit.

    Attributes
    ----------
    repo_id, repo_type, branch
        ``ORG/NAME``, its type, and where a publication goes.
    exists
        False where the repository is not there, or not visible.
    has_branch
        False where the branch would be made, from ``main``.
    private
        Whether the repository is; None where it does not exist.
    head
        The commit that ``files`` are those of; None where there is none.
    files
        Path -> file.
    tagged
        The commit that the requested tag points to, if any.
    asked
        False where the Hub could not be asked, and an empty repository stands for the real one.
    """

    repo_id: str
    repo_type: RepoType
    branch: str
    exists: bool
    has_branch: bool
    private: bool | None
    head: str | None
    files: dict[str, RemoteFile]
    tagged: str | None
    asked: bool = True

    @property
    def own_files(self) -> set[str]:
        """Paths of all files except those the Hub creates."""
        return set(self.files) - _MADE_BY_HUB

    def open(self, path: str) -> BinaryIO:
        """Open a file for range reads, without caching.

        Parameters
        ----------
        path
            One of ``files``.
        """
        from huggingface_hub import HfFileSystem

        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        address = f"{prefix}{self.repo_id}/{path}"
        return cast(BinaryIO, HfFileSystem().open(address, "rb", revision=self.head, cache_type="none"))

    def read(self, path: str, limit: int) -> bytes:
        """Fetch a small file.

        Parameters
        ----------
        path
            One of ``files``.
        limit
            Most bytes that will be read.

        Raises
        ------
        ValueError
            If the file is larger.
        """
        if self.files[path].size > limit:
            raise ValueError(f"{path} is larger than {limit} bytes")
        with self.open(path) as stream:
            return stream.read(limit + 1)


def read_repo(api: HfApi | None, repo_id: str, repo_type: RepoType, branch: str, tag: str | None = None) -> RemoteRepo:
    """Read the state of a repository.

    Parameters
    ----------
    api
        The Hub; None where it cannot be asked, which gives an empty repository.
    repo_id, repo_type
        ``ORG/NAME`` and what it is.
    branch
        Branch to look at; if it is not there, ``main``, which it would start from.
    tag
        Tag to look for.

    Raises
    ------
    ConnectomeBenchError
        If ``branch`` is a tag.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    if api is None:
        return RemoteRepo(repo_id, repo_type, branch, False, branch == MAIN, None, None, {}, None, asked=False)
    try:
        private = bool(api.repo_info(repo_id, repo_type=repo_type).private)
    except RepositoryNotFoundError:
        return RemoteRepo(repo_id, repo_type, branch, False, branch == MAIN, None, None, {}, None)
    refs = api.list_repo_refs(repo_id, repo_type=repo_type)
    tags = {ref.name for ref in refs.tags}
    if branch in tags:
        raise ConnectomeBenchError(f"{branch} is a tag of {repo_id}; name a branch with --revision")
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    head = heads.get(branch, heads.get(MAIN))
    # a tag with a message has a commit of its own in the list, so ask what it leads to
    tagged = api.repo_info(repo_id, revision=tag, repo_type=repo_type).sha if tag in tags else None
    files = {} if head is None else _list_files(api, repo_id, repo_type, head)
    return RemoteRepo(repo_id, repo_type, branch, True, branch in heads, private, head, files, tagged)


def refuse_other_content(remote: RemoteRepo, marks: Collection[str]) -> None:
    """Raise if a repository holds files, but none that marks it as written by this package.

    Raises
    ------
    ConnectomeBenchError
        Naming one of its files.
    """
    if remote.own_files and not remote.own_files & set(marks):
        wanted = ", ".join(sorted(marks))
        raise ConnectomeBenchError(
            f"{remote.repo_id} holds other content ({min(remote.own_files)} and no {wanted}); choose another name, or "
            "empty it first"
        )


def refuse_public(remote: RemoteRepo, private: bool) -> None:
    """Raise if private data would go to a public repository.

    Raises
    ------
    ConnectomeBenchError
        If ``private`` is set and the repository is public.
    """
    if private and remote.private is False:
        raise ConnectomeBenchError(
            f"{remote.repo_id} is public; make it private in its settings first, or leave --private out"
        )


def check_branch_name(branch: str) -> None:
    """Raise unless the name is a valid branch name.

    Raises
    ------
    ConnectomeBenchError
        For anything but letters, digits, ``._-/``, for ``refs/...`` and for what looks like a commit.
    """
    named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", branch) and ".." not in branch and not branch.endswith("/")
    if not named or branch.startswith("refs/") or re.fullmatch("[0-9a-f]{40}", branch):
        raise ConnectomeBenchError(f"{branch!r} cannot be the name of a branch; give another --revision")


def check_repo_id(repo_id: str) -> None:
    """Raise unless the id has the form ``ORG/NAME``.

    Raises
    ------
    ConnectomeBenchError
        If the Hub would not take the name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        named = repo_id.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise ConnectomeBenchError(f"{repo_id!r} is no name of a repository; write ORG/NAME")


def _list_files(api: HfApi, repo_id: str, repo_type: RepoType, head: str) -> dict[str, RemoteFile]:
    from huggingface_hub import RepoFile

    entries = api.list_repo_tree(repo_id, recursive=True, revision=head, repo_type=repo_type)
    return {
        e.path: RemoteFile(e.size, e.blob_id, e.lfs.sha256 if e.lfs else None)
        for e in entries
        if isinstance(e, RepoFile)
    }
