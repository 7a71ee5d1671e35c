"""Rows of a dataset with a record of their origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class DataRecord:
    """Identity and origin of the rows a model was trained or evaluated on.

    Attributes
    ----------
    task, species, partition
        Which rows.
    repo
        ``ORG/NAME`` on the Hub; None for a folder of this machine, whose path nobody else can use.
    revision
        Commit of ``repo``; None for a folder.
    fingerprint
        Of the dataset, from its manifest; hashed from the rows where there is none.
    rows
        Number of rows by answer.
    source
        The entry ``source`` of the manifest: ``name``, ``version``, ``license``, ``citation``, ``simulated_errors`` and
        ``simulated_em``; and ``places_nm``, the box of everything that the rows show, where it is known.
    """

    task: str
    species: str
    partition: str
    repo: str | None
    revision: str | None
    fingerprint: str
    rows: dict[str, int]
    source: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Stored rows with their record.

    Attributes
    ----------
    dataset
        The rows, in stored order.
    data
        What they are.
    """

    dataset: Dataset
    data: DataRecord

    def decoded(self, threads: int = 1) -> Iterator[dict[str, Any]]:
        """Yield the rows in stored order with their pictures decoded, for loops of one's own.

        Parameters
        ----------
        threads
            How many decode; with more than one, rows are read ahead.

        Raises
        ------
        OSError, SyntaxError
            If a picture is damaged.
        """
        from connectomebench.dataset.stored_picture import read_decoded

        return read_decoded(self.dataset, threads)
