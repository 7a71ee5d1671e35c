"""Plan the publication of a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.version import __version__
from connectomebench.dataset.dataset_card import PartitionFacts, dataset_card, partition_facts
from connectomebench.dataset.manifest import FILE_NAME
from connectomebench.dataset.repo_layout import (
    CARD,
    CROISSANT,
    EVAL,
    TAG,
    check_species_name,
    is_shard,
    species_of,
)
from connectomebench.dataset.row_format import FORMAT_VERSION, entry_format, parse_format
from connectomebench.dataset.sample_grid import picture_name
from connectomebench.dataset.schema import TEACHER_REPLIES, check_shards
from connectomebench.hub.croissant import croissant_text
from connectomebench.hub.dataset_folder import LocalDataset, read_dataset
from connectomebench.hub.diff import FileChange, PublicationPlan, compare, texts
from connectomebench.hub.leaderboard import eval_yaml
from connectomebench.hub.options import PublishConfig
from connectomebench.hub.remote import RemoteRepo, read_repo, refuse_other_content, refuse_public
from connectomebench.hub.secret_scan import check_private, check_rows_private

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAX_MANIFEST_BYTES = 16_000_000
_FINGERPRINTS = ("config_fingerprint", "fingerprint")


def dataset_plan(api: HfApi | None, folder: Path, repo_id: str, options: PublishConfig) -> PublicationPlan:
    """Compare a dataset folder with a repository.

    Species that are only in the repository stay, with their files and their part of the card. A species that is in
    both is brought up to date.

    Parameters
    ----------
    api
        The Hub; None plans against an empty repository.
    folder
        ``OUT/TASK``.
    repo_id
        Repository to publish to.
    options
        Options of the publication.

    Raises
    ------
    ConnectomeBenchError
        If the folder is not complete, the repository holds other content, data of another configuration would be
        replaced, a private dataset would go to a public repository, or a text holds something private.
    """
    local = read_dataset(folder)
    remote = read_repo(api, repo_id, "dataset", options.branch, TAG)
    refuse_other_content(remote, [FILE_NAME])
    refuse_public(remote, options.private)
    there = _read_entries(remote, local.manifest["task"])
    ours: dict[str, Any] = local.manifest["species"]
    other = [s for s in ours if s in there and there[s]["config_fingerprint"] != ours[s]["config_fingerprint"]]
    if other and not options.replace:
        raise ConnectomeBenchError(
            f"{repo_id} holds {', '.join(other)} built from another configuration; add --replace to put yours "
            "in its place"
        )
    manifest = _merge(local.manifest, there)
    contents: dict[str, Path | bytes] = {**local.files, **_generated_files(local, remote, manifest)}
    changes, kept = compare(contents, remote.files)
    changes += [
        FileChange("delete", path, file.size, None)
        for path, file in remote.files.items()
        if species_of(path) in ours and path not in contents
    ]
    fingerprints = {str(entry.get(key)) for entry in manifest["species"].values() for key in _FINGERPRINTS}
    fingerprints |= _teacher_revisions(manifest["species"])
    check_private(texts(changes), fingerprints)
    check_rows_private({c.path: c.content for c in changes if isinstance(c.content, Path)})
    summary, description = _commit_message(ours, there, {species_of(c.path) for c in changes}, manifest)
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return PublicationPlan(remote, options.private, ordered, kept, summary, description, tag=TAG)


def _teacher_revisions(species: Mapping[str, Any]) -> set[str]:
    """Return the revisions of the teachers, which are hashes as well."""
    entries = [entry.get(TEACHER_REPLIES, {}).get("teachers", []) for entry in species.values()]
    return {str(teacher["revision"]) for teachers in entries for teacher in teachers}


def _merge(manifest: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "task": manifest["task"],
        "species": dict(sorted({**there, **manifest["species"]}.items())),
    }


def _generated_files(local: LocalDataset, remote: RemoteRepo, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Generate the files that cover all species, from the merged manifest."""
    import pyarrow as pa

    made = {FILE_NAME: json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"}
    try:
        others = [species for species in manifest["species"] if species not in local.manifest["species"]]
        elsewhere = {species: _remote_facts(remote, species) for species in others}
        pictures = _pictures(local, remote, manifest)
        made[CARD] = str(dataset_card(local.folder, manifest, remote.repo_id, pictures, elsewhere))
        made[CROISSANT] = croissant_text(manifest, remote.repo_id)
        made[EVAL] = eval_yaml(manifest, remote.repo_id)
    except (ConnectomeBenchError, KeyError, TypeError, AttributeError, pa.ArrowException, ValueError) as error:
        # the entries and files of other species come from the Hub
        reason = str(error).splitlines() or [""]
        raise ConnectomeBenchError(
            f"the card of {remote.repo_id} cannot be made ({type(error).__name__}: {reason[0][:200]}); mend what is "
            "there, or choose another name"
        ) from error
    return {path: text.encode() for path, text in made.items()}


def _pictures(local: LocalDataset, remote: RemoteRepo, manifest: Mapping[str, Any]) -> set[str]:
    """Return the species with a picture, in the folder or on the Hub."""
    return {
        species
        for species in manifest["species"]
        if picture_name(species) in (local.files if species in local.manifest["species"] else remote.files)
    }


def _remote_facts(remote: RemoteRepo, species: str) -> dict[str, PartitionFacts]:
    """Read the card's facts of a species from its files on the Hub, without images."""
    found = {}
    for partition in PARTITIONS:
        paths = sorted(path for path in remote.files if is_shard(path) and path.startswith(f"{species}/{partition}-"))
        check_shards(paths, f"{remote.repo_id}/{species}", partition)
        found[partition] = partition_facts(partial(remote.open, path) for path in paths)
    return found


def _read_entries(remote: RemoteRepo, task: str) -> dict[str, Any]:
    """Read and check the manifest on the Hub; it is untrusted, and species names become file names."""
    if FILE_NAME not in remote.files:
        return {}
    where = f"{FILE_NAME} of {remote.repo_id}"
    damaged = ConnectomeBenchError(f"{where} is damaged or not of this package; choose another name, or mend it there")
    try:
        manifest = json.loads(remote.read(FILE_NAME, _MAX_MANIFEST_BYTES))
        entries = manifest["species"]
        parse_format(manifest["format_version"], where)
        there = manifest["task"]
        known = isinstance(entries, dict) and all(isinstance(e["config_fingerprint"], str) for e in entries.values())
        for entry in entries.values():
            entry_format(entry)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise damaged from None
    if not known or not isinstance(there, str):
        raise damaged
    if there != task:
        raise ConnectomeBenchError(f"{remote.repo_id} holds the task {there[:60]!r}, not {task}; choose another name")
    for species in entries:
        check_species_name(species, where)
    return entries


def _commit_message(
    ours: Mapping[str, Any], there: Mapping[str, Any], touched: set[str | None], manifest: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the summary and description of the commit."""
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
