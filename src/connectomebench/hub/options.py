"""How a publication is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connectomebench.dataset.repo_layout import MAIN


@dataclass(frozen=True)
class PublishOptions:
    """How a publication is done.

    Attributes
    ----------
    branch
        Where the commit goes. The tag of the format follows ``main`` alone.
    private
        Make new repositories private.
    replace
        Allow that other data of a species, another model, or other files take the place of those that are there.
    results
        Folder with result records of models; those of the model that is published go with it and onto its card.
    dataset
        ``ORG/NAME`` of the dataset that those results are about; None takes the one the model was trained on.
    """

    branch: str = MAIN
    private: bool = False
    replace: bool = False
    results: Path | None = None
    dataset: str | None = None
