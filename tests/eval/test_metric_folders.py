"""What all metric folders share: they load without a network, and their cards are complete and true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

METRICS_FOLDER = Path(__file__).parents[2] / "eval"
NAMES = ["balanced_accuracy", "brier_score_multiclass", "calibration_error", "mask_iou", "place_score"]

OFFLINE = """
import os, socket, sys
os.environ.update(HF_HOME=sys.argv[1], HF_HUB_OFFLINE="1", HF_EVALUATE_OFFLINE="1")

def refuse(*args, **kwargs):
    raise AssertionError("looked something up outside")

socket.socket.connect = socket.getaddrinfo = refuse
sys.modules["transformers"] = None  # where it is there, evaluate imports all of it, and no metric needs it
import evaluate
del sys.modules["transformers"]
rows = {
    "balanced_accuracy": ([1, 0], [1, 1]),
    "brier_score_multiclass": ([[0.5, 0.5]], [1]),
    "calibration_error": ([0.75], [1]),
    "mask_iou": ([""], ["front="
        "iVBORw0KGgoAAAANSUhEUgAAAAQAAAABCAAAAADcV1ARAAAADUlEQVR42mNgqK//DwADfwH+TS2LPwAAAABJRU5ErkJggg=="]),
    "place_score": (["1250, 0, 0"], ["0, 0, 0"]),
}
for name in sys.argv[2:]:
    predictions, references = rows[os.path.basename(name)]
    print(evaluate.load(name).compute(predictions=predictions, references=references))
"""


def card(name: str) -> tuple[dict, str]:
    _, header, body = (METRICS_FOLDER / name / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), body


def test_every_metric_folder_is_tested():
    assert sorted(path.parent.name for path in METRICS_FOLDER.glob("*/app.py")) == NAMES


def test_they_load_and_compute_without_a_network_and_without_a_cache(tmp_path: Path):
    command = [sys.executable, "-c", OFFLINE, str(tmp_path), *(str(METRICS_FOLDER / name) for name in NAMES)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        "{'balanced_accuracy': 0.5}",
        "{'brier_score_multiclass': 0.5}",
        "{'ece': 0.25, 'mce': 0.25}",
        "{'miou': 0.0, 'miou_per_view': 0.0, 'iou': 0.0, 'dice': 0.0, 'iou_front': 0.0, "
        "'iou_side': nan, 'iou_top': nan}",
        "{'place_score': 0.5, 'hit_rate': 0.0}",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_card(name):
    header, body = card(name)
    assert header["sdk"] == "gradio"
    assert re.fullmatch(r"6\.\d+\.\d+", header["sdk_version"])
    assert (METRICS_FOLDER / name / header["app_file"]).is_file()
    assert header["tags"] == ["evaluate", "metric"]
    assert {"title", "emoji", "description", "license"} <= set(header)
    for section in ("Description", "How to use", "Inputs", "Output values", "Examples", "Limitations", "Citation"):
        assert re.search(rf"^##+ {section}$", body, re.MULTILINE), section
    assert "connectomebench" in (METRICS_FOLDER / name / "requirements.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_examples_on_the_card_and_in_the_module_are_true(name, metric):
    """Run every `metric.compute(...)` of the card and the docstring against the result written below it."""
    module = metric(name)
    found = re.findall(r"^(metric\.compute\([^`]*?\))\n# (\{[^}]*\})", card(name)[1], re.MULTILINE)
    found += re.findall(r">>> (metric\.compute\(.*\))\n\s*(\{[^}]*\})", module.inputs_description)
    assert len(found) >= 3
    for call, written in found:
        result = eval(call, {"metric": metric(name)})
        for key, value in re.findall(r"'(\w+)': ([\d.]+)", written):
            exact = not value.endswith("...")
            assert result[key] == pytest.approx(float(value.rstrip(".")), abs=1e-9 if exact else 1e-4)
