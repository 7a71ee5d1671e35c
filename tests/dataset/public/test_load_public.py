from __future__ import annotations

import io
import logging
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from public_files import HIGH, channels, npz, png, row, write

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.dataset.public import benchmark2, is_public, load_public, recognise, stream_public
from connectomebench.dataset.schema import features
from connectomebench.evaluation.evaluator import EvalData, evaluate
from connectomebench.evaluation.model_spec import ModelSpec
from connectomebench.evaluation.prompt_variants import PromptVariant, build_messages
from connectomebench.evaluation.results import read_results
from connectomebench.models.registry import save_head_model
from connectomebench.models.trivial_baseline import TrivialConfig, train_trivial
from connectomebench.rendering.colours import BLUE, ORANGE
from connectomebench.rendering.views import visible_pixels


def orange_pixels(stored: dict) -> int:
    images = [np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in stored["images"]]
    return sum(int(visible_pixels(image, [BLUE, ORANGE])[1]) for image in images)


def test_a_model_learns_and_is_evaluated_unchanged(
    first_release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "connectomebench")
    task = "merge_error_identification"
    train = load_public(str(first_release), task, "MICrONS", "train", cache=tmp_path)
    test = load_public(str(first_release), task, "mouse", "test", cache=tmp_path)
    assert train.dataset.features == features(get_task(task)) and str(test.dataset.split) == "test"
    assert test.data.rows == {"no": 10, "yes": 10} and test.data.repo is test.data.revision is None
    assert test.data.source["license"] == "cc-by-4.0" and "arXiv:2606.21116" in test.data.source["citation"]
    model = train_trivial(train.dataset, TrivialConfig(folds=2), progress=False)
    save_head_model(model, tmp_path / "model", train.data)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    shown = EvalData(str(first_release), "MICrONS", task=task)
    path = evaluate(ModelSpec(str(tmp_path / "model")), shown, tmp_path / "results")
    assert path == tmp_path / "results" / "trivial" / task / "mouse" / "test.parquet"
    results = read_results(path)
    assert list(results["sample_id"]) == list(test.dataset["sample_id"])
    assert (results["prediction"] == results["answer"]).mean() > 0.8
    assert "20 rows; 40 left out: it is of another task" in caplog.text


def test_the_columns_of_a_row(first_release: Path, tmp_path: Path) -> None:
    rows = load_public(str(first_release), "merge_action", "mouse", "test", cache=tmp_path).dataset
    plain = rows.cast_column("images", features(get_task("merge_action"))["images"])
    edit = next(r for r in plain if r["origin"] == "edit")
    numbers = range(1000, 1060)
    first = next(HIGH + 100 * n for n in numbers if edit["segment_ids"][0] == HIGH + 100 * n)
    assert edit["segment_ids"] == [first, first + 1] and edit["body_ids"] == [first + 2]
    assert edit["group"] == f"neuron-{first + 2}" and len(edit["sample_id"]) == 32
    # the middle of a range in the first release, and not what was drawn
    assert edit["extent_nm"] is None and edit["location_nm"][:2] == [585970.0, 713252.5]
    assert edit["source"] == "jeffbbrown2/ConnectomeBench2" and edit["source_version"].startswith("files ")
    assert edit["edit_id"].startswith("134") and edit["edit_time"].year == 2024
    assert edit["views"] == list(MESH_VIEWS) and len(edit["images"]) == 3
    control = next(r for r in plain if r["origin"] == "control")
    assert control["edit_id"] is control["edit_time"] is None and control["answer"] == "no"
    assert control["body_ids"] == []


def test_extents_times_and_pieces_of_both_releases(first_release: Path, second_release: Path) -> None:
    task = "merge_error_identification"
    for folder, extents in ((first_release, {None}), (second_release, {15_000.0})):
        rows = list(stream_public(str(folder), task, "mouse", "test"))
        assert {row["extent_nm"] for row in rows} == extents
        prompts = {str(build_messages(row, PromptVariant(adaptation="context"))) for row in rows[:4]}
        assert all(("from edge to edge" in prompt) == (None not in extents) for prompt in prompts)
        splits = [row for row in rows if row["origin"] == "edit"]
        for split in splits:
            (before,) = split["segment_ids"]
            assert split["body_ids"] == [before - 2, before - 1] and split["edit_time"].second == 49
            assert split["answer"] == "yes"
        assert splits and all(not row["body_ids"] for row in rows if row["origin"] == "control")


