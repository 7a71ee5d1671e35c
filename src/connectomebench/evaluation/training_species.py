"""Training species of models: read from their records or stated by the user, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record

if TYPE_CHECKING:
    import pandas as pd

TrainedModel = tuple[str, str, str]
"""Name, revision and task of one trained model."""


def models_in(frame: pd.DataFrame) -> list[TrainedModel]:
    """Return the models of result records, sorted."""
    found = frame[["model", "model_revision", "task"]].drop_duplicates()
    return sorted((str(model), str(revision), str(task)) for model, revision, task in found.itertuples(index=False))


def find_records(sources: Iterable[str]) -> list[ModelRecord]:
    """Read the records of models.

    Parameters
    ----------
    sources
        Folders, searched for models at any depth, or ``ORG/NAME`` on the Hub.

    Returns
    -------
    list[ModelRecord]
        One for each task of a model (:meth:`~connectomebench.models.model_record.ModelRecord.of_task`).

    Raises
    ------
    ConnectomeBenchError
        If a folder holds no model, a record is damaged, or the Hub cannot be reached.
    """
    records = []
    for source in sources:
        folder = Path(source)
        if folder.is_dir():
            paths = sorted(folder.rglob(FILE_NAME))
            if not paths:
                raise ConnectomeBenchError(f"{source} holds no model: no {FILE_NAME} anywhere in it")
            records += [read_record(path.parent) for path in paths]
        else:
            records.append(_fetch(source))
    return [record.of_task(task) for record in records for task in record.tasks]


def recorded_species(
    frame: pd.DataFrame, records: Sequence[ModelRecord], partition: str
) -> dict[TrainedModel, tuple[str, ...]]:
    """Match result records with the records of their models, by revision and task.

    Names are left out: the same model has one name in its folder, and on the Hub that of its repository.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.result_records.read_results`.
    records
        From `find_records`.
    partition
        The evaluated partition.

    Returns
    -------
    dict
        Species by model; models without a record are left out.

    Raises
    ------
    ConnectomeBenchError
        If a model was trained on the evaluated partition.
    """
    by_model = {(record.revision, record.task): record for record in records}
    found = {}
    for model in models_in(frame):
        if (record := by_model.get(model[1:])) is None:
            continue
        if learnt := [data.species for data in record.trained_on if data.partition == partition]:
            raise ConnectomeBenchError(
                f"{record.name} (revision {record.revision}) was trained on the {partition} partition of "
                f"{', '.join(learnt)}, so its results there do not measure transfer; leave it out"
            )
        found[model] = record.species
    return found


def stated_species(frame: pd.DataFrame, species: Sequence[str]) -> dict[TrainedModel, tuple[str, ...]]:
    """Use the stated training species for the only model in the records.

    Raises
    ------
    ConnectomeBenchError
        If the records are of several models, or of several revisions for one task.
    """
    models = models_in(frame)
    if len({name for name, _, _ in models}) > 1 or len({task for _, _, task in models}) < len(models):
        names = ", ".join(f"{name} (revision {revision}, {task})" for name, revision, task in models)
        raise ConnectomeBenchError(
            f"--trained-on is for one model, but the results are of {names}; choose one with --model, or give their "
            "folders with --models"
        )
    return dict.fromkeys(models, tuple(dict.fromkeys(species)))


def simulated_species(records: Iterable[ModelRecord], training: Iterable[TrainedModel]) -> list[str]:
    """Return the sorted species on which any of the models was trained with simulated errors."""
    wanted = {model[1:] for model in training}
    learnt = [d for r in records if (r.revision, r.task) in wanted for d in r.trained_on]
    return sorted({data.species for data in learnt if data.source.get("simulated_errors")})


def _fetch(repo: str) -> ModelRecord:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from connectomebench.core.hub_errors import hub_errors
    from connectomebench.models.model_files import REPO_ID

    if not REPO_ID.fullmatch(repo):
        raise ConnectomeBenchError(f"there is no folder {repo}; give a folder with models, or ORG/NAME on the Hub")
    with hub_errors(repo):
        try:
            path = hf_hub_download(repo, FILE_NAME)
        except EntryNotFoundError:
            raise ConnectomeBenchError(
                f"{repo} has no {FILE_NAME}, so its training data are unknown; state them with --trained-on"
            ) from None
    return read_record(Path(path).parent)
