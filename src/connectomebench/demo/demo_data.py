"""Locate the demo's data: a folder, datasets on the Hub, or a small build of the embedded neurons."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import hub_errors
from connectomebench.dataset.manifest import FILE_NAME
from connectomebench.models.model_files import REPO_ID

DATASETS_VARIABLE = "CONNECTOMEBENCH_DATASETS"
RESULTS_VARIABLE = "CONNECTOMEBENCH_RESULTS"
DATASETS = (
    "connectomebench/merge_action",
    "connectomebench/endpoint_error_identification_with_em",
    "connectomebench/merge_error_identification",
    "connectomebench/split_action",
)
"""What a Space shows where `DATASETS_VARIABLE` names nothing else."""

_SAMPLES = [FILE_NAME, "*/test-*.parquet"]
_RESULTS = ["results/*.parquet", "results/**/*.parquet", "models/**/connectomebench.json"]


def cache_folder() -> Path:
    """Return the demo's cache folder: ``$XDG_CACHE_HOME/connectomebench/demo``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "connectomebench" / "demo"


def embedded_folder(folder: Path | None = None) -> Path:
    """Return a folder with the quickstart's datasets, models and results; built if missing.

    Parameters
    ----------
    folder
        Output folder; ``quickstart`` in `cache_folder` by default. An interrupted run is resumed.
    """
    from connectomebench.quickstart import quickstart

    out = folder or cache_folder() / "quickstart"
    if not (out / "report" / "index.html").is_file():  # written last
        print(f"The first start builds a small example in {out}: about 5 minutes on 2 cores.", file=sys.stderr)
        quickstart(out)
    return out


def space_folder(folder: Path | None = None) -> Path:
    """Fetch the data of a Space: the datasets named in ``CONNECTOMEBENCH_DATASETS``, records from ``..._RESULTS``.

    Both hold names of dataset repositories, ``ORG/NAME``, separated by spaces. The results repository, which
    is optional, holds ``results`` and ``models`` as `connectomebench evaluate` and the trainings write them; only the
    records of models are fetched. A Space without secrets sees public repositories only.

    Parameters
    ----------
    folder
        Output folder; ``hub`` in `cache_folder` by default.

    Raises
    ------
    ConnectomeBenchError
        If a name is invalid, a repository does not exist, or the Hub is unreachable.
    """
    out = folder or cache_folder() / "hub"
    for repo in named_repositories(DATASETS_VARIABLE) or DATASETS:
        _fetch(repo, out / repo.replace("/", "--"), _SAMPLES)
    for repo in named_repositories(RESULTS_VARIABLE):
        _fetch(repo, out, _RESULTS)
    return out


def named_repositories(variable: str) -> list[str]:
    """Return the repositories named in an environment variable, ``ORG/NAME`` separated by spaces.

    Raises
    ------
    ConnectomeBenchError
        If a name is invalid.
    """
    names = os.environ.get(variable, "").split()
    for name in names:
        if not REPO_ID.fullmatch(name):
            raise ConnectomeBenchError(f"{variable} holds {name[:80]!r}, which is no ORG/NAME of a repository")
    return names


def _fetch(repo: str, folder: Path, patterns: Sequence[str]) -> None:
    from huggingface_hub import snapshot_download

    with hub_errors(repo):
        snapshot_download(
            repo, repo_type="dataset", local_dir=folder, allow_patterns=list(patterns), library_name="connectomebench"
        )
