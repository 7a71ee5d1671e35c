from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from explained_probe import write_explained_probe
from lxml import html
from place_rows import partition_place_rows
from stored_rows import write_dataset

from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.demo.app_data import open_content
from connectomebench.demo.ask_answer import answer_html
from connectomebench.demo.ask_models import ask, explainable, find_models
from connectomebench.demo.evidence import evidence
from connectomebench.demo.try_tab import _looked
from connectomebench.models.images import decode
from connectomebench.models.node_probe import NodeProbeConfig, train_node_probe
from connectomebench.models.registry import load_model, save_head_model

KEY = ("merge_action", "fly")
PLACE = ("endpoint_localization", "fly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence")
    write_explained_probe(out)
    train = load_rows(str(write_dataset(out, PLACE[0], rows=partition_place_rows())), "fly", "train")
    config = NodeProbeConfig(str(out / "vit"), folds=2, c_grid=(0.1,))
    save_head_model(train_node_probe(train.dataset, config, progress=False), out / "models" / "nodes", train.data)
    return out


def test_evidence_is_shown_after_the_answer_and_to_those_who_ask(folder: Path) -> None:
    content = open_content(folder)
    number = content.samples.shown(KEY)[0]
    images = [decode({"bytes": file}) for file in content.samples.pictures(KEY, number)]
    page = html.fromstring(str(_looked(content, KEY, number)))
    assert page.xpath("//details[@open]/summary/text()") == ["What probe looks at"]
    assert len(page.xpath("//svg")) == 2 * len(images)  # each with the mark of the place
    assert page.xpath("//h3/text()") == ["Evidence for “no”", "Evidence for “yes”"]
    assert len(page.xpath("//img")) == 2 * len(images)
    task = get_task(KEY[0])
    (opinion,) = ask(find_models(folder)[task.name], task, images)
    shown = answer_html(task, images, "note", [opinion])
    assert "What probe looks at" in shown and shown.count("<img") == 3 * len(images)


def test_evidence_is_that_of_the_model(folder: Path) -> None:
    content = open_content(folder)
    images = [decode({"bytes": file}) for file in content.samples.pictures(KEY, content.samples.shown(KEY)[0])]
    model = load_model(str(folder / "models" / "probe"))
    found = evidence(model, content.samples.row(KEY, content.samples.shown(KEY)[0]), images)
    assert set(found) == {"no", "yes"} and all(own.shape == (3, 4, 4) and own.min() >= 0 for own in found.values())
    assert not np.allclose(found["no"], found["yes"])


def test_a_model_of_places_shows_its_scores_of_the_nodes(folder: Path) -> None:
    content = open_content(folder)
    number = content.samples.shown(PLACE)[0]
    row = content.samples.row(PLACE, number)
    page = html.fromstring(str(_looked(content, PLACE, number)))
    rows = load_rows(str(folder / PLACE[0]), "fly", "test").dataset
    at = list(rows["sample_id"]).index(row["sample_id"])
    model = load_model(str(folder / "models" / "nodes"))
    (said,) = model.predict(rows[at : at + 1])
    assert page.xpath("//h3/text()") == [f"probe answers {said.prediction}"]
    named = page.xpath("//tbody//th/text()")
    assert named[0] == said.prediction and sorted(named) == ["node 1", "node 2", "node 3", "node 4"]


def test_only_models_of_the_task_are_explained(folder: Path) -> None:
    assert [model.kind for model in explainable(folder, "merge_action")] == ["probe"]
    assert explainable(folder, "split_action") == () == explainable(folder / "none", "merge_action")
