"""Scores of cheap cues, and of masks without learning, for a dataset's manifest and card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.rows import DataRecord
from connectomebench.evaluation.dataset_check import DatasetCheck, cues_entry
from connectomebench.evaluation.mask_check import MaskCheck, mask_entry


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
    _add(folder, check.data, {"cues": cues_entry(check)})


def add_mask_baselines(folder: Path, check: MaskCheck) -> None:
    """Add the scores of masks without learning to a dataset's manifest (``mask_baselines``) and rewrite its card.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    check
        From :func:`connectomebench.evaluation.mask_check.check_masks`, of the rows in the folder.

    Raises
    ------
    ConnectomeBenchError
        As :func:`add_cues`.
    """
    _add(folder, check.data, {"mask_baselines": mask_entry(check)})


def _add(folder: Path, data: DataRecord, values: Mapping[str, Any]) -> None:
    manifest = read_manifest(folder)
    species = data.species
    entry = manifest["species"].get(species)
    if entry is None or (manifest["task"], entry["fingerprint"]) != (data.task, data.fingerprint):
        raise ConnectomeBenchError(f"{folder} does not hold the rows of {species} that were checked; check it again")
    changed = {**manifest, "species": {**manifest["species"], species: {**entry, **values}}}
    write_json(folder / FILE_NAME, changed)
    write_card(folder, changed)
