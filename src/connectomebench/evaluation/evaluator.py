"""Evaluate any model on a partition of any dataset, with the same rows, prompts and parsing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.rows import Rows
from connectomebench.dataset.schema import GEOMETRY
from connectomebench.evaluation.ablations import ablate, shuffle_labels
from connectomebench.evaluation.answer_mode import AnswerMode, scores_by_default
from connectomebench.evaluation.console_summary import simulated_note, summary_lines
from connectomebench.evaluation.fit_recalibration import write_calibrated
from connectomebench.evaluation.model_spec import LoadedModel, ModelSpec, load_model_spec
from connectomebench.evaluation.prompt_variants import PromptVariant, condition, draw_examples
from connectomebench.evaluation.results import DEFAULT, read_results, result_path
from connectomebench.evaluation.runner import DEFAULT_RUN, RunConfig, evaluate_model
from connectomebench.evaluation.subsample import balanced_sample, sample_name
from connectomebench.evaluation.true_answers import dataset_answers
from connectomebench.models.choices import ASKED_OF_EACH, ChoiceModel, fit_none_weight
from connectomebench.models.model_record import TASKS

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from connectomebench.models.base import Model
    from connectomebench.models.model_record import ModelRecord

BASE_MODEL = "base_model"
SHUFFLED_LABELS = "shuffled_labels"


@dataclass(frozen=True)
class EvalData:
    """Data to evaluate on.

    Attributes
    ----------
    dataset, species, partition, task, revision
        See :func:`connectomebench.dataset.loading.load_rows`.
    max_samples
        Evaluate only this many rows, balanced over the answers; None takes all.
    ablation
        One of :data:`connectomebench.evaluation.ablations.ABLATIONS`.
    seed
        Seed of the subsample and of shuffled labels.

    Examples
    --------
    >>> from connectomebench import EvalData
    >>> EvalData("your-org/merge_action", "fly").partition
    'test'
    """

    dataset: str
    species: str
    partition: str = "test"
    task: str | None = None
    revision: str | None = None
    max_samples: int | None = None
    ablation: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class PromptConfig:
    """Prompt and answer options of a chat model; other models take none.

    Attributes
    ----------
    answer_mode
        None takes the mode the model was trained for, else scored if possible, else generated.
    prompt_variant
        None takes the variant the model was trained for, else the answer alone.
    trained_style
        Replace the style of a given variant by the one the model was trained for.
    """

    answer_mode: AnswerMode | None = None
    prompt_variant: PromptVariant | None = None
    trained_style: bool = False


DEFAULT_PROMPT_OPTIONS = PromptConfig()


@dataclass(frozen=True)
class CascadeRule:
    """When to ask a fallback model.

    Attributes
    ----------
    fallback_model
        The model for rows on which the first is not confident.
    min_confidence
        Rows whose most probable answer has a lower probability go to the fallback model.
    """

    fallback_model: ModelSpec
    min_confidence: float


def evaluate(
    model_spec: ModelSpec,
    eval_data: EvalData,
    out: Path,
    *,
    prompt_options: PromptConfig = DEFAULT_PROMPT_OPTIONS,
    run_options: RunConfig = DEFAULT_RUN,
    cascade_rule: CascadeRule | None = None,
    overwrite: bool = False,
    echo: Callable[[str], None] = print,
) -> Path:
    """Evaluate a model on every row of a partition and write one record per row.

    Where ``calibration.json`` stands beside the model, the same answers are written with calibrated probabilities, too,
    as the condition ``calibrated`` (``calibrated-by-SPECIES`` where it was fitted on other species).

    An interrupted run resumes. Existing records of the same model, data and condition are kept; those of another
    revision of the model, or of other data, are replaced only with ``overwrite``.

    Parameters
    ----------
    model_spec
        The model.
    eval_data
        The rows.
    out
        Folder for records: ``OUT/MODEL/TASK/SPECIES/PARTITION.parquet``, or ``PARTITION@CONDITION.parquet``.
    prompt_options
        Prompt and answer mode of a chat model.
    run_options
        Batch size, concurrency and budget; a call never has more rows than the model's own batch size.
    cascade_rule
        Fallback model and confidence threshold; None evaluates the one model.
    overwrite
        Evaluate again even if records exist.
    echo
        Receives each line of output.

    Returns
    -------
    Path
        The records.

    Raises
    ------
    ConnectomeBenchError
        If model or dataset cannot be loaded or do not fit together, the model does not support the options, the
        budget is spent, or the records there are of another model or other data.

    Examples
    --------
    >>> from pathlib import Path
    >>> from connectomebench import EvalData, ModelSpec, evaluate
    >>> model = ModelSpec("quickstart-out/models/trivial/merge_action/fly")
    >>> path = evaluate(model, EvalData("quickstart-out/merge_action", "fly"), Path("results"))
    trivial on merge_action/fly/test: balanced accuracy ...
    results/trivial/merge_action/fly/test.parquet
    """
    unchanged = eval_data.ablation in (None, BASE_MODEL, SHUFFLED_LABELS)
    rows = load_rows(eval_data.dataset, eval_data.species, eval_data.partition, eval_data.revision, task=eval_data.task)
    prepare = None if unchanged else partial(ablate, name=cast(str, eval_data.ablation))
    spec = load_model_spec(model_spec)
    rows = _with_channels(spec, rows, eval_data)
    loaded = [_for_choices(spec, rows, eval_data)]
    model, named = _prepare_model(
        loaded[0], prompt_options if cascade_rule is None else DEFAULT_PROMPT_OPTIONS, rows, eval_data, prepare
    )
    if cascade_rule is not None:
        from connectomebench.models.cascade import Cascade

        loaded.append(_for_choices(load_model_spec(cascade_rule.fallback_model), rows, eval_data))
        second, named = _prepare_model(loaded[1], prompt_options, rows, eval_data, prepare)
        names = (loaded[0].name, loaded[1].name)
        model = Cascade(model, second, cascade_rule.min_confidence, names=names)
    # an interrupted call loses all its rows, so it never exceeds the model's own batch size
    together = min(getattr(one.model, "batch_size", run_options.batch_rows) for one in loaded)
    dataset = _select_rows(rows.dataset, eval_data)
    data = rows.data
    name = loaded[0].name if cascade_rule is None else model_spec.name or model.name
    path = result_path(out, name, data.task, data.species, data.partition, named)
    if overwrite or not _already_evaluated(path, name, model, data.fingerprint, dataset):
        evaluate_model(
            model,
            dataset,
            data.partition,
            data.fingerprint,
            path,
            condition=named,
            name=name,
            prepare=prepare,
            run_options=replace(run_options, batch_rows=min(together, run_options.batch_rows)),
        )
    else:
        echo(f"{path} exists; nothing was evaluated (use --overwrite to evaluate again)")
    found = read_results(path)
    for line in (*summary_lines(found), *simulated_note(data)):
        echo(line)
    echo(str(path))
    if cascade_rule is None and named == DEFAULT:
        for written in _write_calibrated(found, loaded[0], out, echo):
            echo(str(written))
    return path


def _write_calibrated(
    found: pd.DataFrame, loaded: LoadedModel, out: Path, echo: Callable[[str], None]
) -> Iterator[Path]:
    """Write the same answers with the probabilities that the model's own calibrations make of them.

    That of the rows' species where there is one; else each, to see what it is worth here.
    """
    species, task = found["species"].iloc[0], found["task"].iloc[0]
    stored = {one.species: one for one in loaded.recalibrations if one.task == task}
    for recalibration in [stored[species]] if species in stored else list(stored.values()):
        if recalibration.model_revision != found["model_revision"].iloc[0]:
            echo(
                f"the calibration on {recalibration.species} is of another revision of the model and was not applied; "
                "run connectomebench calibrate again"
            )
        elif found["probability"].notna().any():
            yield write_calibrated(found, recalibration, out)


def _select_rows(rows: Dataset, eval_data: EvalData) -> Dataset:
    """Return the rows to evaluate, with shuffled answers if that is the ablation."""
    if eval_data.ablation == SHUFFLED_LABELS:
        rows = shuffle_labels(rows, eval_data.seed)
    if eval_data.max_samples is None:
        return rows
    return rows.select(sorted(balanced_sample(rows["answer"], eval_data.max_samples, eval_data.seed)))


def _with_channels(loaded: LoadedModel, rows: Rows, eval_data: EvalData) -> Rows:
    """Return the rows with geometry channels if the model was trained on them."""
    if loaded.record is None or not loaded.record.config.get(GEOMETRY) or GEOMETRY in rows.dataset.column_names:
        return rows
    return load_rows(
        eval_data.dataset,
        eval_data.species,
        eval_data.partition,
        eval_data.revision,
        task=eval_data.task,
        geometry=True,
    )


def _for_choices(loaded: LoadedModel, rows: Rows, eval_data: EvalData) -> LoadedModel:
    """Let a model of pairs choose among candidates; the weight of none is fitted on the validation rows.

    Any other model comes back as it is.
    """
    model, record = loaded.model, loaded.record
    is_judge = record is not None and ASKED_OF_EACH in record.tasks and not hasattr(model, "reply")
    if not is_judge or not get_task(rows.data.task).has_candidates:
        return loaded
    revision = rows.data.revision if rows.data.repo else eval_data.revision
    held_out = load_rows(eval_data.dataset, eval_data.species, "validation", revision, task=eval_data.task)
    judge = cast("Model", model)
    choosing = ChoiceModel(judge, fit_none_weight(judge, held_out.dataset))
    own = cast("ModelRecord", record).of_task(ASKED_OF_EACH)
    chosen = replace(own, task=rows.data.task, config=own.config | {TASKS: [rows.data.task]})
    return LoadedModel(choosing, chosen, loaded.name)


def _prepare_model(
    loaded: LoadedModel,
    prompt_options: PromptConfig,
    rows: Rows,
    eval_data: EvalData,
    prepare: Callable[[Any], Any] | None,
) -> tuple[Model, str]:
    """Return the model wrapped for evaluation, and the name of the condition."""
    model, record = loaded.model, loaded.record
    if record is not None and rows.data.task not in record.tasks:
        trained = ", ".join(record.tasks)
        raise ConnectomeBenchError(f"{model.name} was trained for {trained}, but the rows are of {rows.data.task}")
    taken = None if eval_data.ablation == BASE_MODEL else eval_data.ablation
    if not hasattr(model, "reply"):
        if prompt_options.answer_mode is not None or prompt_options.prompt_variant is not None:
            raise ConnectomeBenchError(
                f"{model.name} is not a chat model: leave out the answer mode and prompt options"
            )
        answering, named = cast("Model", model), condition(AnswerMode("scored"), ablation=taken)
    else:
        default_mode, default_variant = model_defaults(loaded)
        answer_mode, prompt_variant = (
            prompt_options.answer_mode or default_mode,
            prompt_options.prompt_variant or default_variant,
        )
        if prompt_options.trained_style:
            prompt_variant = replace(prompt_variant, style=default_variant.style)
        answering = _chat_model(loaded, answer_mode, prompt_variant, rows, eval_data, prepare)
        named = condition(
            answer_mode, prompt_variant, taken, default_mode=default_mode, default_variant=default_variant
        )
    if taken == SHUFFLED_LABELS and eval_data.seed:
        named += f"-s{eval_data.seed}"
    if eval_data.max_samples is not None:
        drawn = sample_name(eval_data.max_samples, eval_data.seed)
        named = drawn if named == DEFAULT else f"{named}+{drawn}"
    return answering, named


def model_defaults(loaded: LoadedModel) -> tuple[AnswerMode, PromptVariant]:
    """Return the default answer mode and prompt variant of a chat model.

    As it was trained, including an analysis or a stated confidence; otherwise scored if possible, else generated.
    """
    config = loaded.record.config if loaded.record else {}
    style = "analysis" if config.get("answer_style") == "analysis" else "answer_only"
    if config.get("asks_confidence"):
        return AnswerMode("confidence"), PromptVariant(style)
    if style == "analysis" or not scores_by_default(loaded.model):
        return AnswerMode("generated"), PromptVariant(style)
    return AnswerMode("scored"), PromptVariant(style)


def _chat_model(
    loaded: LoadedModel,
    answer_mode: AnswerMode,
    prompt_variant: PromptVariant,
    rows: Rows,
    eval_data: EvalData,
    prepare: Callable[[Any], Any] | None,
) -> Model:
    from connectomebench.evaluation.chat_adapter import ChatModelAdapter

    if answer_mode.kind == "votes" and not getattr(loaded.model, "takes_temperature", True):
        raise ConnectomeBenchError(
            f"{loaded.model.name} takes no temperature, so votes cannot be sampled; leave votes out"
        )
    examples = []
    if prompt_variant.adaptation == "few_shot":
        revision = rows.data.revision if rows.data.repo else eval_data.revision
        train = load_rows(eval_data.dataset, eval_data.species, "train", revision, task=eval_data.task)
        examples = draw_examples(train.dataset, rows.dataset, prompt_variant, prepare)
    return ChatModelAdapter(cast(Any, loaded.model), answer_mode, prompt_variant, examples)


def _already_evaluated(path: Path, name: str, model: Model, fingerprint: str, dataset: Dataset) -> bool:
    """Return whether the records hold this model's answers to these rows.

    Records of another model or other data are never replaced unasked: two models may share a name, and two datasets a
    task and a species.
    """
    if not path.is_file():
        return False
    frame = read_results(path)
    same = {"model_revision": model.revision, "dataset_fingerprint": fingerprint}
    for what, value in same.items():
        other = sorted(set(frame[what]) - {value})
        if other:
            raise ConnectomeBenchError(
                f"{path} holds answers of {name} with {what} {other[0]}, this one has {value}; give this one a --name, "
                "choose another --out, or add --overwrite to replace them"
            )
    return (
        bool((frame["code_version"] == __version__).all())
        and frame["sample_id"].tolist() == list(dataset["sample_id"])
        and frame["answer"].tolist() == dataset_answers(dataset)
    )
