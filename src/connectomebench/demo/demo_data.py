"""Locate the demo's data: a folder, datasets on the Hub, or a small build of the embedded neurons."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import hub_errors
from connectomebench.dataset.card_template import ORGANISATION
from connectomebench.dataset.manifest import FILE_NAME
from connectomebench.models.model_files import REPO_ID

DATASETS_VARIABLE = "CONNECTOMEBENCH_DATASETS"
RESULTS_VARIABLE = "CONNECTOMEBENCH_RESULTS"
SPACE_VARIABLE = "SPACE_ID"
"""Set by the Hub in every Space: ``OWNER/NAME``."""
TASKS = (
    "merge_action",
    "merge_action_with_em",
    "endpoint_error_identification",
    "endpoint_error_identification_with_em",
    "merge_error_identification",
    "merge_error_identification_with_em",
    "split_action",
    "split_action_with_em",
)
"""A Space shows ``OWNER/TASK`` of these where `DATASETS_VARIABLE` names nothing else."""

_SAMPLES = [FILE_NAME, "*/test-*.parquet", "*/scenes-test-*.zip", "*/neighbourhoods-test-*.zip"]
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
        print(f"The first start builds a small example in {out}: about 8 minutes on 2 cores.", file=sys.stderr)
        quickstart(out)
    return out


def space_folder(folder: Path | None = None) -> Path:
    """Fetch the data of a Space: the datasets named in ``CONNECTOMEBENCH_DATASETS``, records from ``..._RESULTS``.

    Where they name nothing, these are ``OWNER/TASK`` of `TASKS` and ``OWNER/results``, of the Space's owner, as far as
    they are there. Both hold names of dataset repositories, ``ORG/NAME``, separated by spaces. The results repository,
    which is optional, holds ``results`` and ``models`` as `connectomebench evaluate` and the trainings write them; only
    the records of models are fetched. A Space without secrets sees public repositories only.

    Parameters
    ----------
    folder
        Output folder; ``hub`` in `cache_folder` by default.

    Raises
    ------
    ConnectomeBenchError
        If a name is invalid, a named repository does not exist, no dataset is there, or the Hub is unreachable.
    """
    out = folder or cache_folder() / "hub"
    owner = space_owner()
    named = named_repositories(DATASETS_VARIABLE)
    datasets = named or _present([f"{owner}/{task}" for task in TASKS])
    if not datasets:
        raise ConnectomeBenchError(
            f"{owner} has none of the datasets {', '.join(TASKS)}; publish one (connectomebench publish OUT/TASK --org "
            f"{owner}), or name others in the variable {DATASETS_VARIABLE} of the Space"
        )
    for repo in datasets:
        _fetch(repo, out / repo.replace("/", "--"), _SAMPLES)
    for repo in named_repositories(RESULTS_VARIABLE) or _present([f"{owner}/results"]):
        _fetch(repo, out, _RESULTS)
    return out


def space_owner() -> str:
    """Return the owner of the Space that this process runs in; the project's organisation elsewhere."""
    owner, _, name = os.environ.get(SPACE_VARIABLE, "").partition("/")
    return owner if name and REPO_ID.fullmatch(f"{owner}/{name}") else ORGANISATION


def _present(repos: Sequence[str]) -> list[str]:
    """Return those of the dataset repositories that can be seen."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="connectomebench")
    found = []
    for repo in repos:
        with hub_errors(repo):
            if api.repo_exists(repo, repo_type="dataset"):
                found.append(repo)
    return found


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
