"""One small training that many tests look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_training import Training, options_for, run_script
from stored_rows import write_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine: weights are compared bit by bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def training(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Six steps of the tiny model, a checkpoint every second, uninterrupted."""
    home = tmp_path_factory.mktemp("fine-tuning")
    dataset = write_dataset(home / "data")
    options = options_for(dataset, tiny_vlm)
    run_script(*options, "--output_dir", str(home / "adapter"))
    return Training(options, home / "adapter", dataset, tiny_vlm)


@pytest.fixture
def copied(training: Training, tmp_path: Path) -> Callable[[str], Path]:
    """Copy a checkpoint of the training, or all of it for ``.``."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(training.folder / name, tmp_path / ("adapter" if name == "." else name)))

    return copy
