"""Versions of the stored row, and what older ones lack.

2.0 added the columns `choices` and `target_images` to every row, and names for a column of image channels (`geometry`)
and for files of scenes beside the rows (:mod:`connectomebench.dataset.repo_layout`), which a dataset may lack.
2.1 added the column `second_place` to every row. Each species in a manifest says in which format its rows are; one that
does not is of format 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task
from connectomebench.dataset.schema import GEOMETRY, TEACHER_REPLIES, features

if TYPE_CHECKING:
    from datasets import Features

FORMAT_VERSION = "2.1"
OLDEST = 1  # first number of the oldest format that is read
_FIRST = "1.0"


def parse_format(version: object, where: str) -> tuple[int, int]:
    """Parse the version of a format.

    Parameters
    ----------
    version
        ``MAJOR.MINOR``, from a file.
    where
        The file, for messages.

    Returns
    -------
    major, minor

    Raises
    ------
    ConnectomeBenchError
        If this version of the package does not read it; a later minor version is read.
    ValueError
        If it is none.
    """
    major, minor = (int(part) for part in str(version).split("."))
    if major > int(FORMAT_VERSION.split(".")[0]):
        raise ConnectomeBenchError(
            f"{where} has the later format {version}, this version reads {FORMAT_VERSION}; upgrade connectomebench"
        )
    if major < OLDEST:
        raise ConnectomeBenchError(
            f"{where} has format {version}, which is older than any that is read; build it again"
        )
    return major, minor


def entry_format(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return the format of the rows of a species: major and minor.

    Parameters
    ----------
    entry
        Of the species, from the manifest; it may come from the Hub.

    Raises
    ------
    ConnectomeBenchError, ValueError
        As :func:`parse_format`.
    """
    return parse_format(entry.get("format_version", _FIRST), "a species in the manifest")


def entry_features(task: Task, entry: Mapping[str, Any]) -> Features:
    """Return the columns of the rows of a species, as its files have them.

    Parameters
    ----------
    task
        The task.
    entry
        Of the species, from the manifest.
    """
    return features(task, replies=TEACHER_REPLIES in entry, geometry=GEOMETRY in entry, version=entry_format(entry))
