"""Read human answers: published files ``human_eval_*.json`` with response times.

A sitting may hold the answers of a second person under ``NAME_answer``, or under the bare name, or in a list
``NAME_responses`` of the whole file. People are numbered within a sitting, and no
name is kept. Whether the first person of two sittings is the same, the files do not say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.reproduction.json_reading import parse
from connectomebench.reproduction.published_names import groups, identify, species_name, task_name
from connectomebench.reproduction.published_records import PublishedSample, Run

PARTITION = "unstated"
_SECOND = "_answer"
_OF_A_PERSON = ("_responses", "_accuracy", "_num_correct", "_accuracy_se")


@dataclass(frozen=True)
class _Response:
    """One published answer."""

    sample_idx: int
    human_answer: bool | None
    ground_truth: bool
    metadata: dict[str, Any] | None = None
    response_time_seconds: float | None = None
    image_paths: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Sitting:
    """One published file."""

    task_name: str
    responses: tuple[_Response, ...]
    session_id: str | int | None = None
    accuracy: float | None = None
    accuracy_se: float | None = None


@dataclass(frozen=True)
class _Loose:
    """The same file with all other fields of file and responses."""

    responses: tuple[dict[str, Any], ...]


def read_sitting(data: bytes, file: str) -> list[Run]:
    """Read one ``human_eval_*.json``: one run per person, ordered by number.

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged, holds no responses or an impossible time.
    """
    stored = parse(data, _Sitting)
    if not stored.responses:
        raise ConnectomeBenchError("holds no responses")
    if any(not 0 <= (r.response_time_seconds or 0) < math.inf for r in stored.responses):
        raise ConnectomeBenchError("holds a response time that is below zero or not finite")
    names = [identify(r.metadata or {}, r.image_paths, r.sample_idx) for r in stored.responses]
    samples = [
        PublishedSample(name.sample_id, group, r.ground_truth, (r.human_answer,), latency_s=r.response_time_seconds)
        for name, group, r in zip(names, groups(names), stored.responses, strict=True)
    ]
    images = stored.responses[0].image_paths
    source = PurePosixPath(images[0]).parent.parent.name if images else ""  # SOURCE/images/NAME.png
    first = Run(
        file=file,
        model="person-1",
        revision=f"sitting {'unnamed' if stored.session_id is None else stored.session_id}",
        task=task_name(stored.task_name),
        species=species_name(source),
        partition=PARTITION,
        source=source,
        votes=1,
        states_confidence=False,
        samples=tuple(samples),
        stated=_stated(stored.accuracy, stored.accuracy_se),
    )
    return [first, *_others(data, first)]


def _others(data: bytes, first: Run) -> list[Run]:
    """Return the runs of the other raters of the same samples, which have no response times."""
    rows = parse(data, _Loose).responses
    top = parse(data, dict[str, Any])
    runs = []
    for number, name in enumerate(_names(rows, top), start=2):
        answers = _answers_of(name, rows, top)
        if any(answer is not None and not isinstance(answer, bool) for answer in answers):
            raise ConnectomeBenchError("holds an answer of a second person that is not true, false or null")
        samples = tuple(
            replace(sample, votes=(answer,), latency_s=None)
            for sample, answer in zip(first.samples, answers, strict=True)
        )
        stated = _stated(top.get(f"{name}_accuracy"), top.get(f"{name}_accuracy_se"))
        runs.append(replace(first, model=f"person-{number}", samples=samples, stated=stated))
    return runs


def _names(rows: tuple[dict[str, Any], ...], top: dict[str, Any]) -> list[str]:
    """Return the names of the further raters, in the order of the file.

    A bare name is one only where the file states something of the same person: other fields of a response are true or
    false as well.
    """
    keys = {key: None for row in rows for key in row}
    long = [k.removesuffix(_SECOND) for k in keys if k.endswith(_SECOND) and k != f"human{_SECOND}"]
    stated = [k.removesuffix(end) for end in _OF_A_PERSON for k in top if k.endswith(end)]
    bare = [name for name in stated if name in keys or isinstance(top.get(f"{name}_responses"), list)]
    return list(dict.fromkeys(name for name in (*long, *bare) if name not in ("human", "num", "")))


def _answers_of(name: str, rows: tuple[dict[str, Any], ...], top: dict[str, Any]) -> list[Any]:
    for key in (name + _SECOND, name):
        if any(key in row for row in rows):
            return [row.get(key) for row in rows]
    answers = top[f"{name}_responses"]
    if len(answers) != len(rows):
        raise ConnectomeBenchError("holds not as many answers of a second person as samples")
    return answers


def _stated(accuracy: Any, error: Any) -> dict[str, float]:
    values = {"accuracy": accuracy, "accuracy_se": error}
    return {
        name: float(value) for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)
    }
