"""A user without this package loads what it wrote: stock `datasets` in a process that cannot import us."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from stored_rows import HIGH, write_dataset

PROGRAM = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "connectomebench":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
try:
    import connectomebench
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("connectomebench can be imported")
import datasets
from datasets import load_dataset

datasets.disable_progress_bars()
folder = sys.argv[1]
found = {}
data = load_dataset(folder, "fly")
found["rows"] = {name: len(part) for name, part in data.items()}
first = data["train"][0]
found["columns"] = list(first)
found["sizes"] = [image.size for image in first["images"]]
found["label"] = data["train"].features["label"].names
found["labels"] = data["test"]["label"][:]
found["answers"] = data["test"]["answer"][:]
found["segments"] = first["segment_ids"]
stream = load_dataset(folder, "fly", split="test", streaming=True)
found["streamed"] = [(row["sample_id"], row["images"][2].mode) for row in stream]
found["ids"] = data["test"]["sample_id"][:]
small = load_dataset(folder, "fly", columns=["sample_id", "answer"])
found["small"] = small["train"].column_names
# read to its end: threads of pyarrow that still read ahead can abort a process that ends
few = list(load_dataset(folder, "fly", split="train", streaming=True, columns=["sample_id", "location_nm"]))
found["small_stream"] = sorted(few[0])
found["small_rows"] = len(small["train"])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    folder = write_dataset(out)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "HF_HOME": str(elsewhere / "hf"),
        "HF_HUB_OFFLINE": "1",
        "USE_TORCH": "0",  # datasets imports it where it is there
    }
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_map_style(loaded):
    assert loaded["rows"] == {"train": 8, "validation": 4, "test": 4}
    assert loaded["sizes"] == [[48, 48]] * 3
    assert loaded["segments"] == [HIGH, HIGH + 1]
    assert len(loaded["columns"]) == 22


def test_label_is_a_class_and_agrees_with_the_answer(loaded):
    assert loaded["label"] == ["no", "yes"]
    assert [loaded["label"][i] for i in loaded["labels"]] == loaded["answers"]


def test_streaming_gives_the_same_rows(loaded):
    assert [name for name, _ in loaded["streamed"]] == loaded["ids"]
    assert {mode for _, mode in loaded["streamed"]} == {"RGB"}


def test_columns_alone(loaded):
    assert sorted(loaded["small"]) == ["answer", "sample_id"]
    assert loaded["small_rows"] == 8
    assert loaded["small_stream"] == ["location_nm", "sample_id"]
