"""What `pip install connectomebench` alone does: datasets are built, loaded, checked and published without torch.

The packages of all extras that models, training and browser pages need cannot be imported in these processes. One of
them runs all commands, one after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import HubClient
from hub_server import WRITER, HubServer, hub_server
from written_neurons import write_neurons

BLOCKED = (
    *("torch", "torchvision", "transformers", "accelerate", "timm", "peft", "trl"),
    *(
        "gradio",
        "trimesh",
        "choix",
        "openai",
        "mlcroissant",
        "dask",
        "distributed",
        "navis",
        "caveclient",
        "cloudvolume",
    ),
)
# as if they were not installed: an import fails, and those who look before they import find nothing
WITHOUT = f"""\
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in {BLOCKED!r} else super().find_spec(name, path, target)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
CONFIG = """\
species: fly
source:
  morphology:
    path: neurons
    unit_nm: 1000
    rules: {cut_spacing_nm: 8000, min_fragment_nm: 1500, fused_fraction: 0.1}
tasks: [merge_action]
sites: {extent_nm: [2200, 3000], min_segment_voxels: 1000}
controls: {pool_per_case: 2, max_cases: 8}
partition: {cube_nm: 5000, test_fraction: 0.3}
views: {image_px: 32, em_px: 32, engine: cpu}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with hub_server(tmp_path_factory.mktemp("hub") / "store") as serving:
        yield serving


@pytest.fixture(scope="module")
def alone(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    """A process where none of the packages of models can be imported."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    started = HubClient(environment, WITHOUT)
    yield started
    started.close()


@pytest.fixture(scope="module")
def out(alone: HubClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that was built without any of these packages."""
    folder = tmp_path_factory.mktemp("alone")
    write_neurons(folder / "neurons")
    (folder / "build.yaml").write_text(CONFIG)
    done = alone.command("build", "--config", folder / "build.yaml", "--out", folder / "out")
    assert done.status == 0, done.err[-2000:]
    return folder / "out"


def test_a_dataset_is_built_and_loads(out: Path) -> None:
    code = (
        f"{WITHOUT}import json\n"
        "from datasets import load_dataset\nfrom connectomebench import load_rows\n"
        "rows = load_rows(sys.argv[1], 'fly', 'train')\n"
        "stock = load_dataset(sys.argv[1], 'fly', split='train')\n"
        "print(json.dumps([rows.data.rows, len(stock), stock[0]['images'][0].size]))"
    )
    folder = out / "merge_action"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    rows, stock, size = json.loads(done.stdout.splitlines()[-1])
    assert rows["yes"] == rows["no"] > 0 and stock == sum(rows.values()) and size == [32, 32]


def test_it_is_published(out: Path, hub: HubServer, alone: HubClient) -> None:
    done = alone.publish(out / "merge_action", "--repo", "brains/merge_action", token=WRITER)
    assert done.status == 0, done.err[-2000:]
    assert ("dataset", "brains/merge_action") in hub.store.repos and "commit" in done.out


def test_the_doctor_checks_a_configuration(out: Path, alone: HubClient) -> None:
    done = alone.command("doctor", "--config", out.parent / "build.yaml", "--offline", "--out", out, "--json")
    found = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert found["neurons"]["mark"] == found["python"]["mark"] == "ok" and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("quickstart", "--out", "x"), "models"),
        (("demo", "OUT"), "demo"),
        (("evaluate", "--dataset", "OUT/merge_action", "--species", "fly", "--model", "MODEL"), "models"),
        (("human-eval", "--dataset", "OUT/merge_action", "--species", "fly", "--rater", "ada"), "apps"),
        (("build", "--config", "EMBEDDED", "--out", "x"), "neurons"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_command_that_lacks_an_extra_names_it(
    out: Path, alone: HubClient, tmp_path: Path, words: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "model").mkdir()
    config = {"text_config": {}, "vision_config": {}, "model_type": "qwen3_vl"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "embedded.yaml").write_text("species: fly\nsource: {morphology: {}}\n")
    names = {"OUT": str(out), "MODEL": str(tmp_path / "model"), "EMBEDDED": str(tmp_path / "embedded.yaml")}
    filled = [word.replace("OUT", names["OUT"]) if word.startswith("OUT") else names.get(word, word) for word in words]
    before = sorted(tmp_path.rglob("*"))
    done = alone.command(*filled, cwd=tmp_path)
    (line,) = [line for line in done.err.splitlines() if line.startswith("connectomebench: ")]
    assert done.status == 2 and f"connectomebench[{extra}]" in line and "Traceback" not in done.err
    written = [path for path in tmp_path.rglob("*") if path not in before and path.is_file()]
    assert not [path for path in written if ".cache" not in path.parts], written
