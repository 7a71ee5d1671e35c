from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from forked import run_forked
from PIL import Image
from small_training import Training, options_for, parsed, run_script
from stored_rows import partition_rows
from tiny_qwen3_vl import edit_json

from connectomebench.dataset.loading import load_rows
from connectomebench.finetuning.dry_run import Shape, counts_in_bf16, memory_estimate
from connectomebench.models.chat import Conversation
from connectomebench.models.checkpoints import is_whole
from connectomebench.models.images import decode
from connectomebench.models.model_record import read_record
from connectomebench.models.prompt import messages
from connectomebench.models.vlm_loading import base_fingerprint, load_vlm

FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "connectomebench.json",
    "test_indices.json",
    "training_config.yaml",
    "training_curve.png",
    "training_log.json",
}


def answer_by_stock_tools(base: Path, adapter: Path, asked: Path, out: Path) -> None:
    """Load base and adapter where this package cannot be imported, and write the scores of the next token."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "connectomebench"]:
        del sys.modules[name]
    sys.modules["connectomebench"] = None  # pyright: ignore[reportArgumentType]
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(1)
    plain = AutoModelForImageTextToText.from_pretrained(base, dtype="float32")
    model = PeftModel.from_pretrained(plain, str(adapter)).eval()
    processor = AutoProcessor.from_pretrained(base)
    question = json.loads(asked.read_text())
    text = processor.apply_chat_template(question["messages"], tokenize=False, add_generation_prompt=True)
    images = [Image.open(path) for path in question["images"]]
    inputs = processor(text=[text], images=[images], return_tensors="pt")
    with torch.inference_mode():
        adapted = model(**inputs).logits[0, -1].tolist()
        with model.disable_adapter():
            unadapted = model(**inputs).logits[0, -1].tolist()
    out.write_text(json.dumps({"adapted": adapted, "base": unadapted}))


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_leaves_a_whole_adapter(training: Training) -> None:
    folder = training.folder
    assert {path.name for path in folder.iterdir() if path.is_file()} == FILES
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [f"checkpoint-{n}" for n in (2, 4, 6)]
    names = weights(folder)
    assert not [name for name in names if "visual.blocks" in name or "patch_embed" in name]
    # q, k, v, o, gate, up, down of two layers; fc1, fc2 of the merger and of two deepstack mergers
    assert len(names) == 2 * (7 * 2 + 2 + 2 * 2)

    model, record = load_vlm(folder), read_record(folder)
    assert (record.kind, record.name, record.revision) == ("adapter", model.name, model.revision)
    assert record.config["base_fingerprint"] == base_fingerprint(model.model.config)
    data = load_rows(str(training.dataset), "fly", "train").data
    assert record.trained_on == (data,)
    assert {"torch", "transformers", "trl", "peft"} <= record.versions.keys()

    rows = partition_rows()
    ids = {partition: [row["sample_id"] for row in own] for partition, own in rows.items()}
    assert json.loads((folder / "test_indices.json").read_text()) == ids
    stored = yaml.safe_load((folder / "training_config.yaml").read_text())
    assert stored.items() <= record.config.items()
    assert stored["adapter"]["lora_r"] == 4
    assert stored["training"]["learning_rate"] == 0.01
    assert str(folder.parent) not in (folder / "training_config.yaml").read_text()


def test_learns_and_keeps_the_best_checkpoint(training: Training) -> None:
    log = json.loads((training.folder / "training_log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 1
    validation = {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}
    best = min(validation, key=validation.__getitem__)
    record = read_record(training.folder)
    assert (record.config["best_step"], record.config["best_eval_loss"]) == (best, validation[best])
    kept, saved = weights(training.folder / f"checkpoint-{best}"), weights(training.folder)
    assert all(np.array_equal(kept[name], saved[name]) for name in saved)
    with Image.open(training.folder / "training_curve.png") as curve:
        assert curve.size == (720, 480)


def run_until_killed(*options: str) -> None:
    """Kill this process while it writes its second checkpoint; what is changed here is changed in it alone."""
    import transformers

    whole = transformers.Trainer._save_rng_state

    def save(trainer: transformers.Trainer, folder: str) -> None:
        if folder.endswith("checkpoint-4"):
            os.kill(os.getpid(), signal.SIGKILL)
        whole(trainer, folder)

    pytest.MonkeyPatch().setattr(transformers.Trainer, "_save_rng_state", save)
    run_script(*options)


def test_goes_on_after_kill_9_as_if_nothing_had_been(training: Training, tmp_path: Path, capfd) -> None:
    out = tmp_path / "adapter"
    options = [*training.options, "--output_dir", str(out)]
    log = tmp_path / "killed.log"
    assert run_forked(lambda: run_until_killed(*options), log) == -signal.SIGKILL, log.read_text()[-2000:]
    # killed in the middle of writing its second checkpoint
    assert is_whole(out / "checkpoint-2")
    assert (out / "checkpoint-4" / "adapter_model.safetensors").exists()
    assert not is_whole(out / "checkpoint-4")
    assert not (out / "connectomebench.json").exists()

    with pytest.raises(SystemExit, match=r"lora_r was 4, is 8.*choose another --output_dir, or start again"):
        run_script(*options, "--lora_r", "8")
    first = (out / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns
    run_script(*options)
    # the first steps were not made again
    assert (out / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns == first
    after, before = weights(out), weights(training.folder)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    seen, unbroken = (json.loads((folder / "training_log.json").read_text()) for folder in (out, training.folder))
    assert [e["loss"] for e in seen if "loss" in e] == [e["loss"] for e in unbroken if "loss" in e]
    assert read_record(out).revision == read_record(training.folder).revision


def test_goes_on_with_smaller_batches_and_as_many_rows_a_step(training: Training, tmp_path: Path) -> None:
    out = Path(shutil.copytree(training.folder, tmp_path / "adapter"))
    shutil.rmtree(out / "checkpoint-6")
    (out / "connectomebench.json").unlink()
    first = (out / "checkpoint-4" / "adapter_model.safetensors").stat().st_mtime_ns
    thrifty = ("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2")
    run_script(*training.options, *thrifty, "--output_dir", str(out))
    assert (out / "checkpoint-4" / "adapter_model.safetensors").stat().st_mtime_ns == first
    seen, unbroken = (
        [entry["loss"] for entry in json.loads((folder / "training_log.json").read_text()) if "loss" in entry]
        for folder in (out, training.folder)
    )
    assert seen[:4] == unbroken[:4]
    # the same rows, of which each has two of the same number of trained tokens; dropout differs
    assert len(seen) == 6
    assert seen[4:] == pytest.approx(unbroken[4:], rel=0.3)
    assert read_record(out).config["training"]["gradient_accumulation_steps"] == 2


def test_adapter_needs_nothing_of_this_package(training: Training, tmp_path: Path) -> None:
    import torch

    row = load_rows(str(training.dataset), "fly", "test").dataset[1]
    paths = [tmp_path / f"{view}.png" for view in row["views"]]
    for image, path in zip(row["images"], paths, strict=True):
        decode(image).save(path)
    asked, out = tmp_path / "asked.json", tmp_path / "logits.json"
    asked.write_text(json.dumps({"messages": messages(row), "images": [str(path) for path in paths]}))
    log = tmp_path / "stock.log"
    ended = run_forked(lambda: answer_by_stock_tools(training.base, training.folder, asked, out), log)
    assert ended == 0, log.read_text()[-2000:]
    stock = json.loads(out.read_text())

    ours = load_vlm(training.folder)
    with torch.inference_mode():
        logits = ours.model(**ours.tensors([Conversation(messages(row), row["images"])])).logits[0, -1].numpy()
    assert np.array_equal(np.float32(stock["adapted"]), logits)
    assert np.abs(logits - np.float32(stock["base"])).max() > 0.1


def test_dry_run_reads_no_weights_and_leaves_nothing(training: Training, tmp_path: Path, monkeypatch, capsys) -> None:
    base = tmp_path / "no-weights"
    base.mkdir()
    for path in training.base.iterdir():
        (base / path.name).write_bytes(b"" if path.suffix == ".safetensors" else path.read_bytes())
    settings = {"task": "merge_action", "species": "fly", "dataset": str(training.dataset), "model": str(base)}
    settings |= {"per_device_train_batch_size": 2, "dry_run": True, "learning_rate": "1e-4"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    run_script("--config", "run.yaml")
    told = capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before
    assert "the optimizer is adamw_torch in place of adamw_8bit" in told
    trained = sum(array.size for array in weights(training.folder).values()) * 4  # rank 16 in place of 4
    assert f"trainable: {trained:,} of " in told
    assert "model.visual.deepstack_merger_list.N.linear_fc2: 2 modules" in told
    assert "model.language_model.layers.N.self_attn.q_proj: 2 modules" in told
    assert f"fingerprint {load_rows(str(training.dataset), 'fly', 'train').data.fingerprint}" in told
    assert "balanced: 8 rows, {'no': 4, 'yes': 4}" in told
    assert told.count("[[<answer>no</answer><|im_end|>\\n]]") == 1
    assert told.count("[[<answer>yes</answer><|im_end|>\\n]]") == 1
    assert "weights of the base" in told
    assert "(1 processes, not sharded" in told
    assert "float32; adamw_torch" in told
    size = float(re.search(r"weights of the base: (\S+) GiB", told)[1])
    # the config of the published models says bfloat16, which a machine without a GPU does not change
    edit_json(base / "config.json", dtype="bfloat16")
    run_script("--config", "run.yaml")
    told = capsys.readouterr().out
    assert "bfloat16; adamw_torch" in told
    assert float(re.search(r"weights of the base: (\S+) GiB", told)[1]) == pytest.approx(size / 2, rel=0.01)


def test_a_base_of_32_billion_weights_needs_81_gib_and_not_159(training: Training, tmp_path: Path) -> None:
    from transformers import Qwen3VLConfig

    options = ("--per_device_train_batch_size", "4", "--output_dir", str(tmp_path / "out"))
    *_, args = parsed(*training.options, *options)
    assert not args.bf16
    # of Qwen3-VL-32B, with 4 rows of 3 pictures of 1024 px
    sizes = {"language": (64, 5120, 25600), "vision": (27, 1152, 4304), "rows": 4}
    tokens = {"tokens": 4 * (3 * 1024 + 250), "patches": 4 * 3 * 4096}
    gib = {}
    for dtype in ("bfloat16", "float32"):
        counted = counts_in_bf16(Qwen3VLConfig(dtype=dtype), args)
        shape = Shape(33_357_000_000, 137_000_000, 487_600_000, **sizes, **tokens, bf16=counted)
        gib[dtype] = sum(memory_estimate(shape, args).values()) / 2**30
    assert gib["bfloat16"] == pytest.approx(81, abs=2)
    assert gib["float32"] == pytest.approx(159, abs=4)


def test_damaged_data_are_told_in_one_line(training: Training, tmp_path: Path) -> None:
    def refused(damage: Callable[[Path], Any], message: str) -> None:
        dataset = Path(shutil.copytree(training.dataset, tmp_path / f"data-{len(list(tmp_path.iterdir()))}"))
        damage(dataset / "fly")
        options = list(options_for(dataset, training.base))
        with pytest.raises(SystemExit) as caught:
            run_script(*options, "--output_dir", str(tmp_path / "out"))
        text = str(caught.value.code)
        assert text.startswith("error: ") and "\n" not in text
        assert re.search(message, text), text

    validation, train = "validation-00000-of-00001.parquet", "train-00000-of-00001.parquet"

    def kept(name: str, rows: int) -> Callable[[Path], Any]:
        return lambda folder: pq.write_table(pq.read_table(folder / name).slice(0, rows), folder / name)

    refused(lambda folder: (folder / validation).unlink(), r"validation")
    refused(lambda folder: (folder / validation).write_bytes(b""), validation)
    refused(lambda folder: (folder / validation).write_bytes(b"PAR1 no more"), validation)
    refused(kept(validation, 0), r"validation|does not hold the rows of its manifest")
    refused(kept(train, 5), r"train|does not hold the rows of its manifest")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "split_action"], "holds the task merge_action, not split_action"),
        (["--species", "zebrafish"], "holds no species 'zebrafish'"),
        (["--task", "merge_acton"], "unknown task 'merge_acton'; did you mean"),
        (["--balance", "both"], "unknown balance 'both'"),
        (["--lora_r", "0"], "lora_r and lora_alpha must be at least 1"),
        (["--eval_steps", "1"], "give --save_steps and --eval_steps the same number"),
        (["--max_length", "512"], "max_length must stay None: a prompt that is cut"),
        (["--push_to_hub", "true"], "push_to_hub must stay False"),
        (["--trust_remote_code", "true"], "trust_remote_code must stay False"),
        (["--resume", "maybe"], "unknown resume 'maybe'"),
        (["--answer_style", "essay"], "unknown answer_style 'essay'"),
        (["--rationale_dropout", "0.2"], "rationale_dropout requires --answer_style analysis"),
        (["--answer_style", "analysis"], "add them with `connectomebench teacher`"),
        (["--optim", "lomo"], "the optimizer lomo needs a package (You need to install `lomo_optim`"),
        (["--report_to", "nowhere"], "nowhere is not supported, only"),
        (["--model_size", "32"], "not used by the HfArgumentParser"),
        (["--config", "none.yaml"], "No such file"),
    ],
)
def test_refuses_in_one_line_before_the_model_is_sought(
    training: Training, tmp_path: Path, monkeypatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run_script(*options_for(training.dataset, tmp_path / "nowhere"), *options, "--output_dir", "out")
    text = str(caught.value.code)
    assert text.startswith("error: ")
    assert message in text
    assert "\n" not in text
    assert not (tmp_path / "out").exists()


def test_a_way_to_report_that_is_not_installed_is_refused_before_the_model_is_sought(
    training: Training, tmp_path: Path, monkeypatch
) -> None:
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: False)
    options = options_for(training.dataset, tmp_path / "nowhere")
    with pytest.raises(SystemExit) as caught:
        run_script(*options, "--report_to", "trackio", "--output_dir", str(tmp_path / "out"))
    assert str(caught.value.code) == (
        "error: cannot report the run: TrackioCallback requires trackio to be installed. Run `pip install trackio`. "
        "Or set --report_to none"
    )


def test_refuses_a_base_that_is_none(training: Training, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no model folder"):
        run_script(*options_for(training.dataset, tmp_path / "nowhere"), "--output_dir", str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="is an adapter; name the model it was trained on"):
        run_script(*options_for(training.dataset, training.folder), "--output_dir", str(tmp_path / "out"))
