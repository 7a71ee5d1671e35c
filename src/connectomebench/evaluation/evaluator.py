"""Let any model answer a partition of any dataset: the same rows, the same question, the same reading of the reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.version import __version__
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.evaluation.ablations import ablate, shuffle_labels
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.console_summary import outcome, simulated_note
from connectomebench.evaluation.model_spec import LoadedModel, ModelSpec, load_model_spec
from connectomebench.evaluation.prompt_variants import PromptVariant, condition, draw_examples
from connectomebench.evaluation.results import DEFAULT, read_results, result_path
from connectomebench.evaluation.runner import DEFAULT_RUN, RunOptions, evaluate_model
from connectomebench.evaluation.subsample import balanced_sample, sample_name

if TYPE_CHECKING:
    from datasets import Dataset

    from connectomebench.models.base import Model

BASE_MODEL = "base_model"
SHUFFLED_LABELS = "shuffled_labels"


@dataclass(frozen=True)
class EvalData:
    """What is shown.

    Attributes
    ----------
    dataset, species, partition, task, revision
        See :func:`connectomebench.dataset.loading.load_rows`.
    sample
        Only so many rows, balanced over the answers; None takes all.
    ablation
        What is taken away, one of :data:`connectomebench.evaluation.ablations.ABLATIONS`.
    seed
        Of the sample and of shuffled labels.
    """

    dataset: str
    species: str
    partition: str = "test"
    task: str | None = None
    revision: str | None = None
    sample: int | None = None
    ablation: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class PromptOptions:
    """How a model that talks is asked; nothing of it goes with one that does not.

    Attributes
    ----------
    way
        None takes what the model was trained for, else scored where that can be computed, else generated.
    wording
        None takes what the model was trained for, else the answer alone.
    trained_style
        Replace the style of a given wording, too, by what the model was trained for.
    """

    way: AnswerMode | None = None
    wording: PromptVariant | None = None
    trained_style: bool = False


DEFAULT_VARIANT = PromptOptions()


@dataclass(frozen=True)
class CascadeRule:
    """Whom to ask where the first model is not sure.

    Attributes
    ----------
    second
        The other model.
    below
        The first is not sure where its likeliest answer is less probable than this.
    """

    second: ModelSpec
    below: float


def evaluate(
    asked: ModelSpec,
    shown: EvalData,
    out: Path,
    *,
    how: PromptOptions = DEFAULT_VARIANT,
    effort: RunOptions = DEFAULT_RUN,
    doubt: CascadeRule | None = None,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Let a model answer every row of a partition, and write one record a row.

    What was cut off goes on where it was; what is there already, of the same model, data and condition, is not asked
    again.

    Parameters
    ----------
    asked, doubt
        Who is asked, and who then.
    shown, how
        What is asked, and how.
    out
        Folder for records: ``OUT/MODEL/TASK/SPECIES/PARTITION.parquet``, or ``PARTITION@CONDITION.parquet``.
    effort
        How much at a time, and at what cost; no call has more rows than a language model computes together.
    again
        Ask anew where records are there.
    say
        Takes what is to be shown.

    Returns
    -------
    Path
        The records.

    Raises
    ------
    ConnectomeBenchError
        If model or dataset cannot be had or do not belong together, the model cannot be asked this way, or the budget
        is spent.
    """
    unchanged = shown.ablation in (None, BASE_MODEL, SHUFFLED_LABELS)
    rows = load_rows(shown.dataset, shown.species, shown.partition, shown.revision, task=shown.task)
    prepare = None if unchanged else partial(ablate, name=cast(str, shown.ablation))
    opened = [load_model_spec(asked)]
    model, named = _answering(opened[0], how if doubt is None else DEFAULT_VARIANT, rows, shown, prepare)
    if doubt is not None:
        from connectomebench.models.cascade import Cascade

        opened.append(load_model_spec(doubt.second))
        second, named = _answering(opened[1], how, rows, shown, prepare)
        model = Cascade(model, second, doubt.below)
    # what is computed together is lost together where the run is cut off, so no more than that in a call
    together = min(getattr(one.model, "batch_size", effort.batch_rows) for one in opened)
    dataset = _chosen(rows.dataset, shown)
    data = rows.data
    path = result_path(out, model.name, data.task, data.species, data.partition, named)
    if again or not _is_there(path, model, data.fingerprint, dataset):
        evaluate_model(
            model,
            dataset,
            data.partition,
            data.fingerprint,
            path,
            condition=named,
            prepare=prepare,
            effort=replace(effort, batch_rows=min(together, effort.batch_rows)),
        )
    else:
        say(f"{path} is there already; nothing was asked (--again asks anew)")
    for line in (*outcome(read_results(path)), *simulated_note(data)):
        say(line)
    say(str(path))
    return path


