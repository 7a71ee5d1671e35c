"""Scores of cheap cues for a dataset's manifest and card."""

from __future__ import annotations

from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.evaluation.dataset_check import DatasetCheck, cues_entry


def add_cues(folder: Path, check: DatasetCheck) -> None:
    """Add the scores of cheap cues to a dataset's manifest (``cues`` of the species) and rewrite its card.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    check
        From :func:`connectomebench.evaluation.dataset_check.check_dataset`, of the rows in the folder.

    Raises
    ------
    ConnectomeBenchError
        If the folder has no manifest, or holds other rows than those that were checked.
    """
    manifest = read_manifest(folder)
    species = check.data.species
    entry = manifest["species"].get(species)
    if entry is None or (manifest["task"], entry["fingerprint"]) != (check.data.task, check.data.fingerprint):
        raise ConnectomeBenchError(f"{folder} does not hold the rows of {species} that were checked; check it again")
    changed = {**manifest, "species": {**manifest["species"], species: {**entry, "cues": cues_entry(check)}}}
    write_json(folder / FILE_NAME, changed)
    write_card(folder, changed)
