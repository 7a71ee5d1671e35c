"""Scores of the trivial baselines for a dataset's manifest and card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.task_explanations import BASELINES
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.evaluation.results import METRICS, default_rows, read_results, result_path, summarise
from connectomebench.evaluation.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd


def baselines_entry(frame: pd.DataFrame, fingerprint: str) -> list[dict[str, Any]]:
    """Build the manifest entry ``baselines`` of one species.

    Parameters
    ----------
    frame
        Result records of one task and species, from :func:`connectomebench.evaluation.results.read_results`; models
        other than the baselines, and conditions other than the default, are left out.
    fingerprint
        Of the species' data, from its manifest; records of other data are left out.

    Returns
    -------
    list
        One dict a model and partition: ``model``, ``revision``, ``partition``, ``n``, ``n_groups`` and ``metrics``, for
        each name of `METRICS` its ``value``, ``low`` and ``high`` (95% over groups), None where undefined.

    Raises
    ------
    ConnectomeBenchError
        If the records of one model on one partition are of several revisions.
    """
    frame = default_rows(frame)
    here = frame["model"].isin(BASELINES) & frame["partition"].isin(PARTITIONS)
    own = frame[here & (frame["dataset_fingerprint"] == fingerprint)]
    entries = []
    for summary in summarise(own) if len(own) else []:
        rows = own[(own["model"] == summary.model) & (own["partition"] == summary.partition)]
        revisions = sorted(set(rows["model_revision"]))
        if len(revisions) > 1:
            raise ConnectomeBenchError(
                f"the results of {summary.model} on {summary.partition} are of the revisions {', '.join(revisions)}; "
                "evaluate one model on all rows"
            )
        entries.append(
            {
                "model": summary.model,
                "revision": revisions[0],
                "partition": summary.partition,
                "n": summary.n,
                "n_groups": summary.n_groups,
                "metrics": {name: _plain(summary.estimates[name]) for name in METRICS},
            }
        )
    return sorted(entries, key=lambda e: (PARTITIONS.index(e["partition"]), BASELINES.index(e["model"])))


def add_baselines(folder: Path, species: str, results_folder: Path) -> None:
    """Add the scores of the trivial baselines to a dataset's manifest and rewrite its card.

    Parameters
    ----------
    folder
        ``OUT/TASK``.
    species
        Species config.
    results_folder
        With ``MODEL/TASK/SPECIES/PARTITION.parquet`` below, as
        :func:`connectomebench.evaluation.results.result_path` names them.

    Raises
    ------
    ConnectomeBenchError
        If the folder lacks the species, or there are no records of a baseline on its present data.
    """
    manifest = read_manifest(folder)
    entry, task = manifest["species"].get(species), manifest["task"]
    if entry is None:
        raise ConnectomeBenchError(f"{folder} holds no species {species!r}; build it first")
    paths = [result_path(results_folder, m, task, species, p) for m in BASELINES for p in PARTITIONS]
    there = [path for path in paths if path.is_file()]
    measured = baselines_entry(read_results(there), entry["fingerprint"]) if there else []
    if not measured:
        raise ConnectomeBenchError(
            f"{results_folder} holds no results of {' or '.join(BASELINES)} on the present data of {task}/{species}; "
            "evaluate them first"
        )
    changed = {**manifest, "species": {**manifest["species"], species: {**entry, "baselines": measured}}}
    write_json(folder / FILE_NAME, changed)
    write_card(folder, changed)


def _plain(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.lower, "high": estimate.upper}
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}
