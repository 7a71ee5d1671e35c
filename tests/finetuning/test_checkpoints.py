from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_training import Training

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.checkpoints import is_whole, prepare_output


def configuration(folder: Path) -> dict:
    return yaml.safe_load((folder / "training_config.yaml").read_text())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def another_step(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"global_step": 5}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("trainer_state.json", Path.unlink),
        ("trainer_state.json", cut),
        ("trainer_state.json", another_step),
        ("adapter_model.safetensors", Path.unlink),
        ("adapter_model.safetensors", cut),
        ("optimizer.pt", Path.unlink),
        ("optimizer.pt", cut),
        ("optimizer.pt", flip),
        ("scheduler.pt", cut),
        ("rng_state.pth", cut),
        ("rng_state.pth", Path.unlink),
    ],
)
def test_a_damaged_checkpoint_is_not_whole(
    copied: Callable[[str], Path], name: str, damage: Callable[[Path], None]
) -> None:
    checkpoint = copied("checkpoint-4")
    assert is_whole(checkpoint)
    assert not is_whole(checkpoint, processes=2)
    damage(checkpoint / name)
    assert not is_whole(checkpoint)


def test_goes_on_from_the_newest_whole_checkpoint(training: Training, copied: Callable[[str], Path]) -> None:
    folder = copied(".")
    settings = configuration(folder)
    # by number, not by name
    shutil.copytree(folder / "checkpoint-6", folder / "checkpoint-10")
    another = folder / "checkpoint-10" / "trainer_state.json"
    another.write_text(json.dumps(json.loads(another.read_text()) | {"global_step": 10}))
    assert prepare_output(folder, settings, resume=True) == folder / "checkpoint-10"
    cut(folder / "checkpoint-10" / "optimizer.pt")
    cut(folder / "checkpoint-6" / "trainer_state.json")
    assert prepare_output(folder, settings, resume=True) == folder / "checkpoint-4"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert (folder / "connectomebench.json").exists()


def test_what_saves_memory_alone_may_change(training: Training, copied: Callable[[str], Path]) -> None:
    folder = copied(".")
    settings = configuration(folder)
    assert settings["training"]["per_device_train_batch_size"] == 2
    saving = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": not settings["training"]["gradient_checkpointing"],
        "per_device_eval_batch_size": 1,
    }
    thrifty = settings | {"training": settings["training"] | saving}
    assert prepare_output(folder, thrifty, resume=True) == folder / "checkpoint-6"
    assert configuration(folder) == thrifty
    fewer = settings | {"training": settings["training"] | {"per_device_train_batch_size": 1}}
    with pytest.raises(ConnectomeBenchError, match=r"batch_size x gradient_accumulation_steps was 2, is 1"):
        prepare_output(folder, fewer, resume=True)


def test_starts_anew_only_when_told(training: Training, copied: Callable[[str], Path]) -> None:
    folder = copied(".")
    settings = configuration(folder)
    other = settings | {"training": settings["training"] | {"learning_rate": 0.5}, "processes": 2}
    with pytest.raises(ConnectomeBenchError, match=r"processes was 1, is 2; training.learning_rate was 0.01, is 0.5"):
        prepare_output(folder, other, resume=True)
    assert configuration(folder) == settings
    (folder / "training_config.yaml").write_text("[")
    with pytest.raises(ConnectomeBenchError, match="has checkpoints but no readable training_config"):
        prepare_output(folder, settings, resume=True)
    assert prepare_output(folder, other, resume=False) is None
    assert configuration(folder) == other
    assert not list(folder.glob("checkpoint-*"))
    # the adapter that is there belongs to the run before
    assert not (folder / "connectomebench.json").exists()
    assert prepare_output(folder / "new", settings, resume=True) is None
    assert configuration(folder / "new") == settings
