"""Resume a run of transformers' Trainer from its newest complete checkpoint, and refuse one of another run.

The optimizer, scheduler and random state of a checkpoint are ``torch.save`` files. They are read only from its own
folder, after its configuration was compared, by transformers with ``weights_only=True``: a file that holds
anything but tensors and plain values is refused, never executed.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json, write_text
from connectomebench.models.model_files import ADAPTER_WEIGHTS
from connectomebench.models.model_record import FILE_NAME

CONFIGURATION = "training_config.yaml"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})", re.ASCII)
# on one process, under FSDP (one file, or a folder of shards), and under DeepSpeed
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest")
_ARCHIVES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state*.pth")
_RANDOM = re.compile(r"rng_state(_\d+)?\.pth", re.ASCII)
_STATE = "trainer_state.json"
# settings that save memory and leave the rows of a step, and so what is learnt, as they are
_MEMORY_ONLY = (
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "activation_checkpointing",
    "activation_checkpointing_kwargs",
    "steps_per_generation",
    "per_device_eval_batch_size",
)
_ADVICE = "choose another --output_dir, or start again with --resume never"


def prepare_output(
    folder: Path, configuration: Mapping[str, Any], resume: bool, weights: str = ADAPTER_WEIGHTS
) -> Path | None:
    """Prepare the output folder of a run and find the checkpoint to resume from.

    Incomplete checkpoints, left by a killed process, are removed.

    Parameters
    ----------
    folder
        Output folder; created if needed.
    configuration
        Everything that determines the weights, including ``processes``; written to ``training_config.yaml``. Settings
        that only save memory (gradient checkpointing; smaller batches with as many more of them in a step) may differ
        from those of the checkpoints.
    resume
        Resume from the newest complete checkpoint; otherwise remove all checkpoints.
    weights
        Name of the weights file in a checkpoint.

    Returns
    -------
    Path or None
        The checkpoint; None if the run starts from the beginning.

    Raises
    ------
    ConnectomeBenchError
        If the checkpoints are of another configuration, or the best one is missing or damaged.
    """
    found = _checkpoints(folder)
    if not resume:
        for path in found:
            shutil.rmtree(path)
        found = []
    if found:
        _check_same(folder, configuration)
    while found and not is_whole(found[-1], configuration["processes"], weights):
        shutil.rmtree(found.pop())
    if found:
        _find_best(found[-1], configuration["processes"], weights)
    else:
        # written last, the record marks a finished adapter
        (folder / FILE_NAME).unlink(missing_ok=True)
    write_text(folder / CONFIGURATION, yaml.safe_dump(dict(configuration), sort_keys=False))
    return found[-1] if found else None


def resume_training(trainer: Any, checkpoint: Path | None) -> None:
    """Train, resuming from a checkpoint if there is one.

    Parameters
    ----------
    trainer
        Trainer of transformers or TRL.
    checkpoint
        From :func:`prepare_output`; None starts from the beginning.

    Raises
    ------
    ConnectomeBenchError
        If a checkpoint file holds more than tensors and plain values.
    """
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except pickle.UnpicklingError:
        raise ConnectomeBenchError(
            f"{checkpoint} was not written by this training: a file holds more than tensors, and was not loaded; "
            "remove the checkpoint"
        ) from None


def remove_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints and configuration, and the folder if it is then empty."""
    for path in _checkpoints(folder):
        shutil.rmtree(path)
    (folder / CONFIGURATION).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def is_whole(checkpoint: Path, processes: int = 1, weights: str = ADAPTER_WEIGHTS) -> bool:
    """Return whether a checkpoint is complete.

    Parameters
    ----------
    checkpoint
        Folder ``checkpoint-N`` of transformers' Trainer. Weights are opened, PyTorch archives checked by their
        checksums, and the state, written last, must name the step of the folder.
    processes
        Number of processes of the run; each writes its random state, in any order.
    weights
        Name of the weights file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        with safe_open(checkpoint / weights, "pt") as opened:
            named = bool(list(opened.keys()))
        for pattern in _ARCHIVES:
            for path in checkpoint.glob(pattern):
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        return False
        step = state["global_step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, zipfile.BadZipFile):
        return False
    states = [path for path in checkpoint.iterdir() if _RANDOM.fullmatch(path.name)]
    return (
        named
        and f"checkpoint-{step}" == checkpoint.name
        and len(states) == processes
        and any((checkpoint / name).exists() for name in _OPTIMIZERS)
    )


def _checkpoints(folder: Path) -> list[Path]:
    """List a folder's checkpoints, oldest first."""
    found = [
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _CHECKPOINT.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
    ]
    return [path for _, path in sorted(found)]


def _find_best(checkpoint: Path, processes: int, weights: str) -> None:
    """Check the best checkpoint named by a checkpoint, and correct its path if the folder was moved.

    Trainer would only warn, and keep the last weights instead of the best ones.
    """
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    if not state.get("best_global_step"):
        return
    best = checkpoint.with_name(f"checkpoint-{state['best_global_step']}")
    if best != checkpoint and not is_whole(best, processes, weights):
        raise ConnectomeBenchError(f"{best}, the best checkpoint so far, is missing or damaged; {_ADVICE}")
    named = state.get("best_model_checkpoint")
    if named is None or not (Path(named).is_dir() and Path(named).samefile(best)):
        write_json(checkpoint / _STATE, {**state, "best_model_checkpoint": str(best)})


def _check_same(folder: Path, configuration: Mapping[str, Any]) -> None:
    path = folder / CONFIGURATION
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        before = None
    if not isinstance(before, dict):
        raise ConnectomeBenchError(f"{folder} has checkpoints but no readable {CONFIGURATION}; {_ADVICE}")
    # through YAML as well, so that tuples and numbers compare as they are read
    now = yaml.safe_load(yaml.safe_dump(dict(configuration)))
    differences = [
        f"{name} was {before.get(name)!r:.60}, is {now.get(name)!r:.60}"
        for before, now in [(_compared(_flat(before)), _compared(_flat(now)))]
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ConnectomeBenchError(
            f"{folder} has checkpoints of another configuration ({'; '.join(differences[:3])}{more}); {_ADVICE}"
        )


def _compared(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what is learnt: the rows of a step in place of batch and accumulation."""
    left = {name: value for name, value in flat.items() if name.removeprefix("training.") not in _MEMORY_ONLY}
    rows = left.pop("training.per_device_train_batch_size", None)
    steps = left.pop("training.gradient_accumulation_steps", 1)
    if isinstance(rows, int) and isinstance(steps, int):
        left["training.per_device_train_batch_size x gradient_accumulation_steps"] = rows * steps
    return left


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat
