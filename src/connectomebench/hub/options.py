"""Options of a publication."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connectomebench.dataset.repo_layout import MAIN


@dataclass(frozen=True)
class PublishConfig:
    """Options of a publication.

    Attributes
    ----------
    branch
        Where the commit goes. The tag of the format follows ``main`` alone.
    private
        Make new repositories private.
    replace
        Allow replacing other data of a species, another model, or other files.
    results
        Folder with result records; those of the published model go into its repository and card.
    datasets
        ``ORG/NAME`` of the datasets evaluated, one for each task of the models; none means the ones the models were
        trained on.
    """

    branch: str = MAIN
    private: bool = False
    replace: bool = False
    results: Path | None = None
    datasets: tuple[str, ...] = ()
