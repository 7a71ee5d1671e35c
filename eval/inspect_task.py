"""ConnectomeBench in Inspect (inspect-ai): one sample a place, all its images in one message, balanced accuracy.

Needs ``pip install inspect-ai datasets`` and no connectomebench. From the Hub, or from a folder of a dataset:

    inspect eval inspect_task.py --model openai/gpt-5 -T task=merge_action -T species=fly
    inspect eval inspect_task.py --model openai/gpt-5 -T task=merge_action -T species=fly -T dataset=out/merge_action

The prompt is that of connectomebench, part by part, and a reply is read in the same way; tests compare both.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
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

PROMPT_VERSION = 3
LABELS = {
    "merge_action": ("no", "yes"),
    "merge_action_with_em": ("no", "yes"),
    "merge_action_multiple_choice": ("a", "b", "c", "d", "none"),
    "endpoint_error_identification": ("no", "yes"),
    "endpoint_error_identification_with_em": ("no", "yes"),
    "merge_error_identification": ("no", "yes"),
    "merge_error_identification_with_em": ("no", "yes"),
    "split_action": ("no", "yes"),
    "split_action_with_em": ("no", "yes"),
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
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"a row of {task_name} has no question ({question!r}); build the dataset again")
    names = [VIEW_NAMES.get(view, f"{view.replace('_', ' ')} view") for view in views]
    return [*(f"{name}:" for name in names), f"{question}\n{answer_format(task_name)}"]


# every repetition has a bound, so that the time of a search is linear in the length of the reply
_TAG = re.compile(r"<\s{0,9}(/?)\s{0,9}(answer|think)\s{0,9}>", re.IGNORECASE)
_MOST_LETTERS = 2000
_MARKS = " \t\r\n*_`~\"'“”‘’«»$"
_ANNOUNCED = re.compile(
    r"(?:the |my )?(?:final |correct |best )?(?:answer|option|candidate|choice|label)(?: is)?\s{0,3}[:=]?\s{0,3}",
    re.IGNORECASE,
)
# a mark and a space, a new line, a dash, or a bracket; "e.g." and "yes/no" are none of these
_AFTER_LABEL = re.compile(r"[*_`\"'”’]{0,6}(?:[,.;:!)]{1,3}(?:\s|$)|\s{0,3}[\n–—]|\s{1,3}[-(])")
_WORD = re.compile(r"[^\W_]{1,40}")
_TAKEN_BACK = frozenset({"or", "and", "but", "maybe", "perhaps", "if", "unless", "though"})
_NONE_OF = re.compile(r"none of\b", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s{0,3}\{([^{}]{0,400})\}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s{0,3}\{([^{}]{0,400})\}")
_FENCED = re.compile(r"```[a-z]{0,9}\s{0,9}(\{[^`]{0,2000}\})\s{0,9}```", re.IGNORECASE)


def answer_text(reply: str, labels: Sequence[str]) -> str | None:
    """Return what a reply gives as its answer: inside the last tags, or boxed, or as JSON; None if there is nothing."""
    if labels:
        reply = reply.replace(listed_answers(labels), " ")
    tags = [(match.start(), match.end(), match[2].lower(), bool(match[1])) for match in _TAG.finditer(reply)]
    thought = max((number for number, tag in enumerate(tags) if tag[2] == "think"), default=-1)
    if thought >= 0 and not tags[thought][3]:
        return None
    start = tags[thought][1] if thought >= 0 else 0
    answers = [tag for tag in tags[thought + 1 :] if tag[2] == "answer"]
    if not answers:
        return _marked(reply[start:])
    if len(answers) < 2 or answers[-2][3] or not answers[-1][3]:
        return None
    text = reply[answers[-2][1] : answers[-1][0]]
    if len(text) > _MOST_LETTERS or "<" in text or ">" in text:
        return None
    return _marked(text) or text


def listed_answers(labels: Sequence[str]) -> str:
    """Return all allowed answers in their tags, as the instruction lists them."""
    # "yes or no", as the questions have it
    ordered = reversed(labels) if tuple(labels) == ("no", "yes") else labels
    *others, last = (f"<answer>{label}</answer>" for label in ordered)
    return f"{', '.join(others)} or {last}"


def _marked(text: str) -> str | None:
    r"""Return the last ``\boxed{}``, or the ``answer`` of a JSON object: the whole text, or the last in a fence."""
    boxed = _BOXED.findall(_TEXT.sub(r"\1", text))
    if boxed:
        return boxed[-1]
    fenced = _FENCED.findall(text)
    written = fenced[-1] if fenced else text.strip()
    if len(written) > _MOST_LETTERS or not (written.startswith("{") and written.endswith("}")):
        return None
    try:
        # pairs, since a name may stand there twice
        pairs = json.loads(written, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    named = [value for key, value in pairs if key.casefold() == "answer"]
    return _as_text(named[0]) if len(named) == 1 else None


def _as_text(value: Any) -> str | None:
    """Return the text of a JSON value: a text, or lists of numbers."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, list) else None


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Parse a label from the text of an answer; None if it is none of the labels."""
    text = _TEXT.sub(r"\1", text).strip(_MARKS)
    if announced := _ANNOUNCED.match(text):
        text = text[announced.end() :].strip(_MARKS)
    by_name = {label.casefold(): label for label in labels}
    if label := by_name.get(" ".join(text.strip(_MARKS + ".,;:!()[]{}").split()).casefold()):
        return label
    text = text.lstrip("([")
    first = _WORD.match(text)
    if first is None or (label := by_name.get(first[0].casefold())) is None:
        return None
    if label == "none" and _NONE_OF.match(text):
        return label
    after = _AFTER_LABEL.match(text, first.end())
    return label if after and not _is_taken_back(text[after.end() :], label, by_name) else None


def _is_taken_back(text: str, label: str, by_name: Mapping[str, str]) -> bool:
    """Check whether the words after a label name another one ("yes, or no", "a, b")."""
    first = _WORD.search(text)
    if first is None:
        return False
    word = first[0].casefold()
    if word == "no" and _WORD.match(text, first.end() + 1) and text[first.end()] == " ":
        return False  # "yes, no doubt"
    return word in _TAKEN_BACK or by_name.get(word, label) != label


def read_answer(reply: str, task_name: str) -> str | None:
    """Parse the answer of a reply; None if it is no label of the task, which counts as wrong."""
    text = answer_text(reply, LABELS[task_name])
    return None if text is None else parse_label(text, LABELS[task_name])


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


def local_files(folder: Path, task_name: str, species: str, partition: str) -> dict[Path, str]:
    """Return the Parquet files of a partition of a folder, with their SHA-256.

    `datasets` keys its cache of a folder by the front matter of the card alone, so a copied card or a replaced file
    would give the rows of another folder: the files are compared with the manifest, to be given one by one.
    """
    again = "copy the whole dataset folder again, or build it again"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found, every = manifest["task"], dict(manifest["species"])
        named = every[species]["files"] if species in every else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{folder} has no manifest.json that can be read and names its files; {again}") from None
    if found != task_name:
        raise ValueError(f"{folder} holds the task {found}, not {task_name}; name another folder")
    if not isinstance(named, dict):
        raise ValueError(f"{folder} holds no species {species!r}; it has {', '.join(every)}")
    names = sorted(name for name in named if name.startswith(f"{partition}-") and "/" not in name)
    if not names:
        raise ValueError(f"{folder} has no rows of {species} in {partition!r}; name another partition")
    paths = [(folder / species / name).resolve() for name in names]
    for path in paths:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}); {again}") from None
        if digest != named[path.name]:
            raise ValueError(f"{path} is not the file that the manifest describes, or damaged; {again}")
    return {path: named[path.name] for path in paths}


def read_rows(source: str, task_name: str, species: str, partition: str, revision: str | None) -> Iterable[Any]:
    """Return the rows of a partition, with the stored bytes of their images."""
    from datasets import Image, List, load_dataset

    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"{source} is a folder, which has no revisions; leave the revision out")
        # `datasets` reads a path as a pattern
        files = [glob.escape(str(path)) for path in local_files(Path(source), task_name, species, partition)]
        # streamed, so that no cache is asked
        rows = load_dataset("parquet", data_files={partition: files}, split=partition, streaming=True)
    elif source.startswith((".", "/")) or source.count("/") != 1:
        raise ValueError(f"there is no dataset folder {source}; build it first, or name ORG/NAME on the Hub")
    else:
        rows = load_dataset(source, species, split=partition, revision=revision)
    # the stored PNG bytes are sent as they are
    return rows.cast_column("images", List(Image(decode=False)))


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
    source = dataset or f"connectomebench/{task}"
    rows = read_rows(source, task, species, partition, revision)
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
        # a reply that was cut or withheld has no answer
        whole = state.output.stop_reason not in ("max_tokens", "model_length", "content_filter")
        answer = read_answer(state.output.completion, task_name) if whole else None
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
