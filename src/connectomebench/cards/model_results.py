"""Results on a model card: estimates, cost, and notes on training data that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Scoring, get_task
from connectomebench.dataset.card_template import DASH, LEVEL, ORGANISATION, estimate_text, is_number
from connectomebench.dataset.rows import DataRecord
from connectomebench.evaluation.fit_recalibration import effect_on
from connectomebench.evaluation.results import Summary, default_rows, summarise
from connectomebench.models.model_record import ModelRecord
from connectomebench.models.recalibration import Recalibration

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import EvalResult

# name in `evaluation.results.METRICS` -> type in a model index, title
METRIC_NAMES: dict[str, tuple[str, str]] = {
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "auroc": ("roc_auc", "AUROC"),
    "brier": ("brier_score", "Brier score"),
    "ece": ("ece", "Expected calibration error"),
    "mce": ("mce", "Maximum calibration error"),
    "precision": ("precision", "Precision"),
    "recall": ("recall", "Recall"),
    "f1": ("f1", "F1"),
    "false_positive_rate": ("false_positive_rate", "False positive rate"),
    "risk_at_50": ("selective_risk_at_50", "Share of wrong answers among the half it is surest of"),
    "risk_at_80": ("selective_risk_at_80", "Share of wrong answers among the 80% it is surest of"),
    "risk_at_90": ("selective_risk_at_90", "Share of wrong answers among the 90% it is surest of"),
    "aurc": ("aurc", "Area under the risk-coverage curve"),
    "place_score": ("place_score", "Place score"),
    "hit_rate": ("place_hit_rate", "Share of answers with full credit"),
    "miou": ("mean_iou", "Mean IoU of both parts"),
    "miou_per_view": ("mean_iou_per_view", "Mean IoU of both parts, by view"),
    "iou": ("iou", "IoU of the part taken away"),
    "dice": ("dice", "Dice coefficient of the part taken away"),
}
TABLES: Mapping[Scoring, tuple[str, ...]] = {
    "exact": ("balanced_accuracy", "auroc", "brier", "ece", "mce"),
    "places": ("place_score", "hit_rate"),
    "masks": ("miou", "miou_per_view", "iou", "dice"),
}
"""How a task is scored -> metrics in the table of the card; all that are defined are in its model index."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one partition of one species.

    Attributes
    ----------
    summary
        Estimates with 95% intervals over groups.
    fingerprint
        Of the data.
    trained_on
        Training data with the same fingerprint, of any partition; None if there are none.
    note
        Caveat for the reader: other species, other build, or rows it was trained on. May be empty.
    cost
        Median seconds and tokens per row and USD per 1000 rows, each as text with its number of rows.
    """

    summary: Summary
    fingerprint: str
    trained_on: DataRecord | None
    note: str
    cost: Mapping[str, str]

    @property
    def metrics(self) -> list[str]:
        """Each metric of the task's table in `TABLES` with its interval, as text."""
        found = [self.summary.estimates[name] for name in TABLES[get_task(self.summary.task).scoring]]
        return [estimate_text(e.value, e.lower, e.upper) for e in found]


def evaluations(results: pd.DataFrame | None, record: ModelRecord) -> list[Evaluation]:
    """Estimate the metrics of a model for each species and partition.

    Parameters
    ----------
    results
        Result records of this model; None or no rows where it was not evaluated. Those of other conditions than the
        default (ablations, other answer modes) are left out: they do not measure the model as it is used.
    record
        Of the model.

    Returns
    -------
    list[Evaluation]
        Sorted by task, species and partition.

    Raises
    ------
    ConnectomeBenchError
        If records are of another model, revision or task, or mix different data of a species.
    """
    if results is None or results.empty:
        return []
    results = default_rows(results)
    known = {"model": {record.name}, "model_revision": {record.revision}, "task": set(record.tasks)}
    for column, own in known.items():
        other = sorted(set(results[column]) - own)
        if other:
            named = ", ".join(record.tasks)
            raise ConnectomeBenchError(
                f"the card is of {record.name}, revision {record.revision}, for {named}, and the results hold "
                f"{column} {other[0]!r}; give the results of this model alone"
            )
    found = []
    for summary in summarise(results):
        rows = rows_of(results, summary)
        prints = sorted(set(rows["dataset_fingerprint"]))
        if len(prints) > 1:
            raise ConnectomeBenchError(
                f"the results on {summary.species}/{summary.partition} mix the data {' and '.join(prints)}; evaluate "
                "on one of them"
            )
        own = record.of_task(summary.task)
        same = [d for d in own.trained_on if (d.species, d.fingerprint) == (summary.species, prints[0])]
        note = _note(summary, same, own)
        found.append(Evaluation(summary, prints[0], same[0] if same else None, note, _cost(rows)))
    return found


