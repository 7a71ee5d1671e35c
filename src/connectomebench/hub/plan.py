"""What a publication would change in a repository, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from connectomebench import __version__
from connectomebench.cards import dataset_card
from connectomebench.errors import ConnectomeBenchError
from connectomebench.hub.layout import CARD, MAIN, TAG, is_shard, species_of
from connectomebench.hub.local import LocalDataset
from connectomebench.hub.outline import copy_outline
from connectomebench.hub.private import check_private
from connectomebench.hub.remote import RemoteDataset, RemoteFile
from connectomebench.manifest import FILE_NAME, FORMAT_VERSION

# what the card of a species is made from, beside its entry in the manifest
_CARD_COLUMNS = ("answer", "origin", "extent_nm")


@dataclass(frozen=True)
class Change:
    """A file that a publication adds, changes or deletes.

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
class Plan:
    """A publication of one dataset.

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
    """

    remote: RemoteDataset
    private: bool
    changes: tuple[Change, ...]
    kept: int
    summary: str
    description: str

    @property
    def moves_tag(self) -> bool:
        """True where the tag of the format must be made or moved: it follows ``main`` alone."""
        remote = self.remote
        return remote.branch == MAIN and (bool(self.changes) or remote.tagged is None or remote.tagged != remote.head)

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to do."""
        return not self.changes and not self.moves_tag and self.remote.has_branch


def make_plan(local: LocalDataset, remote: RemoteDataset, replace: bool, private: bool) -> Plan:
    """Compare a dataset folder with a repository.

    Species that are only in the repository stay, with their files and their part of the card. A species that is in
    both is brought up to date.

    Parameters
    ----------
    local
        What shall be published.
    remote
        Where.
    replace
        Allow that data of a species built from another configuration are replaced.
    private
        Make a new repository private.

    Raises
    ------
    ConnectomeBenchError
        If data of another configuration would be replaced, a private dataset would go to a public repository, or a
        text holds something private.
    """
    if private and remote.private is False:
        raise ConnectomeBenchError(
            f"{remote.repo_id} is public; make it private in its settings first, or leave --private out"
        )
    there: dict[str, Any] = remote.manifest["species"] if remote.manifest else {}
    ours: dict[str, Any] = local.manifest["species"]
    other = [s for s in ours if s in there and there[s]["config_fingerprint"] != ours[s]["config_fingerprint"]]
    if other and not replace:
        raise ConnectomeBenchError(
            f"{remote.repo_id} holds {', '.join(other)} built from another configuration; add --replace to put yours "
            "in its place"
        )
    manifest = _merge(local.manifest, there)
    contents: dict[str, Path | bytes] = {
        **local.files,
        FILE_NAME: (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode(),
        CARD: _card(local, remote, manifest).encode(),
    }
    changes, kept = _compare(contents, remote.files)
    changes += [
        Change("delete", path, file.size, None)
        for path, file in remote.files.items()
        if species_of(path) in ours and path not in contents
    ]
    check_private({c.path: _text(c) for c in changes if c.kind != "delete" and not is_shard(c.path)}, manifest)
    summary, description = _tell(ours, there, {species_of(c.path) for c in changes}, manifest)
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return Plan(remote, private, ordered, kept, summary, description)


def _merge(manifest: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "task": manifest["task"],
        "species": dict(sorted({**there, **manifest["species"]}.items())),
    }


def _card(local: LocalDataset, remote: RemoteDataset, manifest: Mapping[str, Any]) -> str:
    """Make the card of all species in a folder that holds ours whole and outlines of those that are only there."""
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="connectomebench-") as name:
        folder = Path(name)
        for species in local.manifest["species"]:
            (folder / species).symlink_to((local.folder / species).resolve(), target_is_directory=True)
        try:
            _fetch_outlines(local, remote, folder)
            return str(dataset_card(folder, manifest, remote.repo_id))
        except (ConnectomeBenchError, KeyError, TypeError, AttributeError, pa.ArrowException, ValueError) as error:
            # the entries and files of other species come from the Hub
            told = str(error).replace(f"{folder}/", "").splitlines() or [""]
            raise ConnectomeBenchError(
                f"the card of {remote.repo_id} cannot be made ({type(error).__name__}: {told[0][:200]}); mend what is "
                "there, or choose another name"
            ) from error


def _fetch_outlines(local: LocalDataset, remote: RemoteDataset, folder: Path) -> None:
    from huggingface_hub import HfFileSystem

    wanted = set(remote.manifest["species"]) - set(local.manifest["species"]) if remote.manifest else set()
    for path, file in remote.files.items():
        if is_shard(path) and species_of(path) in wanted:
            (folder / path).parent.mkdir(exist_ok=True)
            address = f"datasets/{remote.repo_id}/{path}"
            with HfFileSystem().open(address, "rb", revision=remote.head, cache_type="none") as source:
                copy_outline(cast(BinaryIO, source), file.size, _CARD_COLUMNS, folder / path)


def _compare(contents: Mapping[str, Path | bytes], files: Mapping[str, RemoteFile]) -> tuple[list[Change], int]:
    changes: list[Change] = []
    kept = 0
    for path, content in contents.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        there = files.get(path)
        if there is None:
            changes.append(Change("add", path, size, content))
        elif there.size == size and _digest(content, size, there) == (there.sha256 or there.blob_id):
            kept += 1
        else:
            changes.append(Change("change", path, size, content))
    return changes, kept


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


def _text(change: Change) -> str:
    content = change.content
    raw = content.read_bytes() if isinstance(content, Path) else content or b""
    return raw.decode("utf-8", errors="replace")


def _tell(
    ours: Mapping[str, Any], there: Mapping[str, Any], touched: set[str | None], manifest: Mapping[str, Any]
) -> tuple[str, str]:
    """Word the commit."""
    groups: dict[str, list[str]] = {"Add": [], "Replace": [], "Update": []}
    for species, entry in ours.items():
        if species not in there:
            groups["Add"].append(species)
        elif entry["config_fingerprint"] != there[species]["config_fingerprint"]:
            groups["Replace"].append(species)
        elif species in touched:
            groups["Update"].append(species)
    done = [f"{verb} {', '.join(names)}" for verb, names in groups.items() if names]
    lines = [
        f"{species}: {', '.join(f'{p} {sum(c.values())}' for p, c in ours[species]['counts'].items())} rows, "
        f"configuration {ours[species]['config_fingerprint']}, data {ours[species]['fingerprint']}"
        for names in groups.values()
        for species in names
    ]
    summary = "; ".join(done) or "Update card and manifest"
    return f"{summary} ({manifest['task']}, format {TAG})", "\n".join(lines)
