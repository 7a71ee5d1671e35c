"""Training on a teacher's replies, from the dataset with replies to the adapter's record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_replies import write_replies
from small_training import options_for, run_script
from stored_rows import write_dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.finetuning.completions import StyleConfig, uniform_draw
from connectomebench.finetuning.data import load_training_data
from connectomebench.finetuning.settings import DataConfig
from connectomebench.finetuning.teacher import add_teacher
from connectomebench.models.model_record import read_record
from connectomebench.models.prompt import analysis_format, answer_format

# two rows with the answer "no" (even ones) have no kept reply
RIGHT = {"train": [3, 5, 5, 4, 5, 5, 0, 5], "validation": [5, 5, 0, 5]}
TASK = get_task("merge_action")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("analysis")
    plain = write_dataset(home / "plain")
    add_teacher(plain, write_replies(plain, home / "results", RIGHT), "teacher", home / "taught")
    return home / "taught"


@pytest.fixture(scope="module")
def data(dataset: Path):
    return load_training_data(DataConfig("merge_action", ["fly"], str(dataset)), 0, style=StyleConfig("analysis"))


def test_answers_are_balanced_after_rows_are_left_out(data) -> None:
    numbers = data.train["row_number"][:]
    assert not {0, 6} & set(numbers)
    assert data.counts["train"] == {"no": 4, "yes": 4}
    assert data.counts["balanced"] == {"no": 4, "yes": 4}
    assert [numbers.count(number) for number in (2, 4)] == [2, 2]
    assert data.validation["row_number"][:] == [0, 1, 3]
    assert data.counts["validation"] == {"no": 1, "yes": 2}


def test_a_prompt_asks_for_what_its_completion_gives_and_that_alone_is_learnt(data, tiny_vlm: Path) -> None:
    from connectomebench.finetuning.trainer import make_collator
    from connectomebench.models.vlm_loading import load_vlm

    processor = load_vlm(tiny_vlm).processor
    rows = [data.train[number] for number in range(len(data.train))]
    batch = make_collator(processor)(rows)
    decode = processor.tokenizer.decode
    kinds = []
    for number, row in enumerate(rows):
        sample = data.sample_ids["train"][row["row_number"]]
        alone = uniform_draw(0, sample) < 0.5
        kinds.append(alone)
        wanted = row["completion"][0]["content"]
        analysis = "" if alone else f"<analysis>\nDraw 0 of {sample}.\n</analysis>\n"
        assert re.fullmatch(re.escape(analysis) + "<answer>(yes|no)</answer>", wanted)
        asked = row["prompt"][0]["content"][-1]["text"]
        assert asked.endswith((answer_format if alone else analysis_format)(TASK))
        learnt = batch["labels"][number] != -100
        assert decode(batch["input_ids"][number][learnt]) == f"{wanted}<|im_end|>\n"
    assert set(kinds) == {True, False}


def test_the_adapter_is_recorded_and_a_dry_run_shows_it(dataset: Path, tiny_vlm: Path, tmp_path: Path, capsys) -> None:
    options = (*options_for(dataset, tiny_vlm, max_steps=2), "--answer_style", "analysis")
    run_script(*options, "--per_device_train_batch_size", "8", "--dry_run", "true")
    told = capsys.readouterr().out
    assert "2 without a kept reply are left out (kept replies by teacher: teacher 6)" in told
    assert re.search(r"assistant\\n\[\[<analysis>\\nDraw 0 of \w+\.\\n</analysis>\\n<answer>", told)
    assert re.search(r"assistant\\n\[\[<answer>(yes|no)</answer>", told)

    run_script(*options, "--output_dir", str(tmp_path / "adapter"))
    config = read_record(tmp_path / "adapter").config
    assert config["answer_style"] == "analysis"
    assert (config["rationale_dropout"], config["teacher_agreement"]) == (0.5, 0.8)
    train = config["taught"]["train"]
    assert train["teachers"] == {"teacher": 6} and train["left_out"] == 2
    assert train["analysis"] + train["answer"] == 6 and train["analysis"] > 0
    # a run goes on with the same style alone
    with pytest.raises(SystemExit, match=r"rationale_dropout was 0.5, is 0.0"):
        run_script(*options, "--rationale_dropout", "0", "--output_dir", str(tmp_path / "adapter"))


def test_refuses_rows_without_replies(dataset: Path) -> None:
    settings = DataConfig("merge_action", ["fly"], str(dataset.parent / "plain" / "merge_action"))
    with pytest.raises(ConnectomeBenchError, match=r"fly/train has no teacher's replies.*connectomebench teacher"):
        load_training_data(settings, 0, style=StyleConfig("analysis"))
    assert load_training_data(settings, 0).counts["balanced"] == {"no": 4, "yes": 4}
