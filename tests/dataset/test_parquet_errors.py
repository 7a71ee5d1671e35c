"""Damaged dataset files are named in one line by every command that reads them; awkward folders are read as others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from published_models import train_model
from stored_rows import write_dataset

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.parquet_errors import damage, parquet_errors
from connectomebench.dataset.schema import read_images, read_small_columns
from connectomebench.hub.dataset_folder import read_dataset

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "pointer": (lambda raw: POINTER, "pointer of Git LFS"),
    "cut": (lambda raw: raw[: len(raw) // 2], "damaged or cut short"),
    "empty": (lambda raw: b"", "is empty"),
    "zeroed": (lambda raw: raw[:100] + bytes(len(raw) - 200) + raw[-100:], "damaged or cut short"),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("whole"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def damaged(dataset: Path, folder: Path, how: str) -> Path:
    """Copy a dataset and damage its first test file."""
    shutil.copytree(dataset, folder)
    path = folder / "fly" / "test-00000-of-00001.parquet"
    path.write_bytes(DAMAGES[how][0](path.read_bytes()))
    return folder


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_by_whatever_reads_it(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    folder = damaged(dataset, tmp_path / "damaged", how)
    model = train_model(dataset, tmp_path / "model")
    readers: list[Callable[[], object]] = [
        lambda: load_rows(str(folder), "fly", "test"),
        lambda: read_small_columns(folder / "fly", "test"),
        lambda: list(read_images(folder / "fly", "test")),
        lambda: write_card(folder, read_manifest(folder)),
    ]
    if how != "zeroed":  # to publish, footers alone are read, and that one is whole
        readers.append(lambda: read_dataset(folder))
    for read in readers:
        with pytest.raises(ConnectomeBenchError, match=DAMAGES[how][1]) as raised:
            read()
        assert "test-00000-of-00001.parquet" in str(raised.value) and "\n" not in str(raised.value)
    words = ["evaluate", "--model", model, "--dataset", folder, "--species", "fly", "--out", tmp_path / "out"]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert "test-00000-of-00001.parquet" in said and "Traceback" not in said and not (tmp_path / "out").exists()


def test_other_errors_pass_and_whole_files_are_not_blamed(dataset: Path) -> None:
    path = dataset / "fly" / "test-00000-of-00001.parquet"
    assert damage(path) is None and damage(path.with_name("no.parquet")) == "is not there"
    with pytest.raises(ValueError, match="something else"), parquet_errors([path]):
        raise ValueError("something else")


@pytest.mark.parametrize("name", ["with space", "run [1]", "a*b", "what?", "{curly}", "hash#tag", "per%20cent"])
def test_a_folder_of_any_name(dataset: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / name))
    # a pattern would find these as well: `run [1]` is not `run 1`
    for other in ("run 1", "axb", "whatx"):
        shutil.copytree(dataset, tmp_path / other)
        shutil.rmtree(tmp_path / other / "fly")
        write_dataset(tmp_path / "elsewhere" / other, species="mouse")
        shutil.copytree(tmp_path / "elsewhere" / other / "merge_action" / "mouse", tmp_path / other / "fly")
    rows = load_rows(str(folder), "fly", "test").dataset
    plain = load_rows(str(dataset), "fly", "test").dataset
    assert rows.features == plain.features and set(rows["species"]) == {"fly"}
    assert list(rows["sample_id"]) == list(plain["sample_id"])
    assert rows[0]["images"][0].size == (48, 48)
