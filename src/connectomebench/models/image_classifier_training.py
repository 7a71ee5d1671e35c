"""Train an image classifier: check the rows, fit network and temperature, and write the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.tasks import YES_NO, get_task
from connectomebench.dataset.manifest import library_versions
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.choices import candidate_rows, fit_none_weight, is_choice
from connectomebench.models.image_classifier import KIND, ChoosingClassifier, ImageClassifier
from connectomebench.models.image_classifier_init import SMALL_ROWS, ImageClassifierConfig, start_network
from connectomebench.models.image_classifier_trainer import ImageRows, fit_network, score_rows
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.network_folder import network_revision
from connectomebench.models.training_run import best_epoch, memory_hint, used_precision
from connectomebench.models.view_classifier import ViewClassifier, calibrated

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("images", "views", "answer", "sample_id")
LIBRARIES = (
    "accelerate",
    "connectomebench",
    "huggingface_hub",
    "numpy",
    "pillow",
    "safetensors",
    "torch",
    "transformers",
)


def train_image_classifier(
    train: Dataset,
    validation: Dataset,
    data: Sequence[DataRecord],
    config: ImageClassifierConfig | None = None,
    checkpoints: Path | None = None,
    *,
    resume: bool = True,
    progress: bool = True,
) -> ImageClassifier | ChoosingClassifier:
    """Train an image classifier.

    Each epoch shows every answer equally often. The epoch that is best on the validation rows, by balanced accuracy or
    as ``config`` says, is kept (of equals the one with the lower log loss), and the temperature is fitted on the same
    rows. The same seed, rows, precision and versions give the same model on a CPU, interrupted or not. Started by
    ``accelerate launch``, all processes must call it, and all return the model. Trainer seeds the random numbers of
    Python and NumPy with ``config.seed``.

    For a choice among candidates the network judges each by itself, and the weight of none is fitted on the validation
    rows.

    Parameters
    ----------
    train, validation
        Stored rows of one task; ``images``, ``views``, ``answer`` and ``sample_id`` are read.
    data
        What the training rows are, one entry a species.
    config
        How to train; the defaults where None.
    checkpoints
        Folder for the state after each epoch, of which the last and the best are kept. None keeps none.
    resume
        Resume a run that was killed from the last epoch in ``checkpoints``; otherwise what is there is removed.
    progress
        Show a progress bar.

    Raises
    ------
    ConnectomeBenchError
        If rows or settings do not fit, the backbone cannot be loaded, checkpoints are of another training, memory runs
        out or the loss is not finite.
    """
    config = config or ImageClassifierConfig()
    # what the machine chooses is a setting as any other: it is recorded, and a run is not resumed with another
    config = replace(config, precision=used_precision(config.precision))
    tasks = {entry.task for entry in data}
    if len(tasks) != 1:
        raise ConnectomeBenchError(f"train on one task, not on {', '.join(sorted(tasks)) or 'none'}")
    task = get_task(tasks.pop())
    if not task.labels:
        raise ConnectomeBenchError(
            f"task {task.name} asks for a place and not for one of several answers; take another"
        )
    choices = validation if is_choice(train) else None
    labels = task.labels if choices is None else YES_NO
    if choices is not None:  # each candidate is judged by itself
        train, validation = candidate_rows(train), candidate_rows(validation)
    views = shared_views(train, "training")
    if shared_views(validation, "validation") != views:
        raise ConnectomeBenchError("training and validation rows have different views; take both from one dataset")
    train_rows = image_rows(train, views, labels, "training")
    validation_rows = image_rows(validation, views, labels, "validation")
    prior = answer_shares(train_rows.labels, len(labels))
    if config.train == "small":
        train_rows = train_rows.select(small_sample(train_rows.labels, SMALL_ROWS, config.seed))

    backbone = Path(config.backbone).name if Path(config.backbone).is_dir() else config.backbone
    versions = library_versions(LIBRARIES)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), memory_hint(config):
        torch.manual_seed(config.seed)
        network, base, base_revision = start_network(config, labels, views, prior.tolist())
        rows = [(part.ids, part.labels.tolist()) for part in (train_rows, validation_rows)]
        configuration = {
            "classifier": {**asdict(config), "backbone": backbone},
            "start": network_revision(network),
            "data": [asdict(entry) for entry in data],
            "rows": content_key(*rows),
            "versions": versions,
        }
        history, validation_rows = fit_network(
            network, train_rows, validation_rows, config, configuration, checkpoints, resume, progress
        )
        scores = score_rows(network, validation_rows)
    temperature = fit_temperature(scores, validation_rows.labels, prior)
    final = ViewClassifier(**{**network.settings, "temperature": temperature})
    final.load_state_dict(network.state_dict())
    settings = {
        **asdict(config),
        "backbone": backbone,
        "input_px": network.settings["input_px"],
        "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "temperature": temperature,
        "train_rows": len(train_rows),
        "validation_rows": len(validation_rows),
        "best_epoch": best_epoch(history, config.choose_by) + 1,
        "history": history,
    }
    record = ModelRecord(
        kind=KIND,
        name=final.settings["backbone"]["model_type"],
        revision=network_revision(final),
        task=task.name,
        base_model=base,
        base_revision=base_revision,
        config=settings,
        trained_on=tuple(data),
        versions=versions,
    )
    classifier = ImageClassifier(final, record)
    return classifier if choices is None else ChoosingClassifier(classifier, fit_none_weight(classifier, choices))


def shared_views(dataset: Dataset, what: str) -> list[str]:
    """Return the names of the images of every row.

    Parameters
    ----------
    dataset
        Stored rows.
    what
        Name of the rows, for messages.

    Raises
    ------
    ConnectomeBenchError
        If columns are missing, or rows have different views.
    """
    missing = set(COLUMNS) - set(dataset.column_names)
    if missing:
        raise ConnectomeBenchError(f"the {what} rows lack the columns {', '.join(sorted(missing))}; build them again")
    found = {tuple(views) for views in dataset["views"]}
    if len(found) != 1:
        raise ConnectomeBenchError(f"the {what} rows have {len(found)} different sets of views; all need the same one")
    return list(found.pop())


def answer_shares(labels: NDArray[np.intp], classes: int) -> NDArray[np.float64]:
    """Return the share of each class among rows, shape (classes,), none of them 0.

    Examples
    --------
    >>> answer_shares(np.array([0, 0]), 2).tolist()
    [0.75, 0.25]
    """
    # One more of each, so that an answer that never occurred is improbable and not impossible.
    counts = np.bincount(labels, minlength=classes) + 1
    return counts / counts.sum()


def small_sample(labels: NDArray[np.intp], most: int, seed: int) -> NDArray[np.intp]:
    """Draw no more than so many rows, as evenly from the classes as these allow.

    Parameters
    ----------
    labels
        Class codes, shape (rows,).
    most
        Number of rows to draw; all where there are no more.
    seed
        Of the draw.

    Returns
    -------
    NDArray
        Row numbers, in order.

    Examples
    --------
    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> np.bincount(labels[small_sample(labels, 40, 0)]).tolist()
    [30, 10]
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(labels), np.intp)
    for code in np.unique(labels):
        own = np.flatnonzero(labels == code)
        place[random.permutation(own)] = np.arange(len(own))
    # the first of every class, then the second of every class, and so on
    order = np.lexsort((random.permutation(len(labels)), place))
    return np.sort(order[:most])


