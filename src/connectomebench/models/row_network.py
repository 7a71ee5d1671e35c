"""A trained model as one differentiable network, from the pictures of a row to a score of every answer.

What attribution needs of a probe, an image classifier or a vision-language model: scores with gradients, the layers
whose maps can be drawn, and a way to run it without some of the patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError


@dataclass(frozen=True)
class RowNetwork:
    """A differentiable network over the pictures of rows.

    Attributes
    ----------
    classes
        Answers in the order of the scores.
    module
        What holds the weights.
    pixels
        Pictures of one or more rows, one after the other -> input of ``scores``.
    scores
        Input and number of pictures a row -> scores before the softmax, shape (rows, classes).
    layers
        Name -> module whose output is a map of the pictures, from first to last: the norm after the attention of every
        block of a transformer, every block of a convolutional network. Empty where there is no such map.
    patches
        Output of a layer and number of pictures -> tokens of the patches, row by row, shape (pictures, patches,
        channels); None for a convolutional network, whose layers are maps already.
    keep
        Patches that stay, as many of each picture, shape (pictures, patches) -> a context in which the others do not
        exist for the network; None where they cannot be dropped.
    entry
        Module whose input holds the patches at the start; None for a convolutional network.
    merged
        Patches to an edge that ``keep`` knows as one: 2 where four patches are one token of a language model.
    repeat
        Input of ``scores`` and a number -> the same rows so many times.
    rows_at_once
        Most rows for which ``scores`` has memory; None for any number.
    first_weight
        Weight whose gradient passes all layers; None takes the first of ``module``.
    """

    classes: tuple[str, ...]
    module: nn.Module
    pixels: Callable[[Sequence[Image.Image]], Any]
    scores: Callable[[Any, int], torch.Tensor]
    layers: Mapping[str, nn.Module] = field(default_factory=dict)
    patches: Callable[[torch.Tensor, int], torch.Tensor] | None = None
    keep: Callable[[NDArray[np.integer]], AbstractContextManager[None]] | None = None
    entry: nn.Module | None = None
    merged: int = 1
    repeat: Callable[[Any, int], Any] = lambda pixels, times: torch.cat([pixels] * times)
    rows_at_once: int | None = None
    first_weight: nn.Parameter | None = None


def log_odds(scores: torch.Tensor, answer: int) -> torch.Tensor:
    """Return the log-odds of an answer against all others, shape (rows,), from scores, shape (rows, classes)."""
    others = [c for c in range(scores.shape[1]) if c != answer]
    return scores[:, answer] - scores[:, others].logsumexp(dim=1)


def kept_patches(network: RowNetwork, kept: NDArray[np.integer] | None) -> AbstractContextManager[None]:
    """Run a transformer on some of its patches: the others do not exist for it.

    Parameters
    ----------
    network
        With ``keep``.
    kept
        Patches that stay, as many of each picture, row by row from 0; shape (pictures, patches). None keeps all.
    """
    if kept is None:
        return nullcontext()
    if network.keep is None:
        raise ConnectomeBenchError("patches of this network cannot be dropped; use removal by blur")
    return network.keep(np.sort(kept, axis=1))


def keeping(block: nn.Module, skipped: int) -> Callable[[NDArray[np.integer]], AbstractContextManager[None]]:
    """Return how patches are dropped before a block of a vision transformer.

    Parameters
    ----------
    block
        Its first argument are the tokens.
    skipped
        Number of tokens before the patches, which stay.
    """

    @contextmanager
    def keep(kept: NDArray[np.integer]) -> Iterator[None]:
        before = np.broadcast_to(np.arange(skipped), (len(kept), skipped))
        index = torch.from_numpy(np.concatenate([before, kept + skipped], axis=1).astype(np.int64))

        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            tokens = inputs[0]
            rows = torch.arange(len(tokens), device=tokens.device)[:, None]
            return (tokens[rows, index.to(tokens.device)], *inputs[1:])

        handle = block.register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    return keep
