"""Settings that every training of an image network has, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

from connectomebench.core.errors import ConnectomeBenchError

Precision = Literal["auto", "float32", "bfloat16"]


class RunSettings(Protocol):
    """The settings that every training has; see :class:`.image_classifier_init.ImageClassifierConfig`."""

    @property
    def epochs(self) -> int: ...  # noqa: D102

    @property
    def patience(self) -> int: ...  # noqa: D102

    @property
    def batch_size(self) -> int: ...  # noqa: D102

    @property
    def learning_rate(self) -> float: ...  # noqa: D102

    @property
    def warmup(self) -> float: ...  # noqa: D102

    @property
    def weight_decay(self) -> float: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102


def check_run(config: RunSettings, choices: Mapping[str, Any] | None = None, least_batch: int = 1) -> None:
    """Check settings before anything is loaded.

    Parameters
    ----------
    config
        How to train.
    choices
        Name of a setting -> literal type of its values.
    least_batch
        Fewest rows a step.

    Raises
    ------
    ConnectomeBenchError
        If one is out of range.
    """
    for name, allowed in (choices or {}).items():
        known, value = get_args(allowed), getattr(config, name)
        if value not in known:
            raise ConnectomeBenchError(f"unknown {name} {value!r}; choose {', '.join(known[:-1])} or {known[-1]}")
    if min(config.epochs, config.patience) < 1 or config.batch_size < least_batch or config.seed < 0:
        raise ConnectomeBenchError(f"epochs and patience must be at least 1, batch_size {least_batch} and seed 0")
    if not config.learning_rate > 0 or not 0 <= config.warmup < 1 or not config.weight_decay >= 0:
        raise ConnectomeBenchError("learning_rate must be above 0, warmup in [0, 1) and weight_decay not below 0")


def check_input_px(px: int | None) -> None:
    """Raise ConnectomeBenchError unless pictures of this edge can be shown to a network; None takes its own."""
    if px is not None and not 8 <= px <= 4096:
        raise ConnectomeBenchError(f"input_px is {px}; give 8 to 4096")


def check_shares(**shares: float) -> None:
    """Raise ConnectomeBenchError unless all numbers are in [0, 1).

    Examples
    --------
    >>> check_shares(dropout=0.1)
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConnectomeBenchError(f"{name} is {share}; give a number in [0, 1)")