def image_rows(dataset: Dataset, views: Sequence[str], labels: Sequence[str], what: str) -> ImageRows:
    """Return stored rows as rows to train or validate on; pictures stay as they are stored.

    Parameters
    ----------
    dataset
        Stored rows.
    views
        Names of the images of every row.
    labels
        Answers, in the order of their codes.
    what
        Name of the rows, for messages.

    Raises
    ------
    ConnectomeBenchError
        If a row has another answer, or all have the same.
    """
    answers = list(dataset["answer"])
    foreign = sorted(set(answers) - set(labels))
    if foreign:
        raise ConnectomeBenchError(f"the {what} rows have the answer {foreign[0]!r}, not one of {', '.join(labels)}")
    if len(set(answers)) < 2:
        raise ConnectomeBenchError(f"all {len(answers)} {what} rows have the same answer; build more samples")
    codes = np.array([labels.index(answer) for answer in answers])
    stored = dataset.select_columns(["images"]).with_format("arrow")
    return ImageRows(stored, codes, list(dataset["sample_id"]), tuple(views))


def fit_temperature(scores: NDArray[np.float64], labels: NDArray[np.intp], prior: NDArray[np.float64]) -> float:
    """Fit the temperature of :func:`.view_classifier.calibrated` by minimising log loss.

    Targets are smoothed as Platt did (1999), so that scores without a mistake do not end in probabilities of 0 and 1.

    Parameters
    ----------
    scores
        Shape (rows, classes).
    labels
        Class codes, shape (rows,).
    prior
        Shape (classes,).
    """
    from scipy.optimize import minimize_scalar

    counts = np.bincount(labels, minlength=len(prior))
    targets = np.tile(1 / (counts[labels] + len(prior))[:, None], (1, len(prior)))
    targets[np.arange(len(labels)), labels] = (counts[labels] + 1) / (counts[labels] + len(prior))

    def loss(log_temperature: float) -> float:
        return -float(np.sum(targets * np.log(calibrated(scores, np.exp(log_temperature), prior))))

    result: Any = minimize_scalar(loss, bounds=(np.log(0.01), np.log(1000)), method="bounded")
    return float(np.exp(result.x))
