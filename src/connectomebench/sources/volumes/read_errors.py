"""Turn whatever a container, codec or server raises while volumes are read into one line for the user.

This is the only place that knows their exceptions: every opening and every reading of a volume goes through
:func:`reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable, disk_advice

_LONGEST_REASON = 200
_DAMAGED = "it is damaged: copy it again from where it came from, or write it again"
_NETWORK = "check the network and the address, then run the same command again"
_NETWORK_MODULES = ("requests", "urllib3", "aiohttp", "botocore", "google", "http", "tenacity", "httpx")


@contextmanager
def reading(name: str, place: str | Path, part: Callable[[], str] | str = "", remedy: str = _DAMAGED) -> Iterator[None]:
    """Reword errors raised inside the block.

    Parameters
    ----------
    name
        Name of the volume in messages, for example ``automatic``.
    place
        Its path.
    part
        What is read of it, for example a chunk; a function is called only when something went wrong.
    remedy
        What the user can do where nothing better is known.

    Raises
    ------
    ConnectomeBenchError
        In place of any other exception, with volume, path, part, reason and remedy. Errors that are already worded
        for the user pass.
    """
    try:
        yield
    except (ConnectomeBenchError, SiteUnavailable):
        raise
    except Exception as error:  # containers, codecs and servers each have their own exceptions
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise ConnectomeBenchError(
                f"{name}: {place} holds Python objects (a pickle), which are never loaded; save a plain integer array"
            ) from None
        where = part if isinstance(part, str) else _without_error(part)
        raise ConnectomeBenchError(
            f"{name}: cannot read {place}{where and f', {where}'} ({_reason(error)}); {_advice(error, remedy)}"
        ) from error


def _without_error(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception:  # a description is not worth another failure
        return ""


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = " ".join(error.strerror.split())
    if len(text) > _LONGEST_REASON:
        text = f"{text[:_LONGEST_REASON]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _advice(error: Exception, remedy: str) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it; use a smaller box, or a chunked container such as Zarr"
    if isinstance(error, PermissionError):
        return "you may not read it; check its permissions"
    if isinstance(error, FileNotFoundError):
        return "it is gone; copy it again"
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.split(".")[0] in _NETWORK_MODULES:
        return _NETWORK
    if isinstance(error, ImportError):
        return "install the package that is missing, for example with `pip install 'connectomebench[arrays]'`"
    return (isinstance(error, OSError) and disk_advice(error)) or remedy
