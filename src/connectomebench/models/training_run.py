"""What trainings with transformers' Trainer share: arguments, checkpoints, the best epoch, one line an error."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.checkpoints import prepare_output, resume_training
from connectomebench.models.heads import balanced_accuracy
from connectomebench.models.run_settings import Precision, RunSettings

WEIGHTS = "model.safetensors"
"""Trainer's name for the weights of a checkpoint."""
_LOADING_PROCESSES = 4

History = list[dict[str, float]]


@dataclass(frozen=True)
class TrainingRun:
    """One run of a training, from the beginning or from a checkpoint.

    Attributes
    ----------
    args
        Of transformers' Trainer.
    folder
        Of the checkpoints.
    checkpoint
        To resume from; None at the beginning.
    finished
        Nothing is left to train: only the best weights are restored.
    """

    args: TrainingArguments
    folder: Path
    checkpoint: Path | None
    finished: bool

    def train(self, trainer: Trainer) -> None:
        """Train, and restore the weights of the best epoch.

        Raises
        ------
        ConnectomeBenchError
            Under FSDP or DeepSpeed, or if a checkpoint file holds more than tensors and plain values.
        """
        # it would print every entry of the log
        trainer.remove_callback(PrinterCallback)
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ConnectomeBenchError("image networks train without FSDP and DeepSpeed; use accelerate's multi_gpu")
        resume_training(trainer, self.checkpoint)


@contextmanager
def open_run(
    config: RunSettings,
    rows: int,
    configuration: Mapping[str, Any],
    checkpoints: Path | None,
    resume: bool,
    *,
    history: Callable[[Sequence[Mapping[str, Any]]], History],
    best: Callable[[History], int],
) -> Iterator[TrainingRun]:
    """Open the folder of a run and find out how much of it is done.

    Parameters
    ----------
    config
        How to train.
    rows
        Number of training rows.
    configuration
        All that decides the weights, JSON-ready: a checkpoint of another one is refused.
    checkpoints, resume
        As for :func:`.checkpoints.prepare_output`; None keeps no checkpoint after training.
    history
        Groups Trainer's log by epoch.
    best
        Index of the best epoch of such a history.

    Raises
    ------
    ConnectomeBenchError
        If checkpoints are of another training, or several processes have no folder to share.
    """
    with nullcontext(checkpoints) if checkpoints else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args = training_arguments(config, rows, folder)
        if args.world_size > 1 and checkpoints is None:
            raise ConnectomeBenchError("several processes share the best weights in a folder; name one for checkpoints")
        # one process clears the folder before the others look into it
        with args.main_process_first(local=False):
            found = prepare_output(folder, {**configuration, "processes": args.world_size}, resume, WEIGHTS)
        done: History = []
        if found:
            done = history(TrainerState.load_from_json(str(found / "trainer_state.json")).log_history)
            if len(done) - 1 - best(done) >= config.patience:
                # Stopped early: Trainer would train on for a step before it looked at the patience.
                args.num_train_epochs = len(done)
        yield TrainingRun(args, folder, found, bool(found) and args.num_train_epochs <= len(done))


def training_arguments(config: RunSettings, rows: int, folder: Path) -> TrainingArguments:
    """Convert settings to transformers' TrainingArguments.

    Parameters
    ----------
    config
        How to train.
    rows
        Number of training rows; a step takes no more of them.
    folder
        Of the checkpoints, one an epoch: the last one and the best one are kept.
    """
    on_gpu = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        seed=config.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="rank",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        # The rows that do not fill a batch wait for another epoch: batch norm would judge by too few.
        dataloader_drop_last=True,
        dataloader_num_workers=_LOADING_PROCESSES if on_gpu else 0,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        use_cpu=not on_gpu,
        # the mask model is trained with settings of its own, which name no precision
        bf16=used_precision(getattr(config, "precision", "auto")) == "bfloat16",
        report_to="none",
        disable_tqdm=True,
    )
    args.per_device_train_batch_size = max(1, min(config.batch_size, rows // args.world_size))
    if args.n_gpu > 1:
        # started plainly on a machine of several GPUs, one process uses one of them
        args._n_gpu = 1
    return args


def used_precision(precision: Precision) -> Literal["float32", "bfloat16"]:
    """Return the precision of the steps of a training on this machine.

    Parameters
    ----------
    precision
        ``auto`` takes bfloat16 where the machine has matrix units for it: a GPU, or a processor with AMX. Elsewhere
        bfloat16 is slower than float32. Weights and the optimizer stay in float32.

    Examples
    --------
    >>> used_precision("float32")
    'float32'
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # older versions of torch do not say what a processor can do
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        pays = bool(capabilities.get("amx_bf16", False))
    return "bfloat16" if pays else "float32"


class ProgressBar(ProgressCallback):
    """Show the last validation in the progress bar, keeping stdout for the script's result."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Take the balanced accuracy from an entry of the log."""
        if self.training_bar is not None and logs and "eval_balanced_accuracy" in logs:
            accuracy = logs["eval_balanced_accuracy"]
            self.training_bar.set_postfix(epoch=round(logs["epoch"]), balanced_accuracy=f"{accuracy:.3f}")


def epoch_history(log: Sequence[Mapping[str, Any]]) -> History:
    """Group Trainer's log by epoch: loss, last learning rate, and all that was measured on the validation rows."""
    by_step: dict[int, dict[str, Any]] = {}
    for entry in log:
        by_step.setdefault(entry["step"], {}).update(entry)
    first = ("loss", "learning_rate", "eval_balanced_accuracy", "eval_accuracy", "eval_log_loss")
    history = []
    for entry in by_step.values():
        if "eval_rank" in entry:
            measured = {name for name in entry if name.startswith("eval_")} - {"eval_rank", *first}
            # in one order, in which a resumed run would otherwise differ
            names = [name for name in first if name in entry] + sorted(measured)
            history.append({name.removeprefix("eval_"): entry[name] for name in names})
    return history


def best_epoch(
    history: Sequence[Mapping[str, float]], choose_by: Literal["balanced_accuracy", "accuracy"] = "balanced_accuracy"
) -> int:
    """Return the index of the best epoch: by ``choose_by``, then log loss, then the earlier."""
    return max(range(len(history)), key=lambda i: (history[i][choose_by], -history[i]["log_loss"]))


def measure(scores: NDArray[np.float64], labels: NDArray[np.intp]) -> dict[str, float]:
    """Compute balanced accuracy, accuracy and class-balanced log loss.

    Parameters
    ----------
    scores
        Shape (rows, classes).
    labels
        Class codes, shape (rows,).
    """
    from scipy.special import log_softmax

    own = -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]
    log_loss = float(np.mean([own[labels == code].mean() for code in np.unique(labels)]))
    predicted = scores.argmax(axis=1)
    return {
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "accuracy": float(np.mean(predicted == labels)),
        "log_loss": log_loss,
    }


@contextmanager
def memory_hint(config: RunSettings) -> Iterator[None]:
    """Turn out-of-memory errors into one line that names the setting to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator has no class of its own.
        known = (MemoryError, torch.OutOfMemoryError)
        if not isinstance(error, known) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ConnectomeBenchError(
            f"memory ran out with batch_size {config.batch_size}; lower batch_size or input_px and begin a new run, in "
            "another folder"
        ) from error
