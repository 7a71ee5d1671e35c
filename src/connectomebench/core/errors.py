"""The exception shown to users, and the one that skips a site."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class ConnectomeBenchError(Exception):
    """A problem the user can fix; the message says in one line what is wrong and what to do.

    The command line prints the message alone (no traceback) and exits with status 2.

    Examples
    --------
    >>> from connectomebench import ConnectomeBenchError, get_task
    >>> try:
    ...     get_task("merge_actoin")
    ... except ConnectomeBenchError as error:
    ...     print(error)
    unknown task 'merge_actoin'; did you mean merge_action or merge_action_with_em or merge_action_multiple_choice?
    """

    def __init__(self, message: object = "") -> None:
        # messages quote libraries and files, which may hold line ends and control characters
        parts = "".join(c if c.isprintable() else "\n" for c in str(message)).splitlines()
        super().__init__(" ".join(part.strip() for part in parts if part.strip()))


class TaskLacking(ConnectomeBenchError):
    """One task of a build has too few sites; the others can still be built.

    Parameters
    ----------
    task
        Name of the task.
    problem
        What it lacks and what to do.
    """

    def __init__(self, task: str, problem: str) -> None:
        super().__init__(f"{task}: {problem}")
        self.task, self.problem = task, problem


class TooFewRows(ConnectomeBenchError):
    """A task has too few rows, answers or groups for a model to be trained; other tasks may have enough."""


class SiteUnavailable(Exception):
    """The data of a site are unavailable; the message gives the reason in a few words.

    Raised by a source when a request still fails after its retries, or an id is gone. The build skips the site.
    """


_DISK_ADVICE = {
    errno.ENOSPC: "free space or choose another folder",
    errno.EDQUOT: "free space or choose another folder",
    errno.EFBIG: "free space or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "check the permissions, or choose another folder",
    errno.EPERM: "check the permissions, or choose another folder",
    errno.ENOTDIR: "choose another folder: a part of the path is a file",
    errno.EISDIR: "choose another path: this one is a folder",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "the disk fails: check it, or choose another folder",
    errno.ENOENT: "check the path",
}


def disk_advice(error: OSError) -> str | None:
    """Return what to do about an error of the disk; None where the cause is something else.

    Libraries raise ``OSError`` for damaged files and lost connections too, and those have no number that says so.
    """
    return _DISK_ADVICE.get(error.errno) if error.errno is not None else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConnectomeBenchError:
    """Make the error for a name that is not in a registry, with the closest known names.

    Parameters
    ----------
    kind
        What was looked up, for example ``"task"``.
    name
        The name that is not known.
    known
        All known names.

    Returns
    -------
    ConnectomeBenchError
        Ready to be raised.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return ConnectomeBenchError(f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?")
    return ConnectomeBenchError(f"unknown {kind} {name!r}; known: {', '.join(names)}")
