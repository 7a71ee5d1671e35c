"""Names of the two public datasets, and their names of species and partitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import SPECIES

FormName = Literal["connectomebench", "connectomebench2"]


@dataclass(frozen=True)
class DatasetLayout:
    """Layout of one of the two datasets.

    Attributes
    ----------
    name
        Short name.
    repo
        Where it is published.
    citation
        How its authors want to be cited.
    columns
        Columns by which its Parquet files are recognised.
    """

    name: FormName
    repo: str
    citation: str
    columns: frozenset[str]


FORMS: dict[FormName, DatasetLayout] = {
    "connectomebench": DatasetLayout(
        "connectomebench",
        "jeffbbrown2/ConnectomeBench",
        "Brown et al. ConnectomeBench: Can LLMs proofread the connectome? arXiv:2511.05542 (2025).",
        frozenset({"option_1_neuron_id"}),
    ),
    "connectomebench2": DatasetLayout(
        "connectomebench2",
        "jeffbbrown2/ConnectomeBench2",
        "Brown, Farkas et al. ConnectomeBench2: A unified benchmark for automated connectomic proofreading. "
        "arXiv:2606.21116 (2026).",
        frozenset(
            {
                "combined_sample_hash",
                "sample_type",
                "same_neuron",
                "task_routing",
                "false_split_correction_label",
                "false_merge_identification_label",
                "split",
                "species",
                "metadata",
                "geometry",
            }
        ),
    ),
}

# names of datasets and animals, in small letters
_SPECIES = {
    "microns": "mouse",
    "minnie65": "mouse",
    "flywire": "fly",
    "fafb": "fly",
    "drosophila": "fly",
    "h01": "human",
    "fish1": "zebrafish",
    "liconn": "mouse_exm",
} | {name: name for name in SPECIES}

_PARTITIONS = {"val": "validation", "valid": "validation"} | {name: name for name in PARTITIONS}


def published_form(name: str) -> DatasetLayout | None:
    """Return the layout published under a repository name, in any case; None where there is none."""
    return next((form for form in FORMS.values() if form.repo.casefold() == name.casefold()), None)


def our_species(name: str) -> str | None:
    """Translate the name of a species or its dataset, in any case; None if unknown."""
    return _SPECIES.get(name.strip().casefold())


def our_partition(name: str) -> str | None:
    """Translate the name of a split, in any case; None if unknown."""
    return _PARTITIONS.get(name.strip().casefold())


def check_species(name: str) -> str:
    """Translate the requested species.

    Raises
    ------
    ConnectomeBenchError
        If it is not known.
    """
    species = our_species(name)
    if species is None:
        raise ConnectomeBenchError(f"unknown species {name[:60]!r}; choose one of {', '.join(SPECIES)}")
    return species


def check_partition(name: str) -> str:
    """Translate the requested partition.

    Raises
    ------
    ConnectomeBenchError
        If it is not known.
    """
    partition = our_partition(name)
    if partition is None:
        raise ConnectomeBenchError(f"unknown partition {name[:60]!r}; choose one of {', '.join(PARTITIONS)}")
    return partition
