"""Model cards: metadata with a model index and text, from the model record and result records."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from connectomebench.cards.model_results import (
    METRIC_NAMES,
    TABLES,
    Evaluation,
    calibration_effects,
    evaluations,
    index_entries,
)
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.task_explanations import BASELINES
from connectomebench.core.tasks import get_task
from connectomebench.dataset.card_template import DASH, LEVEL, ORGANISATION, render
from connectomebench.dataset.licences import strictest
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.model_files import REPO_ID
from connectomebench.models.model_record import ModelKind, ModelRecord
from connectomebench.models.recalibration import Recalibration

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import ModelCard, ModelCardData

TEMPLATE = "hub_cards/model.md.jinja"
CALIBRATION = "calibration.png"

# library as the Hub names it (huggingface.js, model-libraries.ts), and what such a model is
KINDS: dict[ModelKind, tuple[str, str]] = {
    "probe": ("sklearn", "a small classifier on the vectors that a frozen image encoder makes of the pictures"),
    "trivial": ("sklearn", "a baseline that is given brightness and area of each colour and nothing of shape"),
    "grey": ("sklearn", "a baseline that is shown uniform grey pictures, and can only know how common each answer is"),
    "image_classifier": ("pytorch", "an image network that sees all pictures of a place and was fine-tuned on them"),
    "multitask_vit": (
        "pytorch",
        "one vision transformer with a head for each of several questions, trained on the pictures of all of them",
    ),
    "node_probe": (
        "sklearn",
        "a frozen image encoder and a logistic regression that scores the numbered nodes of a view",
    ),
    "mask_unet": ("pytorch", "a small U-Net that divides the segment of every view in two"),
    "adapter": ("peft", "an adapter, weights to be added to a vision-language model that reads pictures and question"),
    "vlm": ("transformers", "a fine-tuned vision-language model, which reads the pictures and the question"),
}
_READS_TEXT = ("adapter", "vlm")
_SOURCE_KEYS = ("name", "version", "license", "citation", "simulated_errors", "simulated_em")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def model_card(
    record: ModelRecord,
    results: pd.DataFrame | None,
    repo_id: str,
    files: Collection[str],
    dataset: str | None = None,
    recalibrations: Sequence[Recalibration] = (),
) -> ModelCard:
    """Build the card of a model.

    Parameters
    ----------
    record
        Of the model, from its folder.
    results
        Result records of this model only; None if it was not evaluated, which the card then states.
    repo_id
        Where it will be on the Hub, ``ORG/NAME``.
    files
        Names of the files of the repository; the calibration plot is shown where it is among them.
    dataset
        ``ORG/NAME`` of the dataset it was evaluated on, for the example; None takes the one it was trained on.
    recalibrations
        Calibrations stored beside the model.

    Returns
    -------
    huggingface_hub.ModelCard
        Its text read back gives the same metadata.

    Raises
    ------
    ConnectomeBenchError
        If the results belong to another model, or the record lacks its training data.
    """
    from huggingface_hub import ModelCard

    tasks = [get_task(name) for name in record.tasks]
    task, several = tasks[0], len(tasks) > 1
    if not record.trained_on:
        raise ConnectomeBenchError(f"the record of {record.name} names no training data; train the model again")
    for data in record.trained_on:
        if missing := [key for key in _SOURCE_KEYS if key not in data.source]:
            raise ConnectomeBenchError(
                f"the record of {record.name} does not say the {missing[0]} of its {data.species} data; train it again"
            )
    found = evaluations(results, record)
    base = _public_name(record.base_model) if record.base_model else None
    simulated = list(dict.fromkeys(d.species for d in record.trained_on if d.source["simulated_errors"]))
    seen_em = [d for d in record.trained_on if get_task(d.task if several else task.name).has_em]
    simulated_em = list(dict.fromkeys(d.species for d in seen_em if d.source["simulated_em"]))
    data = _card_data(record, found, repo_id)
    hub = next((d for d in record.trained_on if d.repo), None)
    text = render(
        TEMPLATE,
        card_data=data.to_yaml(),
        record=record,
        task=task,
        tasks=tasks,
        several=several,
        what=KINDS[record.kind][1],
        is_baseline=record.kind in BASELINES,
        repo_id=repo_id,
        base=base,
        base_on_hub=_is_on_hub(record),
        dataset=hub.repo if hub else dataset or f"out/{task.name}",
        trained_on=[({"task": d.task} if several else {}) | _data(d) for d in record.trained_on],
        licences=sorted({d.source["license"] for d in record.trained_on}),
        license=data.license,
        citations=list(dict.fromkeys(d.source["citation"] for d in record.trained_on if d.source["citation"])),
        simulated=simulated,
        simulated_em=simulated_em,
        config=_yaml(_public(json.loads(json.dumps(record.config)))),
        evaluations=found,
        metric_names=[METRIC_NAMES[name][1] for name in TABLES[task.scoring]],
        any_cost=any(value != DASH for e in found for value in e.cost.values()),
        effects=calibration_effects(results, recalibrations, by_task=several),
        calibration=CALIBRATION if CALIBRATION in files else None,
        level=f"{LEVEL:.0%}",
    )
    card = ModelCard(text)
    if card.data.to_dict() != data.to_dict():
        raise ConnectomeBenchError(f"the card of {repo_id} does not read back as it was written; {TEMPLATE} is damaged")
    return card


def _card_data(record: ModelRecord, found: list[Evaluation], repo_id: str) -> ModelCardData:
    from huggingface_hub import ModelCardData

    tags = [ORGANISATION, *record.tasks, *dict.fromkeys(record.species), record.kind]
    if any(d.source["simulated_errors"] for d in record.trained_on):
        tags.append("simulated")
    pipeline = "image-text-to-text" if record.kind in _READS_TEXT else "image-classification"
    entries = index_entries(found, pipeline)
    return ModelCardData(
        base_model=record.base_model if _is_on_hub(record) else None,
        datasets=list(dict.fromkeys(d.repo for d in record.trained_on if d.repo)) or None,
        eval_results=entries or None,
        model_name=repo_id.rsplit("/", 1)[-1] if entries else None,
        language=["en"] if record.kind in _READS_TEXT else None,
        library_name=KINDS[record.kind][0],
        license=strictest({d.source["license"] for d in record.trained_on}),
        metrics=list(dict.fromkeys(e.metric_type for e in entries)) or None,
        pipeline_tag=pipeline,
        tags=list(dict.fromkeys(tags)),
    )


def _data(data: DataRecord) -> dict[str, str]:
    """Return one row of the training data table, by column title."""
    where = f"[{data.repo}](https://huggingface.co/datasets/{data.repo})" if data.repo else "a local folder"
    return {
        "dataset": where,
        "revision": data.revision or DASH,
        "species": data.species,
        "source": f"{data.source['name']} {data.source['version']}",
        "errors": "SIMULATED" if data.source["simulated_errors"] else "real",
        "partition": data.partition,
        "rows": ", ".join(f"{count} {answer}" for answer, count in data.rows.items()),
        "fingerprint": data.fingerprint,
        "licence": data.source["license"],
    }


def _is_on_hub(record: ModelRecord) -> bool:
    """Return whether the base model is on the Hub: a folder may look like a Hub id but has no commit."""
    named = record.base_model is not None and REPO_ID.fullmatch(record.base_model) is not None
    return named and (record.base_revision is None or _COMMIT.fullmatch(record.base_revision) is not None)


def _public_name(path: str) -> str:
    """Strip the folder from a local path, which may be private."""
    is_path = path.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", path)
    return f"…/{PurePosixPath(path.replace(chr(92), '/')).name}" if is_path else path


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_public(entry) for entry in value]
    return _public_name(value) if isinstance(value, str) else value


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()
