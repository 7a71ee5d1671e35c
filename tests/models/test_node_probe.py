"""The node probe: features where nodes are drawn, learning what marks the place, and the same answers from disk."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.places import PlaceAnswer, list_nodes, write_places
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.models.node_probe import (
    NodeProbe,
    NodeProbeConfig,
    load_node_probe,
    mean_score,
    node_positions,
    tokens_at,
    train_node_probe,
)
from connectomebench.models.place_baselines import PlaceBaseline
from connectomebench.rendering.camera import view_frame

EXTENT = 6000.0


class Mosaic:
    """An encoder whose patches are the mean colours of an 8 x 8 grid."""

    name, revision, input_px, dim, has_cls = "mosaic", "1", 64, 3, False

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(i.resize((8, 8), Image.Resampling.BOX), np.float32).reshape(64, 3) for i in images])


def png(pixels: np.ndarray) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def marked_row(number: int, task: str) -> dict[str, Any]:
    """A row whose true nodes have a dark patch in all views."""
    rng = np.random.default_rng(number)
    grid = np.array([[x, y, z] for x in (-2000, 0, 2000) for y in (-2000, 2000) for z in (-2000, 2000)], float)
    nodes = grid[rng.permutation(12)][:8] + rng.uniform(-100, 100, (8, 3)).round()
    true = nodes[rng.permutation(8)[: 1 if task == "endpoint_localization" else 2]]
    images = []
    for view in MESH_VIEWS:
        pixels = np.full((64, 64, 3), 255, np.uint8)
        for column, row in (node_positions(true, EXTENT, view) * 64).round().astype(int):
            pixels[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6] = (0, 60, 90)
        images.append(png(pixels))
    sides = [tuple(map(float, one)) for one in true]
    return {
        "images": images,
        "views": list(MESH_VIEWS),
        "task": task,
        "question": f"Where?\n{list_nodes([tuple(n) for n in nodes], (0.0, 0.0, 0.0))}",
        "answer": write_places(PlaceAnswer(tuple(sides[:1]), tuple(sides[1:]))),
        "target_nm": true.tolist(),
        "location_nm": [0.0, 0.0, 0.0],
        "extent_nm": EXTENT,
        "group": f"g{number}",
    }


def rows_of(task: str, numbers: range) -> datasets.Dataset:
    number = datasets.Value("float64")
    rows = datasets.Dataset.from_list([marked_row(n, task) for n in numbers])
    return rows.cast_column("images", datasets.List(datasets.Image())).cast_column(
        "target_nm", datasets.List(datasets.List(number))
    )


@pytest.mark.parametrize("task", ["endpoint_localization", "split_proposal"])
def test_what_marks_the_place_is_learnt_and_kept_on_disk(task: str, tmp_path: Path) -> None:
    train, test = rows_of(task, range(16)), rows_of(task, range(100, 108))
    config = NodeProbeConfig("mosaic", folds=2, c_grid=(0.1,))
    probe = train_node_probe(train, config, encoder=Mosaic(), progress=False)

    assert mean_score(probe, test) > 0.7
    probe.save(tmp_path / "probe")
    again = load_node_probe(tmp_path / "probe", encoder=Mosaic())
    assert again.revision == probe.revision
    assert [a.prediction for a in again.predict(test[:8])] == [a.prediction for a in probe.predict(test[:8])]
    # few training rows may leave no probabilities, but an order of the nodes
    flat = NodeProbe(config, Mosaic(), replace(probe.head, scale=0.0), probe.trained_on)
    assert np.ptp(flat.node_scores(test[:1])[0]) == 0
    assert [a.prediction for a in flat.predict(test[:8])] == [a.prediction for a in probe.predict(test[:8])]
    other = Mosaic()
    other.revision = "2"
    with pytest.raises(ConnectomeBenchError, match="was trained on encoder"):
        load_node_probe(tmp_path / "probe", encoder=other)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(0, 1), st.floats(0, 1)), st.integers(1, 9))
def test_patches_are_interpolated_between_their_centres(at: tuple[float, float], edge: int) -> None:
    rows, columns = np.divmod(np.arange(edge * edge), edge)
    tokens = np.column_stack([columns + 0.5, rows + 0.5]).astype(np.float32) / edge
    [found] = tokens_at(tokens, np.array([at]))
    # linear in between, the outermost patch beyond
    expected = np.clip(at, 0.5 / edge, 1 - 0.5 / edge)
    assert found == pytest.approx(expected, abs=1e-5)


def test_positions_are_those_of_the_camera() -> None:
    nodes = np.array([[1000.0, -500.0, 250.0]])
    for view in MESH_VIEWS:
        right, down, _ = view_frame(view) @ nodes[0]
        assert node_positions(nodes, 4000.0, view)[0] == pytest.approx([0.5 + right / 4000, 0.5 + down / 4000])


def test_tasks_with_labels_are_refused() -> None:
    with pytest.raises(ConnectomeBenchError, match="no numbered nodes"):
        PlaceBaseline("first_node").predict({"task": ["split_proposal"], "question": ["Where?"]})
    with pytest.raises(ConnectomeBenchError, match="are labels"):
        question = "1: (0, 0, 0)\n2: (1, 1, 1)"
        PlaceBaseline("first_node").predict({"task": ["merge_action"], "question": [question]})
    with pytest.raises(ConnectomeBenchError, match="unknown rule"):
        PlaceBaseline("nearest")
    with pytest.raises(ConnectomeBenchError, match="no square grid"):
        tokens_at(np.zeros((5, 2), np.float32), np.zeros((1, 2)))
