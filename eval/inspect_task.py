"""ConnectomeBench in Inspect (inspect-ai): one sample a place, all its images in one message, balanced accuracy.

Needs ``pip install inspect-ai datasets`` and no connectomebench. From the Hub, or from a folder of a dataset:

    inspect eval inspect_task.py --model openai/gpt-5 -T task=merge_action -T species=fly
    inspect eval inspect_task.py --model openai/gpt-5 -T task=merge_action -T species=fly -T dataset=out/merge_action

The prompt is that of connectomebench, part by part, and a reply is read in the same way; tests compare both.
"""

from __future__ import annotations

import base64
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from inspect_ai import Task, task  # pyright: ignore[reportMissingImports]
from inspect_ai.dataset import MemoryDataset, Sample  # pyright: ignore[reportMissingImports]
from inspect_ai.model import (  # pyright: ignore[reportMissingImports]
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
)
from inspect_ai.scorer import (  # pyright: ignore[reportMissingImports]
    CORRECT,
    INCORRECT,
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    accuracy,
    metric,
    scorer,
    value_to_float,
)
from inspect_ai.solver import TaskState, generate  # pyright: ignore[reportMissingImports]

PROMPT_VERSION = 1
LABELS = {
    "merge_action": ("no", "yes"),
    "merge_action_multiple_choice": ("a", "b", "c", "d", "none"),
    "endpoint_error_identification": ("no", "yes"),
    "endpoint_error_identification_with_em": ("no", "yes"),
    "merge_error_identification": ("no", "yes"),
    "split_action": ("no", "yes"),
    "segment_identity": ("no", "yes"),
    "segment_classification": ("a", "b", "c", "d", "e", "f", "g"),
}
VIEW_NAMES = {
    "em_xy": "image data, xy slice",
    "em_xz": "image data, xz slice",
    "em_yz": "image data, yz slice",
    "first": "first image",
    "second": "second image",
}


def answer_format(task_name: str) -> str:
    """Return the answer format of a task."""
    labels = LABELS[task_name]
    ordered = ("yes", "no") if labels == ("no", "yes") else labels
    *others, last = (f"<answer>{label}</answer>" for label in ordered)
    return f"Reply with the answer alone, as {', '.join(others)} or {last}."


def prompt_texts(task_name: str, question: str, views: Sequence[str]) -> list[str]:
    """Return the text before each image of a row, and last the question."""
    names = [VIEW_NAMES.get(view, f"{view.replace('_', ' ')} view") for view in views]
    return [*(f"{name}:" for name in names), f"{question}\n{answer_format(task_name)}"]


def read_answer(reply: str, task_name: str) -> str | None:
    """Parse the last ``<answer>`` of a reply; None if it is no label of the task, which counts as wrong."""
    found = re.findall(r"<\s*answer\s*>([^<>]*)<\s*/\s*answer\s*>", reply, flags=re.IGNORECASE)
    text = " ".join(found[-1].split()).casefold() if found else None
    return next((label for label in LABELS[task_name] if label.casefold() == text), None)


def balanced(rows: Iterable[tuple[str, str, float]]) -> tuple[float, float]:
    """Compute balanced accuracy and its standard error clustered by group.

    The error is that of the linearised mean of recalls, summed over groups (Miller, Adding Error Bars to Evals, 2024,
    appendix A, for the mean of recalls in place of the mean), times sqrt(G / (G - 1)) for G groups; NaN for one group.

    Parameters
    ----------
    rows
        True answer, group, and how right the answer was (0 to 1), one a sample.
    """
    by_answer: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for answer, group, right in rows:
        by_answer[answer].append((group, right))
    recalls = {answer: sum(right for _, right in of) / len(of) for answer, of in by_answer.items()}
    if not recalls:
        return math.nan, math.nan
    deviations: dict[str, float] = defaultdict(float)
    for answer, of in by_answer.items():
        for group, right in of:
            deviations[group] += (right - recalls[answer]) / len(of) / len(recalls)
    groups = len(deviations)
    squares = sum(deviation**2 for deviation in deviations.values())
    error = math.sqrt(squares * groups / (groups - 1)) if groups > 1 else math.nan
    return sum(recalls.values()) / len(recalls), error


@task
def connectomebench(
    task: str = "merge_action",
    species: str = "fly",
    partition: str = "test",
    dataset: str | None = None,
    revision: str | None = None,
) -> Task:
    """Evaluate one task on one species.

    Parameters
    ----------
    task
        One of `LABELS`.
    species
        Config of the dataset.
    partition
        train, validation or test.
    dataset
        Folder, or ORG/NAME on the Hub; ``connectomebench/TASK`` by default.
    revision
        Branch, tag or commit on the Hub.
    """
    if task not in LABELS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(LABELS)}")
    from datasets import Image, List, load_dataset

    source = dataset or f"connectomebench/{task}"
    rows = load_dataset(source, species, split=partition, revision=revision)
    # the stored PNG bytes are sent as they are
    rows = rows.cast_column("images", List(Image(decode=False)))
    samples = [_sample(row, task) for row in rows]
    return Task(
        dataset=MemoryDataset(samples, name=f"{task}/{species}/{partition}", location=source),
        solver=generate(),
        scorer=tagged_answer(task),
        config=GenerateConfig(temperature=0, max_tokens=512),
        version=PROMPT_VERSION,
        metadata={"dataset": source, "revision": revision, "prompt_version": PROMPT_VERSION},
    )


@metric
def balanced_accuracy() -> Metric:
    """Compute the balanced accuracy."""

    # Inspect reads the annotation to know what to hand in
    def of(scores: list[SampleScore]) -> float:
        return balanced(_rows(scores))[0]

    return of


@metric
def balanced_accuracy_stderr() -> Metric:
    """Compute the standard error of `balanced_accuracy`, clustered by group."""

    # Inspect reads the annotation to know what to hand in
    def of(scores: list[SampleScore]) -> float:
        return balanced(_rows(scores))[1]

    return of


@scorer(metrics=[balanced_accuracy(), balanced_accuracy_stderr(), accuracy()])
def tagged_answer(task_name: str) -> Scorer:
    """Compare the last ``<answer>`` of the reply with the truth."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = read_answer(state.output.completion, task_name)
        right = answer is not None and answer == target.text
        return Score(value=CORRECT if right else INCORRECT, answer=answer, explanation=state.output.completion)

    return score


def _rows(scores: list[SampleScore]) -> list[tuple[str, str, float]]:
    to_float = value_to_float()
    known = [(score, score.sample_metadata or {}) for score in scores]
    return [(row["answer"], row["group"], to_float(score.score.value)) for score, row in known]


def _sample(row: Any, task_name: str) -> Sample:
    """Convert a row to one message of alternating texts and images."""
    *names, question = prompt_texts(task_name, row["question"], row["views"])
    content: list[Any] = []
    for name, image in zip(names, row["images"], strict=True):
        encoded = base64.b64encode(image["bytes"]).decode("ascii")
        content += [ContentText(text=name), ContentImage(image=f"data:image/png;base64,{encoded}", detail="high")]
    content.append(ContentText(text=question))
    return Sample(
        id=row["sample_id"],
        input=[ChatMessageUser(content=content)],
        target=row["answer"],
        metadata={"answer": row["answer"], "group": row["group"], "species": row["species"], "origin": row["origin"]},
    )
