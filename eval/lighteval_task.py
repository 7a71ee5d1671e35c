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

import hashlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lighteval.metrics.metrics_sample import SampleLevelComputation  # pyright: ignore[reportMissingImports]
from lighteval.metrics.utils.metric_utils import CorpusLevelMetric  # pyright: ignore[reportMissingImports]
from lighteval.models.model_output import ModelResponse  # pyright: ignore[reportMissingImports]
from lighteval.tasks.lighteval_task import LightevalTaskConfig  # pyright: ignore[reportMissingImports]
from lighteval.tasks.requests import Doc, SamplingMethod  # pyright: ignore[reportMissingImports]

PROMPT_VERSION = 3
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


def places(root: str | None = os.environ.get("CONNECTOMEBENCH_DATASETS")) -> list[tuple[str, str, dict[str, Any]]]:
    """Return task, species and the place of each dataset: repositories of the Hub, or what a folder of folders holds.

    The files of a folder are compared with their manifests here, since it is lighteval that reads them.
    """
    if not root:
        splits = ["train", "validation", "test"]
        return [
            (
                name,
                species,
                {"hf_repo": f"connectomebench/{name}", "hf_subset": species, "hf_avail_splits": splits},
            )
            for name in LABELS
            for species in SPECIES
        ]
    found = []
    for name in LABELS:
        folder = Path(root) / name
        for species in SPECIES if (folder / "manifest.json").is_file() else ():
            if (folder / species).is_dir():
                repo = str(named_by_content(local_files(folder, name, species, "test")))
                found.append((name, species, {"hf_repo": repo, "hf_subset": "default", "hf_avail_splits": ["test"]}))
    if not found:
        raise ValueError(f"{root} holds no dataset of {', '.join(LABELS)}; mend CONNECTOMEBENCH_DATASETS")
    return found


def named_by_content(files: Mapping[Path, str]) -> Path:
    """Return a folder of links to Parquet files, named by their content: `datasets` takes it for no other."""
    from datasets.config import HF_DATASETS_CACHE

    key = hashlib.sha256("".join(f"{path.name}{digest}" for path, digest in files.items()).encode()).hexdigest()
    folder = Path(HF_DATASETS_CACHE) / "connectomebench-lighteval" / key[:32]
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        link = folder / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return folder


TASKS_TABLE = [
    LightevalTaskConfig(
        name=f"connectomebench_{task_name}:{species}",
        prompt_function=prompt,
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
        **place,
    )
    for task_name, species, place in places()
]
