"""One command for every kind of model: what is asked, what is recorded, and what is not asked twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from endpoint_server import completion, error, serve
from published_models import record_of_vlm, train_model
from starlette.responses import JSONResponse, Response
from stored_rows import write_dataset
from tiny_qwen3_vl import make_tiny_adapter

from connectomebench.cli import main
from connectomebench.evaluation.cascade_threshold import deferred_rows
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.evaluation.results import read_results
from connectomebench.models.model_record import read_record, write_record
from connectomebench.models.recalibration import Recalibration, save_recalibration

TEST_ROWS = 4


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "evaluate-cache")


@pytest.fixture(scope="module")
def trivial(split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(split, tmp_path_factory.mktemp("trained") / "trivial")


@pytest.fixture(scope="module")
def tiny_adapter(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_adapter(tiny_vlm, tmp_path_factory.mktemp("adapter") / "tiny-adapter")


class Run:
    """Runs ``connectomebench evaluate`` on the little dataset."""

    def __init__(self, split: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.split, self.out, self.capsys = split, out, capsys

    def __call__(self, model: Path | str, *words: str | Path, fails: bool = False) -> str:
        at = ["evaluate", "--model", model, "--dataset", self.split, "--species", "fly", "--out", self.out, *words]
        self.capsys.readouterr()
        status = main([str(word) for word in at])
        said = self.capsys.readouterr()
        assert status == (2 if fails else 0), said.err
        if fails:
            (line,) = [line for line in said.err.splitlines() if line.startswith("connectomebench: ")]
            return line
        return said.out

    def records(self, condition: str = "default") -> Any:
        (path,) = [p for p in self.out.rglob("*.parquet") if set(read_results(p)["condition"]) == {condition}]
        return read_results(path)


@pytest.fixture
def run(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(split, tmp_path / "results", capsys)


def test_a_model_that_does_not_talk(run: Run, trivial: Path) -> None:
    out = run(trivial)
    assert "trivial on merge_action/fly/test: balanced accuracy" in out and f"{TEST_ROWS} rows in" in out
    assert "Brier score" in out and "s a row" in out
    first = run.records()
    assert "nothing was evaluated" in run(trivial)
    assert run.records().equals(first)
    assert "nothing was evaluated" not in run(trivial, "--overwrite")
    assert "is not a chat model" in run(trivial, "--votes", "3", fails=True)
    assert "is not a chat model" in run(trivial, "--prompt", "hints", fails=True)


def test_records_of_another_model_or_other_data_are_not_replaced_unasked(
    run: Run, trivial: Path, split: Path, tmp_path: Path
) -> None:
    other = train_model(split, tmp_path / "other", seed=1)
    run(trivial)
    first = run.records()
    line = run(other, fails=True)
    assert "model_revision" in line and "--name" in line and "--overwrite" in line
    assert run.records().equals(first) and not list(run.out.rglob("*.partial"))
    assert "second/try" in run(other, "--name", "second/try")
    both = read_results(run.out)
    assert both.groupby("model")["model_revision"].nunique().to_dict() == {"second/try": 1, "trivial": 1}
    assert (run.out / "second--try/merge_action/fly/test.parquet").exists()
    run(other, "--overwrite")
    assert set(read_results(run.out / "trivial")["model_revision"]) != set(first["model_revision"])

    copied = Path(shutil.copytree(split, tmp_path / "copied"))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["species"]["fly"]["fingerprint"] = "0" * 32
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert "dataset_fingerprint" in Run(copied, run.out, run.capsys)(other, fails=True)


@pytest.mark.parametrize("name", ["../up", "a/b/c", "", ".hidden", "at@sign", "x" * 201])
def test_a_name_that_cannot_stand_in_the_records(run: Run, trivial: Path, name: str) -> None:
    assert "cannot be the name of a model" in run(trivial, f"--name={name}", fails=True)
    assert not run.out.exists()


def test_a_part_of_the_rows_stands_apart(run: Run, trivial: Path) -> None:
    out = run(trivial, "--max-samples", "2", "--seed", "1")
    assert "trivial@sample2-seed1 on" in out
    assert sorted(run.records("sample2-seed1")["answer"]) == ["no", "yes"]
    assert (run.out / "trivial/merge_action/fly/test@sample2-seed1.parquet").exists()
    assert "ask for 1 to 4" in run(trivial, "--max-samples", "5", fails=True)


def test_shuffled_labels_keep_their_counts(run: Run, trivial: Path) -> None:
    run(trivial)
    run(trivial, "--ablation", "shuffled_labels", "--seed", "2")
    usual, shuffled = run.records(), run.records("shuffled_labels-s2")
    assert sorted(usual["answer"]) == sorted(shuffled["answer"])
    assert usual["answer"].tolist() != shuffled["answer"].tolist()
    assert usual["probability"].tolist() == shuffled["probability"].tolist()


def test_a_language_model_is_scored_or_talks(run: Run, tiny_vlm: Path) -> None:
    run(tiny_vlm)
    scored = run.records()
    assert scored["reply"].isna().all() and scored["probability"].between(0, 1).all()
    run(tiny_vlm, "--ablation", "blank_images")
    blank = run.records("blank_images")
    assert blank["probability"].nunique() == 1 < scored["probability"].nunique()
    out = run(tiny_vlm, "--answer", "generated", "--max-new-tokens", "4", "--prompt", "few_shot", "--shots", "2")
    assert "4 replies without an answer" in out and "tokens written" in out
    told = run.records("generated-n4+few_shot2")
    assert (told["tokens"] <= 4).all() and told["reply"].notna().all() and told["prediction"].isna().all()
    assert (told["question"].str.count("<answer>yes</answer>") > scored["question"].str.count("yes")).any()
    run(tiny_vlm, "--votes", "2", "--max-new-tokens", "3", "--style", "analysis")
    votes = run.records("votes2-t0.7-n3+analysis")
    assert (votes["votes"].str.len() == 2).all() and (votes["replies"].str.len() == 2).all()


def test_no_more_is_asked_in_a_call_than_is_computed_together(
    run: Run, tiny_vlm: Path, trivial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = ChatModelAdapter.predict

    def counted(self: ChatModelAdapter, batch: Any) -> Any:
        calls.append(len(batch["sample_id"]))
        return real(self, batch)

    monkeypatch.setattr(ChatModelAdapter, "predict", counted)
    run(tiny_vlm, "--batch-size", "3")
    assert calls == [3, 1]
    assert "at least 1" in run(tiny_vlm, "--batch-size", "0", fails=True)
    assert "by itself" in run(trivial, "--batch-size", "2", fails=True)


def test_an_adapter_and_the_model_below_it(run: Run, tiny_vlm: Path, tiny_adapter: Path) -> None:
    run(tiny_adapter)
    run(tiny_adapter, "--ablation", "base_model")
    adapted, base = (read_results(run.out / folder.name) for folder in (tiny_adapter, tiny_vlm))
    assert set(base["model"]) == {tiny_vlm.name} and set(base["condition"]) == {"default"}
    assert adapted["probability"].tolist() != pytest.approx(base["probability"].tolist(), abs=1e-6)
    assert "is no adapter" in run(tiny_vlm, "--ablation", "base_model", fails=True)


def test_a_second_model_is_asked_where_the_first_is_not_sure(run: Run, trivial: Path, tiny_vlm: Path) -> None:
    run(tiny_vlm)
    run(trivial)
    first, second = (read_results(run.out / name)["probability"] for name in (tiny_vlm.name, "trivial"))
    sure = sorted(np.maximum(first, 1 - first))
    run(tiny_vlm, "--fallback-model", trivial, "--min-confidence", str((sure[1] + sure[2]) / 2))
    (both,) = (read_results(folder) for folder in run.out.glob(f"{tiny_vlm.name}-then-trivial-*"))
    asked = deferred_rows(both)
    assert asked.sum() == 2 and set(both["condition"]) == {"default"}
    assert both["probability"].tolist() == pytest.approx(np.where(asked, second, first).tolist(), abs=1e-6)
    assert "is not a chat model" in run(tiny_vlm, "--fallback-model", trivial, "--prompt", "hints", fails=True)


def test_a_server_is_asked_once_for_each_row_and_within_the_budget(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    prices = ["--usd-per-million-prompt", "10", "--usd-per-million-reply", "100"]
    with serve() as server:
        words = ["--endpoint", server.url, "--concurrency", "2", "--retries", "0", *prices]

        def asked() -> int:
            return sum("image_url" in json.dumps(body) for body in server.requests)

        def fails(body: dict[str, Any]) -> Response:
            pictured = "image_url" in json.dumps(body)
            return error(500) if pictured and asked() == 3 else JSONResponse(completion())

        out = run("tiny", *words, "--max-usd", "0.005", fails=True)
        assert "budget of 0.005 USD is spent" in out and not list(run.out.rglob("*.parquet"))
        assert asked() == 2
        server.usual = fails
        assert "500" in run("tiny", *words, "--concurrency", "1", fails=True)
        out = run("tiny", *words)
        assert "0.0080 USD for 4 rows" in out and "40 tokens written" in out
        assert asked() == TEST_ROWS + 1
        said = run.records()
        assert set(said["prediction"]) == {"yes"} and (said["prompt_tokens"] == 100).all()
        assert "sk-secret" not in "".join(path.read_bytes().decode("latin-1") for path in run.out.rglob("*.*"))
        assert "nothing was evaluated" in run("tiny", *words)
        assert asked() == TEST_ROWS + 1
        assert "takes a JSON object" in run("tiny", *words, "--extra-body", "[1]", fails=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--concurrency", "4"], "has no effect without --endpoint"),
        (["--usd-per-million-prompt", "1"], "has no effect without --endpoint"),
        (["--min-confidence", "0.8"], "has no effect without --fallback-model"),
        (["--temperature", "0.5"], "has no effect without --votes"),
        (["--shots", "2"], "has no effect without --prompt few_shot"),
        (["--rater", "ada"], "has no effect without --model person"),
        (["--votes", "0"], "at least 1"),
        (["--votes", "3", "--answer", "scored"], "leave --answer out"),
        (["--ablation", "nothing"], "unknown ablation"),
        (["--ablation", "no_em"], "image data"),
        (["--max-usd", "0"], "above 0"),
    ],
)
def test_what_does_not_go_together(run: Run, tiny_vlm: Path, words: list[str], told: str) -> None:
    assert told in run(tiny_vlm, *words, fails=True)
    assert not list(run.out.rglob("*.parquet"))


def test_a_style_that_was_trained_is_kept_where_the_prompt_is_adapted(
    run: Run, tiny_vlm: Path, tiny_adapter: Path, tmp_path: Path, split: Path
) -> None:
    trained = Path(shutil.copytree(tiny_adapter, tmp_path / "analyst"))
    record = replace(record_of_vlm(trained, split, str(tiny_vlm)), config={"answer_style": "analysis"})
    write_record(trained, record)
    run(trained, "--prompt", "hints", "--max-new-tokens", "2")
    asked = run.records("generated-n2+hints")["question"]
    assert asked.str.contains("<analysis>").all()
    run(trained, "--style", "answer_only", "--max-new-tokens", "2")
    assert not run.records("generated-n2+answer_only")["question"].str.contains("<analysis>").any()
    assert "leave out the options for models" in run("person", "--rater", "ada", "--overwrite", fails=True)


def test_the_ablations_are_listed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("any", "--ablation", "list")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "blank_images: " in out and "base_model: " in out


def test_a_calibration_beside_the_model_is_applied_to_the_same_answers(run: Run, trivial: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trivial, tmp_path / "model"))
    revision = read_record(model).revision
    fly = Recalibration("temperature", (4.0,), "merge_action", "fly", "trivial", revision, "f00d", 100, 50)
    save_recalibration(model, replace(fly, species="mouse"))
    assert "@calibrated-by-mouse.parquet" in run(model)
    save_recalibration(model, fly)
    out = run(model, "--overwrite")
    assert "test@calibrated.parquet" in out and "by-mouse" not in out
    plain, calibrated = run.records(), run.records("calibrated")
    assert calibrated["probability"].to_numpy() == pytest.approx(fly.apply(plain["probability"]))
    assert calibrated["sample_id"].equals(plain["sample_id"])
    save_recalibration(model, replace(fly, model_revision="another"))
    assert "of another revision of the model and was not applied" in run(model, "--overwrite")
