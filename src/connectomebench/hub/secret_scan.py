"""Scan for private content before publishing: home folders, user names, tokens, passwords, keys."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError

_PLACE = re.compile(r"(?<![\w.-])(?:/home/|/Users/|/root/|[A-Za-z]:\\+Users\\)")
_KEYS = {
    "a Hugging Face token": re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}"),
    "a key of a language model's server": re.compile(r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"),
    "a key of Amazon Web Services": re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "a GitHub token": re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    "a Google key": re.compile(r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an address with a password": re.compile(r"://[^/\s\"'@]+:[^/\s\"'@]+@"),
}
# CAVE gives tokens of this form, and so are our own fingerprints
_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32}(?![0-9A-Za-z])")
# of variables whose values are secret
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SECRET_LETTERS = 12
# common account names that are ordinary words
_SHARED_ACCOUNTS = {"root", "user", "users", "admin", "ubuntu", "debian", "home", "runner", "jovyan", "nobody", "test"}


def check_private(texts: Mapping[str, str], fingerprints: Collection[str]) -> None:
    """Raise if a text to publish holds something private.

    Parameters
    ----------
    texts
        Name in the repository -> content, of every text that would be sent.
    fingerprints
        Our own, which look like CAVE tokens and are let through, as are the values of ``sample_id`` in a ``.jsonl``.

    Raises
    ------
    ConnectomeBenchError
        Naming the file and the kind of what was found, never the thing itself.
    """
    names = _user_names()
    for name, text in texts.items():
        allowed = set(fingerprints) | (_sample_ids(text) if name.endswith(".jsonl") else set())
        kind = _find(text, names, allowed)
        if kind is not None:
            raise ConnectomeBenchError(
                f"{name} holds {kind}, so nothing is published; remove it from what the file is made of"
            )


def check_rows_private(files: Mapping[str, Path]) -> None:
    """Raise if a text in rows to publish holds a key; replies of models are among them.

    Sample ids look like CAVE tokens, and words of a question may be somebody's name, so keys alone are looked for.

    Parameters
    ----------
    files
        Name in the repository -> file; those that are not Parquet are left out.

    Raises
    ------
    ConnectomeBenchError
        Naming the file and the kind of what was found, never the thing itself.
    """
    import pyarrow.parquet as pq

    for name, path in files.items():
        if path.suffix != ".parquet":
            continue
        with pq.ParquetFile(path) as stored:
            leaves = [stored.schema.column(i) for i in range(len(stored.schema))]
            texts = sorted({str(leaf.path).split(".")[0] for leaf in leaves if str(leaf.logical_type) == "String"})
            for group in range(stored.num_row_groups):
                for column in stored.read_row_group(group, columns=[text for text in texts if text != "images"]):
                    kind = _find_key("\n".join(_texts_in(column)))
                    if kind is not None:
                        raise ConnectomeBenchError(
                            f"{name} holds {kind} in one of its rows, so nothing is published; build it without"
                        )


def _texts_in(column: Any) -> set[str]:
    """Return all different texts in a column of texts, or of lists of them or of records of them."""
    import pyarrow as pa

    found: set[str] = set()
    waiting = list(column.chunks)
    while waiting:
        array = waiting.pop()
        if pa.types.is_struct(array.type):
            waiting += array.flatten()
        elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            waiting.append(array.flatten())
        elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            found.update(text for text in array.unique().to_pylist() if text)
    return found


def _find(text: str, user_names: set[str], allowed: set[str]) -> str | None:
    kind = _find_key(text)
    if kind is not None:
        return kind
    if _PLACE.search(text):
        return "a home folder"
    if any(found not in allowed for found in _HEX.findall(text)):
        return "what looks like a CAVE token (32 hexadecimal digits)"
    for name in user_names:
        if re.search(rf"(?<![0-9A-Za-z_]){re.escape(name)}(?![0-9A-Za-z_])", text):
            return "a user name of this machine"
    return None


def _find_key(text: str) -> str | None:
    from huggingface_hub import get_token

    for kind, pattern in _KEYS.items():
        if pattern.search(text):
            return kind
    token = get_token()
    if token and token in text:
        return "your Hugging Face token"
    for variable, value in os.environ.items():
        secret = value.strip()
        # a path says where a key is
        if (
            _SECRET_NAME.search(variable)
            and len(secret) >= _SECRET_LETTERS
            and "/" not in secret[:1]
            and secret in text
        ):
            return f"the value of the environment variable {variable}"
    return None


def _user_names() -> set[str]:
    names = {Path.home().name}
    with suppress(OSError, KeyError):  # an account without a name
        names.add(getpass.getuser())
    return {name for name in names if len(name) > 2 and name.lower() not in _SHARED_ACCOUNTS}


def _sample_ids(text: str) -> set[str]:
    found = set()
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.add(str(row.get("sample_id")))
    return found
