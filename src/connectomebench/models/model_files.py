"""Files of a model: find them locally or on the Hub, and hash them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.hub_errors import hub_errors
from connectomebench.models.model_record import FILE_NAME
from connectomebench.models.prompt import PROMPT_VERSION
from connectomebench.models.recalibration import FILE_NAME as CALIBRATION

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

REPO_ID = re.compile(r"[\w.-]*\w/[\w.-]*\w", re.ASCII)
_MAX_JSON_BYTES = 64_000_000  # the index of the largest models has a few
# files that may affect an answer; nothing else is fetched or hashed
_FILES = (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    "config.json",
    "generation_config.json",
    "head.skops",
    "model*.safetensors",
    "model.safetensors.index.json",
    "*processor_config.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.*",
)


@dataclass(frozen=True)
class ModelFiles:
    """Location of a model's files.

    Attributes
    ----------
    folder
        Local folder.
    name
        Last part of the folder or repository name.
    commit
        Commit of the repository; None for a folder.
    """

    folder: Path
    name: str
    commit: str | None

    @property
    def identity(self) -> str:
        """The commit, or a hash of the files."""
        return self.commit or _content(self.folder)


def open_files(name: str, revision: str | None) -> ModelFiles:
    """Find a model by name.

    Parameters
    ----------
    name
        Folder, or ``ORG/NAME`` on the Hub.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.

    Raises
    ------
    ConnectomeBenchError
        If the folder or repository does not exist, or the Hub cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise ConnectomeBenchError(f"{name} is a folder, which has no revisions; leave out the revision")
        return ModelFiles(folder, folder.resolve().name, None)
    if not REPO_ID.fullmatch(name):
        raise ConnectomeBenchError(f"there is no model folder {name}; give a folder, or ORG/NAME on the Hub")
    return fetch_model(name, revision)


def fetch_model(repo: str, revision: str | None) -> ModelFiles:
    """Fetch a model from the Hub, or from the client's cache if ``HF_HUB_OFFLINE`` is set.

    Parameters
    ----------
    repo, revision
        As for :func:`open_files`; never a folder.

    Raises
    ------
    ConnectomeBenchError
        If the repository or revision does not exist, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(repo):
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[*_FILES, FILE_NAME, CALIBRATION],
            # training checkpoints
            ignore_patterns=["*/*"],
            library_name="connectomebench",
        )
    # the client names a snapshot by its commit
    return ModelFiles(Path(folder), repo.split("/")[1], Path(folder).name)


def adapter_revision(folder: Path, base_identity: str) -> str:
    """Hash everything an adapter's answers depend on: 16 hex digits.

    Parameters
    ----------
    folder
        Folder of the adapter.
    base_identity
        Hub commit of its base, or hash of the files of a local base.
    """
    return content_key(_content(folder), base_identity, PROMPT_VERSION)[:16]


def read_json(path: Path) -> dict[str, Any]:
    """Read an untrusted JSON object.

    Raises
    ------
    ConnectomeBenchError
        If it is missing, damaged, too large or not an object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} cannot be read ({reason_of(error)}); fetch the model again") from None
    return content


def _content(folder: Path) -> str:
    """Hash the files of a model folder, ignoring how an adapter names its base."""
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name == ADAPTER_CONFIG:
            config = read_json(path)
            digests[path.name] = content_key(
                {key: value for key, value in config.items() if key not in ("base_model_name_or_path", "revision")}
            )
        elif path.is_file() and any(fnmatch(path.name, pattern) for pattern in _FILES):
            with open(path, "rb") as stream:
                digests[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return content_key(digests)


def reason_of(error: Exception) -> str:
    """Return the most informative line of a message: for PyTorch, the first size mismatch."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if line.startswith("size mismatch")), lines[0])[:200]
