"""The recipes of the published adapters are whole runs that the script takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from small_training import parsed

from connectomebench.core.tasks import get_task
from connectomebench.finetuning.settings import AdapterConfig, DataConfig, checked_arguments, recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
PUBLISHED = {
    "merge_action": (16, 2e-4, 500),
    "endpoint_error_identification_with_em": (16, 8e-5, 500),
    "merge_error_identification": (16, 2e-4, 500),
    "split_action": (32, 2e-4, 900),
}


def test_each_published_adapter_has_a_recipe():
    assert {path.stem for path in RECIPES.iterdir()} == PUBLISHED.keys()


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_is_taken_as_it_was_published(task: str):
    path = RECIPES / f"{task}.yaml"
    rows, adapter, args = parsed("--config", str(path))

    assert isinstance(rows, DataConfig) and isinstance(adapter, AdapterConfig)
    checked_arguments(args, rows, adapter)
    assert (rows.task, rows.name, rows.species) == (task, f"connectomebench/{task}", ["mouse"])
    assert adapter.model == "Qwen/Qwen3-VL-32B-Instruct"
    assert (adapter.lora_r, args.learning_rate, args.max_steps) == PUBLISHED[task]
    # the scale of an adapter's output does not change with its rank
    assert adapter.lora_alpha == 2 * adapter.lora_r
    assert rows.balance == DataConfig(task, ["mouse"]).balancing(get_task(task))
    assert args.output_dir == f"Qwen3-VL-32B-Instruct-{task}-mouse"
    assert args.completion_only_loss and args.lr_scheduler_type == "reduce_lr_on_plateau"
    given = yaml.safe_load(path.read_text())
    assert isinstance(given["learning_rate"], float)
    assert f"--config training/recipes/{path.name}" in path.read_text()


def test_split_action_waits_longer():
    _, _, args = parsed("--config", str(RECIPES / "split_action.yaml"))
    assert args.lr_scheduler_kwargs["patience"] > recipe()["lr_scheduler_kwargs"]["patience"]


def test_an_option_that_is_unknown_is_refused(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text((RECIPES / "merge_action.yaml").read_text() + "lora_rank: 8\n")
    with pytest.raises(ValueError, match="lora_rank"):
        parsed("--config", str(path))
