"""Plan the publication of result records: the repository that a Space shows answers from."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.repo_layout import CARD
from connectomebench.evaluation.results import read_results
from connectomebench.hub.diff import FileChange, PublicationPlan, compare, texts
from connectomebench.hub.options import PublishConfig
from connectomebench.hub.remote import RemoteRepo, read_repo, refuse_other_content, refuse_public
from connectomebench.hub.secret_scan import check_private
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import HfApi

RESULTS_NAME = "results"
"""Name of the repository, and of its folder of records."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_RECORDS = re.compile(rf"{_NAME}/[a-z_]+/[a-z][a-z0-9_]*/[a-z]+(?:@{_NAME})?\.parquet")
_MAX_BYTES = 200_000_000
_CARD = """---
pretty_name: Answers of models
tags:
- connectomics
- proofreading
- connectomebench
configs:
- config_name: results
  data_files: results/**/*.parquet
---

# Answers of models

Result records of [connectomebench](https://huggingface.co/connectomebench): one row for each answer of a model or a
person to a sample, in `results/MODEL/TASK/SPECIES/PARTITION.parquet`, and the training records of models in `models/`.

```python
from datasets import load_dataset

load_dataset("{repo}", "results", split="train")  # every answer; `partition` names the samples' partition
```

A Space of the demo shows them where `CONNECTOMEBENCH_RESULTS` names this repository; one of the same owner finds it as
`{repo}` by itself if it is called `results`.
"""


def result_files(folder: Path) -> dict[str, Path]:
    """Return the files of result records in a folder, by their path in it: ``MODEL/TASK/SPECIES/PARTITION.parquet``."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("*/*/*/*.parquet"))}
    return {name: path for name, path in found.items() if _RECORDS.fullmatch(name) and not path.is_symlink()}


def results_plan(api: HfApi | None, folder: Path, repo_id: str, options: PublishConfig) -> PublicationPlan:
    """Compare a folder of result records with a repository.

    Records that are only in the repository stay. Those in both are replaced if they are of the same revision of the
    model on the same data; of another one only with ``--replace``.

    Parameters
    ----------
    api
        The Hub; None plans against an empty repository.
    folder
        ``OUT/results``; the training records of its models are taken from ``OUT/models``.
    repo_id
        Dataset repository to publish to.
    options
        Options of the publication.

    Raises
    ------
    ConnectomeBenchError
        If records cannot be read, the repository holds other content, records of another model would be replaced, or a
        text holds something private.
    """
    files = result_files(folder)
    frames = {name: read_results(path) for name, path in files.items()}
    remote = read_repo(api, repo_id, "dataset", options.branch)
    refuse_other_content(remote, [path for path in remote.files if path.startswith(f"{RESULTS_NAME}/")])
    refuse_public(remote, options.private)
    if not options.replace:
        for name, frame in frames.items():
            _refuse_other_model(remote, f"{RESULTS_NAME}/{name}", frame)
    records = _training_records(folder.resolve().parent / "models", frames)
    contents: dict[str, Path | bytes] = {f"{RESULTS_NAME}/{name}": path for name, path in files.items()}
    contents |= {f"models/{name}/{FILE_NAME}": path for name, (path, _) in records.items()}
    contents[CARD] = _CARD.replace("{repo}", repo_id).encode()
    changes, kept = compare(contents, remote.files)
    known = {str(value) for frame in frames.values() for value in set(frame["model_revision"])}
    known |= {str(value) for frame in frames.values() for value in set(frame["dataset_fingerprint"])}
    for _, record in records.values():
        known |= {record.revision, *(data.fingerprint for data in record.trained_on)}
        known |= {value for value in record.config.values() if isinstance(value, str)}
    check_private(texts(changes), known)
    models = sorted({name.split("/")[0] for name in files})
    summary = f"{'Update' if remote.own_files else 'Add'} answers of {', '.join(models)}"
    ordered: tuple[FileChange, ...] = tuple(sorted(changes, key=lambda change: change.path))
    return PublicationPlan(remote, options.private, ordered, kept, summary[:200], "")


def _refuse_other_model(remote: RemoteRepo, path: str, frame: pd.DataFrame) -> None:
    if path not in remote.files:
        return
    try:
        there = read_results_bytes(remote.read(path, _MAX_BYTES))
    except (ConnectomeBenchError, ValueError) as error:
        raise ConnectomeBenchError(
            f"{path} of {remote.repo_id} cannot be used ({str(error)[:200]}); delete it there, or add --replace"
        ) from error
    for column in ("model_revision", "dataset_fingerprint"):
        if other := sorted(set(there[column]) - set(frame[column])):
            raise ConnectomeBenchError(
                f"{path} of {remote.repo_id} holds answers with {column} {other[0]}, yours has "
                f"{', '.join(sorted(set(frame[column])))}; evaluate yours under a --name, or add --replace"
            )


def read_results_bytes(content: bytes) -> pd.DataFrame:
    """Read the columns of stored records that say whose answers they are: ``model_revision``, ``dataset_fingerprint``.

    Raises
    ------
    ValueError
        If the content is not such a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(content), columns=["model_revision", "dataset_fingerprint"]).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error


def _training_records(folder: Path, frames: dict[str, pd.DataFrame]) -> dict[str, tuple[Path, ModelRecord]]:
    """Return the training records of the models that answered, by their folder in ``models``."""
    answered = {
        (str(revision), str(task))
        for frame in frames.values()
        for revision, task in set(zip(frame["model_revision"], frame["task"], strict=True))
    }
    found = {}
    for path in sorted(folder.rglob(FILE_NAME)):
        record = read_record(path.parent)
        if any((record.revision, task) in answered for task in record.tasks):
            found[path.parent.relative_to(folder).as_posix()] = (path, record)
    return found
