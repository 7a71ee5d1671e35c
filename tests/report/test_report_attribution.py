from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from PIL import Image
from report_run import SPECIES, TASK_NAMES

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.attribution_files import RECORD, SWEEP
from connectomebench.report.attribution import read_looks
from connectomebench.report.page import write_report


def measure(method: str, layer: str, name: str, value: float | None) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {"method": method, "layer": layer, "measure": name, "value": value, "lower": low, "upper": high} | {
        "n": 4,
        "n_groups": 3,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "merge_action" / "fly" / "probe"
    own.mkdir(parents=True)
    for name in (SWEEP, "row-00.png"):
        Image.new("RGB", (8, 8)).save(own / name)
    record = {
        "format": 1,
        "model": "<probe>",
        "data": {"task": "merge_action", "species": "fly"},
        "removal": "patches dropped",
        "layers": ["block 1", "block 2"],
        "measures": [
            measure("layercam", "block 1", "deletion", 0.5),
            measure("layercam", "block 2", "deletion", 1.25),
            measure("layercam", "block 2", "near", 0.3),
            measure("attnlrp", "patches", "deletion", None),
        ],
        "samples": [{"group": "a"}, {"group": "a"}, {"group": "b"}],
        "pictures": ["row-00.png", "row-01.png", "../../secret.png"],
        "shown": {"method": "layercam", "layer": "block 1"},
    }
    (own / RECORD).write_text(json.dumps(record))
    return tmp_path


def test_the_last_layer_of_every_method_is_shown(folder: Path) -> None:
    (look,) = read_looks(folder, "merge_action", "fly")
    assert (look.model, look.rows, look.groups, look.shown) == ("<probe>", 3, 2, "LayerCAM, block 1")
    layer, relevance = look.methods
    assert (layer.method, layer.layer) == ("LayerCAM", "block 2")
    assert layer.deletion is not None and (layer.deletion.value, layer.deletion.upper) == (1.25, 1.35)
    assert layer.insertion is None and relevance.deletion is None
    assert len(look.pictures) == 1 and look.sweep is not None  # files that are absent or elsewhere are left out
    assert read_looks(folder, "merge_action", "mouse") == [] == read_looks(folder / "none", "merge_action", "fly")


def test_the_page_shows_it(folder: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.copytree(folder / "merge_action" / "fly", out / "attribution" / TASK_NAMES[0] / SPECIES)
    page = html.fromstring(
        write_report(out, {t: out / t for t in TASK_NAMES}, SPECIES, out / "results").read_text(encoding="utf-8")
    )
    (title,) = [h for h in page.xpath("//h3") if "looks at" in h.text_content()]
    assert title.text_content() == "What <probe> looks at"
    section = title.getparent()
    assert section.get("id") == TASK_NAMES[0]
    (table,) = [t for t in section.xpath(".//table") if "last layer" in t.xpath("string(caption)")]
    cells = [" ".join(cell.text_content().split()) for cell in table.xpath(".//tbody/tr[1]/*")]
    assert cells == ["LayerCAMblock 2", "+1.25 +1.15 to +1.35", "–", "0.30 0.20 to 0.40", "–", "–"]
    assert len(section.xpath(".//div[@class='looks']//img")) == 1


def test_a_damaged_record_is_named(folder: Path) -> None:
    path = folder / "merge_action" / "fly" / "probe" / RECORD
    path.write_text("{")
    with pytest.raises(ConnectomeBenchError, match="explain the model again"):
        read_looks(folder, "merge_action", "fly")
