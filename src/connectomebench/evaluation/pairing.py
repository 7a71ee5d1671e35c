"""Paired rows of two models or people on the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.result_records import by_keys, label

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, str, str]
"""Task, species, partition."""


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Return the models of result records as :func:`label` names them, sorted."""
    pairs = frame[["model", "condition"]].drop_duplicates()
    return sorted(label(model, condition) for model, condition in pairs.itertuples(index=False))


def paired_rows(
    frame: pd.DataFrame, first: str, second: str, *, shared: bool = False
) -> dict[Place, tuple[pd.DataFrame, pd.DataFrame]]:
    """Pair the rows of two models: the same samples in the same order, per task, species and partition.

    True answers may differ: the shuffled_labels ablation permutes them.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.result_records.read_results`.
    first, second
        The models, as :func:`connectomebench.evaluation.result_records.label` names them.
    shared
        Use the samples both answered; otherwise differing samples are an error.

    Raises
    ------
    ConnectomeBenchError
        If a name is not in the records, or the models share no partition or saw different samples or data.
    """
    for name in (first, second):
        if name not in (known := labels_of(frame)):
            raise ConnectomeBenchError(f"there are no results of {name}; there are results of {', '.join(known)}")
    if first == second:
        raise ConnectomeBenchError(f"{first} cannot be compared with itself; name another model")
    places: dict[str, dict[Place, pd.DataFrame]] = {first: {}, second: {}}
    for (model, task, species, partition, condition), rows in by_keys(frame).items():
        if (name := label(model, condition)) in places:
            places[name][task, species, partition] = rows
    found = {}
    for place in sorted(places[first].keys() & places[second].keys()):
        one, other = places[first][place], places[second][place]
        if shared:
            both = set(one["sample_id"]) & set(other["sample_id"])
            one, other = (rows[rows["sample_id"].isin(both)] for rows in (one, other))
            if not both:
                continue
        where = "/".join(place)
        if one["sample_id"].tolist() != other["sample_id"].tolist():
            raise ConnectomeBenchError(
                f"{first} and {second} saw different samples of {where}; evaluate both on all of them, or compare on "
                "those that both answered (--shared)"
            )
        if any(one[column].tolist() != other[column].tolist() for column in ("group", "dataset_fingerprint")):
            raise ConnectomeBenchError(
                f"{first} and {second} saw different data under the name {where}; evaluate both on the same dataset"
            )
        found[place] = (one, other)
    if not found:
        raise ConnectomeBenchError(
            f"{first} and {second} have no {'samples' if shared else 'results'} on the same partition; evaluate both"
        )
    return found