def rows_of(results: pd.DataFrame, summary: Summary) -> pd.DataFrame:
    """Return the rows that a summary is of."""
    here = (results["task"] == summary.task) & (results["species"] == summary.species)
    return results[here & (results["partition"] == summary.partition)]


def calibration_effects(
    results: pd.DataFrame | None, recalibrations: Sequence[Recalibration], *, by_task: bool = False
) -> list[dict[str, str]]:
    """Measure what each stored calibration does on the test rows of each species; one row of a table each.

    Parameters
    ----------
    results
        As for :func:`evaluations`.
    recalibrations
        Calibrations of this model.
    by_task
        Name the task in the table.
    """
    if results is None or results.empty:
        return []
    test = default_rows(results)
    test = test[(test["partition"] == "test") & test["probability"].notna()]
    rows = []
    for recalibration in recalibrations:
        task, fitted_on = recalibration.task, recalibration.species
        own = test[test["task"] == task]
        for species in sorted(set(own["species"])):
            effect = effect_on(own[own["species"] == species], recalibration)
            before, after, brier = effect.before, effect.after, effect.brier
            rows.append(
                {
                    **({"task": task} if by_task else {}),
                    "species": species,
                    "fitted on validation rows of": f"{fitted_on} ({recalibration.n} rows)",
                    "method": recalibration.method,
                    "ECE before": estimate_text(before.value, before.lower, before.upper),
                    "ECE after": estimate_text(after.value, after.lower, after.upper),
                    "change of the Brier score": estimate_text(brier.value, brier.lower, brier.upper),
                    "n": str(before.n),
                }
            )
    return rows


def _note(summary: Summary, same: list[DataRecord], record: ModelRecord) -> str:
    if summary.species not in record.species:
        return "trained on another species"
    if not same:
        return "another build of the species it was trained on: rows may overlap"
    return "rows it was trained on" if any(d.partition == summary.partition for d in same) else ""


def _cost(rows: pd.DataFrame) -> dict[str, str]:
    seconds, tokens, usd = (rows[name].dropna() for name in ("latency_s", "tokens", "cost_usd"))
    return {
        "seconds": f"{seconds.median():.3g} (n = {len(seconds)})" if len(seconds) else DASH,
        "tokens": f"{tokens.median():.0f} (n = {len(tokens)})" if len(tokens) else DASH,
        "usd": f"{1000 * usd.mean():.3g} (n = {len(usd)})" if len(usd) else DASH,
    }


def index_entries(found: list[Evaluation], task_type: str) -> list[EvalResult]:
    """Return the ``model-index`` entries: every defined metric, with interval and n in its name.

    The dataset is named by its Hub id where the model was trained on the same data; else by its task, and in any case
    by its fingerprint in ``args``. See https://github.com/huggingface/hub-docs/blob/main/modelcard.md.

    Parameters
    ----------
    found
        From :func:`evaluations`.
    task_type
        Pipeline tag of the model.
    """
    from huggingface_hub import EvalResult

    entries = []
    for evaluation in found:
        summary, data = evaluation.summary, evaluation.trained_on
        task = summary.task
        place: dict[str, Any] = {
            "task_type": task_type,
            "task_name": get_task(task).title,
            "dataset_type": data.repo if data and data.repo else task,
            "dataset_name": f"{ORGANISATION} {task}, {summary.species}",
            "dataset_config": summary.species,
            "dataset_split": summary.partition,
            "dataset_revision": data.revision if data and data.repo else None,
            "dataset_args": {"fingerprint": evaluation.fingerprint},
        }
        for name, (metric, title) in METRIC_NAMES.items():
            e = summary.estimates.get(name)
            if e is not None and is_number(e.value):
                interval = estimate_text(e.value, e.lower, e.upper).split(" ", 1)[1].strip("()")
                label = f"{title}, {LEVEL:.0%} interval {interval}, n = {e.n} in {e.n_groups} groups"
                entries.append(EvalResult(metric_type=metric, metric_value=float(e.value), metric_name=label, **place))
    return entries
