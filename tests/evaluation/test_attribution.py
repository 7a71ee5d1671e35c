from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explained_probe import write_explained_probe
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.attribution import CAMS, check_methods, explain_row
from connectomebench.evaluation.attribution_files import RECORD, read_attribution, shown_map
from connectomebench.evaluation.attribution_pictures import overlay
from connectomebench.evaluation.attribution_place import NEAR_NM, near_mask, near_shares
from connectomebench.evaluation.attribution_run import AttributionConfig, explain_rows, shuffled_weights
from connectomebench.evaluation.faithfulness import (
    SHARES,
    gains,
    grid_edge,
    random_ranks,
    ranks,
    removal_curves,
    removal_of,
    to_grid,
)
from connectomebench.models.open_network import open_network
from connectomebench.models.row_network import RowNetwork

SCRIPT = Path(__file__).parents[2] / "eval" / "attribution.py"
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def red_or_blue() -> RowNetwork:
    """A convolutional network whose evidence for yes is the red there is, and for no the blue."""
    convolution = nn.Conv2d(3, 2, 16, 16)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None].expand(2, 3, 16, 16) / 256)
        convolution.bias.zero_()
    module = nn.Sequential(nn.Sequential(convolution, nn.ReLU()), nn.Identity())

    def pixels(images: Any) -> torch.Tensor:
        stack = np.stack([np.asarray(image.resize((224, 224)), np.float32) / 255 for image in images])
        return torch.from_numpy(stack).permute(0, 3, 1, 2)

    def scores(given: torch.Tensor, views: int) -> torch.Tensor:
        red, blue = module(given).mean(dim=(2, 3)).reshape(-1, views, 2).sum(dim=1).unbind(1)
        return 100 * torch.stack([blue, red], dim=1)

    return RowNetwork(("no", "yes"), module, pixels, scores, {"block 1": module[0]})


def flags() -> list[Image.Image]:
    """Two pictures with a red square above on the left and a blue one below on the right."""
    image = Image.new("RGB", (224, 224), WHITE)
    image.paste(RED, (32, 32, 64, 64))
    image.paste(BLUE, (160, 160, 192, 192))
    return [image, image]


@pytest.mark.parametrize("method", ["layercam", "gradcam", "eigengradcam"])
def test_evidence_lies_on_what_speaks_for_the_answer(method: Any) -> None:
    found = explain_row(red_or_blue(), flags(), ("no", "yes"), (method,))
    assert found.log_odds["yes"] == pytest.approx(-found.log_odds["no"])
    for answer, square in (("yes", slice(2, 4)), ("no", slice(10, 12))):
        own = found.maps[method, "block 1", answer]
        assert own.shape == (2, 14, 14) and own.min() >= 0
        assert own[:, square, square].sum() > 0.8 * own.sum()


def test_eigencam_knows_no_answer() -> None:
    found = explain_row(red_or_blue(), flags(), ("no", "yes"), ("eigencam",))
    np.testing.assert_array_equal(found.maps["eigencam", "block 1", "no"], found.maps["eigencam", "block 1", "yes"])


def test_maps_are_those_of_the_library() -> None:
    """The same as calling pytorch-grad-cam itself, up to its scaling of every picture to 0 to 1."""
    from pytorch_grad_cam import GradCAM, LayerCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network, images = red_or_blue(), flags()[:1]

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network.module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = network.scores(x, 1)
            return scores - scores.flip(1)  # log-odds of two answers

    found = explain_row(network, images, ("yes",), ("layercam", "gradcam"))
    for kind, method in ((LayerCAM, "layercam"), (GradCAM, "gradcam")):
        cam = kind(Whole(), [network.module[0]])
        whole = cam(input_tensor=network.pixels(images), targets=[ClassifierOutputTarget(1)])[0]
        own = found.maps[method, "block 1", "yes"][0]  # type: ignore[index]
        wide = np.asarray(Image.fromarray(own / own.max()).resize((224, 224), Image.Resampling.BILINEAR))
        assert np.corrcoef(wide.ravel(), whole.ravel())[0, 1] > 0.99


