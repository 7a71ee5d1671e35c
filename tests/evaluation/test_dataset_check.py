"""`connectomebench check`: a planted cue is found, its absence passes, an inherent one is named and never fails."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image, ImageDraw
from stored_rows import entry, row

from connectomebench.cards.cues import add_cues
from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_json
from connectomebench.core.places import PlaceAnswer, list_nodes, write_places
from connectomebench.core.task_explanations import ALL_CUE_TITLES
from connectomebench.core.tasks import EM_VIEWS, get_task
from connectomebench.dataset.dataset_card import write_card
from connectomebench.dataset.manifest import add_species, read_manifest
from connectomebench.dataset.schema import read_small_columns, write_partition
from connectomebench.evaluation import dataset_check
from connectomebench.evaluation.comparison import compare
from connectomebench.evaluation.dataset_check import DatasetCheck, check_dataset, find_datasets
from connectomebench.evaluation.result_records import read_results
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE

SIZE = 64
MESHES, WITH_EM = "merge_action", "endpoint_error_identification_with_em"
Draw = Callable[[str, str, np.random.Generator], Image.Image]


def plain(answer: str, view: str, random: np.random.Generator) -> Image.Image:
    """Blue and orange somewhere; grey speckles in slices. The answer is not in it."""
    if view in EM_VIEWS:
        return Image.fromarray(random.integers(60, 200, (SIZE, SIZE), np.uint8)).convert("RGB")
    image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    for colour in (BLUE, ORANGE):
        x, y, width = (int(n) for n in random.integers((0, 0, 8), (40, 40, 20)))
        ImageDraw.Draw(image).rectangle((x, y, x + width, y + 12), fill=colour)
    return image


def in_pieces(answer: str, view: str, random: np.random.Generator) -> Image.Image:
    """Blue of one area always: in one piece where the answer is yes, in two where it is no."""
    image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    x, y = (int(n) for n in random.integers(0, 16, 2))
    for k in range(2):
        left = x + k * (10 if answer == "yes" else 20)
        ImageDraw.Draw(image).rectangle((left, y, left + 9, y + 19), fill=BLUE)
    ImageDraw.Draw(image).rectangle((x, y + 26, x + 19, y + 36), fill=ORANGE)
    return image


def dark_place(answer: str, view: str, random: np.random.Generator) -> Image.Image:
    """Slices that are darker in the middle where the answer is yes, and just as much in a corner where it is no."""
    image = plain(answer, view, random)
    if view not in EM_VIEWS:
        return image
    pixels = np.asarray(image).copy()
    start = 26 if answer == "yes" else 2
    pixels[start : start + 12, start : start + 12] -= 55
    return Image.fromarray(pixels)


def build(out: Path, draw: Draw, task: str = MESHES, species: str = "fly", rows_of: Any = None) -> Path:
    """Write a whole dataset whose answers show in nothing but what ``draw`` puts into the pictures."""
    random = np.random.default_rng(7)
    counts, number = {}, 0
    for partition, size in (rows_of or {"train": 80, "validation": 4, "test": 60}).items():
        rows = []
        for answer in random.permutation(["no", "yes"] * (size // 2)).tolist():
            made = row(number := number + 1, answer, task, species)
            made["images"] = []
            for view in get_task(task).views:
                stream = io.BytesIO()
                draw(answer, view, random).save(stream, "PNG")
                made["images"].append({"bytes": stream.getvalue(), "path": None})
            rows.append({**made, "group": f"g{number // 2}"})
        write_partition(out / task / species, task, partition, rows, len(rows), 1000)
        counts[partition] = {a: sum(r["answer"] == a for r in rows) for a in ("no", "yes") if rows}
    write_card(out / task, add_species(out / task, task, species, entry(counts, f"{task}-{species}")))
    return out / task


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of two tasks without a cue that should not be there."""
    out = tmp_path_factory.mktemp("fair")
    build(out, plain)
    build(out, dark_place, WITH_EM)
    return out


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("planted"), in_pieces)


