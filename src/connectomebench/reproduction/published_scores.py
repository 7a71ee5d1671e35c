"""Stated and recomputed scores of a folder of published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from connectomebench.evaluation.statistics import RESAMPLES, bootstrap_interval
from connectomebench.reproduction.confidences import first_answers, open_bins_statistic
from connectomebench.reproduction.methods import published_method
from connectomebench.reproduction.published_names import UNNAMED_SPECIES
from connectomebench.reproduction.results_folder import Published
from connectomebench.reproduction.score_table import GROUPS, Metric, Score, mean_and_deviation, record_scores

if TYPE_CHECKING:
    import pandas as pd


_DRAWN_NETWORKS = ("resnet_small", "resnet_frozen", "resnet_finetuned")


def train_samples(published: Published, method: str, task: str) -> int | None:
    """Return the number of training samples of a method, as first stated.

    What stands beside a result counts before the lists of numbers. For a vision-language model, the files name no
    number of its own; it is the number of all training samples of the task.
    """
    beside = [
        c.values["train_samples"]
        for c in published.cells
        if (c.method, c.task, c.species) == (method, task, UNNAMED_SPECIES) and "train_samples" in c.values
    ]
    if beside and method.startswith("resnet"):
        return int(beside[0])
    wanted = method if method in ("resnet_small", "resnet_frozen") else ""
    listed = [c.train_samples for c in published.counts if c.task == task and c.method == wanted]
    trained = method.startswith(("resnet", "vlm"))
    return listed[-1] if listed and trained else None


def stated_scores(published: Published) -> list[Score]:
    """Return the stated balanced accuracies and ECEs.

    The VLM's "balanced accuracy" is its ``majority_accuracy``. Where two files state different values of a cell, both
    are there; equal ones are there once, with the number of samples where one of the files gives it.
    """
    scores: dict[tuple[object, ...], Score] = {}
    for cell in published.cells:
        for metric in ("balanced_accuracy", "ece"):
            if metric not in cell.values:
                continue
            single = cell.method == "linear_probe" and "train_samples" in cell.values
            method = "linear_probe_single" if single else {"vlm": "vlm_published"}.get(cell.method, cell.method)
            score = Score(
                method=method,
                task=cell.task,
                species=cell.species,
                metric=metric,
                value=cell.values[metric],
                n=cell.n,
                how="as published",
                source=cell.file,
                train_samples=int(cell.values["train_samples"])
                if single
                else (train_samples(published, cell.method, cell.task) if cell.species == UNNAMED_SPECIES else None),
            )
            key = (method, cell.task, cell.species, metric, round(score.value, 6))
            if key not in scores or (scores[key].n is None and score.n is not None):
                scores[key] = score
    places = {(c.method, c.task, c.species) for c in published.cells if "balanced_accuracy" in c.values}
    for found in published.checkpoints:
        place = (found.checkpoint.method, found.task, found.species)
        # a total counts before the checkpoints: it says which of them is meant
        if place not in places and found.checkpoint.training:
            score = Score(
                method=place[0],
                task=found.task,
                species=found.species,
                metric="balanced_accuracy",
                value=found.balanced_accuracy,
                n=found.total,
                how="as published, of one checkpoint",
                source=found.file,
                train_samples=train_samples(published, place[0], found.task)
                if found.species == UNNAMED_SPECIES
                else None,
            )
            scores.setdefault((*place, "balanced_accuracy", round(score.value, 6)), score)
    return [s for s in scores.values() if s.method != "vlm_derived"]


def sweep_scores(published: Published) -> list[Score]:
    """Return the probe's mean score and standard deviation over repeats, per number of training samples."""
    scores = []
    for point in published.sweeps:
        measured: tuple[tuple[Metric, Sequence[float]], ...] = (
            ("balanced_accuracy", point.balanced_accuracy),
            ("ece", point.ece),
        )
        for metric, values in measured:
            mean, lower, upper = mean_and_deviation(values)
            scores.append(
                Score(
                    method="linear_probe",
                    task=point.task,
                    species=UNNAMED_SPECIES,
                    metric=metric,
                    value=mean,
                    n=point.n,
                    how=f"mean of {len(values)} repeats",
                    source=point.file,
                    lower=lower,
                    upper=upper,
                    interval=f"standard deviation of {len(values)} repeats" if len(values) > 1 else "",
                    train_samples=point.train_samples,
                )
            )
    return scores


