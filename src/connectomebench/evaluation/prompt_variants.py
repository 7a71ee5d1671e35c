"""Prompt variants: the default prompt of a row and alternatives to compare with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import Task, get_task
from connectomebench.evaluation.ablations import ABLATIONS
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.prompt_hints import hint
from connectomebench.evaluation.results import DEFAULT
from connectomebench.models.base import Batch
from connectomebench.models.prompt import completion, messages, question_of

if TYPE_CHECKING:
    from datasets import Dataset

Style = Literal["answer_only", "analysis", "simple"]
Adaptation = Literal["none", "conservative", "context", "hints", "few_shot"]

SIMPLE_QUESTION = "What do you see?"

_CONSERVATIVE = {
    "merge": "Answer yes only if you are sure: a false merge joins two neurons and costs far more than a missed one.",
    "split": "Answer yes only if you are sure: a false split cuts a whole neuron and costs far more than a missed one.",
    "none": "Answer yes only if you are sure; if in doubt, answer no.",
}
_DOUBT = {
    "merge_action_multiple_choice": "Name a candidate only if you are sure, otherwise answer none: a false merge joins "
    "two neurons and costs far more than a missed one.",
    "segment_classification": "If you are not sure, answer f.",
}


@dataclass(frozen=True)
class PromptVariant:
    """How a question is worded.

    Attributes
    ----------
    style
        ``answer_only`` asks for the answer alone, ``analysis`` for an analysis and then the answer; ``simple`` replaces
        the question with "What do you see?" and asks for the answer alone.
    adaptation
        What is added: nothing, ``conservative`` (what a wrong yes costs), ``context`` (species and physical size),
        ``hints`` (what a proofreader looks at) or ``few_shot`` (examples with answers, as earlier turns).
    shots
        Number of examples; ``few_shot`` only.
    seed
        Seed of their draw.
    """

    style: Style = "answer_only"
    adaptation: Adaptation = "none"
    shots: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise unknown_name("style", self.style, get_args(Style))
        if self.adaptation not in get_args(Adaptation):
            raise unknown_name("prompt adaptation", self.adaptation, get_args(Adaptation))
        if self.shots < 1 or self.seed < 0:
            raise ConnectomeBenchError("there must be at least 1 example, and a seed of at least 0")

    @property
    def added(self) -> str:
        """Short name of the adaptation, without spaces, for example ``few_shot4``; ``none`` for nothing."""
        if self.adaptation != "few_shot":
            return self.adaptation
        return f"few_shot{self.shots}" + (f"-s{self.seed}" if self.seed else "")


DEFAULT_VARIANT = PromptVariant()
SCORED = AnswerMode("scored")


def build_messages(
    row: Mapping[str, Any],
    prompt_variant: PromptVariant,
    examples: Sequence[Mapping[str, Any]] = (),
    *,
    confidence: bool = False,
) -> list[dict[str, Any]]:
    """Build the chat messages for a row: the turns of the examples, then the user turn.

    The default variant equals :func:`connectomebench.models.prompt.messages`. Images of the examples come before those
    of the row. Examples ask for the answer alone in every style, since they have no analysis.

    Parameters
    ----------
    row
        A stored row; ``task``, ``question`` and ``views`` are read, with ``context`` also ``species``, ``source`` and
        ``extent_nm``.
    prompt_variant
        How to word the question.
    examples
        From :func:`draw_examples`.
    confidence
        Ask for the probability that the answer is right, too.

    Raises
    ------
    ConnectomeBenchError
        If the variant does not fit the task.
    """
    written: list[dict[str, Any]] = []
    for example in examples:
        reply = {"role": "assistant", "content": [{"type": "text", "text": completion(example)}]}
        written += [*messages(_apply_variant(example, prompt_variant)), reply]
    style = "analysis" if prompt_variant.style == "analysis" else "answer"
    return [*written, *messages(_apply_variant(row, prompt_variant), style=style, confidence=confidence)]


def draw_examples(
    train: Dataset, evaluated: Dataset, prompt_variant: PromptVariant, prepare: Callable[[Batch], Batch] | None = None
) -> list[dict[str, Any]]:
    """Draw the ``few_shot`` examples: the same for all rows, balanced over the answers, in random order.

    Training rows that share a ``sample_id`` or ``group`` with evaluated rows are never drawn.

    Parameters
    ----------
    train
        Rows of the training partition; only images of drawn rows are decoded.
    evaluated
        Rows to evaluate.
    prompt_variant
        Number of examples and seed. Other adaptations have no examples.
    prepare
        Applied to their images as to those of the evaluated rows (:func:`connectomebench.evaluation.ablations.ablate`).

    Returns
    -------
    list of dict
        Stored rows. Counts of two answers differ by at most 1; answers without training rows are left out.

    Raises
    ------
    ConnectomeBenchError
        If there are too few eligible rows, or they are of another task.
    """
    if prompt_variant.adaptation != "few_shot":
        return []
    tasks = {*train.unique("task"), *evaluated.unique("task")}
    if len(tasks) != 1:
        raise ConnectomeBenchError(f"examples must be of the evaluated task, not of {', '.join(sorted(tasks))}")
    samples, groups = set(evaluated["sample_id"]), set(evaluated["group"])
    eligible = [
        number
        for number, (sample, group) in enumerate(zip(train["sample_id"], train["group"], strict=True))
        if sample not in samples and group not in groups
    ]
    answers = list(train["answer"])
    generator = np.random.default_rng(prompt_variant.seed)
    by_answer: dict[str, list[int]] = {}
    for number in generator.permutation(np.array(eligible, dtype=np.int64)).tolist():
        by_answer.setdefault(answers[number], []).append(number)
    order = generator.permutation(sorted(by_answer)).tolist()
    # round robin over the answers, so that counts differ by at most 1
    rounds = -(-prompt_variant.shots // max(len(order), 1))
    dealt = [by_answer[answer][k] for k in range(rounds) for answer in order if k < len(by_answer[answer])]
    chosen = dealt[: prompt_variant.shots]
    if len(chosen) < prompt_variant.shots:
        raise ConnectomeBenchError(
            f"only {len(chosen)} training rows outside the evaluated samples and groups can serve as balanced "
            f"examples; reduce the {prompt_variant.shots} shots"
        )
    batch: Batch = train[generator.permutation(chosen).tolist()]
    prepared = batch if prepare is None else prepare(batch)
    examples = [dict(zip(prepared, values, strict=True)) for values in zip(*prepared.values(), strict=True)]
    assert samples.isdisjoint(one["sample_id"] for one in examples)
    assert groups.isdisjoint(one["group"] for one in examples)
    return examples


def condition(
    answer_mode: AnswerMode,
    prompt_variant: PromptVariant = DEFAULT_VARIANT,
    ablation: str | None = None,
    *,
    default_mode: AnswerMode = SCORED,
    default_variant: PromptVariant = DEFAULT_VARIANT,
) -> str:
    """Name the condition of result records: deviations from the defaults, joined by ``+``.

    Parameters
    ----------
    answer_mode, prompt_variant, ablation
        How the model is evaluated.
    default_mode, default_variant
        The model's defaults: what it was trained for, else scored if possible, else ``AnswerMode("generated")``.

    Returns
    -------
    str
        ``default`` without deviations; otherwise for example ``votes5-t0.7``, ``generated+few_shot4``,
        ``blank_images``.

    Raises
    ------
    ConnectomeBenchError
        If the ablation is unknown.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise unknown_name("ablation", ablation, ABLATIONS)
    parts = [answer_mode.name] if answer_mode != default_mode else []
    if prompt_variant.style != default_variant.style:
        parts.append(prompt_variant.style)
    if prompt_variant.added != default_variant.added:
        parts.append(prompt_variant.added)
    parts += [ablation] if ablation else []
    return "+".join(parts) or DEFAULT


