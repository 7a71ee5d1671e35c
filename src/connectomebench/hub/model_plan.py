"""Plan the publication of a model."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.cards.calibration_plot import calibration_figure
from connectomebench.cards.model_card import CALIBRATION, model_card
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import fetch_manifest, resolve_dataset
from connectomebench.dataset.repo_layout import CARD
from connectomebench.evaluation.results import default_rows, read_results, result_schema
from connectomebench.hub.diff import FileChange, PublicationPlan, compare, texts
from connectomebench.hub.leaderboard import eval_results
from connectomebench.hub.model_folder import (
    EVAL_RESULTS,
    TOKENIZER,
    LocalModel,
    is_package_file,
    is_result,
    own_fingerprints,
    read_model,
)
from connectomebench.hub.options import PublishConfig
from connectomebench.hub.remote import RemoteRepo, check_repo_id, read_repo, refuse_other_content, refuse_public
from connectomebench.hub.secret_scan import check_private
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record, record_text
from connectomebench.models.recalibration import read_recalibrations

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import HfApi

_MAX_BYTES = 16_000_000
_MAX_RESULT_BYTES = 200_000_000


def model_plan(api: HfApi | None, folder: Path, repo_id: str, options: PublishConfig) -> PublicationPlan:
    """Compare a model folder with a repository.

    Result records of the same model that are in the repository stay, and count for its card.

    Parameters
    ----------
    api
        The Hub; None plans against an empty repository.
    folder
        Of the model; see :func:`connectomebench.hub.model_folder.read_model`.
    repo_id
        Repository to publish to.
    options
        Options of the publication.

    Raises
    ------
    ConnectomeBenchError
        If the folder is not complete, the repository holds other content or another model, a private model would go to
        a public repository, or a text holds something private.
    """
    local = read_model(folder)
    record = local.record
    remote = read_repo(api, repo_id, "model", options.branch)
    refuse_other_content(remote, [FILE_NAME])
    refuse_public(remote, options.private)
    there = _read_record(remote)
    same = there is not None and (there.kind, there.task, there.revision) == (record.kind, record.task, record.revision)
    if there is not None and not same and not options.replace:
        raise ConnectomeBenchError(
            f"{repo_id} holds another model ({there.kind}, {there.task}, {there.revision}); add --replace to put yours "
            "in its place"
        )
    with tempfile.TemporaryDirectory(prefix="connectomebench-") as name:
        results = _results(remote if same else None, record, options, Path(name))
        datasets = _evaluated_datasets(api, record, options, remote if same else None)
        record = _with_datasets(record, there if same else None, datasets, options)
        contents: dict[str, Path | bytes] = {
            **local.files,
            **_generated_files(local, record, repo_id, results, datasets),
        }
    changes, kept = compare(contents, remote.files)
    changes += [
        FileChange("delete", path, file.size, None)
        for path, file in remote.files.items()
        if is_package_file(path) and path not in contents
    ]
    checked = {path: text for path, text in texts(changes).items() if path not in TOKENIZER}
    evaluated = set() if results is None else set(results["dataset_fingerprint"])
    check_private(checked, own_fingerprints(local) | evaluated)
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    verb = "Add" if there is None else "Update" if same else "Replace"
    named = ", ".join(record.tasks)
    summary = f"{verb} {record.kind} ({named}, revision {record.revision})"
    several = len(record.tasks) > 1
    lines = [
        f"{f'{d.species}, {d.task}' if several else d.species}: {sum(d.rows.values())} {d.partition} rows, "
        f"data {d.fingerprint}"
        for d in record.trained_on
    ]
    return PublicationPlan(remote, options.private, ordered, kept, summary, "\n".join(lines))


def _read_record(remote: RemoteRepo) -> ModelRecord | None:
    if FILE_NAME not in remote.files:
        return None
    with tempfile.TemporaryDirectory(prefix="connectomebench-") as name:
        try:
            (Path(name) / FILE_NAME).write_bytes(remote.read(FILE_NAME, _MAX_BYTES))
            return read_record(Path(name))
        except (ConnectomeBenchError, ValueError) as error:
            raise ConnectomeBenchError(
                f"{FILE_NAME} of {remote.repo_id} is damaged or not of this package; choose another name, or mend it "
                "there"
            ) from error


def _results(
    remote: RemoteRepo | None, record: ModelRecord, options: PublishConfig, folder: Path
) -> pd.DataFrame | None:
    """Collect the result records of a model: those given, then those on the Hub for other partitions.

    Only those of the default condition: an ablation is not the model's result.
    """
    import pandas as pd

    frames: list[pd.DataFrame] = []
    if options.results is not None:
        given = default_rows(read_results(options.results))
        # by revision alone: evaluated under --name, or from the Hub, the records have another name
        own = given[(given["model_revision"] == record.revision) & given["task"].isin(record.tasks)]
        if len(names := sorted(set(own["model"]))) > 1:
            raise ConnectomeBenchError(
                f"{options.results} holds results of revision {record.revision} under several names "
                f"({', '.join(names)}); give --results the folder of one of them"
            )
        own = own.assign(model=record.name)
        if own.empty:
            named = ", ".join(record.tasks)
            raise ConnectomeBenchError(
                f"{options.results} holds no results of {record.name}, revision {record.revision}, on {named}; "
                "evaluate this model, or leave --results out"
            )
        frames.append(own)
    if remote is not None:
        frames += _remote_results(remote, folder)
    if not frames:
        return None
    frame = pd.concat(frames, ignore_index=True)
    return frame.drop_duplicates(["task", "species", "partition", "sample_id"], keep="first", ignore_index=True)


def _remote_results(remote: RemoteRepo, folder: Path) -> list[pd.DataFrame]:
    frames = []
    for i, path in enumerate(path for path in remote.files if is_result(path)):
        file = folder / f"{i}.parquet"
        try:
            file.write_bytes(remote.read(path, _MAX_RESULT_BYTES))
            frames.append(default_rows(read_results(file)))
        except (ConnectomeBenchError, ValueError) as error:
            reason = str(error).replace(str(file), path)[:200]
            raise ConnectomeBenchError(
                f"{path} of {remote.repo_id} cannot be used ({reason}); delete it there"
            ) from error
    return frames


@dataclass(frozen=True)
class _HubDataset:
    """A dataset on the Hub: its name, commit and manifest; the latter two are None where the Hub cannot be asked."""

    repo: str
    commit: str | None
    manifest: dict[str, Any] | None


def _evaluated_datasets(
    api: HfApi | None, record: ModelRecord, options: PublishConfig, remote: RemoteRepo | None
) -> dict[str, _HubDataset]:
    """Return the dataset of each task of the model, where one is known."""
    found = {
        task: _evaluated_dataset(api, record.of_task(task), options, remote, record.tasks) for task in record.tasks
    }
    return {task: dataset for task, dataset in found.items() if dataset is not None}


def _evaluated_dataset(
    api: HfApi | None,
    record: ModelRecord,
    options: PublishConfig,
    remote: RemoteRepo | None,
    all_tasks: Collection[str],
) -> _HubDataset | None:
    """Return the dataset of a task: one of those named, else that of the training or an earlier commit."""
    named = options.datasets or tuple(filter(None, [_dataset_of(record, remote)]))
    if not named or (not options.datasets and options.results is None and remote is None):
        return None
    if api is None:
        return _HubDataset(named[0], None, None) if len(named) == 1 else None
    tasks = {}
    for repo in named:
        commit = resolve_dataset(repo, None)
        manifest = fetch_manifest(repo, commit)
        if manifest["task"] == record.task:
            return _HubDataset(repo, commit, manifest)
        tasks[repo] = str(manifest["task"])[:60]
    if set(tasks.values()) & set(all_tasks):  # another task of the same model
        return None
    held = ", ".join(f"{repo} holds the task {task}" for repo, task in tasks.items())
    raise ConnectomeBenchError(
        f"{held}, but {record.name} was trained for {record.task}; add --dataset with the dataset of that task"
    )


def _with_datasets(
    record: ModelRecord, there: ModelRecord | None, datasets: Mapping[str, _HubDataset], options: PublishConfig
) -> ModelRecord:
    """Name the training data by their repository, where it holds the same data.

    A model is often trained on a folder that is published too. Which data that is, the fingerprint says; the entry of
    an earlier publication is kept, so that a dataset that moves on does not change the model.
    """
    earlier = {
        (d.task, d.species, d.partition, d.fingerprint): d for d in (there.trained_on if there else ()) if d.repo
    }
    found = []
    for data in record.trained_on:
        known = earlier.get((data.task, data.species, data.partition, data.fingerprint))
        dataset = datasets.get(data.task if len(record.tasks) > 1 else record.task)
        species = dataset.manifest["species"] if dataset is not None and dataset.manifest is not None else {}
        if data.repo is not None:
            found.append(data)
        elif known is not None and (not options.datasets or known.repo in options.datasets):
            found.append(known)
        elif dataset is not None and species.get(data.species, {}).get("fingerprint") == data.fingerprint:
            found.append(replace(data, repo=dataset.repo, revision=dataset.commit))
        else:
            found.append(data)
    return replace(record, trained_on=tuple(found))


def _dataset_of(record: ModelRecord, remote: RemoteRepo | None) -> str | None:
    """Return the evaluated dataset: the one trained on, or the one named in an earlier publication."""
    import yaml
    from huggingface_hub import parse_eval_result_entries

    known = next((data.repo for data in record.trained_on if data.repo), None)
    path = f"{EVAL_RESULTS}/{record.task}.yaml"
    if known is not None or remote is None or path not in remote.files:
        return known
    try:
        named = parse_eval_result_entries(yaml.safe_load(remote.read(path, _MAX_BYTES)))[0].dataset_id
        check_repo_id(named)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ConnectomeBenchError(f"{path} of {remote.repo_id} is damaged; delete it there") from error
    return named


def _generated_files(
    local: LocalModel,
    record: ModelRecord,
    repo_id: str,
    results: pd.DataFrame | None,
    datasets: Mapping[str, _HubDataset],
) -> dict[str, bytes]:
    """Generate the record, card, result files, calibration plot and leaderboard entries."""
    made: dict[str, bytes] = {}
    if record != local.record:
        made[FILE_NAME] = record_text(record).encode()
    if results is not None:
        made |= _result_files(results)
        if default_rows(results)["probability"].notna().any():
            made[CALIBRATION] = calibration_figure(results)
        for task, dataset in datasets.items():
            if dataset.manifest is None:
                continue
            entries = eval_results(results, record.of_task(task), dataset.repo, dataset.commit, dataset.manifest)
            made |= {f"{EVAL_RESULTS}/{name}": text.encode() for name, text in entries.items()}
    evaluated = next((dataset.repo for dataset in datasets.values()), None)
    made[CARD] = str(
        model_card(record, results, repo_id, {*local.files, *made}, evaluated, read_recalibrations(local.folder))
    ).encode()
    return made


def _result_files(results: pd.DataFrame) -> dict[str, bytes]:
    """Write the records reproducibly, one file per task, species and partition."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = {}
    places: Any = results.groupby(["task", "species", "partition"], sort=True)
    for (task, species, partition), rows in places:
        ordered = rows.sort_values("sample_id", ignore_index=True)
        table = pa.Table.from_pandas(ordered, schema=result_schema(), preserve_index=False)
        stream = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(None), stream, compression="zstd")
        made[f"results/{task}/{species}/{partition}.parquet"] = stream.getvalue()
    return made
