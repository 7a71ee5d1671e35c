"""Checkpoints of a training run: one file an epoch with weights and optimiser, one with the best weights so far.

Both are safetensors files, written whole or not at all; nothing in them is a pickle. The file of the epoch names the
best one and is written after it, so that a run that is killed at any moment leaves a pair that belongs together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path

_LAST = "last.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    history
        One entry an epoch that is done.
    model, best
        Weights after the last epoch, and after the best one.
    optimizer
        What the optimiser keeps for each parameter, by its number.
    """

    history: list[dict[str, float]]
    model: State
    best: State
    optimizer: dict[int, State]


def best_epoch(history: list[dict[str, float]]) -> int:
    """Return the place of the best epoch: balanced accuracy, then log loss, then the earlier one."""
    return max(range(len(history)), key=lambda i: (history[i]["balanced_accuracy"], -history[i]["log_loss"]))


def write_checkpoint(folder: Path, key: str, progress: Progress) -> None:
    """Write a checkpoint and remove the one before it.

    Parameters
    ----------
    folder
        Made if needed.
    key
        Says which training it belongs to: its settings and rows.
    progress
        Where the run stands.
    """
    from safetensors.torch import save_file

    best = _best_path(folder, progress.history)
    if best_epoch(progress.history) == len(progress.history) - 1:
        with atomic_path(best) as temporary:
            save_file(_plain(progress.best), temporary)
    tensors = {_MODEL + name: value for name, value in progress.model.items()}
    for number, values in progress.optimizer.items():
        tensors.update({f"{_OPTIMIZER}{number}.{name}": value for name, value in values.items()})
    with atomic_path(folder / _LAST) as temporary:
        save_file(_plain(tensors), temporary, {"key": key, "history": json.dumps(progress.history)})
    for old in folder.glob("best-*.safetensors"):
        if old != best:
            old.unlink()


def read_checkpoint(folder: Path, key: str) -> Progress | None:
    """Read the checkpoint of a training; None where there is none yet.

    Parameters
    ----------
    folder, key
        As given to :func:`write_checkpoint`.

    Raises
    ------
    ConnectomeBenchError
        If it is damaged, or belongs to another training.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = folder / _LAST
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as opened:
            about: dict[str, Any] = opened.metadata()
            if about["key"] != key:
                raise ConnectomeBenchError(
                    f"{folder} holds a checkpoint of another training (settings or rows differ); "
                    "give another folder, or remove it to start anew"
                )
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        history = json.loads(about["history"])
        best = load_file(_best_path(folder, history))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConnectomeBenchError(
            f"the checkpoint in {folder} is damaged ({error!s:.80}); remove it to start anew"
        ) from None
    model = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
    optimizer: dict[int, State] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMIZER):
            number, what = name.removeprefix(_OPTIMIZER).split(".", 1)
            optimizer.setdefault(int(number), {})[what] = value
    return Progress(history, model, best, optimizer)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, and its folder where nothing else is in it."""
    for path in [folder / _LAST, *folder.glob("best-*.safetensors")]:
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _best_path(folder: Path, history: list[dict[str, float]]) -> Path:
    return folder / f"best-{best_epoch(history) + 1}.safetensors"


def _plain(state: State) -> State:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