def own_scores(published: Published, frame: pd.DataFrame, *, resamples: int = RESAMPLES) -> list[Score]:
    """Compute scores from the stored answers with this package's metrics; the ECE of networks by the published rule.

    Parameters
    ----------
    published
        What was read.
    frame
        The result records that were written from it.
    resamples
        Of the bootstrap.
    """
    trained = {
        (method, run.task): count
        for run in published.runs
        if (method := published_method(run.model, run.main_condition)).startswith(("vlm", "resnet_"))
        and (count := train_samples(published, "vlm" if method.startswith("vlm") else method, run.task)) is not None
    }
    networks = {run.model for run in published.runs if run.is_network}
    scores = record_scores(frame, published_method, trained, resamples=resamples)
    scores = [s for s in scores if s.metric != "ece" or s.method not in networks]
    return [*scores, *_network_calibration(published, trained, resamples)]


def _network_calibration(published: Published, trained: Mapping[tuple[str, str], int], resamples: int) -> list[Score]:
    """Compute the ECE of networks by the published rule, so that one method has one rule in a figure."""
    scores = []
    for run in (r for r in published.runs if r.is_network):
        answers = first_answers(run)
        found = bootstrap_interval(
            open_bins_statistic(answers.confidence, answers.right),
            [s.group for s in run.samples],
            resamples=resamples,
            method="basic",
            bounds=(0.0, 1.0),
        )
        scores.append(
            Score(
                method=run.model,
                task=run.task,
                species=run.species,
                metric="ece",
                value=found.value,
                n=found.n,
                how="confidence in the answer, ten bins",
                source=run.file,
                lower=found.lower,
                upper=found.upper,
                interval=GROUPS if np.isfinite(found.lower) else "",
                n_groups=found.n_groups,
                train_samples=trained.get((run.model, run.task)),
            )
        )
    return scores


def figure_scores(published: Published, own: Sequence[Score]) -> list[Score]:
    """Select the scores to plot: our score of every cell if there is one, else the stated one.

    Accuracies are of the majority where there are votes. The ECE of a vision-language model stands there as stated,
    from the confidences stated first, and from the share of votes.
    """
    main = {(published_method(r.model, r.main_condition), r.task, r.species): r for r in published.runs}
    chosen = []
    for score in own:
        run = main[score.method, score.task, score.species]
        if run.is_network and score.method not in _DRAWN_NETWORKS:
            continue  # they have no counterpart in the published figures; the table has them
        voted = run.votes == 1 or score.how.startswith(("majority", "share of votes"))
        if score.metric == "balanced_accuracy" and voted:
            chosen.append(score)
        if score.metric == "ece" and run.is_network:
            chosen.append(score)
        if score.metric == "ece" and score.method == "vlm":
            chosen.append(replace(score, method="vlm_votes" if "+" in score.source else "vlm_stated"))
    have = {(s.method, s.task, s.species) for s in chosen if s.metric == "balanced_accuracy"}
    same = {(s.method, s.task, s.species, s.metric, round(s.value, 4)) for s in chosen}
    for score in stated_scores(published):
        if (score.method, score.task, score.species, score.metric, round(score.value, 4)) in same:
            continue
        if score.metric == "balanced_accuracy" and score.method == "vlm_published":
            if ("vlm", score.task, score.species) in have:
                continue
            score = replace(score, method="vlm")
        chosen.append(score)
    return [*chosen, *sweep_scores(published)]
