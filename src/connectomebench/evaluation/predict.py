"""Let any of our models answer a partition of any dataset, both by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from connectomebench.errors import ConnectomeBenchError
from connectomebench.evaluation.results import Summary, read_results, result_path, summarise
from connectomebench.evaluation.run import evaluate_model
from connectomebench.loading import load_rows
from connectomebench.models.registry import open_model


def predict(
    model: str,
    dataset: str,
    species: str,
    partition: str,
    out: Path,
    *,
    task: str | None = None,
    model_revision: str | None = None,
    dataset_revision: str | None = None,
    base: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Let a model answer every row of a partition, and write one record a row.

    Parameters
    ----------
    model, model_revision, base
        See :func:`connectomebench.models.registry.load_model`.
    dataset, species, partition, task, dataset_revision
        See :func:`connectomebench.loading.load_rows`.
    out
        Folder for records: ``OUT/MODEL/TASK/SPECIES/PARTITION.parquet``. A file that is there is written anew.
    say
        Takes what is to be shown.

    Returns
    -------
    Path
        The records.

    Raises
    ------
    ConnectomeBenchError
        If model or dataset cannot be had, or do not belong together.
    """
    rows = load_rows(dataset, species, partition, dataset_revision, task=task)
    answering, record = open_model(model, model_revision, base=base)
    if record is not None and record.task != rows.data.task:
        raise ConnectomeBenchError(f"{model} was trained for {record.task}, and {dataset} asks {rows.data.task}")
    data = rows.data
    path = result_path(out, answering.name, data.task, data.species, data.partition)
    evaluate_model(answering, rows.dataset, data.partition, data.fingerprint, path)
    say(_told(summarise(read_results(path))[0]))
    say(str(path))
    return path


def _told(summary: Summary) -> str:
    """Word what came out, with its interval and its n."""
    found = summary.estimates["balanced_accuracy"]
    unread = f", {summary.unparsed} replies without an answer" if summary.unparsed else ""
    return (
        f"{summary.model} on {summary.task}/{summary.species}/{summary.partition}: balanced accuracy {found.value:.3f} "
        f"(95% interval {found.lower:.3f} to {found.upper:.3f}, {summary.n} rows in {summary.n_groups} groups{unread})"
    )
