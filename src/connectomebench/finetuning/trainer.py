"""TRL's SFTTrainer on dataset rows: loss on completions only, errors in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.finetuning.adapter import Base, check_targets, check_trainable, load_base, lora_config
from connectomebench.finetuning.data import ROW_NUMBER, TrainingData
from connectomebench.finetuning.settings import AdapterConfig, is_sharded

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer


@dataclass(frozen=True)
class Collator:
    """TRL's collator for images, prompts and completions that also passes row numbers on.

    Attributes
    ----------
    inner
        `trl.trainer.sft_trainer.DataCollatorForVisionLanguageModeling`.
    """

    inner: Any

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Build a batch; ``labels`` (rows, tokens), int64, are -100 outside the completion.

        Parameters
        ----------
        examples
            Rows of :class:`connectomebench.finetuning.data.TrainingData`.
        """
        import torch

        numbers = torch.tensor([example[ROW_NUMBER] for example in examples], dtype=torch.int64)
        # TRL changes the examples it is given
        batch = self.inner([dict(example) for example in examples])
        batch[ROW_NUMBER] = numbers
        return batch


def make_collator(processor: Any) -> Collator:
    """Build the collator for a base model's processor."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    return Collator(DataCollatorForVisionLanguageModeling(processor, max_length=None, completion_only_loss=True))


def make_trainer(base: Base, data: TrainingData, adapter: AdapterConfig, args: SFTConfig) -> SFTTrainer:
    """Load the base, add the adapter and build the trainer.

    Parameters
    ----------
    base
        Opened, not loaded.
    data
        Rows.
    adapter, args
        Settings, checked.

    Raises
    ------
    ConnectomeBenchError
        If the base does not load or lacks a target, or anything but the adapter is trainable.
    """
    with explain_errors(args):
        return assemble_trainer(load_for_training(base, args), base, data, adapter, args)


def assemble_trainer(model: Any, base: Base, data: TrainingData, adapter: AdapterConfig, args: SFTConfig) -> SFTTrainer:
    """Add the adapter to a model and build the trainer.

    Parameters
    ----------
    model
        The base's, with weights.
    base, data, adapter, args
        As for :func:`make_trainer`.

    Raises
    ------
    ConnectomeBenchError
        If anything but the adapter is trainable.
    """
    trainer: Any = _trainer_class()(
        model,
        args,
        data_collator=make_collator(base.processor),
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=base.processor,
        peft_config=lora_config(adapter),
    )
    trainer.sample_ids = data.sample_ids
    finish_adapter(trainer, base)
    return trainer


def load_for_training(base: Base, args: SFTConfig | GRPOConfig) -> Any:
    """Load the weights of a base for training and check that it has every target module.

    Parameters
    ----------
    base
        Opened, not loaded.
    args
        Precision, device and number of processes.

    Raises
    ------
    ConnectomeBenchError
        If the weights are damaged or missing, or a target is.
    """
    on_one_gpu = args.device.type == "cuda" and args.world_size == 1 and not is_sharded()
    model = load_base(base, bf16=bool(args.bf16), whole_on_gpu=on_one_gpu)
    check_targets(base, (name for name, _ in model.named_modules()))
    return model


def finish_adapter(trainer: Any, base: Base) -> None:
    """Check that only the adapter of a trainer is trainable, and set the name of its base.

    Raises
    ------
    ConnectomeBenchError
        If anything but the adapter is trainable.
    """
    check_trainable(trainer.model)
    settings = trainer.accelerator.unwrap_model(trainer.model).peft_config["default"]
    # PEFT would name the folder of the cache
    settings.base_model_name_or_path, settings.revision = base.name, base.files.commit


def _trainer_class() -> type[SFTTrainer]:
    import torch
    from trl.trainer.sft_trainer import SFTTrainer

    class AnswerTrainer(SFTTrainer):
        sample_ids: dict[str, list[str]]

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            numbers = inputs.pop(ROW_NUMBER)
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            loss = result[0] if return_outputs else result
            if not torch.isfinite(loss):
                known = self.sample_ids["train" if model.training else "validation"]
                ids = ", ".join(known[number] for number in numbers.tolist())
                raise ConnectomeBenchError(
                    f"the loss is {loss.item()} at step {self.state.global_step} with the samples {ids}; look at these "
                    "rows, or lower --learning_rate"
                )
            return result

        def create_model_card(self, *_: Any, **__: Any) -> None:
            # cards are made from records when an adapter is published
            return

    return AnswerTrainer


def _memory_advice(args: SFTConfig | GRPOConfig) -> str:
    """Say what to change; what can be resumed (:func:`connectomebench.models.checkpoints.prepare_output`) first."""
    rows, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    resumed = "and run the same command to resume from the last checkpoint"
    if rows > 1:
        # the rows of a step stay the same
        fewer = next(rows // factor for factor in range(2, rows + 1) if rows % factor == 0)
        return (
            f"lower --per_device_train_batch_size from {rows} to {fewer} and raise --gradient_accumulation_steps from "
            f"{steps} to {steps * (rows // fewer)}, {resumed}"
        )
    if not args.gradient_checkpointing:
        return f"set --gradient_checkpointing true, {resumed}"
    return "use a smaller base, or shard it over more GPUs with FSDP; both begin a new run with its own --output_dir"


@contextmanager
def explain_errors(args: SFTConfig | GRPOConfig) -> Iterator[None]:
    """Turn out-of-memory errors and Ctrl-C into one line that says what to do.

    Parameters
    ----------
    args
        Settings named in the advice.

    Raises
    ------
    ConnectomeBenchError
        In place of PyTorch's error of missing memory, and of Ctrl-C.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise ConnectomeBenchError(f"the GPU is out of memory; {_memory_advice(args)}") from None
    except KeyboardInterrupt:
        raise ConnectomeBenchError(
            f"interrupted; run the same command to resume from the last checkpoint in {args.output_dir}"
        ) from None