def _apply_variant(row: Mapping[str, Any], prompt_variant: PromptVariant) -> dict[str, Any]:
    """Return a row with the question of the variant."""
    task = get_task(row["task"])
    question = question_of(row)
    if prompt_variant.style == "simple":
        if not task.labels:
            raise ConnectomeBenchError(
                f"the question of {task.name} names places, which the simple style leaves out; use another style"
            )
        question = SIMPLE_QUESTION
    if prompt_variant.adaptation == "conservative":
        question += f" {_conservative(task)}"
    elif prompt_variant.adaptation == "context":
        question += f" {_context(row)}"
    elif prompt_variant.adaptation == "hints":
        question += f" {hint(task)}"
    return {**row, "question": question}


def _conservative(task: Task) -> str:
    if not task.labels:
        raise ConnectomeBenchError(
            f"{task.name} asks for a place, so it has no conservative answer; use another --prompt"
        )
    return _DOUBT.get(task.name) or _CONSERVATIVE[task.correction]


def _context(row: Mapping[str, Any]) -> str:
    """Return source and physical size of the data; nothing here depends on the answer."""
    name = str(row["species"])
    species = SPECIES.get(name)
    text = f"The data are from: {name.replace('_', ' ')}."
    # other data of the same species may come from elsewhere
    if species is not None and row["source"] == species.datastack:
        text = f"The data are from: {species.title}, {species.microscopy} microscopy."
        if species.segmentation_voxel_nm is not None:
            text += f" A voxel is {' x '.join(f'{edge:g}' for edge in species.segmentation_voxel_nm)} nm large."
    extent = row["extent_nm"]
    if extent is not None and extent > 0:
        text += f" Every picture shows {float(extent) / 1000:.1f} micrometres from edge to edge."
    return text
