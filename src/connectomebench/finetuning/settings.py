"""Fine-tuning settings: rows, base model, adapter and training defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.tasks import Task, get_task

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.sft_config import SFTConfig

_BITSANDBYTES = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
BALANCES = ("auto", "oversample", "undersample", "none")


@dataclass(frozen=True)
class DataConfig:
    """Rows to train on (partition ``train``) and to select the checkpoint with (``validation``).

    Attributes
    ----------
    task
        Any task whose answer can be written as words.
    species
        One or several configs of the dataset, trained on together.
    dataset
        Folder or Hub id; ``connectomebench/TASK`` where None.
    dataset_revision
        Branch, tag or commit on the Hub; None takes ``main``.
    balance
        ``oversample`` repeats rows of rarer answers, ``undersample`` leaves out rows of the commoner ones, ``none``
        takes the rows as they are; ``auto`` undersamples split_action, with image data or without, and
        oversamples all others.
    """

    task: str = field(metadata={"help": "Task to learn."})
    species: list[str] = field(metadata={"help": "One or several species of the dataset."})
    dataset: str | None = field(
        default=None, metadata={"help": "Dataset folder or Hub id; connectomebench/TASK by default."}
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    balance: str = field(default="auto", metadata={"help": f"Of the answers: {', '.join(BALANCES)}."})

    def __post_init__(self) -> None:
        # a YAML file may name one species without a list
        species = [self.species] if isinstance(self.species, str) else list(dict.fromkeys(self.species))
        object.__setattr__(self, "species", species)
        get_task(self.task)
        if not species:
            raise ConnectomeBenchError("no species is named; name one at least (--species)")
        if self.balance not in BALANCES:
            raise unknown_name("balance", self.balance, BALANCES)

    @property
    def name(self) -> str:
        """Folder or Hub id of the dataset."""
        return self.dataset or f"connectomebench/{self.task}"

    def balancing(self, task: Task) -> str:
        """Return ``oversample``, ``undersample`` or ``none``; places cannot be balanced."""
        if not task.labels:
            return "none"
        if self.balance == "auto":
            return "undersample" if task.name in ("split_action", "split_action_with_em") else "oversample"
        return self.balance


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of the base model and its LoRA adapter.

    Attributes
    ----------
    model, model_revision
        Base: folder or Hub id, and branch, tag or commit there.
    lora_r, lora_alpha, lora_dropout
        As in `peft.LoraConfig`.
    """

    model: str = field(default="Qwen/Qwen3-VL-32B-Instruct", metadata={"help": "Base: folder or Hub id."})
    model_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "The adapter's output is scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Share of the adapter's inputs that is dropped."})

    def __post_init__(self) -> None:
        if self.lora_r < 1 or self.lora_alpha < 1 or not 0 <= self.lora_dropout < 1:
            raise ConnectomeBenchError("lora_r and lora_alpha must be at least 1, lora_dropout in [0, 1)")