def test_a_true_map_is_faithful_and_its_opposite_is_not() -> None:
    network, images = red_or_blue(), flags()
    maps = explain_row(network, images, ("yes",), ("layercam",)).maps["layercam", "block 1", "yes"]
    edge = grid_edge(network, 14)
    assert removal_of(network) == "patches blurred" and edge == 14
    order = ranks(to_grid(maps, edge), 0)
    chance = [random_ranks(2, edge * edge, seed) for seed in range(3)]
    own, opposite, *random = [
        c["yes"] for c in removal_curves(network, images, [order, order[:, ::-1], *chance], ["yes"])
    ]
    good, bad = gains(own, random), gains(opposite, random)
    assert good.deletion > 0 and good.insertion > 0
    assert bad.deletion < 0 and bad.insertion < 0
    np.testing.assert_allclose(own.deletion, opposite.insertion)
    assert own.deletion[0] == own.insertion[0] and len(own.deletion) == len(SHARES)


def test_ties_are_broken_at_random_and_all_patches_are_ranked() -> None:
    maps = np.zeros((2, 3, 3))
    maps[:, 1, 1] = 1
    first, second = ranks(maps, 0), ranks(maps, 1)
    assert (first[:, 0] == 4).all() and (np.sort(first, axis=1) == np.arange(9)).all()
    assert (first != second).any()


@settings(deadline=None, max_examples=30)
@given(
    st.floats(-900, 900),
    st.floats(-900, 900),
    st.floats(-900, 900),
    st.floats(1200, 6000),
    st.sampled_from([("front", 0, 1), ("em_yz", 1, 2), ("top", 0, 2)]),
)
def test_what_is_near_is_a_disc_round_the_place_in_the_plane_of_the_view(
    x: float, y: float, z: float, extent: float, view: tuple[str, int, int]
) -> None:
    place, target = np.array([5e4, 6e4, 7e4]), np.array([5e4 + x, 6e4 + y, 7e4 + z])
    row = {"location_nm": place.tolist(), "extent_nm": extent, "target_nm": [target.tolist()]}
    found = near_mask(row, view[0])
    assert found is not None
    for r, c in ((0, 0), (10, 77), (56, 56), (111, 40)):  # by the world: where is this pixel?
        right, down = ((np.array([c, r]) + 0.5) / 112 - 0.5) * extent
        apart = np.hypot(place[view[1]] + right - target[view[1]], place[view[2]] + down - target[view[2]])
        near = min(500.0, extent / 4)  # small views are not near as a whole
        assert found[r, c] == (apart <= near) or abs(apart - near) < 1e-6


def test_shares_near_the_place() -> None:
    row: dict[str, Any] = {"location_nm": [0, 0, 0], "extent_nm": 4000.0, "target_nm": [], "views": ["front", "first"]}
    drawn = Image.new("RGB", (112, 112), WHITE)
    drawn.paste(BLUE, (0, 0, 112, 56))
    disc = np.pi * NEAR_NM**2 / 4000.0**2
    even = near_shares(row, [drawn, drawn], np.ones((2, 14, 14)))
    assert even is not None
    assert even.share == pytest.approx(disc, abs=0.004) and even.area == pytest.approx(disc, abs=0.004)
    assert even.drawn == pytest.approx(disc, abs=0.004)  # half the disc is drawn, and half the picture
    middle = np.zeros((2, 14, 14))
    middle[:, 6:8, 6:8] = 1
    sharp = near_shares(row, [drawn, drawn], middle)
    assert sharp is not None and sharp.share == 1
    assert near_shares(row, [drawn, drawn], np.zeros((2, 14, 14))) is None
    assert near_shares(row | {"views": ["first", "second"]}, [drawn, drawn], middle) is None


