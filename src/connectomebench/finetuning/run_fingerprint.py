"""The full configuration of a run: every setting that affects the weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.tasks import get_task
from connectomebench.finetuning.adapter import Base
from connectomebench.finetuning.completions import ANSWER
from connectomebench.finetuning.data import TrainingData
from connectomebench.finetuning.settings import AdapterConfig, DataConfig
from connectomebench.models.prompt import PROMPT_VERSION
from connectomebench.models.vlm_loading import base_fingerprint

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.sft_config import SFTConfig

# settings of logging and location, which do not affect the weights; they hold paths, hosts and tokens
_NOT_TRAINED = (
    "output_dir",
    "logging_",
    "log_",
    "report_to",
    "run_name",
    "project",
    "trackio_",
    "hub_",
    "push_to_hub",
    "local_rank",
    "disable_tqdm",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "save_total_limit",
    "resume_from_checkpoint",
    "use_cpu",
    "do_",
)


def full_configuration(
    rows: DataConfig, adapter: AdapterConfig, args: SFTConfig | GRPOConfig, data: TrainingData, base: Base
) -> dict[str, Any]:
    """Return every setting that affects the weights, JSON-ready, without local paths or tokens.

    Parameters
    ----------
    rows, adapter, args
        Settings, checked.
    data, base
        What they stand for: fingerprints and commits are taken from here.

    Returns
    -------
    dict
        ``base_fingerprint``, ``data``, ``answer_style`` and, where that is ``analysis``, its settings and ``taught``
        (what rows learn and from which teachers, by partition), ``adapter``, ``training`` (options of
        `trl.SFTConfig`), ``processes`` and ``prompt_version``.
    """
    training = {
        name: value
        for name, value in args.to_dict().items()
        if value is not None and not name.startswith(_NOT_TRAINED) and not name.endswith("_token")
    }
    return {
        "base_fingerprint": base_fingerprint(base.config),
        "data": {
            **asdict(rows),
            "dataset": data.records[0].repo,
            "dataset_revision": data.records[0].revision,
            "balance": rows.balancing(get_task(rows.task)),
            "fingerprints": {one.species: one.fingerprint for one in data.records},
        },
        **data.style.recorded(),
        **_taught(data),
        "adapter": asdict(adapter)
        | {"model": adapter.model if base.files.commit else Path(base.name).name, "model_revision": base.files.commit},
        "training": training,
        "processes": args.world_size,
        "prompt_version": PROMPT_VERSION,
    }


def _taught(data: TrainingData) -> dict[str, Any]:
    if data.style.answer_style == ANSWER:
        return {}
    return {
        "taught": {
            partition: {**targets.counts, "teachers": targets.teachers, "fingerprint": targets.fingerprint}
            for partition, targets in data.targets.items()
        }
    }
