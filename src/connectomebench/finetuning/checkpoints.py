"""Going on after a break: the newest whole checkpoint, and whether it is of the same run.

Optimizer, scheduler and random state of a checkpoint are pickles that transformers writes and reads (``weights_only``).
They are taken from the run's own output folder alone, and nothing here unpickles them.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.models.model_files import ADAPTER_WEIGHTS
from connectomebench.models.model_record import FILE_NAME

CONFIGURATION = "training_config.yaml"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})", re.ASCII)
# on one process, under FSDP (one file, or a folder of shards), and under DeepSpeed
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest")
_ARCHIVES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state*.pth")
_RANDOM = re.compile(r"rng_state(_\d+)?\.pth", re.ASCII)


def prepare_output(folder: Path, configuration: Mapping[str, Any], resume: bool) -> Path | None:
    """Make a folder ready for a run, and find where the run goes on.

    Cut checkpoints are removed: a process that was killed while it wrote one leaves it behind.

    Parameters
    ----------
    folder
        Made if needed.
    configuration
        Of the run; written to ``training_config.yaml``.
    resume
        Go on from the newest whole checkpoint; otherwise all checkpoints are removed.

    Returns
    -------
    Path or None
        The checkpoint; None where the run starts from its beginning.

    Raises
    ------
    ConnectomeBenchError
        If the checkpoints were made with another configuration.
    """
    found = _checkpoints(folder)
    if not resume:
        for path in found:
            shutil.rmtree(path)
        found = []
    if found:
        _check_same(folder, configuration)
    while found and not is_whole(found[-1], configuration["processes"]):
        shutil.rmtree(found.pop())
    if not found:
        # written last, the record says that a folder holds a finished adapter
        (folder / FILE_NAME).unlink(missing_ok=True)
        write_text(folder / CONFIGURATION, yaml.safe_dump(dict(configuration), sort_keys=False))
    return found[-1] if found else None


def is_whole(checkpoint: Path, processes: int = 1) -> bool:
    """Tell whether a checkpoint was written to its end.

    Parameters
    ----------
    checkpoint
        Folder ``checkpoint-N`` of transformers' Trainer. Weights are opened, archives of PyTorch checked by their
        sums, and the state, which is written last, must name the step of the folder.
    processes
        Of the run; each leaves its random state, and not in the order of the others.
    """
    from safetensors import SafetensorError, safe_open

    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        with safe_open(checkpoint / ADAPTER_WEIGHTS, "pt") as weights:
            named = bool(list(weights.keys()))
        for pattern in _ARCHIVES:
            for path in checkpoint.glob(pattern):
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        return False
        step = state["global_step"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile):
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


def _check_same(folder: Path, configuration: Mapping[str, Any]) -> None:
    path = folder / CONFIGURATION
    advice = "choose another --output_dir, or start anew with --resume never"
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        before = None
    if not isinstance(before, dict):
        raise ConnectomeBenchError(f"{folder} has checkpoints but no readable {CONFIGURATION}; {advice}")
    # through YAML as well, so that tuples and numbers compare as they are read
    now = yaml.safe_load(yaml.safe_dump(dict(configuration)))
    differences = [
        f"{name} was {before.get(name)!r:.60}, is {now.get(name)!r:.60}"
        for before, now in [(_flat(before), _flat(now))]
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ConnectomeBenchError(
            f"{folder} has checkpoints of another configuration ({'; '.join(differences[:3])}{more}); {advice}"
        )


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat
