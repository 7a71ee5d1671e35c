# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "connectomebench[train]",
#     "bitsandbytes>=0.48",
# ]
# ///
r"""Train Qwen3-VL on one task with GRPO and LoRA.

    accelerate launch --config_file accelerate_configs/fsdp2_2gpu.yaml training/grpo_vlm.py \
        --task endpoint_localization --species mouse --rewards distance format --reward_weights 1 0.2

Rewards are exact, format, distance (where the answer is a place) and calibration (asks for a confidence as well); see
connectomebench.finetuning.rewards. The base may be any full model folder, for example one into which an adapter of
sft_vlm.py was merged. All options of trl's GRPOConfig are accepted, but transformers, not vLLM, generates replies.

--answer_style analysis asks for an analysis before the answer, for a base trained to give one.

--environment true trains in the environment (connectomebench.environment): the model sees one view, calls tools to see
more, and answers with one; the reward is that of the answer less the prices of the views. It needs a dataset folder
with neighbourhoods (connectomebench build --neighbourhoods train) and about --max_completion_length 2048.

Run the same command to resume an interrupted run. Within the first epoch the result equals that of an uninterrupted
run, bit for bit on a CPU; in later epochs trl (1.16) visits rows in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.extras import extras_named
from connectomebench.core.tasks import get_task
from connectomebench.environment.episode import EpisodeConfig
from connectomebench.environment.tools import tools_factory
from connectomebench.environment.training import LEAST_TOKENS, check_tools, episodes, open_training_samples
from connectomebench.finetuning.adapter import lora_config, open_base
from connectomebench.finetuning.completions import ANALYSIS, ANSWER, STYLES
from connectomebench.finetuning.data import load_training_data
from connectomebench.finetuning.questions import questions
from connectomebench.finetuning.rewards import (
    DISTANCE_SCALE_NM,
    REWARDS,
    Reward,
    make_rewards,
    whole_replies,
)
from connectomebench.finetuning.run_fingerprint import full_configuration
from connectomebench.finetuning.saving import save_adapter
from connectomebench.finetuning.settings import (
    AdapterConfig,
    DataConfig,
    check_optimizer,
    check_reporting,
    usable_optimizer,
)
from connectomebench.finetuning.trainer import explain_errors, finish_adapter, load_for_training
from connectomebench.models.chat import MAX_NEW_TOKENS
from connectomebench.models.checkpoints import prepare_output, resume_training

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig


# below this hardly a published analysis would come to its end
ANALYSIS_TOKENS = 128


@dataclass
class ScriptArguments:
    """Rewards, answer style, environment and resuming."""

    rewards: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Of {', '.join(REWARDS)}; exact and format by default. --reward_weights gives one number each, 1 "
            "by default."
        },
    )
    distance_scale_nm: float = field(
        default=DISTANCE_SCALE_NM, metadata={"help": "Distance at which the distance reward is 1/e, nm."}
    )
    answer_style: str = field(
        default=ANSWER,
        metadata={"help": "answer: ask for the answer alone; analysis: ask for an analysis and then the answer."},
    )
    environment: bool = field(
        default=False,
        metadata={"help": "Train in the environment: the model looks around with tools before it answers."},
    )
    view_price: float | None = field(
        default=None, metadata={"help": f"There: price of a view of meshes, {EpisodeConfig.view_price:g} by default."}
    )
    slice_price: float | None = field(
        default=None, metadata={"help": f"There: price of a slice, {EpisodeConfig.slice_price:g} by default."}
    )
    max_views: int | None = field(
        default=None, metadata={"help": f"There: most views an episode, {EpisodeConfig.max_views} by default."}
    )
    view_pixels: int | None = field(
        default=None, metadata={"help": f"There: edge of a picture, {EpisodeConfig.pixels} by default."}
    )
    resume: str = field(
        default="auto",
        metadata={
            "help": "auto: resume from the newest complete checkpoint in output_dir; never: delete them and restart."
        },
    )

    def __post_init__(self) -> None:
        if self.resume not in ("auto", "never"):
            raise ConnectomeBenchError(f"unknown resume {self.resume!r}; choose auto or never")
        if self.answer_style not in STYLES:
            raise unknown_name("answer_style", self.answer_style, STYLES)
        if not self.environment and self._of_environment:
            raise ConnectomeBenchError(f"--{next(iter(self._of_environment))} needs --environment true")
        if self.environment and (self.rewards is not None or self.answer_style != ANSWER):
            raise ConnectomeBenchError(
                "in the environment the episode gives the reward and a tool the answer; leave out --rewards and "
                "--answer_style"
            )

    @property
    def _of_environment(self) -> dict[str, float | int]:
        given = {name: getattr(self, name) for name in ("view_price", "slice_price", "max_views", "view_pixels")}
        return {name: value for name, value in given.items() if value is not None}

    def episode(self) -> EpisodeConfig:
        """Return prices and limits of episodes."""
        names = {"view_pixels": "pixels"}
        return EpisodeConfig(**{names.get(name, name): value for name, value in self._of_environment.items()})  # type: ignore[arg-type]


def defaults(on_gpu: bool) -> dict[str, Any]:
    """Return the defaults by option name of GRPOConfig; all are choices of this package."""
    return {
        "max_steps": 200,
        "learning_rate": 1e-5,
        "optim": "adamw_8bit",
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "max_completion_length": 64,
        "save_steps": 50,
        "bf16": on_gpu,
        "gradient_checkpointing": True,
        "logging_steps": 1,
        "report_to": "none",
    }


def _rewards(
    script: ScriptArguments, named: Sequence[str], args: GRPOConfig, rows: DataConfig
) -> tuple[list[Reward], list[float] | None]:
    """Return rewards and their weights; none in the environment, which has its own."""
    if not script.environment:
        return make_rewards(named, args.reward_weights, get_task(rows.task), script.distance_scale_nm)
    if args.reward_weights is not None:
        raise ConnectomeBenchError("in the environment the episode gives the reward; leave out --reward_weights")
    if (args.max_completion_length or 0) < LEAST_TOKENS:
        raise ConnectomeBenchError(
            f"max_completion_length is {args.max_completion_length}, too short for an episode, whose pictures count; "
            f"give at least {LEAST_TOKENS}, better 2048"
        )
    if args.max_tool_calling_iterations is None:
        # the views and the answer
        args.max_tool_calling_iterations = script.episode().max_views + 1
    return [], None


def main(script: ScriptArguments, rows: DataConfig, adapter: AdapterConfig, args: GRPOConfig) -> None:
    """Load, train, save."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    if args.eval_strategy != "no" or args.remove_unused_columns or args.use_vllm or args.push_to_hub:
        raise ConnectomeBenchError("eval_strategy, remove_unused_columns, use_vllm and push_to_hub must stay off")
    named = script.rewards or ["exact", "format"]
    rewards, args.reward_weights = _rewards(script, named, args, rows)
    style = ANALYSIS if script.answer_style == ANALYSIS else ANSWER
    if style == ANALYSIS and (args.max_completion_length or 0) < ANALYSIS_TOKENS:
        raise ConnectomeBenchError(
            f"max_completion_length is {args.max_completion_length}, too short for an analysis and an answer; give at "
            f"least {ANALYSIS_TOKENS}, better {MAX_NEW_TOKENS}"
        )
    check_reporting(args)
    if args.output_dir in (None, "trainer_output"):
        args.output_dir = "-".join([Path(adapter.model).name, rows.task, *rows.species, "grpo"])
    args.optim = usable_optimizer(str(getattr(args.optim, "value", args.optim)), args.process_index == 0)
    check_optimizer(args)

    ################
    # Dataset
    ################
    with args.main_process_first():
        data = load_training_data(rows, args.seed)
    confidence = "calibration" in named and not script.environment
    if script.environment:
        samples = open_training_samples(rows.name, rows.species, data.sample_ids["train"])
        prompts = data.train.with_transform(partial(episodes, samples=samples))
        played: dict[str, Any] = {"environment_factory": tools_factory(samples, script.episode())}
    else:
        prompts, played = data.train.with_transform(partial(questions, confidence=confidence, style=style)), {}

    ################
    # Model
    ################
    with args.main_process_first():
        base = open_base(adapter)
    if script.environment:
        check_tools(base.processor, base.name)
    configuration = full_configuration(rows, adapter, args, data, base)
    training: dict[str, Any] = configuration["training"]
    weights = training.pop("reward_weights", None)
    configuration |= {
        **({"environment": asdict(script.episode())} if script.environment else {}),
        "rewards": {"environment": 1.0} if script.environment else dict(zip(named, weights, strict=True)),
        "distance_scale_nm": script.distance_scale_nm,
        # prompt settings for the evaluation of the adapter
        "answer_style": style,
        "asks_confidence": confidence,
        # hosts and ports of a server that is not used
        "training": {name: value for name, value in training.items() if "vllm" not in name},
    }
    with args.main_process_first(local=False):
        checkpoint = prepare_output(Path(str(args.output_dir)), configuration, script.resume == "auto")
    with explain_errors(args):
        model = load_for_training(base, args)
        tokenizer = base.processor.tokenizer
        ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
        trainer: Any = GRPOTrainer(
            model,
            [whole_replies(reward, ends) for reward in rewards],
            args,
            train_dataset=prompts,
            processing_class=base.processor,
            peft_config=lora_config(adapter),
            **played,
        )
        finish_adapter(trainer, base)
        # cards are made from records when an adapter is published
        trainer.create_model_card = lambda *_, **__: None

        ################
        # Training
        ################
        resume_training(trainer, checkpoint)

    ################
    # Saving
    ################
    save_adapter(trainer, base, data, configuration)


if __name__ == "__main__":
    from yaml import YAMLError

    try:
        with extras_named():
            from torch.cuda import is_available
            from trl import GRPOConfig, TrlParser  # pyright: ignore[reportPrivateImportUsage]
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
    parser = TrlParser([ScriptArguments, DataConfig, AdapterConfig, GRPOConfig])  # type: ignore[arg-type]
    parser.set_defaults_with_config(**defaults(is_available()))
    try:
        options = parser.parse_args_and_config()
    except (ConnectomeBenchError, OSError, TypeError, ValueError, YAMLError) as error:
        sys.exit(f"error: {error}")
    try:
        main(*options)
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
