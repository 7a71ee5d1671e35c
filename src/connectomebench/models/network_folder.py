"""Folders of trained networks: ``config.json``, ``model.safetensors`` and ``connectomebench.json``."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, content_key, write_json
from connectomebench.models.model_record import FILE_NAME, ModelRecord, read_record, write_record

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_MAX_CONFIG_BYTES = 1_000_000

Loaded = TypeVar("Loaded", bound=nn.Module)


def save_network(folder: Path, network: Any, record: ModelRecord) -> None:
    """Write weights, settings and, last, the record of a network."""
    from safetensors.torch import save_model

    (folder / FILE_NAME).unlink(missing_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_model(network, str(temporary))
    write_json(folder / CONFIG, network.settings)
    write_record(folder, record)


def network_revision(network: Any) -> str:
    """Hash a network's settings and weights: 16 hex digits of SHA-256."""
    state = network.state_dict()
    parts = [part for name in sorted(state) for part in (name, state[name].cpu().numpy())]
    return content_key(network.settings, *parts)[:16]


def load_network(
    folder: Path,
    kind: str,
    what: str,
    network_class: Callable[..., Loaded],
    check: Callable[[dict[str, Any], ModelRecord], None],
    optional: Collection[str] = (),
) -> tuple[Loaded, ModelRecord]:
    """Load network and record from a folder; compare them with :func:`check_own`.

    Parameters
    ----------
    folder
        Written by :func:`save_network`; may come from outside.
    kind, what
        Kind of its record, and the same for messages.
    network_class
        Its parameters are the settings.
    check
        Raises ValueError if something is wrong with the settings, which have the right keys.
    optional
        Settings that may be missing.

    Raises
    ------
    ConnectomeBenchError
        If the folder holds another kind of model, or a file is missing, damaged or of another network.
    """
    record = read_record(folder)
    if record.kind != kind:
        raise ConnectomeBenchError(f"{folder} holds a model of kind {record.kind}, not {what}; load it as one")

    def check_all(raw: dict[str, Any]) -> None:
        wrong = sorted({*raw, *optional} ^ set(inspect.signature(network_class).parameters))
        need(not wrong, f"keys missing or foreign: {', '.join(wrong)}")
        check(raw, record)

    settings = _read_settings(folder / CONFIG, check_all, what)
    return _fill_network(partial(network_class, **settings), folder, what), record


def check_own(folder: Path, own: bool) -> None:
    """Raise ConnectomeBenchError unless weights and settings are those of the record."""
    if not own:
        raise ConnectomeBenchError(f"{folder}: weights and {CONFIG} are not those of its record; get the model again")


def _fill_network(make: Callable[[], Loaded], folder: Path, what: str) -> Loaded:
    """Make a network and load its weights; both may come from outside."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with torch.device("meta"):
            wanted = {name: value.shape for name, value in make().state_dict().items()}
    except Exception as error:  # from outside: a configuration can be wrong in any way
        reason = " ".join(str(error).split())[:120]
        raise ConnectomeBenchError(f"{folder / CONFIG} is not the configuration of {what} ({reason})") from None
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConnectomeBenchError(f"cannot read {folder / WEIGHTS} ({error!s:.80}); get the model again") from None
    found = {name: value.shape for name, value in state.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        example = f"{wrong[0]} has shape {_shape(found, wrong[0])}, not {_shape(wanted, wrong[0])}"
        raise ConnectomeBenchError(f"{folder / WEIGHTS} does not fit {CONFIG}: {example}; get the model again")
    network = make()
    network.load_state_dict(state)
    return network


def _shape(shapes: Mapping[str, torch.Size], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "none"


def _read_settings(path: Path, check: Callable[[dict[str, Any]], None], what: str) -> dict[str, Any]:
    """Read untrusted settings; ``check`` raises ValueError if something is wrong with them."""
    try:
        need(path.stat().st_size <= _MAX_CONFIG_BYTES, "too large")
        raw = json.loads(path.read_text(encoding="utf-8"))
        need(isinstance(raw, dict), "no object")
        check(raw)
    except FileNotFoundError:
        raise ConnectomeBenchError(f"{path} is missing; get the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not the configuration of {what} ({error!s:.160})") from None
    return raw


def need(condition: bool, what: str) -> None:
    """Raise ValueError unless a value from outside is sound."""
    if not condition:
        raise ValueError(what)


def is_number(value: Any) -> bool:
    """Tell whether a value from outside is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def are_numbers(values: Any, count: int) -> bool:
    """Tell whether a value from outside is a list of so many finite numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def are_names(values: Any) -> bool:
    """Tell whether a value from outside is a list of some texts."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)
