"""The picture of a species: what is chosen, that it is the same every time, and that it says what is simulated."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from stored_rows import entry, partition_rows, row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Origin, Role
from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.sample_grid import ORIGINS, ROLES, SAMPLES, picture_name, write_grid
from connectomebench.dataset.schema import write_partition

TASK = "merge_action"
Rows = list[dict[str, Any]]


def grid(folder: Path, rows: Sequence[dict[str, Any]], task: str = TASK, n_bytes: int = 1000, em: bool = True) -> bytes:
    """Write train rows as a dataset folder and return the file of their picture."""
    shutil.rmtree(folder, ignore_errors=True)
    write_partition(folder / "fly", task, "train", rows, len(rows), n_bytes)
    about = entry({})
    about["source"]["simulated_em"] = em
    add_species(folder, task, "fly", about)
    path = write_grid(folder, "fly")
    assert path == folder / "fly-samples.png" == folder / picture_name("fly")
    return path.read_bytes()


def flat(number: int) -> dict[str, Any]:
    """Return a picture of one colour: few colours on a sheet are quick to reduce to a palette."""
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), (number * 37 % 256, number * 91 % 256, 128)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def train_rows(task: str) -> Rows:
    """Four rows of each answer, of origin `edit`."""
    rows = partition_rows(task)["train"]
    return [{**r, "images": [flat(10 * i + v) for v in range(len(r["views"]))]} for i, r in enumerate(rows)]


def size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.size


@pytest.fixture(scope="module")
def rows() -> Rows:
    return train_rows(TASK)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, rows: Rows) -> bytes:
    return grid(tmp_path_factory.mktemp("plain"), rows)


def test_the_first_of_each_answer_are_shown_whatever_the_order_and_the_shards(
    tmp_path: Path, rows: Rows, plain: bytes
) -> None:
    assert len(plain) < 600_000
    assert grid(tmp_path, rows[::-1]) == plain
    assert grid(tmp_path, rows[3:] + rows[:3], n_bytes=900_000_000) == plain
    assert len(list((tmp_path / "fly").glob("*.parquet"))) == 2

    for place, seen in ((SAMPLES - 1, True), (SAMPLES, False)):
        changed = list(rows)
        for answer in ("no", "yes"):
            sample = sorted((r for r in rows if r["answer"] == answer), key=lambda r: r["sample_id"])[place]
            images = [*sample["images"][:2], flat(999)]
            changed[rows.index(sample)] = {**sample, "images": images}
        assert (grid(tmp_path, changed) != plain) == seen


def test_origin_and_width_are_told(tmp_path: Path, rows: Rows, plain: bytes) -> None:
    assert set(ORIGINS) == set(get_args(Origin)) and set(ROLES) == set(get_args(Role))
    assert "simulated" in ORIGINS["simulated"] and not any("simulated" in ORIGINS[o] for o in ("edit", "control"))
    others = ({"origin": "control"}, {"origin": "simulated"}, {"extent_nm": 4321.0})
    pictures = {grid(tmp_path, [{**r, **other} for r in rows]) for other in others}
    assert len(pictures | {plain}) == 4


def test_simulated_slices_are_told_and_six_views_go_into_two_lines(tmp_path: Path, plain: bytes) -> None:
    task = "endpoint_error_identification_with_em"
    slices = train_rows(task)
    simulated = grid(tmp_path, slices, task)
    assert grid(tmp_path, slices, task, em=False) != simulated
    assert size(simulated)[0] == size(plain)[0] and size(simulated)[1] > 1.5 * size(plain)[1]


def test_one_answer_and_places_need_one_line(tmp_path: Path, rows: Rows, plain: bytes) -> None:
    one = grid(tmp_path, [r for r in rows if r["answer"] == "yes"])
    places = [row(n, f"{n}, 5, 5", "endpoint_localization") for n in range(4)]
    assert size(grid(tmp_path, places, "endpoint_localization")) == size(one)
    assert size(one)[1] < 0.7 * size(plain)[1]


def test_what_cannot_be_shown_is_told(tmp_path: Path, rows: Rows) -> None:
    grid(tmp_path, rows)
    with pytest.raises(ConnectomeBenchError, match="no species 'mouse'"):
        write_grid(tmp_path, "mouse")
    write_partition(tmp_path / "fly", TASK, "train", [], 0, 0)
    with pytest.raises(ConnectomeBenchError, match="no train rows to show"):
        write_grid(tmp_path, "fly")
