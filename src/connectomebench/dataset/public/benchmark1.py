"""Convert rows of `jeffbbrown2/ConnectomeBench`, the first benchmark.

Read from the authors' examples (github.com/jffbrwn2/ConnectomeBench: ``examples/*.py``, ``src/prompts.py``). The
tasks of a row follow from its columns, since the names of its configs do not match our tasks: with a base neuron each
option is a candidate (orange) beside it (blue), asked about one by one or all together; without one each option is a
segment that may hold a merge error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from connectomebench.core.files import content_key
from connectomebench.core.tasks import MESH_VIEWS, NONE, get_task
from connectomebench.dataset.public.convert_rows import stored_row
from connectomebench.dataset.public.pngs import stored_png
from connectomebench.dataset.public.unmapped import Unmapped

CHOICE = "merge_action_multiple_choice"
TASKS = ("merge_action", CHOICE, "merge_error_identification", "segment_classification")
MAX_OPTIONS = 8
_NO_OPTION = ("none", "none of the above")

_SMALL = (
    "operation_id",
    "species",
    "base_neuron_id",
    "ground_truth",
    "one_valid_option",
    "class_description",
    "proofread_root_id",
    "current_root_id",
)
# their descriptions in small letters -> our letters; their last two letters stand the other way round
_CLASSES = {
    "a single soma and process(es)": "a",
    "multiple somas (and processes)": "b",
    "processes without a soma: these can be axons, dendrites, synapses": "c",
    "nucleus": "d",
    "non-neuronal types. these can be glial cells, blood vessels": "e",
    "none of the above": "g",
    "unsure": "f",
}


def tasks_of(columns: Collection[str]) -> tuple[str, ...]:
    """Return the tasks that the rows of a config can be read as; none where it holds no known images.

    Parameters
    ----------
    columns
        Of its Parquet files.
    """
    if "option_1_neuron_id" not in columns or not _view_columns(columns, 1):
        return ()
    if "base_neuron_id" in columns:
        return ("merge_action", CHOICE)
    if "class_description" in columns or "proofread_root_id" in columns:
        return ("segment_classification",)
    return ("merge_error_identification",) if "ground_truth" in columns else ()


def needed_columns(columns: Collection[str]) -> list[str]:
    """List the columns to read: small ones, and ids and views of all options."""
    names = [name for name in _SMALL if name in columns]
    for option in range(1, MAX_OPTIONS + 1):
        if f"option_{option}_neuron_id" in columns:
            names += [f"option_{option}_neuron_id", *_view_columns(columns, option)]
    return names


def _view_columns(columns: Collection[str], option: int) -> list[str]:
    """Return the view columns of an option; the authors name them ``_image`` in some files, ``_path`` in others."""
    for end in ("image", "path"):
        names = [f"option_{option}_{view}_{end}" for view in MESH_VIEWS]
        if all(name in columns for name in names):
            return names
    return []


def map_row(
    raw: Mapping[str, Any], task: str, species: str, source: tuple[str, str]
) -> Iterator[dict[str, Any] | Unmapped]:
    """Convert one row into one row per option, or into one for all of them where they are candidates to choose from.

    An option that cannot be read yields its reason; of a choice the whole row is left out.

    Parameters
    ----------
    raw
        The columns of :func:`needed_columns`.
    task
        One of :func:`tasks_of`.
    species
        Ours.
    source
        Repository and version.

    Raises
    ------
    Unmapped
        If no option of the row can be used.
    """
    options = {
        i: str(raw[name])
        for i in range(1, MAX_OPTIONS + 1)
        if (name := f"option_{i}_neuron_id") in raw and raw[name] not in (None, "")
    }
    if task == CHOICE:
        yield _choice_row(raw, species, source, options)
        return
    if task == "segment_classification":
        options = dict(list(options.items())[:1])
        answers = {option: _class(raw) for option in options}
    else:
        answers = _answers(raw, options)
    for option, segment in options.items():
        try:
            yield _option_row(raw, task, species, source, option, segment, answers[option])
        except Unmapped as reason:
            yield reason


def _answers(raw: Mapping[str, Any], options: Mapping[int, str]) -> dict[int, str]:
    truth = raw.get("ground_truth")
    if truth in (None, ""):
        raise Unmapped("it has no right option")
    if raw.get("one_valid_option") is False:
        raise Unmapped("more than one of its options may be right")
    if str(truth) not in options.values():
        raise Unmapped("its right option is not among those shown")
    return {option: "yes" if segment == str(truth) else "no" for option, segment in options.items()}


def _choice_row(
    raw: Mapping[str, Any], species: str, source: tuple[str, str], options: Mapping[int, str]
) -> dict[str, Any]:
    """Convert a row into a choice among its options, in an order that says nothing of the answer."""
    labels = get_task(CHOICE).labels[:-1]
    if len(options) > len(labels):
        raise Unmapped(f"it has more than {len(labels)} options")
    base = str(raw.get("base_neuron_id"))
    if not all(map(_is_id, (base, *options.values()))):
        raise Unmapped("an option or its base has no id")
    ordered = sorted(options, key=lambda option: content_key(base, options[option]))
    truth = str(raw.get("ground_truth"))
    if truth.strip().casefold() in _NO_OPTION:
        answer = NONE
    else:
        right = _answers(raw, options)
        answer = labels[next(i for i, option in enumerate(ordered) if right[option] == "yes")]
    images = [stored_png(raw[name]) for option in ordered for name in _view_columns(raw.keys(), option)]
    choices = [int(options[option]) for option in ordered]
    operation = None if raw.get("operation_id") is None else str(raw["operation_id"])[:64]
    is_edit = answer != NONE
    return stored_row(
        CHOICE,
        species,
        content_key(CHOICE, operation, base, choices, *images)[:16],
        images,
        answer,
        f"neuron-{base[:64]}",
        "edit" if is_edit else "control",
        source,
        segment_ids=[int(base), *choices],
        edit_id=operation if is_edit else None,
        choices=choices,
    )


def _class(raw: Mapping[str, Any]) -> str:
    described = raw.get("class_description") or raw.get("ground_truth")
    if not isinstance(described, str):
        raise Unmapped("it has no class")
    letter = _CLASSES.get(described.strip().rstrip(".").casefold())
    if letter is None:
        raise Unmapped("its class is none of those known")
    return letter


def _option_row(
    raw: Mapping[str, Any], task: str, species: str, source: tuple[str, str], option: int, segment: str, answer: str
) -> dict[str, Any]:
    images = [stored_png(raw[name]) for name in _view_columns(raw.keys(), option)]
    operation = None if raw.get("operation_id") is None else str(raw["operation_id"])[:64]
    base = None if raw.get("base_neuron_id") is None else str(raw["base_neuron_id"])
    is_edit = task != "segment_classification" and answer == "yes"
    return stored_row(
        task,
        species,
        content_key(task, operation, base, segment, *images)[:16],
        images,
        answer,
        _group(raw, base, operation, segment),
        "edit" if is_edit else "control",
        source,
        segment_ids=[int(i) for i in (base, segment) if i is not None and _is_id(i)],
        body_ids=[int(raw["proofread_root_id"])] if _is_id(str(raw.get("proofread_root_id"))) else [],
        edit_id=operation if is_edit else None,
    )


def _group(raw: Mapping[str, Any], base: str | None, operation: str | None, segment: str) -> str:
    """Group rows that show one neuron: the base, else the options of one edit, else the proofread neuron."""
    if base is not None:
        return f"neuron-{base[:64]}"
    if operation is not None:
        return f"edit-{operation}"
    return f"neuron-{str(raw.get('proofread_root_id') or segment)[:64]}"


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64
