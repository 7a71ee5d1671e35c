"""A configuration may declare a species of its own; licence and citation never come from another dataset."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectomebench.build.config import parse_config
from connectomebench.core import species as species_module
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import OwnSpecies, declare_from_manifest, declare_species, get_species
from connectomebench.dataset.manifest import add_species, read_manifest
from connectomebench.execution.runner import SerialRunner
from connectomebench.sources.factory import open_source

RAT = {"name": "rat", "title": "Rat hippocampus", "license": "cc0-1.0", "citation": "Doe et al. A rat (2026)."}


@pytest.fixture(autouse=True)
def no_species_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(species_module, "_OWN", {})


def volumes(folder: Path, **more: Any) -> dict[str, Any]:
    np.save(folder / "a.npy", np.ones((8, 8, 8), np.uint32))
    spec = {"path": "a.npy", "axes": "xyz", "offset_vx": [0, 0, 0]} | more.pop("spec", {"voxel_size_nm": [10, 10, 10]})
    return {"volumes": {"name": "mine", "version": "1", "automatic": spec, "proofread": spec} | more}


def info(config: dict[str, Any], folder: Path):
    parsed = parse_config(config)
    return open_source(parsed.source, parsed.species, folder / "cache", folder, SerialRunner()).info


@pytest.mark.parametrize(
    ("species", "stated", "expected"),
    [
        ("fly", {}, ("unknown", "")),
        ("fly", {"license": "cc-by-4.0", "citation": "Me."}, ("cc-by-4.0", "Me.")),
        (RAT, {}, ("cc0-1.0", "Doe et al. A rat (2026).")),
        (RAT, {"license": "mit"}, ("mit", "Doe et al. A rat (2026).")),
        ({"name": "rat", "title": "Rat"}, {}, ("unknown", "")),
    ],
)
def test_terms_are_never_borrowed(species: Any, stated: dict, expected: tuple[str, str], tmp_path: Path) -> None:
    found = info({"species": species, "source": volumes(tmp_path, **stated)}, tmp_path)
    assert (found.license, found.citation) == expected
    assert found.species == (species if isinstance(species, str) else "rat")


def test_view_and_voxel_size_are_used_where_nothing_states_them(tmp_path: Path) -> None:
    own = RAT | {"view_extent_nm": [300, 400], "voxel_size_nm": [4, 4, 40]}
    parsed = parse_config({"species": own, "source": volumes(tmp_path, spec={})})
    assert parsed.sites.extent_nm == (300, 400)
    assert parsed.source.volumes is not None
    assert parsed.source.volumes.automatic.voxel_size_nm == (4, 4, 40)  # type: ignore[union-attr]
    other = parse_config({"species": own, "source": volumes(tmp_path), "sites": {"extent_nm": [500, 600]}})
    assert other.sites.extent_nm == (500, 600)
    assert other.source.volumes.automatic.voxel_size_nm == (10, 10, 10)  # type: ignore[union-attr]
    assert parsed.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "fly"}, "one of the five"),
        ({"name": "Rat!"}, "no config name"),
        ({"title": "two\nlines"}, "one line"),
        ({"view_extent_nm": [5, 4]}, "smallest first"),
        ({"voxel_size_nm": [0, 1, 1]}, "above 0"),
        ({"licence": "x"}, "did you mean license"),
        ({"title": None}, "title"),
    ],
)
def test_bad_declarations_get_one_line(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match=message) as caught:
        parse_config({"species": RAT | change, "source": volumes(tmp_path)})
    assert "\n" not in str(caught.value)


def test_an_unknown_species_says_how_to_declare_one() -> None:
    with pytest.raises(ConnectomeBenchError, match=r"species: \{name: \.\.\."):
        get_species("rat")


def test_the_name_brings_its_declaration_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(declare_species(OwnSpecies("rat", "Rat")))
    monkeypatch.setattr(species_module, "_OWN", {})
    assert pickle.loads(sent) == "rat" and get_species("rat").title == "Rat"


def test_manifests_declare_their_species_and_strangers_harm_nothing(tmp_path: Path) -> None:
    parsed = parse_config({"species": RAT, "source": volumes(tmp_path)})
    add_species(tmp_path / "merge_action", "merge_action", parsed.species, {"config": parsed.as_dict()})
    species_module._OWN.clear()
    read_manifest(tmp_path / "merge_action")
    assert get_species("rat").citation == RAT["citation"]
    for config in (
        None,
        3,
        {"own_species": "rat"},
        {"own_species": {"name": "fly", "title": "x"}},
        {"own_species": {"a": 1}},
    ):
        declare_from_manifest({"species": {"x": {"config": config}}})
    declare_from_manifest({"species": [1]})
    assert set(species_module._OWN) == {"rat"} and get_species("fly").title == "Fruit fly brain"
