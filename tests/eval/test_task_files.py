"""Task files for other harnesses: the same prompts and readings as ours, and runs where a harness is installed."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from odd_replies import ODD_REPLIES

from connectomebench.core.species import SPECIES
from connectomebench.core.tasks import TASKS, get_task
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.models import reply_parsing
from connectomebench.models.prompt import PROMPT_VERSION, messages
from connectomebench.models.reply_parsing import parse_answer

FOLDER = Path(__file__).parents[2] / "eval"
FILES = ("inspect_task", "lighteval_task")
HARNESSES = ("inspect_ai", "lighteval")


def without_harness(name: str) -> SimpleNamespace:
    """Run what of a file needs no harness: constants and functions that are not decorated and name nothing of it."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    taken = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in HARNESSES
        for alias in node.names
    }
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in HARNESSES:
            continue
        # annotations are text and need nothing
        names = {found.id for part in _evaluated(node) for found in ast.walk(part) if isinstance(found, ast.Name)}
        if not names & taken:
            kept.append(node)
    space: dict[str, Any] = {}
    exec(compile(ast.Module(kept, []), f"{name}.py", "exec"), space)
    return SimpleNamespace(**space)


def _evaluated(node: ast.stmt) -> list[ast.AST]:
    if isinstance(node, ast.FunctionDef):
        return [*node.decorator_list, *node.body]
    return [node]


@pytest.fixture(scope="module", params=FILES)
def file(request) -> SimpleNamespace:
    return without_harness(request.param)


def ours(task: str, views: list[str], question: str) -> list[str]:
    [message] = messages({"task": task, "question": question, "views": views})
    return [part["text"] for part in message["content"] if part["type"] == "text"]


def test_tasks_labels_and_versions_are_ours(file):
    assert all(TASKS[name].labels == labels for name, labels in file.LABELS.items())
    assert file.PROMPT_VERSION == PROMPT_VERSION


def test_every_task_with_labels_and_every_species_can_be_asked():
    assert set(without_harness("inspect_task").LABELS) == {name for name, task in TASKS.items() if task.labels}
    assert set(without_harness("lighteval_task").SPECIES) == set(SPECIES)


def test_prompts_are_ours_byte_by_byte(file):
    for name in file.LABELS:
        task = get_task(name)
        views = [*task.views, "front", "candidate_a_side", "em_xy", "second"]
        assert file.prompt_texts(name, task.question, views) == ours(name, views, task.question)


@pytest.mark.parametrize("reply", sorted({reply for _, reply, _ in ODD_REPLIES} | {"", "<answer>None</answer>"}))
def test_replies_are_read_as_we_read_them(reply, file):
    for name in file.LABELS:
        assert file.read_answer(reply, name) == parse_answer(reply, get_task(name))


@pytest.mark.parametrize("name", FILES)
def test_the_parser_is_a_copy_of_ours(name):
    ours_text = Path(str(reply_parsing.__file__)).read_text(encoding="utf-8")
    first, after = ours_text.index("# every repetition has a bound"), ours_text.index("_NUMBER = ")
    assert ours_text[first:after].strip() in (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def test_a_row_without_a_question_is_refused(file):
    for question in (None, " ", float("nan")):
        with pytest.raises(ValueError, match="has no question"):
            file.prompt_texts("merge_action", question, ["front"])


def test_balanced_accuracy_is_ours_and_its_error_that_of_a_bootstrap_over_groups(file):
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 3)
    hard = generator.random(200) < 0.4  # groups are right or wrong together
    answer = np.where(generator.random(600) < 0.15, "yes", "no")
    right = (generator.random(600) < np.where(hard[group], 0.2, 0.95)).astype(float)
    said = np.where(right == 1, answer, "?")
    rows = list(zip(answer.tolist(), group.astype(str).tolist(), right.tolist(), strict=True))
    value, error = file.balanced(rows)
    assert value == pytest.approx(balanced_accuracy(said, answer))
    drawn = []
    for _ in range(2000):
        times = np.bincount(generator.integers(0, 200, 200), minlength=200)[group]
        drawn.append(np.mean([np.average(right[answer == a], weights=times[answer == a]) for a in ("no", "yes")]))
    assert error == pytest.approx(np.std(drawn), rel=0.1)
    alone = file.balanced([(a, str(i), r) for i, (a, _, r) in enumerate(rows)])[1]
    assert error > 1.2 * alone
    assert math.isnan(file.balanced([("yes", "g", 1.0)])[1])