def recipe() -> dict[str, Any]:
    """Return the training defaults by option name of `trl.SFTConfig`.

    Learning rate, steps, batch, checkpoints and precision are those of the published adapters. Halving the rate after
    two evaluations without a better validation loss, and clipping of gradients at 1, are choices of this package.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "max_steps": 500,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"factor": 0.5, "patience": 1},
        "optim": "adamw_8bit",
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 100,
        "save_strategy": "steps",
        "save_steps": 100,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "bf16": on_gpu,
        "gradient_checkpointing": True,
        "completion_only_loss": True,
        # a prompt that is cut loses image tokens
        "max_length": None,
        # rows are turned into prompts when they are read, so that columns are not what the model takes
        "remove_unused_columns": False,
        "dataloader_num_workers": 4 if on_gpu else 0,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 10,
        "report_to": "none",
    }


_FIXED = {
    "completion_only_loss": (True, "the loss is on the answer alone"),
    "max_length": (None, "a prompt that is cut loses image tokens"),
    "remove_unused_columns": (False, "prompts are made when rows are read"),
    "model_init_kwargs": (None, "weights are bfloat16 on a GPU, and nothing else of the base can be chosen"),
    "trust_remote_code": (False, "no code from a repository is run"),
    "save_only_model": (False, "resuming needs the optimizer's state"),
    "push_to_hub": (False, "publish the finished adapter with `connectomebench publish`"),
    "resume_from_checkpoint": (None, "use --resume"),
}


def checked_arguments(args: SFTConfig, data: DataConfig, adapter: AdapterConfig) -> SFTConfig:
    """Validate training options and set those that depend on the machine.

    Parameters
    ----------
    args
        As parsed; ``output_dir`` and ``optim`` are changed in place.
    data, adapter
        Name the output folder where none is given.

    Returns
    -------
    trl.SFTConfig
        The same object.

    Raises
    ------
    ConnectomeBenchError
        If an option does not fit.
    """
    for name, (value, why) in _FIXED.items():
        if getattr(args, name) != value:
            raise ConnectomeBenchError(f"{name} must stay {value}: {why}")
    if args.eval_strategy != "steps" or args.save_strategy != "steps" or args.eval_steps != args.save_steps:
        raise ConnectomeBenchError(
            "the best checkpoint is chosen by validation loss, so every checkpoint needs one: "
            "give --save_steps and --eval_steps the same number, both strategies `steps`"
        )
    check_reporting(args)
    if args.output_dir is None or args.output_dir == "trainer_output":
        args.output_dir = "-".join([Path(adapter.model).name, data.task, *data.species])
    args.optim = usable_optimizer(str(getattr(args.optim, "value", args.optim)), args.process_index == 0)
    check_optimizer(args)
    return args


def check_optimizer(args: SFTConfig | GRPOConfig) -> None:
    """Raise if the optimizer needs a missing package, before anything is loaded.

    Parameters
    ----------
    args
        As parsed.

    Raises
    ------
    ConnectomeBenchError
        Naming the optimizer and the package.
    """
    from transformers import Trainer

    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError) as error:
        # others are only made with the model, or want more options, which transformers names
        if isinstance(error, ImportError) or isinstance(error.__context__, ImportError):
            reason = " ".join(str(error).split())[:160]
            raise ConnectomeBenchError(
                f"the optimizer {args.optim} needs a package ({reason}); install it, or use --optim adamw_torch"
            ) from None


def check_reporting(args: SFTConfig | GRPOConfig) -> None:
    """Raise if ``report_to`` names an unknown or missing integration, before anything is loaded.

    Parameters
    ----------
    args
        As parsed; a callback of transformers is made for each of its ``report_to`` and thrown away.

    Raises
    ------
    ConnectomeBenchError
        Naming the package to install.
    """
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    try:
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    except (ImportError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConnectomeBenchError(f"cannot report the run: {reason} Or set --report_to none") from None


def usable_optimizer(name: str, speak: bool = True) -> str:
    """Return the optimizer, or plain AdamW where bitsandbytes' 8-bit one cannot work.

    It needs bitsandbytes and an Nvidia GPU, and its states are not sharded soundly under FSDP (bitsandbytes#89,
    accelerate#1902); of an adapter they are small anyway.

    Parameters
    ----------
    name
        As transformers names it.
    speak
        Print why the optimizer was replaced.
    """
    if name not in _BITSANDBYTES:
        return name
    reason = _no_8bit()
    if reason is None:
        return name
    if speak:
        print(f"warning: {reason}, so the optimizer is adamw_torch in place of {name}")
    return "adamw_torch"


def _no_8bit() -> str | None:
    import torch

    if is_sharded():
        return "8-bit AdamW is fragile under FSDP and DeepSpeed"
    if not torch.cuda.is_available():
        return "8-bit AdamW needs a GPU"
    try:
        import bitsandbytes  # noqa: F401 # pyright: ignore[reportMissingImports]
    except Exception as error:  # a build for another CUDA fails in many ways
        return f"bitsandbytes does not load ({type(error).__name__})"
    return None


def is_sharded() -> bool:
    """Return whether accelerate shards the weights over processes (FSDP, DeepSpeed)."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "false") == "true" for kind in ("FSDP", "DEEPSPEED"))
