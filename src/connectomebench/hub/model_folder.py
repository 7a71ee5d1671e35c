"""Read a trained model folder for publishing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from connectomebench.cards.model_card import CALIBRATION
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS
from connectomebench.finetuning.saving import CURVE, INDICES, LOG
from connectomebench.models.checkpoints import CONFIGURATION
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record
from connectomebench.models.recalibration import FILE_NAME as RECALIBRATION
from connectomebench.models.recalibration import read_recalibrations

# a tokenizer's vocabulary contains names of people by chance
TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_PROCESSOR = (
    *TOKENIZER,
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
_TRAINING = (INDICES, CONFIGURATION, CURVE, LOG)
_HEAD = ("config.json", "head.skops")
_REQUIRED = {
    "probe": _HEAD,
    "trivial": _HEAD,
    "grey": _HEAD,
    "image_classifier": ("config.json", "model.safetensors"),
    "multitask_vit": ("config.json", "model.safetensors"),
    "node_probe": _HEAD,
    "mask_unet": ("config.json", "model.safetensors"),
    "adapter": ("adapter_config.json", "adapter_model.safetensors"),
    "vlm": ("config.json", "tokenizer_config.json"),
}
_OPTIONAL = {"adapter": _PROCESSOR, "vlm": (*_PROCESSOR, "generation_config.json", "model.safetensors.index.json")}
_SHARD = re.compile(r"model(?:-\d{5}-of-\d{5})?\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.h5")
_RESULTS = re.compile(r"results/[a-z_]+/[a-z][a-z0-9_]*/[a-z]+\.parquet")
EVAL_RESULTS = ".eval_results"


@dataclass(frozen=True)
class LocalModel:
    """A complete model folder.

    Attributes
    ----------
    folder
        Where it is.
    record
        What it holds.
    files
        Name -> file; everything else in the folder is left alone.
    """

    folder: Path
    record: ModelRecord
    files: dict[str, Path]


def read_model(folder: Path) -> LocalModel:
    """Read a model folder and list the files to publish.

    Parameters
    ----------
    folder
        Written by one of our training scripts.

    Raises
    ------
    ConnectomeBenchError
        If a file is missing, weights are pickled, or the model was made from a folder that others do not have.
    """
    record = read_record(folder)
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickled:
        raise ConnectomeBenchError(
            f"{folder} holds {pickled[0]}, and pickled weights are never published; save them as safetensors"
        )
    known = {*_REQUIRED[record.kind], *_OPTIONAL.get(record.kind, ()), *_TRAINING, FILE_NAME, RECALIBRATION}
    files = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.is_symlink()
        and (path.name in known or (record.kind == "vlm" and _SHARD.fullmatch(path.name)))
    }
    missing = [name for name in _REQUIRED[record.kind] if name not in files]
    if record.kind == "vlm" and not any(_SHARD.fullmatch(name) for name in files):
        missing.append("model.safetensors")
    if missing:
        raise ConnectomeBenchError(f"{folder} lacks {', '.join(missing)}; train the {record.kind} again")
    _check_base(folder, record)
    _check_recalibrations(folder, record)
    return LocalModel(folder, record, files)


def is_package_file(path: str) -> bool:
    """Return whether this package writes, and may delete, a file of a model repository."""
    known = {name for names in (*_REQUIRED.values(), *_OPTIONAL.values()) for name in names}
    made = {
        *known,
        *_TRAINING,
        FILE_NAME,
        RECALIBRATION,
        CALIBRATION,
        *(f"{EVAL_RESULTS}/{task}.yaml" for task in TASKS),
    }
    return path in made or bool(_SHARD.fullmatch(path) or _RESULTS.fullmatch(path))


def is_result(path: str) -> bool:
    """Return whether a path holds result records (``results/TASK/SPECIES/PARTITION.parquet``)."""
    return _RESULTS.fullmatch(path) is not None


def own_fingerprints(model: LocalModel) -> set[str]:
    """Return the hashes in a model's files that resemble tokens."""
    record = model.record
    found = {record.revision, *(data.fingerprint for data in record.trained_on)}
    found |= {value for value in record.config.values() if isinstance(value, str)}
    found |= {map_.dataset_fingerprint for map_ in read_recalibrations(model.folder)}
    if "config.json" in model.files and record.kind in ("probe", "trivial", "grey", "node_probe"):
        found.add(str(_json(model.files["config.json"]).get("trained_on")))
    if INDICES in model.files:
        for ids in _json(model.files[INDICES]).values():
            found |= {str(name) for name in ids} if isinstance(ids, list) else set()
    return found


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not JSON ({error}); train the model again") from None
    return value if isinstance(value, dict) else {}


def _check_recalibrations(folder: Path, record: ModelRecord) -> None:
    """Raise if a calibration beside the model is damaged or of another model."""
    for found in read_recalibrations(folder):
        if found.task not in record.tasks or found.model_revision != record.revision:
            raise ConnectomeBenchError(
                f"{folder / RECALIBRATION} was fitted on another revision of this model ({found.species}); run "
                "connectomebench calibrate again, or delete it"
            )


def _check_base(folder: Path, record: ModelRecord) -> None:
    """Raise if the base of a model is a local folder, which others cannot load."""
    bases = {record.base_model}
    if record.kind == "adapter":
        bases.add(str(_json(folder / "adapter_config.json").get("base_model_name_or_path")))
    for base in bases - {None}:
        assert base is not None
        if record.kind in ("probe", "grey", "adapter") and (base.startswith((".", "/")) or Path(base).is_dir()):
            raise ConnectomeBenchError(
                f"{folder} was trained on the folder {base}, which others do not have; train it on a model from the Hub"
            )