def _chosen(rows: Dataset, shown: EvalData) -> Dataset:
    """Return the rows that are asked about, with shuffled answers where that is the ablation."""
    if shown.ablation == SHUFFLED_LABELS:
        rows = shuffle_labels(rows, shown.seed)
    if shown.sample is None:
        return rows
    return rows.select(sorted(balanced_sample(rows["answer"], shown.sample, shown.seed)))


def _answering(
    opened: LoadedModel, how: PromptOptions, rows: Rows, shown: EvalData, prepare: Callable[[Any], Any] | None
) -> tuple[Model, str]:
    """Return the model as it is asked, and the name of the condition."""
    model, record = opened.model, opened.record
    if record is not None and record.task != rows.data.task:
        raise ConnectomeBenchError(f"{model.name} was trained for {record.task}, and the rows ask {rows.data.task}")
    taken = None if shown.ablation == BASE_MODEL else shown.ablation
    if not hasattr(model, "reply"):
        if how.way is not None or how.wording is not None:
            raise ConnectomeBenchError(f"{model.name} does not talk: leave the ways to answer and the prompt out")
        answering, named = cast("Model", model), condition(AnswerMode("scored"), ablation=taken)
    else:
        usual_way, usual_wording = usual(opened)
        way, wording = how.way or usual_way, how.wording or usual_wording
        if how.trained_style:
            wording = replace(wording, style=usual_wording.style)
        answering = _talking(opened, way, wording, rows, shown, prepare)
        named = condition(way, wording, taken, usual_way=usual_way, usual_wording=usual_wording)
    if taken == SHUFFLED_LABELS and shown.seed:
        named += f"-s{shown.seed}"
    if shown.sample is not None:
        drawn = sample_name(shown.sample, shown.seed)
        named = drawn if named == DEFAULT else f"{named}+{drawn}"
    return answering, named


def usual(opened: LoadedModel) -> tuple[AnswerMode, PromptVariant]:
    """Return how a model that talks is asked as it stands: as it was trained, else scored, else with a reply in words.

    A model that was trained to write an analysis, or to state its confidence, is had to do so.
    """
    config = opened.record.config if opened.record else {}
    style = "analysis" if config.get("answer_style") == "analysis" else "answer_only"
    if config.get("asks_confidence"):
        return AnswerMode("confidence"), PromptVariant(style)
    if style == "analysis" or not hasattr(opened.model, "score"):
        return AnswerMode("generated"), PromptVariant(style)
    return AnswerMode("scored"), PromptVariant(style)


def _talking(
    opened: LoadedModel,
    way: AnswerMode,
    wording: PromptVariant,
    rows: Rows,
    shown: EvalData,
    prepare: Callable[[Any], Any] | None,
) -> Model:
    from connectomebench.evaluation.chat_adapter import ChatModelAdapter

    if way.kind == "votes" and not getattr(opened.model, "takes_temperature", True):
        raise ConnectomeBenchError(
            f"{opened.model.name} takes no temperature, so its votes are not drawn; leave votes out"
        )
    examples = []
    if wording.adaptation == "few_shot":
        revision = rows.data.revision if rows.data.repo else shown.revision
        train = load_rows(shown.dataset, shown.species, "train", revision, task=shown.task)
        examples = draw_examples(train.dataset, rows.dataset, wording, prepare)
    return ChatModelAdapter(cast(Any, opened.model), way, wording, examples)


def _is_there(path: Path, model: Model, fingerprint: str, dataset: Dataset) -> bool:
    """Tell whether the same question was put to the same model about the same rows before."""
    if not path.is_file():
        return False
    frame = read_results(path)
    same = {"model_revision": model.revision, "dataset_fingerprint": fingerprint, "code_version": __version__}
    return (
        all((frame[name] == value).all() for name, value in same.items())
        and frame["sample_id"].tolist() == list(dataset["sample_id"])
        and frame["answer"].tolist() == list(dataset["answer"])
    )
