"""Map published names of tasks, models, species and samples to ours.

Samples are named so that the same place has the same name in every file, and put into groups that share a segment:

- where a segment of the sample is named (``root_id``, ``segment1_id``, or the two segments at the end of
  ``sample_dir``), samples that share a segment are one group;
- else every sample is a group of its own, since shared segments are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import TASKS

COLUMNS = ("endpoint_error_identification_with_em", "merge_action", "merge_error_identification", "split_action")
"""The four tasks of the published table: find and mend split errors, find and mend merge errors."""
UNNAMED_SPECIES = "mouse"
"""Species of files that name none: totals of mouse have the accuracies of such files (:mod:`.accuracy_differences`)."""

ALIASES = {
    "split_error_identification_with_em": "endpoint_error_identification_with_em",
    "endpoint_em": "endpoint_error_identification_with_em",
    "split_correction": "split_action",
    "split_correction_evaluation": "split_action",
    "merge_error_correction": "split_action",
    "split_action_resnet": "split_action",
    "merge_correction": "merge_action",
    "merge_correction_evaluation": "merge_action",
    "merge_identification": "merge_error_identification",
}
"""Other names of tasks in published files -> ours. A "split correction" is a split, which mends a merge error."""

_IMAGE = re.compile(r"(\d+)_\d+_(.+)_\d+nm_[a-z_]+\.png")
_OTHER_SPECIES = {"fish": "zebrafish", "drosophila": "fly"}
_EDIT = re.compile(r"\d+_(\d+)_(\d+)")
_QWEN = re.compile(r"Qwen\d*-VL-\d+B(-Instruct)?")
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


def task_name(text: str) -> str:
    """Return the task name for a name or title, in any spelling of spaces and hyphens.

    Raises
    ------
    ConnectomeBenchError
        If there is no such task.
    """
    key = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    titles = {re.sub(r"[^a-z0-9]+", "_", task.title.lower()): name for name, task in TASKS.items()}
    found = key if key in TASKS else titles.get(key, ALIASES.get(key))
    if found is not None:
        return found
    raise ConnectomeBenchError(f"unknown task {text[:60]!r}")


def task_in(stated: str | None, text: str) -> str:
    """Return the stated task, or the one whose name or other name a text holds; the longest where there are several.

    Raises
    ------
    ConnectomeBenchError
        If neither names one.
    """
    if stated:
        return task_name(stated)
    names = sorted({*TASKS, *ALIASES}, key=len, reverse=True)
    found = next((name for name in names if name in text), None)
    if found is None:
        raise ConnectomeBenchError("names no task")
    return ALIASES.get(found, found)


def species_name(*texts: str) -> str:
    """Return the species named in one of the texts, or `UNNAMED_SPECIES`."""
    longest_first = sorted({*SPECIES, *_OTHER_SPECIES}, key=len, reverse=True)
    pattern = re.compile(rf"(?<![a-z])({'|'.join(longest_first)})(?![a-z])")
    found = next((match for text in texts if (match := pattern.search(text.lower()))), None)
    return _OTHER_SPECIES.get(found[1], found[1]) if found else UNNAMED_SPECIES


def model_name(text: str) -> tuple[str, str]:
    """Return short name and revision of a model.

    A fine-tuned Qwen-VL model is named after its base model plus ``-finetuned``; its revision is the name in the file
    without the folder. Other models are called by the last part of their name.

    Raises
    ------
    ConnectomeBenchError
        If nothing of the text can be used in a file name.
    """
    revision = text.strip("/").removeprefix("checkpoints/")
    found = _QWEN.search(text)
    short = f"{found[0].lower()}-finetuned" if found and found[0] != text else PurePosixPath(revision).name
    short = _SAFE.sub("-", short).strip(".-")
    if not short:
        raise ConnectomeBenchError(f"the model's name {text[:60]!r} cannot be used")
    return short, revision


def plain_name(text: str, what: str) -> str:
    """Return a text if it is safe in a file name, else raise."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
        raise ConnectomeBenchError(f"{what} {text[:60]!r} cannot be used")
    return text


@dataclass(frozen=True)
class Identity:
    """Identity of a sample, and its known segments."""

    sample_id: str
    segments: tuple[str, ...]


def identify(details: Mapping[str, object], images: Sequence[str] | None, number: int) -> Identity:
    """Identify a sample by its first image (dataset row and site), or by its number in the file.

    Parameters
    ----------
    details
        ``sample_id`` of a model's file or ``metadata`` of a person's.
    images
        Paths of its images; folders are dropped, since they identify the machine.
    number
        Place in the file.
    """
    found = _IMAGE.fullmatch(PurePosixPath(images[0]).name) if images else None
    name = f"{found[1]}-{found[2]}" if found else f"number-{details.get('index', number)}"
    segments = [str(details[key]) for key in ("root_id", "segment1_id") if key in details]
    edit = _EDIT.fullmatch(PurePosixPath(str(details.get("sample_dir", ""))).name)
    return Identity(name, (*segments, *(edit.groups() if edit else ())))


def groups(samples: Sequence[Identity]) -> list[str]:
    """Return the group of each sample; samples connected by shared segments form one."""
    parent: dict[str, str] = {}

    def root(segment: str) -> str:
        while parent.setdefault(segment, segment) != segment:
            segment = parent[segment]
        return segment

    for sample in samples:
        for segment in sample.segments:
            first, second = sorted((root(sample.segments[0]), root(segment)))
            parent[second] = first  # the smaller name stands for both, so that the order of samples does not matter
    return [f"segment-{root(s.segments[0])}" if s.segments else f"sample-{s.sample_id}" for s in samples]
