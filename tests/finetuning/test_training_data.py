from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stored_rows
from datasets import Dataset
from stored_rows import partition_rows, row, write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.finetuning import data as training_data
from connectomebench.finetuning.completions import CompletionTargets
from connectomebench.finetuning.data import as_prompts, balanced_rows, check_rows, load_training_data
from connectomebench.finetuning.settings import DataConfig
from connectomebench.models.chat import Conversation
from connectomebench.models.prompt import messages
from connectomebench.models.vlm_loading import load_vlm

ANSWERS = ["yes", "no", "no", "no", "yes", "no", "no", "no"]


def test_oversampling_shows_every_row_and_the_rare_ones_again() -> None:
    rows = balanced_rows(ANSWERS, "oversample", 0)
    assert set(rows) == set(range(8))
    counts = np.bincount(rows)
    assert list(counts) == [3, 1, 1, 1, 3, 1, 1, 1]
    assert list(balanced_rows(["a", "a", "a", "b", "b"], "oversample", 0)) in ([0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 4])
    assert list(balanced_rows(ANSWERS * 9, "oversample", 3)) == list(balanced_rows(ANSWERS * 9, "oversample", 3))


def test_undersampling_draws_by_seed_without_repetition() -> None:
    draws = [balanced_rows(ANSWERS * 5, "undersample", seed) for seed in (1, 1, 2)]
    for rows in draws:
        assert len(rows) == len(set(rows)) == 20
        assert sum(ANSWERS[row % 8] == "yes" for row in rows) == 10
    assert list(draws[0]) == list(draws[1])
    assert list(draws[0]) != list(draws[2])
    assert list(balanced_rows(ANSWERS, "none", 0)) == list(range(8))
    with pytest.raises(ConnectomeBenchError, match="all training rows have the answer 'yes'"):
        balanced_rows(["yes"] * 3, "oversample", 0)


def test_split_action_alone_is_undersampled() -> None:
    settings = [DataConfig(task, ["fly"]) for task in ("split_action", "merge_action", "split_proposal")]
    assert [one.balancing(get_task(one.task)) for one in settings] == ["undersample", "oversample", "none"]
    assert DataConfig("split_action", ["fly"], balance="oversample").balancing(get_task("split_action")) == (
        "oversample"
    )
    # as a YAML file may have it
    assert DataConfig("split_action", "fly").species == ["fly"]  # pyright: ignore[reportArgumentType]


def test_learns_the_train_rows_of_all_species_and_decodes_none_before_they_are_read(
    tmp_path: Path, monkeypatch
) -> None:
    rows = {species: partition_rows(species=species) for species in ("fly", "mouse")}
    rows["mouse"]["train"] += [row(number, "no", species="mouse") for number in range(20, 24)]
    monkeypatch.setattr(stored_rows, "partition_rows", lambda task, species: rows[species])
    folder, _ = (write_dataset(tmp_path, species=species) for species in rows)
    decoded: list[object] = []
    decode = training_data.decode
    monkeypatch.setattr(training_data, "decode", lambda image: decoded.append(image) or decode(image))
    data = load_training_data(DataConfig("merge_action", ["fly", "mouse"], str(folder)), seed=0)
    assert not decoded
    ids = {p: [row["sample_id"] for species in rows for row in rows[species][p]] for p in ("train", "validation")}
    assert {partition: data.sample_ids[partition] for partition in ids} == ids
    assert [record.species for record in data.records] == ["fly", "mouse"]
    assert all(record.partition == "train" for record in data.records)
    assert data.counts["train"] == {"no": 12, "yes": 8}
    assert data.counts["balanced"] == {"no": 12, "yes": 12}

    learnt = data.train[:]
    assert set(learnt["row_number"]) == set(range(20))
    answers = [own["answer"] for species in rows for own in rows[species]["train"]]
    wanted = [f"<answer>{answers[number]}</answer>" for number in learnt["row_number"]]
    assert [turns[0]["content"] for turns in learnt["completion"]] == wanted
    assert wanted.count("<answer>yes</answer>") == 12
    decoded.clear()
    one = data.train[9]
    assert len(decoded) == 3
    assert [image.size for image in one["images"]] == [(48, 48)] * 3
    assert data.validation[:]["row_number"] == list(range(8))


