"""Sweeps: train several models on growing numbers of samples with several seeds, and record every answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import DataRecord, Rows
from connectomebench.evaluation.learning_curve import FEWEST_SIZES, LearningCurve, Run, fit_learning_curve
from connectomebench.evaluation.results import read_results, result_path
from connectomebench.evaluation.runner import evaluate_model
from connectomebench.evaluation.subsample import balanced_sample
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import IN_PROCESS

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from connectomebench.models.base import Model

ModelName = Literal["probe", "trivial", "grey", "image_classifier"]
PROBE_SEEDS, NETWORK_SEEDS = 10, 3
_CONDITION = re.compile(r"train(\d+)-seed(\d+)")
# with fewer, a class may have too few rows for a cross-validated head
_SMALLEST = 16


@dataclass(frozen=True)
class SweepConfig:
    """What is trained on what.

    Attributes
    ----------
    dataset, species, task, revision
        See :func:`connectomebench.dataset.loading.load_rows`.
    models
        ``probe``, ``trivial``, ``grey`` (baselines) or ``image_classifier``.
    sizes
        Numbers of training samples; None takes ``n_sizes``, evenly spaced in the logarithm, up to all training rows.
    n_sizes
        How many.
    seeds
        Seeds of a size; None takes 10 for probes and baselines and 3 for networks. A seed draws the samples, and larger
        sizes of it hold the smaller ones.
    encoder, encoder_revision
        Of the probe and the grey baseline.
    backbone, init, epochs, input_px
        Of the image classifier; see :class:`connectomebench.models.image_classifier_init.ImageClassifierConfig`.
    """

    dataset: str
    species: str
    task: str | None = None
    revision: str | None = None
    models: tuple[ModelName, ...] = ("probe",)
    sizes: tuple[int, ...] | None = None
    n_sizes: int = 10
    seeds: int | None = None
    encoder: str = "google/siglip2-so400m-patch16-512"
    encoder_revision: str | None = None
    backbone: str = "microsoft/resnet-50"
    init: Literal["pretrained", "random"] = "pretrained"
    epochs: int = 20
    input_px: int | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.models) - set(get_args(ModelName))):
            raise ConnectomeBenchError(f"unknown model {unknown[0]!r}; choose {', '.join(get_args(ModelName))}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConnectomeBenchError("name at least one model, and each once")
        if self.n_sizes < FEWEST_SIZES or (self.seeds is not None and self.seeds < 1):
            raise ConnectomeBenchError(f"a sweep needs {FEWEST_SIZES} sizes and one seed at least")
        if self.sizes is not None and (len(set(self.sizes)) < FEWEST_SIZES or min(self.sizes) < 2):
            raise ConnectomeBenchError(f"sizes are {FEWEST_SIZES} different numbers of samples, 2 or more each")


@dataclass(frozen=True)
class SweepJob:
    """One training run. It can be pickled, and writes its own file.

    Attributes
    ----------
    config
        The sweep.
    model, samples, seed
        What is trained, on how many samples, drawn with which seed.
    out
        Folder of result records.
    cache
        Folder of the encoder's vectors.
    """

    config: SweepConfig
    model: ModelName
    samples: int
    seed: int
    out: Path
    cache: Path

    @property
    def condition(self) -> str:
        """Condition of its records: ``train64-seed0``."""
        return f"train{self.samples}-seed{self.seed}"


@dataclass(frozen=True)
class SweepResult:
    """Learning curves of a finished sweep.

    Attributes
    ----------
    curves
        Model -> its curve.
    task, species
        Of the data.
    paths
        Every record.
    """

    curves: dict[str, LearningCurve]
    task: str
    species: str
    paths: tuple[Path, ...] = field(repr=False)


def run_sweep(
    config: SweepConfig,
    out: Path,
    *,
    cache: Path,
    scheduler: str = IN_PROCESS,
    target: float | None = None,
    seed: int = 0,
    echo: Callable[[str], None] = print,
) -> SweepResult:
    """Train every model at every size with every seed, evaluate each on the test rows, and fit learning curves.

    Runs whose records are there are kept, so that a sweep that was stopped goes on where it was.

    Parameters
    ----------
    config
        What is trained.
    out
        Folder of result records: ``OUT/MODEL/TASK/SPECIES/test@trainN-seedS.parquet``.
    cache
        Folder of the encoder's vectors; each image is encoded once.
    scheduler
        Where runs are made; see :func:`connectomebench.execution.open_runner.open_runner`. ``none`` makes one after the
        other, since each already uses all cores.
    target
        Balanced accuracy to reach, for example that of people on the same rows.
    seed
        Of the bootstrap.
    echo
        Receives each line of output.

    Raises
    ------
    ConnectomeBenchError
        If the data or a model cannot be loaded, a size is larger than the training partition, or records in ``out`` are
        of other data.
    """
    train, test = (_rows(config, partition) for partition in ("train", "test"))
    jobs = sweep_jobs(config, train, out.resolve(), cache.resolve())
    todo = [job for job in jobs if not _is_done(job, test)]
    if len(jobs) > len(todo):
        echo(f"{len(jobs) - len(todo)} of {len(jobs)} runs are there already")
    if todo and {"probe", "grey"} & {job.model for job in todo}:
        _encode(config, train, test, cache)
    with open_runner(scheduler, 1) as runner:
        for done, (i, _) in enumerate(runner.run(train_and_evaluate, todo, "sweep"), 1):
            echo(f"{done} of {len(todo)}: {todo[i].model}, {todo[i].samples} samples, seed {todo[i].seed}")
    paths = tuple(_path(job, test.data) for job in jobs)
    frame = read_results(paths)
    curves = {model: sweep_curve(frame[frame["model"] == model], target=target, seed=seed) for model in config.models}
    return SweepResult(curves, test.data.task, test.data.species, paths)


def sweep_jobs(config: SweepConfig, train: Rows, out: Path, cache: Path) -> list[SweepJob]:
    """List the runs of a sweep, small ones first.

    Raises
    ------
    ConnectomeBenchError
        If a size is larger than the training partition.
    """
    n = len(train.dataset)
    sizes = sorted(set(config.sizes)) if config.sizes is not None else spaced_sizes(n, config.n_sizes)
    if sizes[-1] > n:
        raise ConnectomeBenchError(f"{sizes[-1]} samples are more than the {n} training rows; lower sizes")
    return [
        SweepJob(config, model, size, number, out, cache)
        for size in sizes
        for model in config.models
        for number in range(_seeds(config, model))
    ]


def spaced_sizes(rows: int, n_sizes: int) -> list[int]:
    """Return sizes that are evenly spaced in the logarithm, from 16 to all rows.

    Raises
    ------
    ConnectomeBenchError
        If there are too few rows for four sizes.

    Examples
    --------
    >>> from connectomebench.evaluation.sweep import spaced_sizes
    >>> spaced_sizes(1000, 5)
    [16, 45, 126, 356, 1000]
    """
    sizes = sorted({round(size) for size in np.geomspace(_SMALLEST, max(rows, _SMALLEST), n_sizes)})
    if rows < _SMALLEST or len(sizes) < FEWEST_SIZES:
        raise ConnectomeBenchError(f"{rows} training rows give no {FEWEST_SIZES} sizes from {_SMALLEST} on; build more")
    return sizes


def train_and_evaluate(job: SweepJob) -> str:
    """Train and evaluate one run; returns the path of its records, which are written atomically."""
    train, validation, test = (_rows(job.config, partition) for partition in ("train", "validation", "test"))
    drawn = sorted(balanced_sample(list(train.dataset["answer"]), job.samples, job.seed))
    model = _train(job, train.dataset.select(drawn), validation.dataset, train.data)
    path = _path(job, test.data)
    evaluate_model(model, test.dataset, "test", test.data.fingerprint, path, condition=job.condition, name=job.model)
    return str(path)


def sweep_run(condition: str) -> tuple[int, int] | None:
    """Return the training samples and the seed that a condition of a sweep names; None for another condition.

    Examples
    --------
    >>> from connectomebench.evaluation.sweep import sweep_run
    >>> sweep_run("train64-seed0"), sweep_run("votes5")
    ((64, 0), None)
    """
    match = _CONDITION.fullmatch(condition)
    return (int(match[1]), int(match[2])) if match else None


def sweep_curve(frame: pd.DataFrame, *, target: float | None = None, seed: int = 0) -> LearningCurve:
    """Fit the learning curve of one model from the records of its runs.

    Parameters
    ----------
    frame
        Records of one model, task and species, with the conditions of a sweep.
    target, seed
        See :func:`connectomebench.evaluation.learning_curve.fit_learning_curve`.

    Raises
    ------
    ConnectomeBenchError
        If they are not the records of a sweep.
    """
    runs = []
    reference = None
    for condition, rows in frame.groupby("condition", sort=True):
        run = sweep_run(str(condition))
        if run is None:
            raise ConnectomeBenchError(f"{condition!r} is no condition of a sweep")
        rows = rows.sort_values("sample_id")
        if reference is None:
            reference = rows
        elif rows["sample_id"].tolist() != reference["sample_id"].tolist():
            raise ConnectomeBenchError(f"the run {condition!r} answers other rows than the first one; sweep again")
        predictions = rows["prediction"].fillna("").to_numpy(str)
        runs.append(Run(*run, predictions))
    if reference is None:
        raise ConnectomeBenchError("there are no records of a sweep")
    answers, groups = (reference[name].to_numpy(str) for name in ("answer", "group"))
    return fit_learning_curve(runs, answers, groups, target=target, seed=seed)


def _rows(config: SweepConfig, partition: str) -> Rows:
    return load_rows(config.dataset, config.species, partition, config.revision, task=config.task)


def _seeds(config: SweepConfig, model: ModelName) -> int:
    if config.seeds is not None:
        return config.seeds
    return NETWORK_SEEDS if model == "image_classifier" else PROBE_SEEDS


def _path(job: SweepJob, data: DataRecord) -> Path:
    return result_path(job.out, job.model, data.task, data.species, "test", job.condition)


def _is_done(job: SweepJob, test: Rows) -> bool:
    path = _path(job, test.data)
    if not path.is_file():
        return False
    if set(read_results(path)["dataset_fingerprint"]) != {test.data.fingerprint}:
        raise ConnectomeBenchError(f"{path} is of another build of the data; give the sweep another --out")
    return True


def _encode(config: SweepConfig, train: Rows, test: Rows, cache: Path) -> None:
    """Encode all images once, so that the runs only read vectors."""
    from connectomebench.models.encoders import load_encoder
    from connectomebench.models.features import encoder_store, stored_rows
    from connectomebench.models.probe import ProbeConfig

    encoder = load_encoder(config.encoder, config.encoder_revision)
    store = encoder_store(encoder, ProbeConfig.pooling, cache)
    for rows in (train.dataset, test.dataset):
        store.rows(stored_rows(rows), len(rows) * len(rows[0]["images"]), "encode images")


def _train(job: SweepJob, train: Dataset, validation: Dataset, data: DataRecord) -> Model:
    config = job.config
    if job.model == "image_classifier":
        from connectomebench.models.image_classifier_init import ImageClassifierConfig
        from connectomebench.models.image_classifier_training import train_image_classifier

        own = ImageClassifierConfig(
            config.backbone, init=config.init, input_px=config.input_px, epochs=config.epochs, seed=job.seed
        )
        # the largest batch that the rows allow, as for the whole partition
        own = replace(own, batch_size=max(2, min(own.batch_size, job.samples)))
        return train_image_classifier(train, validation, [data], own, progress=False)
    if job.model == "trivial":
        from connectomebench.models.trivial_baseline import TrivialConfig, train_trivial

        return train_trivial(train, TrivialConfig(seed=job.seed), job.cache, progress=False)
    from connectomebench.models.grey_baseline import train_grey
    from connectomebench.models.probe import ProbeConfig, train_probe

    learn = train_probe if job.model == "probe" else train_grey
    probe = ProbeConfig(config.encoder, config.encoder_revision, seed=job.seed)
    return learn(train, probe, job.cache, progress=False)


def people_level(task: Task) -> float | None:
    """Return the balanced accuracy to compare with: the best person of the published evaluation; None without one."""
    return max((right / total for right, total in task.published_people), default=None)
