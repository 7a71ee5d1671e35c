"""What a row is asked with: the usual words, or other ones that are compared with them."""

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
from connectomebench.models.prompt import completion, messages

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
        ``answer_only`` asks for the answer alone, ``analysis`` for an analysis and then the answer; ``simple`` puts
        "What do you see?" in the place of the question and asks for the answer alone.
    adaptation
        What is added: nothing, ``conservative`` (what a wrong yes costs), ``context`` (species and size of what is
        shown), ``hints`` (what a proofreader looks at) or ``few_shot`` (examples with their answers, as earlier turns).
    shots
        Examples, of ``few_shot`` alone.
    seed
        Of their draw.
    """

    style: Style = "answer_only"
    adaptation: Adaptation = "none"
    shots: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise unknown_name("style", self.style, get_args(Style))
        if self.adaptation not in get_args(Adaptation):
            raise unknown_name("adaptation of the prompt", self.adaptation, get_args(Adaptation))
        if self.shots < 1 or self.seed < 0:
            raise ConnectomeBenchError("there must be at least 1 example, and a seed of at least 0")

    @property
    def added(self) -> str:
        """Short name of what is added, without spaces, for example ``few_shot4``; ``none`` for nothing."""
        if self.adaptation != "few_shot":
            return self.adaptation
        return f"few_shot{self.shots}" + (f"-s{self.seed}" if self.seed else "")


DEFAULT_VARIANT = PromptVariant()
SCORED = AnswerMode("scored")


def build_messages(
    row: Mapping[str, Any], wording: PromptVariant, examples: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Write what is asked about a row: the turns of the examples, then one of the user.

    With the usual words it is :func:`connectomebench.models.prompt.messages`. Images stand in the order: those of the
    examples, then those of the row. Examples are asked for the answer alone whatever the style, since they have no
    analysis.

    Parameters
    ----------
    row
        A stored row, of which ``task``, ``question`` and ``views`` are read; ``species``, ``source`` and ``extent_nm``
        too with ``context``.
    wording
        How to word it.
    examples
        Of :func:`draw_examples`.

    Raises
    ------
    ConnectomeBenchError
        If the wording does not go with the task.
    """
    written: list[dict[str, Any]] = []
    for example in examples:
        reply = {"role": "assistant", "content": [{"type": "text", "text": completion(example)}]}
        written += [*messages(_worded(example, wording)), reply]
    return [*written, *messages(_worded(row, wording), style="analysis" if wording.style == "analysis" else "answer")]


