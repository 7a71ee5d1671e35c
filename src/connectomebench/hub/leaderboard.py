"""Leaderboard files: `eval.yaml` of dataset repositories, `.eval_results/` of model repositories.

Format of both: https://huggingface.co/docs/hub/eval-results. One leaderboard a species, on its test partition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.repo_layout import check_species_name
from connectomebench.evaluation.results import Summary, default_rows, summarise
from connectomebench.evaluation.summary import METRIC_TITLES, main_metric
from connectomebench.models.model_record import ModelRecord

if TYPE_CHECKING:
    import pandas as pd

# New names enter the Hub's list by pull request: EVALUATION_FRAMEWORKS in packages/tasks/src/eval.ts of huggingface.js.
# Its "inspect-ai" would be untrue: Inspect takes one picture a sample, and its scorers give plain accuracy.
FRAMEWORK = "connectomebench"
PARTITION = "test"
_DIGITS = 4


def eval_yaml(manifest: Mapping[str, Any], repo_id: str) -> str:
    """Return the text of ``eval.yaml``, which makes a dataset repository a benchmark.

    One task a species, named as the species is.

    Parameters
    ----------
    manifest
        From :func:`connectomebench.dataset.manifest.add_species`, or merged; entries may come from the Hub.
    repo_id
        ``ORG/NAME``, for messages.

    Raises
    ------
    ConnectomeBenchError
        If the manifest lacks something.
    """
    import yaml

    try:
        task = get_task(manifest["task"])
        entries: Mapping[str, Any] = manifest["species"]
        simulated = [f"`{species}`" for species, entry in entries.items() if entry["source"]["simulated_errors"]]
        for species in entries:
            check_species_name(species, f"the manifest of {repo_id}")
    except (KeyError, TypeError, AttributeError) as error:
        raise ConnectomeBenchError(
            f"the manifest of {repo_id} is not complete ({error!r:.120}); build the species again"
        ) from error
    content = {
        "name": f"ConnectomeBench: {task.title}",
        "description": _description(task, simulated),
        "evaluation_framework": FRAMEWORK,
        "tasks": [{"id": species, "config": species, "split": PARTITION} for species in entries],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def eval_results(
    results: pd.DataFrame,
    record: ModelRecord,
    dataset_repo: str,
    dataset_revision: str | None,
    manifest: Mapping[str, Any],
) -> dict[str, str]:
    """Return the files of ``.eval_results/`` of a model repository.

    One entry a species whose whole test partition was answered. The value is the main metric of the task
    (:func:`connectomebench.evaluation.summary.main_metric`) as a share, rounded to four digits; the interval, the
    number of rows and what the model was trained on are in the notes. There is no date: result records have none, and
    the Hub takes that of the commit.

    Left out are results of other models, revisions or conditions (ablations), of other data than those in
    ``dataset_repo`` (by fingerprint), of a part of the test partition, and of rows that the model was trained on.

    Parameters
    ----------
    results
        From :func:`connectomebench.evaluation.results.read_results`.
    record
        Of the model.
    dataset_repo
        Where the dataset is on the Hub, ``ORG/NAME``.
    dataset_revision
        Its commit; None leaves it out.
    manifest
        Of the dataset in ``dataset_repo``.

    Returns
    -------
    dict
        Name of a file in ``.eval_results/`` -> content; empty if no result qualifies.

    Raises
    ------
    ConnectomeBenchError
        If the dataset is of another task than the model, or its manifest lacks something.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    if manifest["task"] != record.task:
        raise ConnectomeBenchError(
            f"{dataset_repo} holds the task {str(manifest['task'])[:60]}, but {record.name} was trained for "
            f"{record.task}; name the dataset that it was evaluated on"
        )
    results = default_rows(results)
    own = results[
        (results["model"] == record.name)
        & (results["model_revision"] == record.revision)
        & (results["task"] == record.task)
        & (results["partition"] == PARTITION)
    ]
    entries = []
    for species in sorted(set(own["species"])):
        entry = manifest["species"].get(species)
        rows = own[own["species"] == species]
        if entry is None or not _is_whole(rows, entry, dataset_repo) or _has_learnt(record, entry):
            continue
        [summary] = summarise(rows)
        estimate = summary.estimates[main_metric(record.task)]
        if not math.isnan(estimate.value):
            entries.append(
                EvalResultEntry(
                    dataset_id=dataset_repo,
                    task_id=species,
                    value=round(float(estimate.value), _DIGITS),
                    dataset_revision=dataset_revision,
                    notes=_notes(summary, record, entry),
                )
            )
    if not entries:
        return {}
    content = eval_result_entries_to_yaml(entries)
    return {f"{record.task}.yaml": yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)}


def _description(task: Task, simulated: list[str]) -> str:
    notes = [
        "Places in automatic segmentations of brain volumes, drawn as pictures, each with one question for a "
        f"proofreader. {task.question}"
    ]
    chance = "; chance is 0.5" if task.answer_kind == "yes_no" else ""
    notes.append(f"Metric: {METRIC_TITLES[main_metric(task.name)]} on the {PARTITION} partition, as a share{chance}.")
    if simulated:
        notes.append(f"The errors are simulated in {', '.join(simulated)}.")
    return " ".join(notes)


def _is_whole(rows: pd.DataFrame, entry: Mapping[str, Any], dataset_repo: str) -> bool:
    """Return whether results cover all test rows of a species."""
    try:
        fingerprint, expected = entry["fingerprint"], sum(entry["counts"][PARTITION].values())
        entry["source"]["simulated_errors"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConnectomeBenchError(
            f"the manifest of {dataset_repo} is not complete ({error!r:.120}); publish the dataset again"
        ) from error
    return set(rows["dataset_fingerprint"]) == {fingerprint} and len(rows) == expected


def _has_learnt(record: ModelRecord, entry: Mapping[str, Any]) -> bool:
    return any(d.partition == PARTITION and d.fingerprint == entry["fingerprint"] for d in record.trained_on)


def _notes(summary: Summary, record: ModelRecord, entry: Mapping[str, Any]) -> str:
    metric = main_metric(summary.task)
    estimate = summary.estimates[metric]
    interval = (
        "no interval"
        if math.isnan(estimate.lower)
        else f"95% interval {estimate.lower:.3f} to {estimate.upper:.3f} over {summary.n_groups} groups"
    )
    notes = [f"{METRIC_TITLES[metric]} as a share, {interval}, n={summary.n}"]
    if summary.unparsed:
        counted = "count as wrong" if get_task(summary.task).scoring == "exact" else "score 0"
        notes.append(f"{summary.unparsed} replies without an answer {counted}")
    if record.species:
        notes.append(f"trained on {', '.join(record.species)}")
    if entry["source"]["simulated_errors"]:
        notes.append("the errors are simulated")
    return "; ".join(notes)
