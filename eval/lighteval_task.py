"""
name:
ConnectomeBench

dataset:
connectomebench/merge_action, connectomebench/endpoint_error_identification_with_em,
connectomebench/merge_error_identification, connectomebench/split_action

abstract:
Proofreading of connectomes: a model looks at pieces of neurons from an automatic segmentation of a brain volume and
says whether they are wrongly split or wrongly fused. Several images a question; balanced accuracy over the answers.

languages:
english

tags:
classification, multimodal, biology

paper:
"""  # noqa: D205, D400  (lighteval reads this layout)

# Needs `pip install lighteval` and no connectomebench. Datasets come from connectomebench/TASK on the Hub, or from
# DIR/TASK where the environment variable CONNECTOMEBENCH_DATASETS names DIR:
#
#     lighteval accelerate "model_name=Qwen/Qwen3-VL-2B-Instruct" "connectomebench_merge_action:fly|0" \
#         --vision-model --custom-tasks lighteval_task.py
#
# Lighteval puts all text before all images: the names of the images and the question come first, in the words of
# connectomebench. Where the prompt must be the very same, use inspect_task.py.

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lighteval.metrics.metrics_sample import SampleLevelComputation  # pyright: ignore[reportMissingImports]
from lighteval.metrics.utils.metric_utils import CorpusLevelMetric  # pyright: ignore[reportMissingImports]
from lighteval.models.model_output import ModelResponse  # pyright: ignore[reportMissingImports]
from lighteval.tasks.lighteval_task import LightevalTaskConfig  # pyright: ignore[reportMissingImports]
from lighteval.tasks.requests import Doc, SamplingMethod  # pyright: ignore[reportMissingImports]

PROMPT_VERSION = 1
SPECIES = ("mouse", "fly", "human", "zebrafish", "mouse_exm")
LABELS = {
    "merge_action": ("no", "yes"),
    "endpoint_error_identification_with_em": ("no", "yes"),
    "merge_error_identification": ("no", "yes"),
    "split_action": ("no", "yes"),
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


def prompt(row: dict[str, Any], task_name: str) -> Doc:
    """Convert a row to a question with several images."""
    name = row["task"]
    return Doc(
        task_name=task_name,
        query="\n".join(prompt_texts(name, row["question"], row["views"])),
        choices=list(LABELS[name]),
        gold_index=LABELS[name].index(row["answer"]),
        images=[image.convert("RGB") for image in row["images"]],
        specific={"sample_id": row["sample_id"], "group": row["group"], "task": name},
    )


class TaggedAnswer(SampleLevelComputation):
    """Score the last ``<answer>`` of a reply, with the data that balanced accuracy needs."""

    def compute(self, model_response: ModelResponse, doc: Doc, **_: Any) -> dict[str, Any]:
        """Return true answer, group, and 1 or 0."""
        truth = doc.get_golds()[0]
        specific = doc.specific or {}
        answer = read_answer(model_response.final_text[0], specific["task"])
        return {"answer": truth, "group": specific["group"], "right": float(answer == truth)}


def aggregate(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Aggregate to balanced accuracy and its standard error over groups."""
    value, error = balanced((row["answer"], row["group"], row["right"]) for row in rows)
    return {"balanced_accuracy": value, "balanced_accuracy_stderr": error}


def repository(task_name: str) -> str:
    """Return the folder or Hub id of the dataset of a task."""
    folder = os.environ.get("CONNECTOMEBENCH_DATASETS")
    return str(Path(folder) / task_name) if folder else f"connectomebench/{task_name}"


TASKS_TABLE = [
    LightevalTaskConfig(
        name=f"connectomebench_{task_name}:{species}",
        prompt_function=prompt,
        hf_repo=repository(task_name),
        hf_subset=species,
        hf_avail_splits=["train", "validation", "test"],
        evaluation_splits=["test"],
        generation_size=512,
        metrics=[
            CorpusLevelMetric(
                metric_name="balanced_accuracy",
                higher_is_better=True,
                category=SamplingMethod.GENERATIVE,
                sample_level_fn=TaggedAnswer(),
                corpus_level_fn=aggregate,
            )
        ],
        version=PROMPT_VERSION,
    )
    for task_name in LABELS
    for species in SPECIES
]
