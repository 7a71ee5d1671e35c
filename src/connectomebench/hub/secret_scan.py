"""Scan for private content before publishing: home folders, user names, tokens, passwords, keys."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

_PATTERNS = {
    "a home folder": re.compile(r"(?<![\w.-])(?:/home/|/Users/|/root/|[A-Za-z]:\\+Users\\)"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an address with a password": re.compile(r"://[^/\s\"'@]+:[^/\s\"'@]+@"),
}
# CAVE gives tokens of this form, and so are our own fingerprints
_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32}(?![0-9A-Za-z])")
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


def _find(text: str, user_names: set[str], allowed: set[str]) -> str | None:
    from huggingface_hub import get_token

    for kind, pattern in _PATTERNS.items():
        if pattern.search(text):
            return kind
    token = get_token()
    if token and token in text:
        return "your Hugging Face token"
    if any(found not in allowed for found in _HEX.findall(text)):
        return "what looks like a CAVE token (32 hexadecimal digits)"
    for name in user_names:
        if re.search(rf"(?<![0-9A-Za-z_]){re.escape(name)}(?![0-9A-Za-z_])", text):
            return "a user name of this machine"
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
        except ValueError:
            continue
        if isinstance(row, dict):
            found.add(str(row.get("sample_id")))
    return found
