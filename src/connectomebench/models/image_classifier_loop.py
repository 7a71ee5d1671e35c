"""The training loop of the image classifier: balanced epochs, early stopping, a checkpoint an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, cos, isfinite, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.heads import balanced_accuracy
from connectomebench.models.image_classifier_checkpoint import Progress, best_epoch, read_checkpoint, write_checkpoint
from connectomebench.models.image_classifier_init import ImageClassifierConfig
from connectomebench.models.view_classifier import ViewClassifier, load_pixels, network_scores

_MAX_NORM = 1.0
_EVALUATION_ROWS = 64


@dataclass(frozen=True)
class ImageRows:
    """Rows to learn from or to judge by.

    Attributes
    ----------
    images
        A dataset in Arrow format with the column ``images``: it hands out stored bytes, and only those asked for.
    labels
        Class codes, shape (rows,).
    ids
        Sample ids.
    """

    images: Any
    labels: NDArray[np.intp]
    ids: list[str]

    def row_images(self, rows: Sequence[int] | NDArray[np.intp]) -> list[list[Any]]:
        """Read the images of some rows, undecoded."""
        return self.images[list(rows)]["images"].to_pylist()


def fit_network(
    network: ViewClassifier,
    learn: ImageRows,
    judge: ImageRows,
    config: ImageClassifierConfig,
    checkpoints: Path | None,
    key: str,
    progress: bool,
) -> list[dict[str, float]]:
    """Train a network in place and leave it with the weights of the best epoch.

    Parameters
    ----------
    network
        On the device to use; bfloat16 where that is a GPU.
    learn, judge
        Training and validation rows.
    config
        How to train.
    checkpoints, key
        As for :mod:`.image_classifier_checkpoint`; None keeps none.
    progress
        Show a progress bar.

    Returns
    -------
    list
        Mean loss, and balanced accuracy and log loss (classes equally weighted) on the validation rows, by epoch.

    Raises
    ------
    ConnectomeBenchError
        If the loss is no number, or the checkpoint is damaged or of another training.
    """
    from tqdm.auto import tqdm

    optimizer = torch.optim.AdamW(_parameter_groups(network, config), lr=config.learning_rate)
    history: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] = {}
    saved = read_checkpoint(checkpoints, key) if checkpoints else None
    if saved:
        history, best = saved.history, saved.best
        network.load_state_dict(saved.model)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": saved.optimizer, "param_groups": groups})
    steps = max(1, len(learn.ids) // config.batch_size)
    done = len(history) * steps
    total = config.epochs * steps
    with tqdm(total=total, initial=done, desc="train", unit="step", disable=not progress, delay=1) as bar:
        while len(history) < config.epochs and not _is_stuck(history, config.patience):
            loss = _train_epoch(network, optimizer, learn, config, len(history), steps, bar)
            scores = score_rows(network, judge)
            history.append({"loss": loss, **_judged(scores, judge.labels)})
            if best_epoch(history) == len(history) - 1:
                best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            if checkpoints:
                state = optimizer.state_dict()["state"]
                write_checkpoint(checkpoints, key, Progress(history, network.state_dict(), best, state))
            bar.set_postfix(epoch=len(history), balanced_accuracy=f"{history[-1]['balanced_accuracy']:.3f}")
    network.load_state_dict(best)
    return history


def _is_stuck(history: list[dict[str, float]], patience: int) -> bool:
    return bool(history) and len(history) - 1 - best_epoch(history) >= patience


def _parameter_groups(network: ViewClassifier, config: ImageClassifierConfig) -> list[dict[str, Any]]:
    """Spare biases and norms the weight decay, which would pull them away from doing nothing."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _train_epoch(
    network: ViewClassifier,
    optimizer: torch.optim.Optimizer,
    learn: ImageRows,
    config: ImageClassifierConfig,
    epoch: int,
    steps: int,
    bar: Any,
) -> float:
    """Train one epoch and return its mean loss."""
    # All random numbers follow from seed and epoch, so that a resumed run draws those of an unbroken one.
    random = np.random.default_rng([config.seed, epoch])
    torch.manual_seed(int(random.integers(2**31)))
    order = balanced_order(learn.labels, random)
    # The rows that do not fill a batch wait for another epoch: batch norm would judge by too few.
    batches = [order[i * config.batch_size : (i + 1) * config.batch_size] for i in range(steps)]
    device = next(network.parameters()).device
    network.train()
    losses: list[float] = []
    for rows, pixels in _loaded(learn, batches, network.settings["input_px"]):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(epoch * steps + len(losses), config.epochs * steps, config)
        targets = torch.from_numpy(learn.labels[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            scores = network(pixels.to(device))
        loss = nn.functional.cross_entropy(scores.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), _MAX_NORM)
        losses.append(loss.item())
        if not isfinite(losses[-1]) or not isfinite(norm.item()):
            ids = ", ".join(learn.ids[row] for row in rows)
            raise ConnectomeBenchError(
                f"the loss is no number in epoch {epoch + 1}; lower learning_rate, or look at the samples {ids}"
            )
        optimizer.step()
        bar.update(1)
    return float(np.mean(losses))


def _loaded(
    rows: ImageRows, batches: Sequence[NDArray[np.intp]], px: int
) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
    """Yield each batch with its pixels, uint8, shape (rows, views, px, px, 3); the next one is decoded meanwhile."""

    def load(batch: NDArray[np.intp]) -> torch.Tensor:
        images = rows.row_images(batch)
        pixels = load_pixels([image for row in images for image in row], px)
        return pixels.reshape(len(images), -1, px, px, 3)

    with ThreadPoolExecutor(1, thread_name_prefix="load") as ahead:
        waiting = ahead.submit(load, batches[0])
        for place, batch in enumerate(batches):
            pixels = waiting.result()
            if place + 1 < len(batches):
                waiting = ahead.submit(load, batches[place + 1])
            yield batch, pixels


def balanced_order(labels: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.intp]:
    """Draw the rows of one epoch: as many as there are, every class equally often, in random order.

    Within a class no row is drawn twice before all were drawn once.

    Parameters
    ----------
    labels
        Class codes, shape (rows,).
    random
        Decides which and in which order.

    Returns
    -------
    NDArray
        Row numbers, shape (rows,); a class may have one more than another.
    """
    classes = random.permutation(np.unique(labels))
    drawn = []
    for place, code in enumerate(classes):
        members = np.flatnonzero(labels == code)
        wanted = (len(labels) + len(classes) - 1 - place) // len(classes)
        rounds = [random.permutation(members) for _ in range(ceil(wanted / len(members)))]
        drawn.append(np.concatenate(rounds)[:wanted])
    return random.permutation(np.concatenate(drawn))


def learning_rate(step: int, steps: int, config: ImageClassifierConfig) -> float:
    """Return the rate of a step (0 is the first) out of ``steps``: warm-up, then cosine."""
    warm = round(config.warmup * steps)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 + cos(pi * (step - warm) / max(1, steps - warm))) / 2


def score_rows(network: ViewClassifier, rows: ImageRows) -> NDArray[np.float64]:
    """Score rows in evaluation mode, a few in memory at a time; returns shape (rows, classes)."""
    network.eval()
    starts = range(0, len(rows.ids), _EVALUATION_ROWS)
    parts = [rows.row_images(range(s, min(s + _EVALUATION_ROWS, len(rows.ids)))) for s in starts]
    return np.concatenate([network_scores(network, part) for part in parts])


def _judged(scores: NDArray[np.float64], labels: NDArray[np.intp]) -> dict[str, float]:
    from scipy.special import log_softmax

    own = -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]
    log_loss = float(np.mean([own[labels == code].mean() for code in np.unique(labels)]))
    return {"balanced_accuracy": balanced_accuracy(labels, scores.argmax(axis=1)), "log_loss": log_loss}


@contextmanager
def memory_hint(config: ImageClassifierConfig) -> Iterator[None]:
    """Turn what torch raises when memory runs out into one line that says which setting to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator has no class of its own.
        known = (MemoryError, torch.OutOfMemoryError)
        if not isinstance(error, known) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ConnectomeBenchError(
            f"memory ran out with batch_size {config.batch_size}; lower batch_size or input_px"
        ) from error