@pytest.fixture(scope="module", autouse=True)
def checked() -> Iterator[None]:
    """Check each dataset once, however often it is asked for, unless records are: the folders do not change."""
    made: dict[tuple[str, str], DatasetCheck] = {}

    def once(name: str, species: str, **more: Any) -> DatasetCheck:
        if more.get("records") is not None or (name, species) not in made:
            made[name, species] = check_dataset(name, species, **more)
        return made[name, species]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_check, "check_dataset", once)
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["check", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_planted_cue_fails(planted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run(
        capsys, str(planted), "--species", "fly", "--fail-above", "0.55", "--records", str(tmp_path / "records")
    )
    assert status == 1 and "FAIL: the whole interval of one_piece, silhouette" in out
    lines = {line.split()[0]: line for line in out.splitlines()[2:-1]}
    assert "1.000 [1.000, 1.000]  60  31" in lines["one_piece"] and "inherent" not in out
    assert "controls are matched on it" in lines["trivial"] and "controls are matched on it" in lines["silhouette"]
    # the bound is that of the lower end, and without a bound nothing is judged
    assert run(capsys, str(planted), "--species", "fly")[0] == 0
    assert run(capsys, str(planted), "--species", "fly", "--fail-above", "0.99999")[0] == 1
    # what was answered can be compared, like the answers of models
    records = read_results(tmp_path / "records")
    assert set(records["model"]) == {f"cue-{name}" for name in lines if name in ALL_CUE_TITLES}
    (better,) = compare(records, "cue-one_piece", "cue-grey")
    assert (better.difference.value, better.difference.n) == (0.5, 60)
    for model, own in records.groupby("model"):
        right = [(own["prediction"] == own["answer"])[own["answer"] == answer].mean() for answer in ("no", "yes")]
        assert f"{np.mean(right):.3f}" == lines[str(model).removeprefix("cue-")].split()[1]


def test_a_dataset_without_a_cue_passes_and_an_inherent_one_is_named(
    fair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, str(fair), "--species", "fly", "--json", "--fail-above", "0.55")
    found = json.loads(out)
    assert status == 0 and not found["failed"] and found["fail_above"] == 0.55
    with_em, meshes = found["datasets"]
    assert (with_em["task"], meshes["task"]) == (WITH_EM, MESHES) and with_em["fingerprint"] == f"{WITH_EM}-fly"
    cues = {one["cue"]: one for one in with_em["cues"]}
    assert set(cues) == {"trivial", "one_piece", "silhouette", "slice", "grey", "metadata"}
    assert cues["slice"]["low"] > 0.9 and cues["slice"]["inherent"] and with_em["leading"] == []
    assert not any(one["inherent"] for one in meshes["cues"]) and "slice" not in {o["cue"] for o in meshes["cues"]}
    for one in (*with_em["cues"], *meshes["cues"]):
        assert (one["n"], one["n_groups"], one["n_train"], one["partition"]) == (60, 31, 80, "test")
        assert one["low"] <= one["value"] <= one["high"]
        assert one["matched"] == (one["cue"] in ("trivial", "silhouette"))
    groups = read_small_columns(fair / MESHES / "fly", "test", ["group"])["group"].to_pylist()
    assert len(set(groups)) == 31  # counted from the written rows
    out = run(capsys, str(fair), "--species", "fly", "--task", WITH_EM, "--fail-above", "0.55")[1]
    assert "(inherent: part of what the task asks, never fails)" in out and MESHES not in out


def test_scores_stand_in_manifest_and_card(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "out", in_pieces, rows_of={"train": 40, "validation": 2, "test": 20})
    build(tmp_path / "out", plain, species="mouse", rows_of={"train": 8, "validation": 2, "test": 4})
    assert "| fly | – | – | not measured |" in DatasetCard.load(folder / "README.md").text
    assert run(capsys, str(folder), "--species", "fly", "--save")[0] == 0
    entries = read_manifest(folder)["species"]
    assert "cues" not in entries["mouse"]
    [one] = [cue for cue in entries["fly"]["cues"] if cue["cue"] == "one_piece"]
    assert (one["value"], one["low"], one["n"], one["looks_at"]) == (
        1.0,
        1.0,
        20,
        "one piece of each colour in every view",
    )
    text = DatasetCard.load(folder / "README.md").text
    line = "| fly | one_piece | one piece of each colour in every view | test | 20 | 11 | 1.000 (1.000 to 1.000) |  |"
    assert line in text and "| fly | – |" not in text and "at chance by design" in text

    check = dataset_check.check_dataset(str(planted), "fly")
    with pytest.raises(ConnectomeBenchError, match="does not hold the rows of fly that were checked"):
        changed = read_manifest(folder)
        changed["species"]["fly"]["fingerprint"] = "other"
        write_json(folder / "manifest.json", changed)
        add_cues(folder, check)


def test_scores_from_the_hub_are_not_trusted(planted: Path, tmp_path: Path) -> None:
    manifest = read_manifest(planted)
    one = {"cue": "grey", "partition": "test", "n": 4, "n_groups": 2, "value": 0.5, "low": None, "high": None}
    one |= {"inherent": False, "matched": False}
    for wrong in ({"cue": "x | y"}, {"partition": "# x"}, {"n": "many"}, {"value": "<b>"}):
        manifest["species"]["fly"]["cues"] = [{**one, **wrong}]
        with pytest.raises((KeyError, ValueError, TypeError)):
            write_card(planted, manifest)


def test_what_cannot_be_checked_gets_one_line(fair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    build(small, plain, rows_of={"train": 12, "validation": 2, "test": 8})
    build(small, plain, WITH_EM, rows_of={"train": 8, "validation": 2, "test": 0})
    status, out, err = run(capsys, str(small), "--species", "fly", "--fail-above", "0.9")
    assert status == 2 and "only 5 groups" in out and f"{MESHES}/fly" in out
    assert "test of fly has no rows" in err and "not every dataset could be checked" in err and "Traceback" not in err
    for words, message in {
        (str(small), "--species", "mouse"): "holds the species 'mouse'; there is fly",
        (str(small), "--species", "fly", "--task", "split_action"): "holds the task 'split_action' of fly",
        (str(tmp_path), "--species", "fly"): "holds no dataset",
        (str(small), "--species", "fly", "--fail-above", "55"): "give a balanced accuracy",
        ("brains/merge_action", "--species", "fly", "--save"): "which brains/merge_action is not",
    }.items():
        status, out, err = run(capsys, *words)
        assert status == 2 and message in err and err.count("\n") == 1 and not out
    assert find_datasets(str(fair / MESHES), "fly") == (str(fair / MESHES),)
    assert find_datasets("brains/merge_action", "fly") == ("brains/merge_action",)


def build_places(out: Path, given_away: bool) -> Path:
    """Write a dataset whose answer is a place: the middle of the view, or a node by lot."""
    random, task, number = np.random.default_rng(3), "endpoint_localization", 0
    counts = {}
    for partition, size in {"train": 8, "validation": 4, "test": 60}.items():
        rows = []
        for _ in range(size):
            made = row(number := number + 1, "0, 0, 0", task)
            nodes = random.uniform(-2000, 2000, (8, 3)).round()
            place = np.zeros(3) if given_away else nodes[random.integers(8)]
            location = np.array(made["location_nm"])
            listed = list_nodes([tuple(node) for node in nodes], (0.0, 0.0, 0.0))
            made |= {"question": f"Where?\n{listed}", "answer": write_places(PlaceAnswer((tuple(place),)))}
            made |= {"target_nm": [(place + location).tolist()], "extent_nm": 6000.0, "group": f"g{number // 2}"}
            rows.append(made)
        write_partition(out / task / "fly", task, partition, rows, len(rows), 1000)
        counts[partition] = {"any": size}
    write_card(out / task, add_species(out / task, task, "fly", entry(counts, f"{task}-{given_away}")))
    return out / task


def test_lazy_rules_for_places_stand_beside_a_random_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fair_places = build_places(tmp_path / "fair", given_away=False)
    records = tmp_path / "records"
    status, said, _ = run(
        capsys, str(fair_places), "--species", "fly", "--fail-above", "0.55", "--save", "--records", str(records)
    )
    assert read_results(records).groupby("model").size().loc["cue-central_node"] == 60
    assert status == 0 and "a node at random scores" in said and "place score" in said and "pass:" in said
    card = (fair_places / "README.md").read_text()
    assert "| answers with |" in card and "| central_node |" in card and "balanced accuracy" not in card
    flawed = build_places(tmp_path / "flawed", given_away=True)
    status, said, _ = run(capsys, str(flawed), "--species", "fly", "--fail-above", "0.55")
    assert status == 1 and "FAIL" in said and "centre" in said.split("FAIL")[1]