def draw_examples(
    train: Dataset, evaluated: Dataset, wording: PromptVariant, prepare: Callable[[Batch], Batch] | None = None
) -> list[dict[str, Any]]:
    """Draw the examples of ``few_shot``: the same for all rows, balanced over the answers, in a drawn order.

    Training rows whose ``sample_id`` or ``group`` occurs among the evaluated ones are never drawn.

    Parameters
    ----------
    train
        Rows of the training partition; images are read of the drawn ones alone.
    evaluated
        Rows that are asked about.
    wording
        Number of examples and seed. Other adaptations have none.
    prepare
        Changes their pictures as those of the evaluated rows are (:func:`connectomebench.evaluation.ablations.ablate`).

    Returns
    -------
    list of dict
        Stored rows. Counts of two answers differ by 1 at most; answers that no training row has are left out.

    Raises
    ------
    ConnectomeBenchError
        If there are too few such rows, or they are of another task.
    """
    if wording.adaptation != "few_shot":
        return []
    tasks = {*train.unique("task"), *evaluated.unique("task")}
    if len(tasks) != 1:
        raise ConnectomeBenchError(f"examples must be of the evaluated task, not of {', '.join(sorted(tasks))}")
    samples, groups = set(evaluated["sample_id"]), set(evaluated["group"])
    apart = [
        number
        for number, (sample, group) in enumerate(zip(train["sample_id"], train["group"], strict=True))
        if sample not in samples and group not in groups
    ]
    answers = list(train["answer"])
    generator = np.random.default_rng(wording.seed)
    by_answer: dict[str, list[int]] = {}
    for number in generator.permutation(np.array(apart, dtype=np.int64)).tolist():
        by_answer.setdefault(answers[number], []).append(number)
    order = generator.permutation(sorted(by_answer)).tolist()
    # in turn, one of each answer, so that counts differ by 1 at most
    rounds = -(-wording.shots // max(len(order), 1))
    dealt = [by_answer[answer][k] for k in range(rounds) for answer in order if k < len(by_answer[answer])]
    chosen = dealt[: wording.shots]
    if len(chosen) < wording.shots:
        raise ConnectomeBenchError(
            f"only {len(chosen)} training rows can serve as balanced examples, apart from the evaluated ones, and "
            f"{wording.shots} are wanted; ask for fewer"
        )
    batch: Batch = train[generator.permutation(chosen).tolist()]
    shown = batch if prepare is None else prepare(batch)
    examples = [dict(zip(shown, values, strict=True)) for values in zip(*shown.values(), strict=True)]
    assert samples.isdisjoint(one["sample_id"] for one in examples)
    assert groups.isdisjoint(one["group"] for one in examples)
    return examples


def condition(
    way: AnswerMode,
    wording: PromptVariant = DEFAULT_VARIANT,
    ablation: str | None = None,
    *,
    usual_way: AnswerMode = SCORED,
    usual_wording: PromptVariant = DEFAULT_VARIANT,
) -> str:
    """Name the condition of result records: what is unlike the usual, joined by ``+``.

    Parameters
    ----------
    way, wording, ablation
        How a model is asked.
    usual_way, usual_wording
        How it is asked as it stands: scored for a model that can be scored, else ``AnswerMode("generated")``; what it was
        trained for where it was trained.

    Returns
    -------
    str
        ``default`` where nothing is unlike the usual; otherwise for example ``votes5-t0.7``, ``generated+few_shot4``,
        ``blank_images``.

    Raises
    ------
    ConnectomeBenchError
        If there is no such ablation.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise unknown_name("ablation", ablation, ABLATIONS)
    parts = [way.name] if way != usual_way else []
    if wording.style != usual_wording.style:
        parts.append(wording.style)
    if wording.added != usual_wording.added:
        parts.append(wording.added)
    parts += [ablation] if ablation else []
    return "+".join(parts) or DEFAULT


def _worded(row: Mapping[str, Any], wording: PromptVariant) -> dict[str, Any]:
    """Return a row with the question as it is worded."""
    task = get_task(row["task"])
    question = str(row["question"])
    if wording.style == "simple":
        if not task.labels:
            raise ConnectomeBenchError(
                f"the places of {task.name} stand in its question, which the simple style leaves out; use another style"
            )
        question = SIMPLE_QUESTION
    if wording.adaptation == "conservative":
        question += f" {_conservative(task)}"
    elif wording.adaptation == "context":
        question += f" {_context(row)}"
    elif wording.adaptation == "hints":
        question += f" {hint(task)}"
    return {**row, "question": question}


def _conservative(task: Task) -> str:
    if not task.labels:
        raise ConnectomeBenchError(f"{task.name} asks for a place, so there is no careful answer; use another --prompt")
    return _DOUBT.get(task.name) or _CONSERVATIVE[task.correction]


def _context(row: Mapping[str, Any]) -> str:
    """Tell where the data are from and how large they are shown, of which nothing depends on the answer."""
    name = str(row["species"])
    species = SPECIES.get(name)
    told = f"The data are from: {name.replace('_', ' ')}."
    # other data of the same species need not be from the same place
    if species is not None and row["source"] == species.datastack:
        told = f"The data are from: {species.title}, {species.microscopy} microscopy."
        if species.segmentation_voxel_nm is not None:
            told += f" A voxel is {' x '.join(f'{edge:g}' for edge in species.segmentation_voxel_nm)} nm large."
    extent = row["extent_nm"]
    if extent is not None and extent > 0:
        told += f" Every picture shows {float(extent) / 1000:.1f} micrometres from edge to edge."
    return told
