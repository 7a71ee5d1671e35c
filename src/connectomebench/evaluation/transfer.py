"""Transfer between species: performance of a model on species it was not trained on, and its drop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.domain_gap import LEAST_PAIRS, Correlation, Gap, correlate
from connectomebench.evaluation.formatting import interval_text, without_nan
from connectomebench.evaluation.result_records import by_keys, default_rows, predictions_and_answers
from connectomebench.evaluation.statistics import (
    RESAMPLES,
    Estimate,
    bootstrap_interval,
    independent_difference,
    two_class_balanced_accuracy_statistic,
)
from connectomebench.evaluation.training_species import TrainedModel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Drop:
    """Performance drop of a model on another species.

    Attributes
    ----------
    source
        A training species.
    target
        A species it was not trained on.
    drop
        Balanced accuracy on the source minus that on the target; groups are resampled independently.
    """

    source: str
    target: str
    drop: Estimate


@dataclass(frozen=True)
class TransferRow:
    """Results of one model on all species it was evaluated on.

    Attributes
    ----------
    model, revision, task
        The model.
    trained_on
        Species, from its record or as stated.
    values
        Species -> balanced accuracy; NaN if only one answer occurs.
    fingerprints
        Species -> fingerprint of the data.
    drops
        From every training species to every other species, where it was evaluated on both.
    """

    model: str
    revision: str
    task: str
    trained_on: tuple[str, ...]
    values: Mapping[str, Estimate]
    fingerprints: Mapping[str, str]
    drops: tuple[Drop, ...]


def transfer_rows(
    frame: pd.DataFrame,
    training: Mapping[TrainedModel, Sequence[str]],
    *,
    partition: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[TransferRow]:
    """Measure transfer between species.

    Parameters
    ----------
    frame
        Result records from one or several folders; only the default condition counts.
    training
        Training species of the models (:mod:`connectomebench.evaluation.training_species`); other models are left
        out.
    partition
        The evaluated partition.
    resamples, seed
        Number and seed of the bootstrap resamples over groups.

    Returns
    -------
    list[TransferRow]
        Sorted by task, training species, name and revision.

    Raises
    ------
    ConnectomeBenchError
        If there is nothing to measure, or a model has results on several builds of a species.
    """
    own = default_rows(frame)
    own = own[own["partition"] == partition]
    places: dict[TrainedModel, dict[str, pd.DataFrame]] = {}
    for (model, revision, task, species), rows in by_keys(own, ("model", "model_revision", "task", "species")).items():
        if (model, revision, task) not in training:
            continue
        if len(set(rows["dataset_fingerprint"])) > 1 or rows["sample_id"].duplicated().any():
            raise ConnectomeBenchError(
                f"there are several results of {model} (revision {revision}) on {task}/{species}; name one folder"
            )
        places.setdefault((model, revision, task), {})[species] = rows
    if not places:
        raise ConnectomeBenchError(
            f"there are no results on the {partition} partition of a model whose training is known; evaluate it there, "
            "or name the folder of the model"
        )
    _check_builds(places)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    found = []
    for (model, revision, task), by_species in places.items():
        trained_on = tuple(training[model, revision, task])
        measured = {
            species: (
                two_class_balanced_accuracy_statistic(*predictions_and_answers(rows)),
                rows["group"].to_numpy(str),
            )
            for species, rows in by_species.items()
        }
        found.append(
            TransferRow(
                model,
                revision,
                task,
                trained_on,
                {s: bootstrap_interval(*measured[s], bounds=(0.0, 1.0), **settings) for s in measured},
                {s: str(rows["dataset_fingerprint"].iloc[0]) for s, rows in by_species.items()},
                tuple(
                    Drop(source, target, independent_difference(*measured[source], *measured[target], **settings))
                    for source in trained_on
                    if source in measured
                    for target in measured
                    if target not in trained_on
                ),
            )
        )
    return sorted(found, key=lambda row: (row.task, row.trained_on, row.model, row.revision))


def as_text(rows: Sequence[TransferRow], gaps: Sequence[Gap] = (), simulated: Sequence[str] = ()) -> str:
    """Format transfer as text: one table per task, then drops with known distances.

    ``simulated`` lists the species on which models were trained with simulated errors.
    """
    blocks = []
    for task in dict.fromkeys(row.task for row in rows):
        here = [row for row in rows if row.task == task]
        species = sorted({s for row in here for s in row.values})
        table = [["trained on", "model", *(f"evaluated on {s}" for s in species)]]
        for row in here:
            cells = [_cell(row.values[s], s in row.trained_on) if s in row.values else "–" for s in species]
            table.append([", ".join(row.trained_on), _who(row), *cells])
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        lines = [f"{task}: balanced accuracy [95% interval over groups]; * a species it was trained on"]
        lines += ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table]
        lines += [line for row in here for line in _drop_lines(row, [g for g in gaps if g.task == task])]
        lines += _without_drop(here)
        lines += [_correlation_text(c) for c in correlate(_pairs(here), [g for g in gaps if g.task == task])]
        blocks.append("\n".join(lines))
    if simulated:
        blocks.append(f"simulated, not real: the errors that models were trained on in {', '.join(simulated)}")
    return "\n\n".join(blocks)


def as_json(rows: Sequence[TransferRow], gaps: Sequence[Gap] = (), simulated: Sequence[str] = ()) -> str:
    """Format transfer, distances, correlations and simulated species as JSON; NaN becomes null."""
    correlations = [
        {"task": task, **asdict(found)}
        for task in dict.fromkeys(row.task for row in rows)
        for found in correlate(_pairs([r for r in rows if r.task == task]), [g for g in gaps if g.task == task])
    ]
    content = {
        "rows": [asdict(row) for row in rows],
        "distances": [asdict(gap) for gap in gaps],
        "correlations": correlations,
        "simulated_training": list(simulated),
    }
    return json.dumps(without_nan(content), indent=2)


def _check_builds(places: Mapping[TrainedModel, Mapping[str, pd.DataFrame]]) -> None:
    """Raise if models saw different data of one species."""
    builds: dict[tuple[str, str], str] = {}
    for (_, _, task), by_species in places.items():
        for species, rows in by_species.items():
            build = str(rows["dataset_fingerprint"].iloc[0])
            if builds.setdefault((task, species), build) != build:
                raise ConnectomeBenchError(
                    f"models saw different data of {task}/{species} ({builds[task, species]} and {build}); evaluate "
                    "all on the same dataset"
                )


def _pairs(rows: Sequence[TransferRow]) -> list[tuple[str, str, float]]:
    return [(d.source, d.target, d.drop.value) for row in rows for d in row.drops]


def _cell(estimate: Estimate, home: bool) -> str:
    return f"{interval_text(estimate)}{'*' if home else ''} n = {estimate.n} in {estimate.n_groups} groups"


def _drop_lines(row: TransferRow, gaps: Sequence[Gap]) -> list[str]:
    lines = []
    for d in row.drops:
        gap = next((g for g in gaps if {g.first, g.second} == {d.source, d.target}), None)
        far = (
            f"; features of {gap.encoder}, {gap.n} rows each: Fréchet {gap.frechet:.3g}, energy {gap.energy:.3g}"
            if gap
            else ""
        )
        lines.append(f"  {_who(row)}, {d.source} to {d.target}: drop {interval_text(d.drop, sign='+')}{far}")
    return lines


def _without_drop(rows: Sequence[TransferRow]) -> list[str]:
    """List the models without a drop, and why."""
    found: dict[str, list[str]] = {}
    for row in (row for row in rows if not row.drops):
        home = [species for species in row.trained_on if species in row.values]
        why = "evaluated on no other species" if home else f"not evaluated on {', '.join(row.trained_on)}"
        found.setdefault(why, []).append(_who(row))
    return [f"  no drop for {', '.join(who)}: {why}" for why, who in found.items()]


def _who(row: TransferRow) -> str:
    return f"{row.model} ({row.revision[:12]})"


def _correlation_text(found: Correlation) -> str:
    text = f"  {found.distance} distance against drop ({found.n} drops, {found.pairs} pairs of species): "
    if found.pairs < LEAST_PAIRS:
        return f"{text}too few pairs for a correlation, which takes {LEAST_PAIRS}"
    if found.spearman is None:
        return f"{text}no correlation, since all are equal"
    return f"{text}Spearman {found.spearman:+.2f}; pairs that share a species are not independent"