def test_slices_of_image_data_with_their_leak_named(
    first_release: Path, second_release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, share in ((first_release, 40), (second_release, 100)):
        caplog.clear()
        shown = load_public(str(folder), "merge_action", "mouse", "test", cache=tmp_path, em=True)
        rows = shown.dataset
        assert rows[0]["views"] == [*MESH_VIEWS, "em_xy", "em_xz", "em_yz"]
        assert all(len(images) == 6 for images in rows["images"])
        origins = list(rows["origin"])
        # 20 edits and 20 controls of the task, by hand
        assert origins.count("control") == 20 and origins.count("edit") == 20 * share / 100
        assert f"{share}% of the edits and 100% of the controls have them" in caplog.text
        without = load_public(str(folder), "merge_action", "mouse", "test", cache=tmp_path)
        assert len(without.dataset) == 40 and without.dataset[0]["views"] == list(MESH_VIEWS)
        assert without.data.fingerprint != shown.data.fingerprint
        columns = pq.read_schema(folder / "test" / "test-00000.parquet").names
        read = benchmark2.needed_columns("merge_action", columns, em=True)
        assert not [name for name in read if "best" in name or "mask" in name or "after" in name]


@pytest.mark.parametrize("release", ["first_release", "second_release"])
def test_nothing_of_the_true_split_is_shown_for_merge_errors(release: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(release)
    task = "merge_error_identification"
    columns = benchmark2.needed_columns(task, pq.read_schema(folder / "test" / "test-00000.parquet").names)
    assert not [name for name in columns if name.startswith("em")]
    assert ("geometry" in columns) == (release == "second_release")
    rows = list(stream_public(str(folder), task, "mouse", "test"))
    assert len(rows) == 20
    for stored in rows:
        assert stored["views"] == list(MESH_VIEWS) and len(stored["images"]) == 3 and orange_pixels(stored) == 0
    assert min(orange_pixels(r) for r in stream_public(str(folder), "merge_action", "mouse", "test")) > 0


def test_a_stream_reads_no_further_than_it_is_asked(first_release: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(first_release, tmp_path / "copy")
    whole = stream_public(str(first_release), "merge_action", "mouse", "train")
    (folder / "train" / "train-00001.parquet").write_bytes(b"rubbish")
    stream = stream_public(str(folder), "merge_action", "mouse", "train")
    assert [r["sample_id"] for r in islice(stream, 3)] == [r["sample_id"] for r in islice(whole, 3)]
    with pytest.raises(ConnectomeBenchError, match=r"a Parquet file cannot be read .*; get its files again"):
        list(stream)


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    good = row(0, "merge_edit", "test")
    again = {"combined_sample_hash": "ab" * 16}
    split = row(1, "split_edit", "test")
    dual = channels(True, 1)
    rows = [
        good,
        good,
        row(2, "merge_edit", "test", "flywire"),
        row(3, "merge_edit", "test", "axolotl"),
        good | again | {"task_routing": []},
        good | again | {"sample_type": "split_edit"},
        good | again | {"same_neuron": False},
        good | again | {"false_split_correction_label": None},
        good | again | {"split": "train"},
        good | again | {"geometry": None},
        good | again | {"geometry": npz(dual)[:-30]},
        good | again | {"metadata": "{"},
        good | {"combined_sample_hash": "../../x"},
        split,
    ]
    write(tmp_path / "test" / "test-0.parquet", rows)
    skipped: Counter[str] = Counter()
    assert len(list(stream_public(str(tmp_path), "merge_action", "mouse", "test", None, skipped))) == 1
    assert skipped == {
        "it occurs twice": 1,
        "its species is not known": 1,
        "it is of another task": 2,
        "its kind of sample does not fit its task": 1,
        "its label and same_neuron do not agree": 1,
        "it has no label": 1,
        "its column split names another partition than its file": 1,
        "it has no geometry": 1,
        "geometry is no readable npz file": 1,
        "metadata are no JSON": 1,
        "its sample hash is no hash": 1,
    }
    flies = list(stream_public(str(tmp_path), "merge_action", "FlyWire", "test"))
    assert [r["species"] for r in flies] == ["fly"]


def test_merge_errors_drawn_from_two_parts_are_left_out(tmp_path: Path) -> None:
    bad = row(1, "split_edit", "test", release=2) | {"geometry": npz(channels(True, 1))}
    write(tmp_path / "test" / "test-0.parquet", [bad])
    with pytest.raises(
        ConnectomeBenchError, match=r"no rows of mouse for .* in test; 1 left out: .* two parts of the true split"
    ):
        load_public(str(tmp_path), "merge_error_identification", "mouse", "test", cache=tmp_path / "cache")


def test_what_was_read_is_kept_until_the_files_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "connectomebench")
    path = tmp_path / "files" / "test" / "test-0.parquet"

    def load():
        return load_public(str(tmp_path / "files"), "merge_action", "mouse", "test", cache=tmp_path / "cache")

    write(path, [row(0, "merge_edit", "test"), row(1, "split_edit", "test")])
    first = load()
    (kept,) = (tmp_path / "cache" / "public").iterdir()
    written = {p: p.stat().st_mtime_ns for p in kept.rglob("*.arrow")}
    assert load().data == first.data and {p: p.stat().st_mtime_ns for p in kept.rglob("*.arrow")} == written != {}
    assert caplog.text.count("1 rows; 1 left out: it is of another task") == 2
    write(path, [row(0, "merge_edit", "test"), row(2, "adjacent_control", "test")])
    second = load()
    assert second.data.rows == {"no": 1, "yes": 1} and second.data.fingerprint != first.data.fingerprint


def test_the_first_benchmark(first_benchmark: Path, tmp_path: Path) -> None:
    found, reasons = {}, {}
    for task in ("merge_action", "merge_error_identification", "segment_classification"):
        skipped: Counter[str] = Counter()
        found[task] = list(stream_public(str(first_benchmark), task, "MICrONS", "test", None, skipped))
        reasons[task] = dict(skipped)
        assert all(r["task"] == task and r["source"] == "jeffbbrown2/ConnectomeBench" for r in found[task])
        assert len({r["sample_id"] for r in found[task]}) == len(found[task])
    merges = found["merge_action"]
    # options: two, two, one that is no PNG file left out, and a sample whose right option is not clear
    assert [r["answer"] for r in merges] == ["yes", "no", "no", "yes", "yes"]
    assert reasons["merge_action"] == {"a picture is no PNG file": 1, "more than one of its options may be right": 1}
    assert merges[0]["segment_ids"] == [HIGH, HIGH + 1] and merges[0]["group"] == f"neuron-{HIGH}"
    assert [i["bytes"] for i in merges[1]["images"]] == [png(20 + i, 96) for i in range(3)]
    assert [i["path"] for i in merges[1]["images"]] == [None] * 3
    assert [(r["origin"], r["edit_id"]) for r in merges[:2]] == [("edit", "0"), ("control", None)]
    choices = list(stream_public(str(first_benchmark), "merge_action_multiple_choice", "MICrONS", "test"))
    # the third has an option that is no PNG file, the fourth more than one that may be right
    assert [len(r["choices"]) for r in choices] == [2, 2] and {r["task"] for r in choices} == {
        "merge_action_multiple_choice"
    }
    for number, one in enumerate(choices):
        base = HIGH + 10 * number
        assert one["views"] == ["a_front", "a_side", "a_top", "b_front", "b_side", "b_top"]
        assert one["segment_ids"] == [base, *one["choices"]] and set(one["choices"]) == {base + 1, base + 2}
        right = base + 1 + number % 2
        assert one["choices"]["ab".index(one["answer"])] == right and one["label"] == "ab".index(one["answer"])
        # the pictures follow their candidates
        shown = [image["bytes"] for image in one["images"]]
        first = one["choices"][0] - base
        assert shown[:3] == [png(100 * number + 10 * first + i, 96) for i in range(3)]
    errors = found["merge_error_identification"]
    assert [r["answer"] for r in errors] == ["yes", "no", "no", "yes", "yes", "no"]
    assert [r["group"] for r in errors] == ["edit-10"] * 2 + ["edit-11"] * 2 + ["edit-12"] * 2
    # their f is our g, their g our f
    assert [r["answer"] for r in found["segment_classification"]] == ["a", "g", "f"]
    assert reasons["segment_classification"] == {"its class is none of those known": 1}
    loaded = load_public(str(first_benchmark), "segment_classification", "mouse", "test", cache=tmp_path)
    assert loaded.data.rows == {"a": 1, "f": 1, "g": 1} and loaded.dataset[1]["images"][0].size == (96, 96)


def test_names_and_folders_are_recognised(
    first_release: Path, second_release: Path, first_benchmark: Path, tmp_path: Path
) -> None:
    write(tmp_path / "ours" / "x.parquet", [row(0, "merge_edit", "test")])
    (tmp_path / "ours" / "manifest.json").write_text("{}")
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "a.parquet").write_bytes(b"rubbish")
    for name in ("jeffbbrown2/ConnectomeBench2", "JeffBBrown2/connectomebench", first_release, first_benchmark):
        assert is_public(str(name))
    for name in ("brains/merge_action", tmp_path / "ours", tmp_path / "rubbish", "nowhere"):
        assert not is_public(str(name)) and recognise(str(name)) is None
    reader = recognise(str(second_release))
    assert reader is not None
    assert reader("merge_action", "mouse", "val", cache=tmp_path).data.partition == "validation"


def test_wishes_that_cannot_be_met(first_release: Path, first_benchmark: Path, tmp_path: Path) -> None:
    second, first = str(first_release), str(first_benchmark)
    for arguments, told in [
        ((second, "merge_action", "axolotl", "test"), "unknown species 'axolotl'; choose one of mouse, fly"),
        ((second, "merge_action", "mouse", "dev"), "unknown partition 'dev'; choose one of train"),
        ((second, "split_action", "mouse", "test"), "no rows that split_action could be read from; it has rows of"),
        ((second, "merge_acton", "mouse", "test"), "unknown task 'merge_acton'; did you mean merge_action"),
        (
            (second, "merge_action", "human", "test"),
            "no rows of human for merge_action in test; choose another species",
        ),
        ((second, "merge_action", "mouse", "test", "v2"), "is a folder, which has no revisions"),
        ((first, "merge_action", "mouse", "train"), "benchmark without training rows; ask for the partition test"),
        # the card of the benchmark points out of its folder
        ((first, "segment_classification", "fly", "test"), "has no config of fly with Parquet files"),
        ((str(tmp_path), "merge_action", "mouse", "test"), "holds no Parquet files of ConnectomeBench"),
    ]:
        with pytest.raises(ConnectomeBenchError, match=told):
            load_public(*arguments, cache=tmp_path / "cache")


def test_a_release_with_other_columns_and_a_broken_card(first_benchmark: Path, tmp_path: Path) -> None:
    renamed = row(0, "merge_edit", "test")
    del renamed["geometry"]
    write(tmp_path / "later" / "test" / "test-0.parquet", [renamed])
    with pytest.raises(ConnectomeBenchError, match="lacks the columns geometry; it is of a release"):
        list(stream_public(str(tmp_path / "later"), "merge_action", "mouse", "test"))
    with pytest.raises(ConnectomeBenchError, match=r"no file like train/train-00000.parquet"):
        list(stream_public(str(tmp_path / "later"), "merge_action", "mouse", "train"))
    folder = shutil.copytree(first_benchmark, tmp_path / "card")
    for text in ("", "---\nconfigs: 3\n---\n", "---\n{[\n---\n", "---\n!!python/object:os.system x\n---\n"):
        (folder / "README.md").write_text(text)
        with pytest.raises(ConnectomeBenchError, match="names no configs that can be read"):
            list(stream_public(str(folder), "merge_action", "mouse", "test"))
    (folder / "README.md").unlink()
    with pytest.raises(ConnectomeBenchError, match=r"has no README.md, which names its configs"):
        list(stream_public(str(folder), "merge_action", "mouse", "test"))
