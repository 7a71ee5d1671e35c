"""Turn errors of the Hub and of the connection to it into one actionable line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from connectomebench.core.errors import ConnectomeBenchError

_AGAIN = "run the same command again: it goes on where it stopped"
_WITHOUT_ADDRESS = re.compile(r"\w+://\S+")
# hf_xet, which is written in Rust, knows a refusal by its text alone
_XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})")


class HubUnreachable(ConnectomeBenchError):
    """The Hub gave no answer at all: no network, a lost connection, or ``HF_HUB_OFFLINE``."""


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Convert errors of huggingface_hub inside the block into one line.

    No address is in that line, since those for sending large files hold a signature.

    Parameters
    ----------
    repo_id
        Repository that the block is about.

    Raises
    ------
    ConnectomeBenchError
        For an answer that is no success, a missing login or an unreadable file; `HubUnreachable` where there was no
        answer.
    """
    try:
        yield
    except (_http_error(), OSError, RuntimeError, ValueError) as error:
        raise _in_one_line(error, repo_id) from error


def _in_one_line(error: BaseException, repo_id: str) -> ConnectomeBenchError:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    for cause in _causes(error):
        if isinstance(cause, LocalTokenNotFoundError):
            text = "you are not logged in to the Hub; run `hf auth login` with a token that may write"
            return ConnectomeBenchError(text)
        if isinstance(cause, OfflineModeIsEnabled):
            return HubUnreachable("HF_HUB_OFFLINE is set, so the Hub cannot be asked; unset it")
        if isinstance(cause, HfHubHTTPError):
            return ConnectomeBenchError(_refusal(cause, repo_id))
        if found := _XET_STATUS.search(str(cause)):
            return ConnectomeBenchError(_xet_refusal(int(found[1]), str(cause), repo_id))
        if isinstance(cause, _http_error() | ConnectionError | TimeoutError | LocalEntryNotFoundError):
            text = f"{repo_id}: no network, or the connection to the Hub was lost{_why(cause)}; {_AGAIN}"
            return HubUnreachable(text)
    if isinstance(error, OSError) and error.filename:
        return ConnectomeBenchError(f"{repo_id}: cannot read {error.filename}: {error.strerror}")
    first = _WITHOUT_ADDRESS.sub("...", (str(error).strip().splitlines() or ["no message"])[0])
    return ConnectomeBenchError(
        f"{repo_id}: the client of the Hub failed ({type(error).__name__}: {first[:200]}); "
        "if it fails again, this server may not be a Hub that huggingface_hub knows"
    )


def _why(cause: BaseException) -> str:
    """Return the reason in brackets, without addresses; empty where the client gives none."""
    first = (str(cause).strip().splitlines() or [""])[0]
    text = _WITHOUT_ADDRESS.sub("...", first)[:120].rstrip(". ")
    return f" ({text})" if text else ""


def _xet_refusal(status: int, text: str, repo_id: str) -> str:
    """Word a refusal of the storage for large files, which hf_xet reports as a lost connection."""
    if "/xet-" in text and status in (404, 405, 410, 501):
        return (
            f"{repo_id}: this server has no Xet storage (it answers {status}), which the client of the Hub wants for "
            "large files; set HF_HUB_DISABLE_XET=1 and run the same command again"
        )
    if status in (401, 403):
        reads = "read-token" in text
        return f"you may not read {repo_id}; log in with `hf auth login`" if reads else _may_not_write(repo_id)
    if status == 429 or status >= 500:
        return f"{repo_id}: the storage of the Hub answers {status}; wait a few minutes, then {_AGAIN}"
    return f"{repo_id}: the storage of the Hub refuses the files with status {status}"


def _may_not_write(repo_id: str) -> str:
    owner = repo_id.split("/")[0]
    return f"you may not write to {repo_id}; use a token with the role `write`, or ask for write access to {owner}"


def _http_error() -> type[Exception]:
    """Return the base of all errors of the connection: httpx's in huggingface_hub 1.x, httpx2's in 2.x."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__bases__[0])


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _refusal(error: BaseException, repo_id: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError):
        return f"{repo_id} is not there, or your token may not see it; check the name, or log in with `hf auth login`"
    if status == 401:
        return "the Hub does not accept your login; run `hf auth login` with a valid token that may write"
    if status == 403:
        return _may_not_write(repo_id)
    if status in (409, 412):
        return f"{repo_id} was changed by someone else meanwhile; run the same command again"
    if status == 429:
        seconds = error.response.headers.get("retry-after", "")
        wait = f"{seconds} seconds" if seconds.isdigit() else "a few minutes"
        return f"{repo_id}: the Hub's rate limit is reached; wait {wait}, then {_AGAIN}"
    if status >= 500:
        return f"{repo_id}: the Hub answers {status}; wait a few minutes, then {_AGAIN}"
    reason = (error.server_message or "no reason given").splitlines()[0][:200]
    return f"{repo_id}: the Hub refuses with status {status}: {reason}"
