"""Rate the faithfulness of model analyses to the images as a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key, write_json
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.console_summary import simulated_note
from connectomebench.evaluation.results import label, read_results
from connectomebench.evaluation.statistics import bootstrap_interval
from connectomebench.evaluation.weighted_statistics import Statistic, weighted_sums
from connectomebench.human_eval.answers import PROTOCOL, person
from connectomebench.human_eval.app import AppPage, AppTexts, require_page, show
from connectomebench.human_eval.preferences import Outcome, PairwiseComparison, estimate_json, fit_preferences
from connectomebench.human_eval.rating import SUFFIX, Rater, open_ratings
from connectomebench.human_eval.session import Choice, Item, Rating, RatingSession, Step
from connectomebench.models.prompt import ANALYSIS_CLOSE, ANALYSIS_OPEN

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

RatingMode = Literal["pairs", "single"]
"""Two analyses of one row side by side, or a single one."""

_ANALYSIS = re.compile(f"{re.escape(ANALYSIS_OPEN)}(.*?)(?:{re.escape(ANALYSIS_CLOSE)}|$)", re.DOTALL | re.IGNORECASE)
_TAGS = re.compile(r"<\s*(answer|confidence)\s*>.*?(?:<\s*/\s*\1\s*>|$)", re.DOTALL | re.IGNORECASE)

_PAIRS = Step(
    "Which one describes better what the pictures show?",
    (
        Choice("l", "left", "Left"),
        Choice("r", "right", "Right"),
        Choice("t", "tie", "Tie"),
        Choice("b", "both_bad", "Both bad"),
    ),
)
_SINGLE = Step(
    "How far does this describe what the pictures show?",
    (
        Choice("1", "1", "Invented"),
        Choice("2", "2", "Mostly wrong"),
        Choice("3", "3", "Half right"),
        Choice("4", "4", "Mostly right"),
        Choice("5", "5", "All there to see"),
    ),
)


@dataclass(frozen=True)
class Rationale:
    """Analyses of one row by several models.

    Attributes
    ----------
    row
        Index of the stored row.
    sample, group, question
        Of the row.
    analyses
        Model -> its analysis.
    """

    row: int
    sample: str
    group: str
    question: str
    analyses: Mapping[str, str]


def analysis_of(reply: str) -> str:
    """Return the analysis in a reply, without the answer; may be empty.

    Parameters
    ----------
    reply
        A model's reply. The content of ``<analysis>...</analysis>``, else all of it; answer and stated confidence are
        removed, since they identify models and are not rated.
    """
    found = _ANALYSIS.search(reply)
    return " ".join(_TAGS.sub("", found.group(1) if found else reply).split())


def read_analyses(results: Path, models: Sequence[str], rows: Rows) -> list[Rationale]:
    """Read the models' analyses of the rows of a partition.

    Parameters
    ----------
    results
        Folder of result records.
    models
        As :func:`connectomebench.evaluation.results.label` names them.
    rows
        The partition.

    Returns
    -------
    list[Rationale]
        Rows for which all models gave an analysis, in stored order.

    Raises
    ------
    ConnectomeBenchError
        If a model has no records there, they are of another dataset, or no row has an analysis by every model.
    """
    if len(set(models)) != len(models):
        raise ConnectomeBenchError("name each model once")
    data = rows.data
    frame = read_results(results)
    here = (frame["task"] == data.task) & (frame["species"] == data.species) & (frame["partition"] == data.partition)
    frame = frame[here]
    names = [label(model, condition) for model, condition in zip(frame["model"], frame["condition"], strict=True)]
    replies = {model: _replies(frame[[name == model for name in names]], model, names, rows) for model in models}
    columns = (rows.dataset["sample_id"], rows.dataset["group"], rows.dataset["question"])
    rationales = [
        Rationale(i, sample, group, question, {model: replies[model][sample] for model in models})
        for i, (sample, group, question) in enumerate(zip(*columns, strict=True))
        if all(replies[model].get(sample) for model in models)
    ]
    if not rationales:
        raise ConnectomeBenchError(
            f"no row has an analysis by {' and '.join(models)}; evaluate with --style analysis first"
        )
    return rationales


def judge_analyses(
    rows: Rows,
    rationales: Sequence[Rationale],
    rater: Rater,
    rating_mode: RatingMode,
    out: Path,
    page: AppPage | None = None,
    *,
    export: bool = False,
) -> Path:
    """Rate analyses in the browser and write the resulting estimates.

    Parameters
    ----------
    rows, rationales
        The partition, and the models' analyses of it (`read_analyses`).
    rater
        The rater and number of rows; every pair of models, or every model, is rated on each row.
    rating_mode
        ``pairs`` or ``single``.
    out
        Folder to write to.
    page
        Page options; None opens the browser on a free port.
    export
        Write the estimates from the ratings so far without showing the page.

    Returns
    -------
    Path
        JSON file ``OUT/person-NAME/TASK/SPECIES/PARTITION.WAY-seedS.json``.

    Raises
    ------
    ConnectomeBenchError
        As :func:`connectomebench.human_eval.rating.rate`, or if fewer than two models are to be compared.
    """
    models = list(rationales[0].analyses)
    if rating_mode == "pairs" and len(models) < 2:
        raise ConnectomeBenchError("pairs need at least two models; name them, or rate analyses one by one")
    if not export:
        require_page()
    answers = rows.dataset["answer"]
    drawn = [rationales[i] for i in rater.draw([answers[one.row] for one in rationales])]
    items = _pairs(drawn, models, rater.seed) if rating_mode == "pairs" else _singles(drawn, models, rater.seed)
    folder = out / person(rater.name) / rows.data.task / rows.data.species
    path = folder / f"{rows.data.partition}.{rating_mode}-seed{rater.seed}.json"
    identity = {"way": rating_mode, "models": models, "texts": content_key([item.texts for item, _ in items])}
    with open_ratings(path.with_suffix(SUFFIX), rows, rater, identity, must_exist=export) as journal:
        step = _PAIRS if rating_mode == "pairs" else _SINGLE
        session = RatingSession([item for item, _ in items], (step,), journal)
        if not export and session.done < len(items):
            show(session, rows.dataset, _page_texts(rows, len(items), rating_mode), page or AppPage())
        ratings = session.ratings
    if not ratings:
        raise ConnectomeBenchError(f"{rater.name} has no ratings there; leave out --export to begin")
    groups = {one.sample: one.group for one in drawn}
    shown_models = {item.key: names for item, names in items}
    found = (
        fit_preferences(_comparisons(ratings, shown_models, groups), models)
        if rating_mode == "pairs"
        else _faithfulness(ratings, shown_models, groups, models)
    )
    about = {
        "way": rating_mode,
        "rater": rater.name,
        "protocol": PROTOCOL,
        "seed": rater.seed,
        "task": rows.data.task,
        "species": rows.data.species,
        "partition": rows.data.partition,
        "dataset_fingerprint": rows.data.fingerprint,
        "simulated": bool(rows.data.source.get("simulated_errors") or rows.data.source.get("simulated_em")),
        "rows_with_analyses": len(rationales),
        "rated": len(ratings),
        "of": len(items),
    }
    write_json(path, about | found)
    return path


def _replies(frame: pd.DataFrame, model: str, known: Sequence[str], rows: Rows) -> dict[str, str]:
    """Return sample -> analysis of one model."""
    if frame.empty:
        there = ", ".join(sorted(set(known))) or "nobody"
        raise ConnectomeBenchError(f"{model} has no records of {rows.data.task}/{rows.data.species}; there are {there}")
    if set(frame["dataset_fingerprint"]) != {rows.data.fingerprint}:
        raise ConnectomeBenchError(f"{model} was evaluated on another build of the dataset; evaluate it again")
    replies = frame["reply"].fillna("")
    return {sample: analysis_of(reply) for sample, reply in zip(frame["sample_id"], replies, strict=True)}


def _pairs(drawn: Sequence[Rationale], models: Sequence[str], seed: int) -> list[tuple[Item, tuple[str, ...]]]:
    """Pair the analyses of each row, with random sides and order."""
    generator = np.random.default_rng([seed, 1])
    items = []
    for one in drawn:
        for pair in combinations(models, 2):
            names = tuple(pair[i] for i in generator.permutation(2))
            texts = tuple(one.analyses[name] for name in names)
            items.append((_item(one, names, texts), names))
    return [items[i] for i in generator.permutation(len(items))]


def _singles(drawn: Sequence[Rationale], models: Sequence[str], seed: int) -> list[tuple[Item, tuple[str, ...]]]:
    generator = np.random.default_rng([seed, 2])
    items = [(_item(one, (model,), (one.analyses[model],)), (model,)) for one in drawn for model in models]
    return [items[i] for i in generator.permutation(len(items))]


def _item(rationale: Rationale, models: Sequence[str], texts: tuple[str, ...]) -> Item:
    return Item(
        "\t".join((rationale.sample, *models)), rationale.row, f"The models were asked: {rationale.question}", texts
    )


def _comparisons(
    ratings: Sequence[Rating], shown_models: Mapping[str, tuple[str, ...]], groups: Mapping[str, str]
) -> list[PairwiseComparison]:
    comparisons = []
    for rating in ratings:
        left, right = shown_models[rating.key]
        outcome: Outcome = {"left": "first", "right": "second"}.get(rating.choices[0], rating.choices[0])  # type: ignore[assignment]
        comparisons.append(PairwiseComparison(left, right, outcome, groups[rating.key.split("\t")[0]]))
    return comparisons


def _faithfulness(
    ratings: Sequence[Rating],
    shown_models: Mapping[str, tuple[str, ...]],
    groups: Mapping[str, str],
    models: Sequence[str],
) -> dict[str, Any]:
    """Estimate the mean rating of each model (1 to 5), with intervals over groups."""
    found: dict[str, Any] = {}
    for model in models:
        own = [rating for rating in ratings if shown_models[rating.key] == (model,)]
        if not own:
            continue
        values = np.array([float(rating.choices[0]) for rating in own])
        own_groups = [groups[rating.key.split("\t")[0]] for rating in own]
        mean = bootstrap_interval(_mean_statistic(values), own_groups, bounds=(1.0, 5.0))
        counts = {str(value): int(np.count_nonzero(values == value)) for value in range(1, 6)}
        found[model] = {"mean_rating": estimate_json(mean), "ratings": counts}
    return {"models": found}


def _mean_statistic(values: NDArray[np.float64]) -> Statistic:
    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return weighted_sums(weights, values[np.newaxis])[:, 0] / weights.sum(axis=1)

    return statistic


def _page_texts(rows: Rows, total: int, rating_mode: RatingMode) -> AppTexts:
    what = (
        "you see two descriptions of the same images by different models. Choose the one that better describes "
        "what the images show; Tie if they are equally good, Both bad if neither does"
        if rating_mode == "pairs"
        else "you see one description of the images by a model. Rate how well it describes what they show"
    )
    return AppTexts(
        f"Descriptions, {rows.data.species}",
        (
            f"{total} times: {what}.",
            "Do not rate whether the conclusion is right. A description is good if what it names is there to "
            "see, and bad if it is invented. The models are hidden, and the sides are random.",
            "Use the buttons or the keys shown on them. Click an image to enlarge it; Back undoes the last one.",
            *simulated_note(rows.data),
        ),
    )