@pytest.mark.parametrize("name", FILES)
def test_files_import_nothing_but_the_harness_and_common_packages(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) <= {name.removesuffix("_task"), *HARNESSES, "datasets"}


def dataset(folder: Path, answers: list[str]) -> Path:
    """Write a dataset folder with one test row an answer; all have the same card."""
    from datasets import Dataset, Features, Image, List, Value
    from PIL import Image as Picture

    folder.joinpath("fly").mkdir(parents=True)
    text = Value("string")
    names = {name: text for name in ("sample_id", "answer", "question", "group", "species", "origin", "task")}
    rows = [
        dict.fromkeys(names, "fly")
        | {"sample_id": f"{i}", "answer": answer, "images": [Picture.new("RGB", (4, 4))] * 2}
        for i, answer in enumerate(answers)
    ]
    features = Features(names | {"images": List(Image())})
    path = folder / "fly/test-00000-of-00001.parquet"
    Dataset.from_list(rows, features=features).to_parquet(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"task": folder.name, "species": {"fly": {"files": {path.name: digest}}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    card = "---\nconfigs:\n- config_name: fly\n  data_files: [{split: test, path: fly/test-*}]\n---\n"
    (folder / "README.md").write_text(card)
    return folder


def test_files_of_a_folder_are_those_of_its_manifest(file, tmp_path: Path):
    folder = dataset(tmp_path / "run[1]/merge_action", ["yes", "no"])
    [(path, digest)] = file.local_files(folder, "merge_action", "fly", "test").items()
    assert path == folder / "fly/test-00000-of-00001.parquet"
    whole = path.read_bytes()
    assert digest == hashlib.sha256(whole).hexdigest()

    def refused(words: str, *asked: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            file.local_files(folder, *(asked or ("merge_action", "fly", "test")))
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)

    refused("holds the task merge_action, not split_action", "split_action", "fly", "test")
    refused("holds no species 'mouse'; it has fly", "merge_action", "mouse", "test")
    refused("no rows of fly in 'train'", "merge_action", "fly", "train")
    for damaged in (whole[:-9], b"", whole.replace(b"yes", b"no ")):
        path.write_bytes(damaged)
        refused("not the file that the manifest describes, or damaged; copy the whole dataset folder again")
    path.unlink()
    refused("cannot be read .No such file")
    for text in ("", "[]", "{}", '{"task": "merge_action", "species": {"fly": {}}}', "[" * 100_000):
        (folder / "manifest.json").write_text(text)
        refused("has no manifest.json that can be read and names its files")


def test_lighteval_reads_each_folder_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows are loaded as lighteval loads them, with one cache for folders that have the same card."""
    from datasets import load_dataset

    cache = str(tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    file = without_harness("lighteval_task")
    for name, answers in (("a[1]", ["yes", "no"]), ("b", ["no", "no", "no"]), ("a[1]", ["yes", "no"])):
        folder = tmp_path / name / "merge_action"
        if not folder.exists():
            dataset(folder, answers)
        [(task, species, place)] = file.places(str(tmp_path / name))
        assert (task, species) == ("merge_action", "fly")
        rows = load_dataset(
            path=place["hf_repo"], name=place["hf_subset"], revision=None, cache_dir=str(tmp_path / "c")
        )
        assert list(rows) == place["hf_avail_splits"]
        assert rows["test"]["answer"] == answers and len(rows["test"][0]["images"]) == 2
    with pytest.raises(ValueError, match="holds no dataset of merge_action"):
        file.places(str(tmp_path))
    assert {(place["hf_repo"], place["hf_subset"]) for _, _, place in file.places(None)} == {
        (f"connectomebench/{task}", species) for task in file.LABELS for species in SPECIES
    }


def test_inspect_reads_each_folder_as_it_is(tmp_path: Path):
    file = without_harness("inspect_task")
    for name, answers in (("a[1]", ["yes", "no"]), ("b", ["no", "no", "no"]), ("a[1]", ["yes", "no"])):
        folder = tmp_path / name / "merge_action"
        if not folder.exists():
            dataset(folder, answers)
        rows = list(file.read_rows(str(folder), "merge_action", "fly", "test", None))
        assert [row["answer"] for row in rows] == answers
        assert all(image["bytes"].startswith(b"\x89PNG") for row in rows for image in row["images"])
    with pytest.raises(ValueError, match="there is no dataset folder"):
        file.read_rows(str(tmp_path / "none"), "merge_action", "fly", "test", None)
    with pytest.raises(ValueError, match="is a folder, which has no revisions"):
        file.read_rows(str(folder), "merge_action", "fly", "test", "main")


def test_lighteval_finds_the_metadata_on_top():
    text = ast.get_docstring(ast.parse((FOLDER / "lighteval_task.py").read_text(encoding="utf-8"))) or ""
    keys = [line.removesuffix(":") for line in text.splitlines() if line.endswith(":")]
    assert keys == ["name", "dataset", "abstract", "languages", "tags", "paper"]
    assert all(f"connectomebench/{name}" in text for name in without_harness("lighteval_task").LABELS)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_inspect_asks_a_built_dataset_with_all_images_in_one_message(request, tmp_path: Path):
    inspect_ai = pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")
    from datasets import load_dataset
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    asked = []

    def reply(messages, tools, tool_choice, config):
        asked.append(messages)
        output = ModelOutput.from_content("mockllm", "<answer>yes</answer>" if len(asked) % 2 else "cannot tell")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    # built only where a harness is there to ask it
    folder = request.getfixturevalue("built_short") / "endpoint_error_identification_with_em"
    task = load("inspect_task").connectomebench(task=folder.name, species="fly", dataset=str(folder))
    model = get_model("mockllm/model", custom_outputs=reply)
    [log] = inspect_ai.eval(task, model=model, display="none", log_dir=str(tmp_path), max_samples=1)
    assert log.status == "success"
    rows = load_dataset(str(folder), "fly", split="test").with_format("arrow")[:].to_pylist()
    assert len(asked) == len(rows)
    content = asked[0][0].content
    assert [part.type for part in content] == ["text", "image"] * 6 + ["text"]
    sent = [base64.b64decode(part.image.partition(",")[2]) for part in content if part.type == "image"]
    first = next(row for row in rows if row["images"][0]["bytes"] == sent[0])
    assert sent == [image["bytes"] for image in first["images"]]
    texts = [part.text for part in content if part.type == "text"]
    assert texts == ours(folder.name, first["views"], first["question"])
    [scores] = log.results.scores
    said = ["yes" if sample.scores["tagged_answer"].answer else "" for sample in log.samples]
    truth = [sample.target for sample in log.samples]
    assert scores.metrics["balanced_accuracy"].value == pytest.approx(balanced_accuracy(said, truth))
    assert scores.metrics["balanced_accuracy_stderr"].value > 0


def test_lighteval_takes_the_rows_of_a_built_dataset(request, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("lighteval", reason="lighteval is not installed")
    from datasets import load_dataset

    monkeypatch.setenv("CONNECTOMEBENCH_DATASETS", str(request.getfixturevalue("built_short")))
    module = load("lighteval_task")
    task = next(config for config in module.TASKS_TABLE if config.name == "connectomebench_merge_action:fly")
    row = load_dataset(task.hf_repo, task.hf_subset, split="test")[0]
    doc = task.prompt_function(row, task.name)
    assert doc.query == "\n".join(ours("merge_action", row["views"], row["question"]))
    assert len(doc.images) == 3
    response = SimpleNamespace(final_text=[f"<answer>{row['answer']}</answer>"])
    right = module.TaggedAnswer().compute(response, doc)
    assert right == {"answer": row["answer"], "group": row["group"], "right": 1.0}
    response.final_text = ["cannot tell"]
    wrong = module.TaggedAnswer().compute(response, doc) | {"answer": "other"}
    assert module.aggregate([right, right, wrong])["balanced_accuracy"] == 0.5
