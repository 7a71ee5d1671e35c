from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_replies import CONDITION, OTHER, record, write_replies
from stored_rows import partition_rows, write_dataset

from connectomebench.commands import teacher as command
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.manifest import read_manifest
from connectomebench.evaluation.results import result_path, write_results
from connectomebench.finetuning import teacher as module
from connectomebench.finetuning.teacher import TeacherCounts, add_teacher
from connectomebench.hub.dataset_folder import read_dataset

RIGHT = {"train": [5, 4, 3, 5, 5, 5, 5, 5], "validation": [5, 0, 5, 5]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two species, one of which the teacher is asked about."""
    home = tmp_path_factory.mktemp("base")
    write_dataset(home, species="mouse")
    folder = write_dataset(home)
    (folder / "fly-skipped.jsonl").write_text("{}\n")
    return folder


@pytest.fixture(scope="module")
def results(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replies(dataset, tmp_path_factory.mktemp("results"), RIGHT)


@pytest.fixture(scope="module")
def taught(dataset: Path, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taught") / "merge_action"
    assert add_teacher(dataset, results, "teacher", out) == [
        TeacherCounts("fly", "train", 8, 8, 7),
        TeacherCounts("fly", "validation", 4, 4, 3),
    ]
    return out


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_rows_are_the_same_but_for_the_replies(dataset: Path, taught: Path) -> None:
    for partition in PARTITIONS:
        before, after = (load_rows(str(folder), "fly", partition) for folder in (dataset, taught))
        assert before.data == after.data
        plain = [{**row, "images": None} for row in before.dataset.with_format("arrow")[:].to_pylist()]
        new = after.dataset.remove_columns("teacher_replies")
        assert [{**row, "images": None} for row in new.with_format("arrow")[:].to_pylist()] == plain
        assert [image.tobytes() for row in before.dataset for image in row["images"]] == [
            image.tobytes() for row in after.dataset for image in row["images"]
        ]
    learnt = load_rows(str(taught), "fly", "train").dataset
    assert set(learnt.features["teacher_replies"].feature) == {"model", "reply", "answer"}
    replies = learnt["teacher_replies"][2]
    assert [vote["answer"] == learnt["answer"][2] for vote in replies] == [True] * 3 + [False] * 2
    assert all(vote["model"] == "teacher" and vote["answer"] in vote["reply"].split("<answer>")[1] for vote in replies)
    assert load_rows(str(taught), "fly", "test").dataset["teacher_replies"][:] == [[]] * 4
    # the other species is as it was
    shard = "mouse/train-00000-of-00001.parquet"
    assert (taught / shard).read_bytes() == (dataset / shard).read_bytes()
    assert (taught / "fly-skipped.jsonl").read_text() == "{}\n"


def test_stock_datasets_reads_it_and_images_stay_uncompressed(taught: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(taught), "fly", cache_dir=str(tmp_path))
    assert rows["train"][0]["teacher_replies"][0]["model"] == "teacher"
    assert "teacher_replies" not in load_dataset(str(taught), "mouse", cache_dir=str(tmp_path))["train"].column_names
    group = pq.read_metadata(taught / "fly" / "train-00000-of-00001.parquet").row_group(0)
    packed = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert packed["images.list.element.bytes"] == "UNCOMPRESSED"
    assert packed["teacher_replies.list.element.reply"] == packed["question"] == "ZSTD"


def test_manifest_keeps_the_base_and_says_what_was_added(dataset: Path, taught: Path) -> None:
    before, after = (read_manifest(folder)["species"] for folder in (dataset, taught))
    assert after["mouse"] == before["mouse"]
    added = after["fly"].pop("teacher_replies")
    # the column is in the files, so their hashes are others
    assert after["fly"].pop("files") != before["fly"].pop("files")
    assert after["fly"] == before["fly"]
    assert len(added["fingerprint"]) == 64
    assert added["teachers"] == [
        {
            "model": "teacher",
            "revision": "a" * 32,
            "condition": CONDITION,
            "rows": {"train": 8, "validation": 4},
            "replies": 60,
        }
    ]


def test_what_is_published_describes_the_replies(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectomebench.hub.croissant import croissant
    from connectomebench.hub.dataset_plan import _teacher_revisions

    # tests/hub/test_croissant.py lets mlcroissant check; its absl must not meet the capture of other tests
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    local = read_dataset(taught)
    assert "fly/train-00000-of-00001.parquet" in local.files
    # a hash that looks like a token and is none
    assert _teacher_revisions(local.manifest["species"]) == {"a" * 32}
    card = (taught / "README.md").read_text()
    assert "`teacher_replies` | list of (model: string, reply: string, answer: string) |" in card
    assert (
        f"60 of `teacher` (revision `{'a' * 32}`, condition `{CONDITION}`) to 8 train rows and 4 validation rows"
        in card
    )
    fields = {one["@id"]: [f["name"] for f in one["field"]] for one in croissant(local.manifest, "a/b")["recordSet"]}
    assert "teacher_replies" in fields["fly"] and "teacher_replies" not in fields["mouse"]


def test_a_model_that_answers_sees_nothing_of_it(dataset: Path, taught: Path, tiny_vlm: Path) -> None:
    from connectomebench.models.vlm_loading import load_vlm

    model = load_vlm(tiny_vlm)
    plain, with_replies = (load_rows(str(folder), "fly", "train").dataset[:2] for folder in (dataset, taught))
    assert "teacher_replies" in with_replies
    assert model.predict(with_replies) == model.predict(plain)


def test_the_same_call_changes_nothing_and_goes_on_where_it_was_broken_off(
    dataset: Path, results: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = times(taught)
    add_teacher(dataset, results, "teacher", taught)
    assert times(taught) == before

    out, written = tmp_path / "out", []
    write = module._write_shard

    def cut(shard, task: str) -> None:
        if shard.source.name.startswith("validation"):
            raise KeyboardInterrupt
        write(shard, task)
        written.append(shard.target)

    monkeypatch.setattr(module, "_write_shard", cut)
    with pytest.raises(KeyboardInterrupt):
        add_teacher(dataset, results, "teacher", out)
    assert len(written) == 1 and not (out / "manifest.json").exists()
    monkeypatch.setattr(module, "_write_shard", write)
    first = times(out)
    add_teacher(dataset, results, "teacher", out)
    assert times(out).items() >= first.items()
    assert {name: (out / name).read_bytes() for name in before} == {
        name: (taught / name).read_bytes() for name in before
    }


def test_several_teachers_can_be_added(dataset: Path, taught: Path, tmp_path: Path) -> None:
    second = write_replies(dataset, tmp_path / "results", {"train": [0, 5, 5, 0, 0, 0, 0, 0]}, model="another")
    found = add_teacher(taught, second, "another", tmp_path / "both")
    # row 2, which the first teacher got wrong too often
    assert found == [TeacherCounts("fly", "train", 8, 8, 8), TeacherCounts("fly", "validation", 4, 0, 3)]
    rows = load_rows(str(tmp_path / "both"), "fly", "train").dataset["teacher_replies"]
    assert [[vote["model"] for vote in row] for row in rows] == [["teacher"] * 5 + ["another"] * 5] * 8
    entry = read_manifest(tmp_path / "both")["species"]["fly"]["teacher_replies"]
    assert [one["model"] for one in entry["teachers"]] == ["another", "teacher"]
    # again, with other records: they take the place of the earlier ones
    third = write_replies(dataset, tmp_path / "third", {"train": [5] * 8}, model="another")
    add_teacher(tmp_path / "both", third, "another", tmp_path / "renewed")
    renewed = load_rows(str(tmp_path / "renewed"), "fly", "train").dataset
    assert [len(row) for row in renewed["teacher_replies"]] == [10] * 8
    assert renewed["teacher_replies"][0][-1]["answer"] == renewed["answer"][0]


def test_a_reply_without_votes_and_one_that_could_not_be_read(dataset: Path, tmp_path: Path) -> None:
    entry = read_manifest(dataset)["species"]["fly"]
    rows = partition_rows()["train"]
    records = [record(row, "train", entry["fingerprint"], [row["answer"]], ["words"]) for row in rows[:2]]
    records[0] |= {"votes": None, "replies": None}
    records[1] |= {"prediction": None, "votes": [None, "yes"], "replies": ["hm", "<answer>yes</answer>"]}
    write_results(result_path(tmp_path / "r", "teacher", "merge_action", "fly", "train", CONDITION), records)
    add_teacher(dataset, tmp_path / "r", "teacher", tmp_path / "out")
    stored = load_rows(str(tmp_path / "out"), "fly", "train").dataset["teacher_replies"]
    assert stored[0] == [{"model": "teacher", "reply": "words", "answer": rows[0]["answer"]}]
    assert [vote["answer"] for vote in stored[1]] == [None, "yes"]
    assert stored[2] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_fingerprint": "d" * 32}, "are about another dataset than"),
        ({"model": "stranger"}, "holds no records of teacher on training or validation rows.*models there: stranger"),
        ({"votes": None, "replies": None, "reply": None}, "holds no written replies"),
        ({"replies": ["one"]}, "holds no written replies"),
        ({"condition": f"{CONDITION}+blank_images"}, r"evaluated with an ablation \(blank_images\)"),
    ],
)
def test_refuses_records_that_do_not_fit(dataset: Path, tmp_path: Path, changes: dict, message: str) -> None:
    results = write_replies(dataset, tmp_path / "results", RIGHT, **changes)
    with pytest.raises(ConnectomeBenchError, match=message):
        add_teacher(dataset, results, "teacher", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refuses_records_of_other_rows_or_truths_or_of_test(dataset: Path, results: Path, tmp_path: Path) -> None:
    fingerprint = read_manifest(dataset)["species"]["fly"]["fingerprint"]
    row = partition_rows()["train"][0]
    told = {
        "shuffled": ({**row, "answer": OTHER[row["answer"]]}, "train", "evaluate it with the true labels"),
        "unknown": ({**row, "sample_id": "elsewhere"}, "train", "1 records of teacher are about no row of fly/train"),
        "test": (partition_rows()["test"][0], "test", "no records of teacher on training or validation rows"),
    }
    for name, (asked, partition, message) in told.items():
        path = result_path(tmp_path / name, "teacher", "merge_action", "fly", partition, CONDITION)
        write_results(path, [record(asked, partition, fingerprint, [row["answer"]], ["words"])])
        with pytest.raises(ConnectomeBenchError, match=message):
            add_teacher(dataset, tmp_path / name, "teacher", tmp_path / "out")
    write_replies(dataset, tmp_path / "two", RIGHT)
    write_replies(dataset, tmp_path / "two", RIGHT, condition="generated")
    with pytest.raises(ConnectomeBenchError, match=f"several conditions; name one: generated, {CONDITION}"):
        add_teacher(dataset, tmp_path / "two", "teacher", tmp_path / "out")
    with pytest.raises(ConnectomeBenchError, match="no records in the condition scored; it has generated, "):
        add_teacher(dataset, tmp_path / "two", "teacher", tmp_path / "out", "scored")
    with pytest.raises(ConnectomeBenchError, match="is the dataset itself"):
        add_teacher(dataset, results, "teacher", dataset)
    assert not (tmp_path / "out").exists()


def test_leaves_a_folder_alone_that_holds_something_else(dataset: Path, taught: Path, tmp_path: Path) -> None:
    before = times(taught)
    others = write_replies(dataset, tmp_path / "others", {"train": [1] * 8})
    with pytest.raises(ConnectomeBenchError, match="holds other rows or replies; choose another --out"):
        add_teacher(dataset, others, "teacher", taught)
    assert times(taught) == before


def test_the_command_tells_what_it_did(dataset: Path, results: Path, tmp_path: Path, capsys) -> None:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    words = ["teacher", str(dataset), "--results", str(results), "--model", "teacher", "--out", str(tmp_path / "out")]
    arguments = parser.parse_args([*words, "--condition", CONDITION])
    arguments.run(arguments)
    told = capsys.readouterr().out
    assert "fly/train: 8 of 8 rows have replies of teacher; 7 rows have a reply to train on" in told
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["task"] == "merge_action"
