"""A simulated segmentation that was kept is the one that would be simulated again, byte by byte, or does not count."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from line_neurons import SMALL, write_line

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import MorphologyConfig, SourceConfig, open_source
from connectomebench.sources.morphology import simulation_cache
from connectomebench.sources.morphology.reconstruction import find_contacts
from connectomebench.sources.morphology.simulated_errors import simulate
from connectomebench.sources.morphology.simulation_cache import simulate_once
from connectomebench.sources.morphology.swc import Neuron, read_swc_folder


@pytest.fixture
def neurons(tmp_path: Path) -> list[Neuron]:
    (tmp_path / "swc").mkdir()
    write_line(tmp_path / "swc" / "101.swc", 0.0)
    write_line(tmp_path / "swc" / "neuron b.swc", 0.35)
    return read_swc_folder(tmp_path / "swc", 1000.0)


@pytest.fixture
def simulations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each simulation that really ran."""
    ran: list[int] = []
    monkeypatch.setattr(simulation_cache, "simulate", lambda *a: ran.append(len(ran)) or simulate(*a))
    return ran


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
    """Name, dtype, shape and bytes of every array in it."""
    if isinstance(value, np.ndarray):
        yield name, value.dtype.str, value.shape, value.tobytes()
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays(getattr(value, field.name), f"{name}.{field.name}")
    else:
        for number, part in enumerate(value):
            yield from arrays(part, f"{name}[{number}]")


def test_what_was_kept_is_what_would_be_simulated(
    neurons: list[Neuron], simulations: list[int], tmp_path: Path
) -> None:
    fresh = simulate(neurons, SMALL)
    expected = [*arrays((fresh, find_contacts(fresh, SMALL.contact_gap_nm, 4 * SMALL.step_nm, SMALL.voxel_nm)))]
    assert len(fresh.gaps) and len(fresh.bridges) and len(expected) == 21
    for kept_in in (None, tmp_path / "kept", tmp_path / "kept"):
        assert [*arrays(simulate_once(neurons, SMALL, kept_in))] == expected
    assert len(simulations) == 2


def test_a_source_that_is_opened_again_is_the_same_source(
    neurons: list[Neuron], simulations: list[int], tmp_path: Path
) -> None:
    config = SourceConfig(morphology=MorphologyConfig(SMALL, "swc", 1000.0))
    first, second = (open_source(config, "fly", tmp_path / "cache", tmp_path, SerialRunner()) for _ in range(2))
    assert len(simulations) == 1
    assert first.info == second.info
    assert first.corrections().merges and first.corrections().merges == second.corrections().merges
    assert [*arrays(first.contacts())] == [*arrays(second.contacts())]


@pytest.mark.parametrize("damage", ["cut short", "empty", "one byte", "another file", "an array less"])
def test_a_damaged_file_is_made_again(
    damage: str, neurons: list[Neuron], simulations: list[int], tmp_path: Path
) -> None:
    expected = [*arrays(simulate_once(neurons, SMALL, tmp_path / "kept"))]
    (path,) = (tmp_path / "kept").rglob("*.npz")
    whole = path.read_bytes()
    if damage == "an array less":
        with np.load(path) as stored:
            np.savez(path, **{name: stored[name] for name in stored.files[1:]})
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes(
            {"cut short": whole[:middle], "empty": b"", "one byte": changed, "another file": b"{}"}[damage]
        )
    assert [*arrays(simulate_once(neurons, SMALL, tmp_path / "kept"))] == expected
    assert len(simulations) == 2 and path.read_bytes() == whole


def test_other_neurons_rules_code_and_libraries_are_simulated_for_themselves(
    neurons: list[Neuron], simulations: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    simulate_once(neurons, SMALL, kept)
    others = (neurons[:1], [replace(neurons[0], body=102), neurons[1]], neurons[::-1])
    for other in others:
        simulate_once(other, SMALL, kept)
    simulate_once(neurons, replace(SMALL, seed=1), kept)
    assert len(simulations) == 5

    def forget_code() -> None:
        simulation_cache._code.cache_clear()

    with monkeypatch.context() as changed:
        changed.setattr(simulation_cache, "version", lambda name: "0")
        forget_code()
        simulate_once(neurons, SMALL, kept)
    copy = shutil.copytree(Path(simulation_cache.__file__).parent, tmp_path / "morphology")
    with (copy / "faces.py").open("a") as stream:
        stream.write("# another way to cut\n")
    with monkeypatch.context() as changed:
        changed.setattr(simulation_cache, "__file__", str(copy / "simulation_cache.py"))
        forget_code()
        simulate_once(neurons, SMALL, kept)
    forget_code()
    assert len(simulations) == 7
    simulate_once(neurons, SMALL, kept)
    assert len(simulations) == 7


def test_a_folder_that_cannot_be_written_gets_one_line(neurons: list[Neuron], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(ConnectomeBenchError, match="cannot write") as error:
        simulate_once(neurons, SMALL, tmp_path / "kept")
    assert "\n" not in str(error.value)