def test_an_overlay_colours_the_evidence_alone() -> None:
    image = Image.new("RGB", (64, 64), WHITE)
    one = np.zeros((4, 4))
    one[0, 0] = 2.0
    pixels = np.asarray(overlay(image, one, 2.0, 64), int)
    assert pixels[2, 2, 1] < 80 and (pixels[-1, -1] == 255).all()
    assert (np.asarray(overlay(image, one * 0, 0.0, 64)) == 255).all()


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_explained_probe(tmp_path_factory.mktemp("explained"))


def test_rows_are_explained_measured_and_drawn(
    explained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, model = explained
    options = ["--rows", "4", "--pictures", "1", "--swept", "gradcam", "layercam"]
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["", "--dataset", str(dataset), "--model", str(model), "--output_dir", str(out), *options]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert [Path(line).name for line in capsys.readouterr().out.split()] == [RECORD, "sweep.png", "row-00.png"]
    record = read_attribution(out)
    assert record is not None and record["removal"] == "patches dropped" and record["data"]["rows"] == 4
    assert record["layers"] == ["block 1", "block 2"]
    found = {(m["method"], m["layer"], m["measure"]): m for m in record["measures"]}
    methods = {method for method, _, _ in found}
    assert methods == {*CAMS, "attnlrp"}
    for method in methods:
        last = "patches" if method == "attnlrp" else "block 2"
        for measure in ("deletion", "insertion", "near", "near_by_area", "near_by_drawing", "like_shuffled"):
            one = found[method, last, measure]
            assert one["lower"] <= one["value"] <= one["upper"] and one["n"] <= 4
        assert found[method, last, "deletion"]["n_groups"] == 4
    assert ("layercam", "block 1", "deletion") in found and ("eigencam", "block 1", "deletion") not in found
    assert shown_map(record)[0] == "layercam"
    with Image.open(out / "row-00.png") as drawn:
        assert min(drawn.size) > 300
    before = (out / RECORD).read_bytes(), (out / "row-00.png").read_bytes()
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert before == ((out / RECORD).read_bytes(), (out / "row-00.png").read_bytes())


def test_shuffled_weights_come_back(explained: tuple[Path, Path]) -> None:
    from connectomebench.models.registry import load_model

    network = open_network(load_model(str(explained[1])), {})
    before = {name: weight.clone() for name, weight in network.module.named_parameters()}
    with shuffled_weights(network, 0):
        changed = [n for n, w in network.module.named_parameters() if not torch.equal(w, before[n])]
        for name, weight in network.module.named_parameters():
            assert torch.equal(weight.flatten().sort()[0], before[name].flatten().sort()[0])
    assert len(changed) > 10  # norms and biases are all ones and zeros at the start
    assert all(torch.equal(weight, before[name]) for name, weight in network.module.named_parameters())


def test_what_cannot_be_explained_says_so(explained: tuple[Path, Path], tmp_path: Path) -> None:
    from connectomebench.models.grey_baseline import GreyModel
    from connectomebench.models.probe import load_probe

    rows = load_rows(str(explained[0]), "fly", "train")
    with pytest.raises(ConnectomeBenchError, match="cannot be explained"):
        explain_rows(GreyModel(load_probe(explained[1])), rows)
    with pytest.raises(ConnectomeBenchError, match="transformers only"):
        check_methods(red_or_blue(), ["attnlrp"])
    with pytest.raises(ConnectomeBenchError, match="unknown"):
        check_methods(red_or_blue(), ["lime"])
    with pytest.raises(ConnectomeBenchError, match="at least 1"):
        AttributionConfig(rows=0)
    assert read_attribution(tmp_path) is None
    (tmp_path / RECORD).write_text(json.dumps({"format": 1}))
    with pytest.raises(ConnectomeBenchError, match="explain the model again"):
        read_attribution(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({"format": 99}))
    with pytest.raises(ConnectomeBenchError, match="later format"):
        read_attribution(tmp_path)
