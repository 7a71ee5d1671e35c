"""What the demo knows: samples, records, filters, scores, links; nothing of it needs a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from small_demo import PROBE, TALKER, evaluated_rows, make_demo_folder
from stored_rows import HIGH, png

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import TASKS
from connectomebench.demo import try_tab
from connectomebench.demo.app_data import AppData, open_content
from connectomebench.demo.compare_tab import comparison
from connectomebench.demo.explore_tab import ExploreFilter, matching
from connectomebench.demo.html import models_table, origin
from connectomebench.demo.neuroglancer import neuroglancer_link
from connectomebench.demo.plots import _APART, _places
from connectomebench.demo.sample_pictures import data_uri, views_html
from connectomebench.demo.stored_samples import Collection, open_samples
from connectomebench.demo.texts import BUTTONS, answers, question
from connectomebench.demo.visitor_state import VisitorState
from connectomebench.evaluation.prompt_hints import hint
from connectomebench.evaluation.results import label

KEY = ("merge_action", "fly")


@pytest.fixture(scope="session")
def content(demo_folder: Path) -> AppData:
    return open_content(demo_folder)


def rows_of(content: AppData, wanted: ExploreFilter) -> list[str]:
    return sorted(
        content.samples.row(KEY, i)["sample_id"] for i in matching(content, content.records.get(), KEY, wanted)
    )


def test_a_row_and_its_pictures_are_those_that_were_stored(content: AppData) -> None:
    samples = content.samples
    for number in samples.shown(KEY):
        row = samples.row(KEY, number)
        stored = next(one for one in evaluated_rows() if one["sample_id"] == row["sample_id"])
        assert row["partition"] == "test" and row["answer"] == stored["answer"]
        assert row["segment_ids"] == stored["segment_ids"] and row["segment_ids"][0] >= HIGH
        assert samples.pictures(KEY, number) == [image["bytes"] for image in stored["images"]]
    assert len(samples.shown(KEY)) == 4 and len(samples.rows[KEY]) == 16
    for wrong in (-1, 16):
        with pytest.raises(ConnectomeBenchError, match="no such sample"):
            samples.row(KEY, wrong)
        with pytest.raises(ConnectomeBenchError, match="no such sample"):
            samples.pictures(KEY, wrong)


def test_one_dataset_folder_opens_by_itself_and_an_empty_one_says_what_to_do(demo_folder: Path, tmp_path: Path) -> None:
    assert list(open_samples(demo_folder / "merge_action").collections) == [KEY]
    with pytest.raises(ConnectomeBenchError, match=r"no dataset in .* quickstart"):
        open_samples(tmp_path)


def test_a_species_may_not_lead_out_of_its_folder(demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder / "merge_action", tmp_path / "merge_action")
    manifest = json.loads((tmp_path / "merge_action" / "manifest.json").read_text())
    manifest["species"]["../fly"] = manifest["species"].pop("fly")
    (tmp_path / "merge_action" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConnectomeBenchError, match="no name of a species"):
        open_samples(tmp_path)


def test_a_damaged_file_is_told_in_one_line(demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder / "merge_action", tmp_path / "merge_action")
    next((tmp_path / "merge_action" / "fly").glob("test-*")).write_bytes(b"PAR1")
    with pytest.raises(ConnectomeBenchError, match=r"is damaged or cut short"):
        open_samples(tmp_path)


def test_records_of_other_data_are_left_out(content: AppData) -> None:
    found = content.records.get()
    assert {said.model for all_said in found.by_sample.values() for said in all_said} == {
        "probe",
        "organisation/talker-8b-instruct",
    }
    assert found.left_out == 4
    said = {one.model: one for one in found.of(evaluated_rows()[3])}
    assert (said["probe"].prediction, said["probe"].probability, said["probe"].right) == ("no", PROBE[3], False)
    assert (
        said["organisation/talker-8b-instruct"].prediction,
        said["organisation/talker-8b-instruct"].probability,
    ) == (TALKER[3], None)
    assert found.trained_on["probe", "r1", "merge_action"] == 8


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ExploreFilter("test"), [0, 1, 2, 3]),
        (ExploreFilter("test", answer="yes"), [1, 3]),
        (ExploreFilter(origin="control"), []),
        (ExploreFilter(models="disagree"), [0, 3]),
        (ExploreFilter(models="right"), [1, 2]),
        (ExploreFilter(models="wrong"), [3]),
        (ExploreFilter(models="some_wrong"), [0, 3]),
        (ExploreFilter(models="sure_wrong"), []),
        (ExploreFilter(models="unsure"), [2, 3]),
    ],
)
def test_filters(content: AppData, wanted: ExploreFilter, expected: list[int]) -> None:
    assert rows_of(content, wanted) == sorted(evaluated_rows()[i]["sample_id"] for i in expected)


def test_a_visit_counts_first_answers_alone(content: AppData) -> None:
    samples, found = content.samples, content.records.get()
    visit = VisitorState(KEY, 3, {KEY: 0})
    seen = []
    for _ in range(4):
        number = visit.number(samples)
        seen.append(number)
        truth = samples.row(KEY, number)["answer"]
        visit = visit.answer(samples, truth)
        # neither a second answer to the same picture nor one after it came again counts
        visit = visit.answer(samples, "no" if truth == "yes" else "yes").after()
    assert sorted(seen) == samples.shown(KEY) and visit.number(samples) == seen[0]
    truth = samples.row(KEY, seen[0])["answer"]
    visit = visit.answer(samples, "no" if truth == "yes" else "yes")
    lines = visit.score(samples, found)
    assert lines[0].startswith("You: 4 of 4 right (100%, 95% interval 51% to 100%)")
    assert [line.split(" right")[0] for line in lines[1:]] == [
        "organisation/talker-8b-instruct: 2 of 4",
        "probe: 3 of 4",
    ]
    elsewhere = visit.switched(("endpoint_error_identification_with_em", "fly"))
    assert not elsewhere.answered and elsewhere.score(samples, found) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_marks_do_not_cover_each_other(shares: list[float]) -> None:
    places = _places(shares)
    assert all(place >= share for place, share in zip(places, shares, strict=True))
    assert np.diff(np.sort(places)).min(initial=1) >= _APART * 0.999
    lonely = [i for i, s in enumerate(shares) if all(abs(s - o) >= 13 * _APART for o in shares[:i] + shares[i + 1 :])]
    assert [places[i] for i in lonely] == [shares[i] for i in lonely]


def test_every_task_has_words_and_buttons_that_fit() -> None:
    for task in TASKS.values():
        given = answers(task)
        assert question(task) and hint(task)
        assert len(given) <= BUTTONS and {answer for answer, _ in given} == set(task.labels)
        assert all(text.endswith(")") for _, text in given)
    assert [text for _, text in answers(TASKS["merge_action"])] == ["Yes (y)", "No (n)"]


def test_no_key_has_two_meanings_in_a_row() -> None:
    """The keys of the answers are not those of what follows them: who presses one twice must not answer the next."""
    source = Path(try_tab.__file__).read_text(encoding="utf-8")
    texts = re.findall(r'"(?:Skip|Next sample) \(([^()]*)\)"', source)
    following = {key for text in texts for key in text.split(" or ")}
    assert len(texts) == 3 and following == {"→"}
    for task in TASKS.values():
        keys = [re.findall(r"\(([^()]*)\)$", text)[0] for _, text in answers(task)]
        assert len(set(keys)) == len(keys) and not set(keys) & following


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"origin": "edit", "edit_id": "operation-7", "edit_time": None}, "a person corrected"),
        ({"origin": "edit", "edit_id": "x", "edit_time": datetime(2026, 1, 1)}, "a person corrected"),
        ({"origin": "edit", "edit_id": "merge-0a-0b", "edit_time": None}, "differs from the automatic one"),
        ({"origin": "control", "edit_id": None, "edit_time": None}, "nothing was corrected"),
        ({"origin": "simulated", "edit_id": None, "edit_time": None}, "a program"),
    ],
)
def test_only_an_edit_history_speaks_of_a_person(row: dict[str, Any], words: str) -> None:
    assert words in origin(row)


def test_a_model_that_always_answers_the_same_is_told_where_it_is_shown(content: AppData) -> None:
    found = content.records.get()
    constant = replace(found.summaries[0], always="no")
    told = replace(found, summaries=(constant, *found.summaries[1:]))
    name = label(constant.model, constant.condition)
    assert told.always(name, {"task": constant.task, "species": constant.species}) == "no"
    assert told.always(name, {"task": "another", "species": constant.species}) is None
    assert "always answers no" in comparison(told, constant.task, content)
    assert "always answers" not in comparison(found, constant.task, content)


def test_a_picture_carries_pixels_and_nothing_else() -> None:
    plain = png(1)
    assert base64.b64decode(data_uri(plain).removeprefix("data:image/png;base64,")) == plain
    told = PngImagePlugin.PngInfo()
    told.add(b"tEXt", b"answer\0yes it is", after_idat=True)
    stream = io.BytesIO()
    Image.open(io.BytesIO(plain)).save(stream, "PNG", pnginfo=told)
    comment = io.BytesIO()
    Image.open(io.BytesIO(plain)).convert("RGB").save(comment, "JPEG", comment=b"yes it is")
    for data in (stream.getvalue(), plain + b"yes it is", comment.getvalue()):
        assert b"yes it is" in data
        sent = base64.b64decode(data_uri(data).removeprefix("data:image/jpeg;base64,"))
        assert b"yes it is" not in sent
        difference = np.asarray(Image.open(io.BytesIO(sent)), int) - np.asarray(Image.open(io.BytesIO(plain)), int)
        assert np.abs(difference).mean() < 8


def test_pictures_say_what_they_show(content: AppData) -> None:
    key = ("endpoint_error_identification_with_em", "fly")
    html = str(views_html(content.samples, key, 0))
    columns = html.split('<div class="cb-plane">')[1:]
    assert [re.findall(r'alt="([^"]*)"', column) for column in columns] == [
        [f"{view} view, {plane} plane", f"Image slice, {plane} plane"]
        for view, plane in (("Front", "xy"), ("Side", "yz"), ("Top", "xz"))
    ]
    assert html.count('<svg class="overlay"') == 6
    stored = content.samples.pictures(key, 0)
    assert all(data_uri(data) in html for data in stored)


def test_a_link_only_where_the_data_are_public_and_real() -> None:
    row: dict[str, Any] = {
        "species": "mouse",
        "source": SPECIES["mouse"].datastack,
        "origin": "edit",
        "location_nm": [1.0, 2.0, 3.0],
        "extent_nm": 5000.0,
        "segment_ids": [HIGH],
    }
    cave = Collection(TASKS["merge_action"], "mouse", "f", {})
    link = neuroglancer_link(row, cave)
    assert link is not None
    state = json.loads(unquote(link.partition("#!")[2]))
    assert state["position"] == [1.0, 2.0, 3.0] and state["dimensions"]["z"] == [1e-9, "m"]
    # segments of this server cannot be read without signing in
    assert [layer["source"] for layer in state["layers"]] == [SPECIES["mouse"].em]
    assert neuroglancer_link(row | {"source": "cube"}, cave) is None
    assert neuroglancer_link(row | {"origin": "simulated"}, cave) is None
    assert neuroglancer_link(row | {"species": "martian"}, cave) is None


def _layers(link: str | None) -> list[tuple[str, str, list[str] | None]]:
    if link is None:
        return []
    layers = json.loads(unquote(link.partition("#!")[2]))["layers"]
    return [(layer["type"], layer["source"], layer.get("segments")) for layer in layers]


def test_a_link_where_volumes_are_precomputed_and_public(demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder / "merge_action", tmp_path / "merge_action")
    path = tmp_path / "merge_action" / "manifest.json"
    manifest = json.loads(path.read_text())
    row = evaluated_rows()[0]
    ids = [str(one) for one in row["segment_ids"]]
    em, first, second = "gs://bucket/em", "https://x.org/first", "precomputed://s3://bucket/second"
    cube = {"name": row["source"], "automatic": {"path": first}, "image": {"path": em}}

    def found(volumes: Any, row: dict[str, Any] = row) -> list[tuple[str, str, list[str] | None]]:
        manifest["species"]["fly"]["config"] = {"source": {"volumes": volumes}}
        path.write_text(json.dumps(manifest))
        return _layers(neuroglancer_link(row, open_samples(tmp_path).collections[KEY]))

    image = ("image", "precomputed://gs://bucket/em", None)
    assert found(cube) == [image, ("segmentation", "precomputed://https://x.org/first", ids)]
    assert found(cube | {"image": None}) == [("segmentation", "precomputed://https://x.org/first", ids)]
    # labels with simulated errors are stored nowhere
    assert found(cube | {"simulated": {"seed": 0}}) == [image]
    several = cube | {"automatic": {"path": {"path": first}, "b": {"path": second}}}
    of_second = row | {"source": f"{row['source']}/b"}
    assert found(several, of_second) == [image, ("segmentation", second, ids)]
    assert found(several) == [image]
    # a key in an address is nobody else's
    for private in ("labels.npz", "/data/em", "file:///data/em", "https://me:secret@x.org/em", "https://x.org/em?k=1"):
        assert found({"name": "cube", "automatic": {"path": private}, "image": {"path": private}}) == []
    for damaged in (
        None,
        3,
        {"automatic": 3},
        {"automatic": {"path": {"a": 1}, "c": 4}},
        {"automatic": {}, "image": 2},
    ):
        assert found(damaged) == []


def test_the_comparison_states_numbers_intervals_and_n(content: AppData) -> None:
    html = str(comparison(content.records.get(), "merge_action", content))
    assert '0.75 <span class="cb-n">[0.5' in html and "n = 4" in html
    assert "a linear classifier on a frozen image encoder" in html
    assert "4 records are about other data" in html
    assert html.count("<svg") == 3  # reliability of the one that states probabilities, time, training samples
    other = str(comparison(content.records.get(), "split_action", content))
    assert "no result records" in other


def test_without_records_the_rest_still_works(tmp_path: Path) -> None:
    folder = make_demo_folder(tmp_path)
    shutil.rmtree(folder / "results")
    shutil.rmtree(folder / "models")
    content = open_content(folder)
    assert content.records.get().of(evaluated_rows()[0]) == ()
    assert "no result records" in comparison(content.records.get(), "merge_action", content)


def test_damaged_records_leave_the_samples_and_name_no_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_demo_folder(tmp_path)
    damaged = folder / "results" / "probe" / "merge_action" / "fly" / "test.parquet"
    damaged.write_bytes(b"PAR1")
    content = open_content(folder)
    found = content.records.get()
    shown = str(models_table(found, evaluated_rows()[0])) + str(comparison(found, "merge_action", content))
    assert shown.count("cannot be read") == 2 and str(tmp_path) not in shown
    assert str(damaged) in caplog.text
