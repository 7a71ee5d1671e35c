"""One text for the rows of one species of one dataset, for command lines that take several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS
from connectomebench.dataset.loading import load_rows

if TYPE_CHECKING:
    from connectomebench.dataset.rows import Rows


@dataclass(frozen=True)
class DataSpec:
    """Which rows; see :func:`connectomebench.dataset.loading.load_rows`.

    Attributes
    ----------
    species, dataset, revision, task
        Config, folder or ``ORG/NAME``, commit, and which task to ask of a dataset that holds several.
    """

    species: str
    dataset: str
    revision: str | None = None
    task: str | None = None

    def load(self, partition: str, *, geometry: bool = False) -> Rows:
        """Load the rows of a partition, with geometry channels if asked for."""
        return load_rows(self.dataset, self.species, partition, self.revision, task=self.task, geometry=geometry)


def parse_data_spec(text: str) -> DataSpec:
    """Parse ``SPECIES:DATASET``, perhaps with ``@REVISION`` and ``:TASK`` after it.

    Parameters
    ----------
    text
        A dataset is a folder or ``ORG/NAME`` on the Hub; a revision is of the Hub, and a task is for a dataset that
        holds several.

    Raises
    ------
    ConnectomeBenchError
        If no species or no dataset is named.

    Examples
    --------
    >>> from connectomebench.dataset.data_spec import parse_data_spec
    >>> parse_data_spec("fly:out/merge_action")
    DataSpec(species='fly', dataset='out/merge_action', revision=None, task=None)
    >>> parse_data_spec("mouse:jeffbbrown2/ConnectomeBench2@main:merge_action")
    DataSpec(species='mouse', dataset='jeffbbrown2/ConnectomeBench2', revision='main', task='merge_action')
    """
    species, _, dataset = text.partition(":")
    task = None
    if not Path(dataset).is_dir() and dataset.rpartition(":")[2] in TASKS:
        dataset, _, task = dataset.rpartition(":")
    revision = None
    if not Path(dataset).is_dir() and "@" in dataset:
        dataset, _, revision = dataset.rpartition("@")
    if not species or "/" in species or not dataset:
        raise ConnectomeBenchError(f"cannot read {text[:80]!r}; give SPECIES:DATASET, such as fly:out/merge_action")
    return DataSpec(species, dataset, revision or None, task)
