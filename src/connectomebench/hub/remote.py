"""What a dataset repository on the Hub holds now."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.errors import ConnectomeBenchError
from connectomebench.hub.layout import MAIN, TAG, check_species_name
from connectomebench.manifest import FILE_NAME, FORMAT_VERSION

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAX_MANIFEST_BYTES = 16_000_000
# made by the Hub with the repository
_MADE_BY_HUB = {".gitattributes"}


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
class RemoteDataset:
    """A branch of a dataset repository at one commit.

    Attributes
    ----------
    repo_id, branch
        ``ORG/NAME``, and where a publication goes.
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
    manifest
        Checked; None in an empty repository.
    tagged
        The commit that the tag of the format points to, if any.
    """

    repo_id: str
    branch: str
    exists: bool
    has_branch: bool
    private: bool | None
    head: str | None
    files: dict[str, RemoteFile]
    manifest: dict[str, Any] | None
    tagged: str | None


def read_repo(api: HfApi, repo_id: str, branch: str, task: str) -> RemoteDataset:
    """Look at a dataset repository.

    Parameters
    ----------
    api
        The Hub.
    repo_id
        ``ORG/NAME``.
    branch
        Branch to look at; if it is not there, ``main``, which it would start from.
    task
        Task that the repository must be of, if it holds anything.

    Raises
    ------
    ConnectomeBenchError
        If ``branch`` is a tag, or the repository holds anything that this package did not write.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = bool(api.dataset_info(repo_id).private)
    except RepositoryNotFoundError:
        return RemoteDataset(repo_id, branch, False, branch == MAIN, None, None, {}, None, None)
    refs = api.list_repo_refs(repo_id, repo_type="dataset")
    if branch in {tag.name for tag in refs.tags}:
        raise ConnectomeBenchError(f"{branch} is a tag of {repo_id}; name a branch with --revision")
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    head = heads.get(branch, heads.get(MAIN))
    # a tag with a message has a commit of its own in the list, so ask what it leads to
    tagged = api.dataset_info(repo_id, revision=TAG).sha if TAG in {tag.name for tag in refs.tags} else None
    files = {} if head is None else _list_files(api, repo_id, head)
    manifest = None
    if head is not None and FILE_NAME in files:
        manifest = _read_manifest(repo_id, head, files[FILE_NAME].size, task)
    elif set(files) - _MADE_BY_HUB:
        first = min(set(files) - _MADE_BY_HUB)
        raise ConnectomeBenchError(
            f"{repo_id} holds other content ({first} and no {FILE_NAME}); choose another name, or empty it first"
        )
    return RemoteDataset(repo_id, branch, True, branch in heads, private, head, files, manifest, tagged)


def check_branch_name(branch: str) -> None:
    """Refuse what cannot be the name of a branch.

    Raises
    ------
    ConnectomeBenchError
        For anything but letters, digits, ``._-/``, for ``refs/...`` and for what looks like a commit.
    """
    named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", branch) and ".." not in branch and not branch.endswith("/")
    if not named or branch.startswith("refs/") or re.fullmatch("[0-9a-f]{40}", branch):
        raise ConnectomeBenchError(f"{branch!r} cannot be the name of a branch; give another --revision")


def _list_files(api: HfApi, repo_id: str, head: str) -> dict[str, RemoteFile]:
    from huggingface_hub import RepoFile

    entries = api.list_repo_tree(repo_id, recursive=True, revision=head, repo_type="dataset")
    return {
        e.path: RemoteFile(e.size, e.blob_id, e.lfs.sha256 if e.lfs else None)
        for e in entries
        if isinstance(e, RepoFile)
    }


def _read_manifest(repo_id: str, head: str, size: int, task: str) -> dict[str, Any]:
    """Read and check the manifest: it comes from outside, and names of species become names of files."""
    from huggingface_hub import HfFileSystem

    where = f"{FILE_NAME} of {repo_id}"
    damaged = ConnectomeBenchError(f"{where} is damaged or not of this package; choose another name, or mend it there")
    if size > _MAX_MANIFEST_BYTES:
        raise damaged
    with HfFileSystem().open(f"datasets/{repo_id}/{FILE_NAME}", "rb", revision=head) as stream:
        content = stream.read()
    try:
        manifest = json.loads(content)
        entries = manifest["species"]
        major = int(manifest["format_version"].split(".")[0])
        there = manifest["task"]
        known = isinstance(entries, dict) and all(isinstance(e["config_fingerprint"], str) for e in entries.values())
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise damaged from None
    if not known or not isinstance(there, str):
        raise damaged
    if major > int(FORMAT_VERSION.split(".")[0]):
        raise ConnectomeBenchError(f"{where} has a later format than {FORMAT_VERSION}; upgrade connectomebench")
    if there != task:
        raise ConnectomeBenchError(f"{repo_id} holds the task {there[:60]!r}, not {task}; choose another name")
    for species in entries:
        check_species_name(species, where)
    return manifest