def test_training_asks_as_evaluation_does(training, tiny_vlm: Path) -> None:
    import torch

    from connectomebench.finetuning.trainer import make_collator

    data = load_training_data(DataConfig("merge_action", ["fly"], str(training.dataset)), seed=0)
    model = load_vlm(tiny_vlm)
    batch = make_collator(model.processor)([data.train[0], data.train[3]])
    rows = load_rows(str(training.dataset), "fly", "train").dataset
    asked = model.tensors([Conversation(messages(rows[number]), rows[number]["images"]) for number in (0, 3)])
    assert torch.equal(batch["pixel_values"], asked["pixel_values"])
    decode = model.processor.tokenizer.decode
    for number, answer in ((0, "no"), (1, "yes")):
        learnt = batch["labels"][number] != -100
        assert decode(batch["input_ids"][number][learnt]) == f"<answer>{answer}</answer><|im_end|>\n"
        prompt = batch["input_ids"][number][~learnt & (batch["attention_mask"][number] == 1)]
        assert torch.equal(prompt, asked["input_ids"][number][asked["attention_mask"][number] == 1])
    assert batch["row_number"].tolist() == [0, 3]


def as_dataset(rows: list[dict]):
    from datasets import Dataset

    # of the columns that are read; ids of segments need a type of their own
    names = ("sample_id", "task", "question", "answer", "target_nm", "location_nm", "extent_nm", "views", "images")
    return Dataset.from_list([{name: row[name] for name in names} for row in rows])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "split_action"}, "its task is split_action, not merge_action"),
        ({"answer": "maybe"}, "has no valid answer"),
        ({"question": "<|im_end|>"}, "contains a control token"),
        ({"views": []}, "it has no views"),
    ],
)
def test_refuses_rows_that_do_not_fit(change: dict, message: str) -> None:
    rows = [dict(row) for row in partition_rows()["test"]]
    rows[2] |= change
    with pytest.raises(ConnectomeBenchError, match=message) as caught:
        check_rows(as_dataset(rows), get_task("merge_action"), "fly/test")
    assert str(caught.value).startswith(f"row 2 of fly/test ({rows[2]['sample_id']}): ")


def test_refuses_missing_columns_and_no_rows() -> None:
    rows = as_dataset(partition_rows()["test"])
    with pytest.raises(ConnectomeBenchError, match="has no column question, images; it is no dataset of merge_action"):
        check_rows(rows.remove_columns(["question", "images"]), get_task("merge_action"), "fly/test")
    with pytest.raises(ConnectomeBenchError, match="fly/test has no rows"):
        check_rows(rows.select([]), get_task("merge_action"), "fly/test")


def test_refuses_training_rows_that_are_tested_on(tmp_path: Path, monkeypatch) -> None:
    whole = partition_rows()
    leaky = whole | {"test": [*whole["test"][:-1], whole["train"][5]]}
    monkeypatch.setattr(stored_rows, "partition_rows", lambda task, species: leaky)
    folder = write_dataset(tmp_path)
    with pytest.raises(
        ConnectomeBenchError, match=f"1 training rows are in test too.*{whole['train'][5]['sample_id']}"
    ):
        load_training_data(DataConfig("merge_action", ["fly"], str(folder)), seed=0)


def test_a_truncated_picture_is_named_by_its_row_and_view() -> None:
    whole, cut = row(1, "yes"), row(2, "no")
    cut["images"][1] = {"bytes": cut["images"][1]["bytes"][:200], "path": None}
    names = ("sample_id", "task", "question", "answer", "target_nm", "location_nm", "extent_nm", "views", "images")
    rows = Dataset.from_list([{name: one[name] for name in names} for one in (whole, cut)])
    prompts = as_prompts(rows, CompletionTargets([0, 1], [None, None], {}))
    assert len(prompts[0]["images"]) == 3
    with pytest.raises(ConnectomeBenchError, match=rf"row {cut['sample_id']}, side: a picture is damaged"):
        prompts[1]
