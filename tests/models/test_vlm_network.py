from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stored_rows import row, write_dataset
from tiny_qwen3_vl import make_tiny_adapter

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.attribution import explain_row, methods_of
from connectomebench.evaluation.attribution_run import AttributionConfig, explain_rows
from connectomebench.evaluation.faithfulness import grid_edge, random_ranks, removal_curves, removal_of
from connectomebench.models.chat import Conversation
from connectomebench.models.open_network import open_network
from connectomebench.models.prompt import messages
from connectomebench.models.row_network import RowNetwork, kept_patches
from connectomebench.models.vlm import VisionLanguageModel
from connectomebench.models.vlm_loading import load_vlm

PX = 128


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["base", "adapter"])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    from tiny_qwen3_vl import make_tiny_qwen3_vl

    base = make_tiny_qwen3_vl(tmp_path_factory.mktemp("network") / "tiny-vl", image_px=PX)
    if request.param == "base":
        return load_vlm(base)
    return load_vlm(make_tiny_adapter(base, tmp_path_factory.mktemp("network") / "adapter"), base=base)


def picture(number: int, square: tuple[int, int, int, int] | None = None) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (PX, PX, 3), np.uint8))
    if square is not None:
        image.paste((255, 0, 0), square)
    return image


def asked(number: int = 0) -> dict[str, Any]:
    one = row(number, "yes", "merge_action")
    one["images"] = []
    for view in range(len(one["views"])):
        stream = io.BytesIO()
        picture(10 * number + view).save(stream, "PNG")
        one["images"].append({"bytes": stream.getvalue(), "path": None})
    return one


def network_and_images(vlm: VisionLanguageModel) -> tuple[RowNetwork, list[Image.Image]]:
    one = asked()
    return open_network(vlm, one), [picture(view) for view in range(len(one["views"]))]


def test_the_network_scores_as_the_model(vlm: VisionLanguageModel) -> None:
    network, images = network_and_images(vlm)
    one = asked()
    with torch.no_grad():
        found = network.scores(network.pixels(images), len(images)).softmax(-1)[0].tolist()
    (expected,) = vlm.score([Conversation(messages(one), one["images"])], network.classes)
    assert dict(zip(network.classes, found, strict=True)) == pytest.approx(expected, abs=1e-6)
    assert len(network.layers) == 2 and removal_of(network) == "patches dropped"


def test_patches_lie_where_they_are_in_the_picture(vlm: VisionLanguageModel) -> None:
    """A square of 2 x 1 patches of 16 px changes the tokens of these patches, and no other, of its picture."""
    network, images = network_and_images(vlm)
    assert network.entry is not None and network.patches is not None
    changed = [images[0], picture(1, (96, 32, 128, 48)), *images[2:]]
    seen: list[torch.Tensor] = []
    handle = network.entry.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        for own in (images, changed):
            network.scores(network.pixels(own), len(own))
    handle.remove()
    differ = (network.patches(seen[0] - seen[1], len(images)).abs().sum(-1) > 1e-6).numpy()
    expected = np.zeros((len(images), 8, 8), bool)
    expected[1, 2, 6:8] = True
    np.testing.assert_array_equal(differ.reshape(expected.shape), expected)


def test_a_removed_token_does_not_exist(vlm: VisionLanguageModel) -> None:
    """Whatever the tower says of it, merged or by DeepStack, changes nothing; that of a token that stays does."""
    network, images = network_and_images(vlm)
    tokens = 16
    kept = np.tile([n for n in range(tokens) if n != 5], (len(images), 1))
    visual = next(m for m in vlm.model.modules() if type(m).__name__ == "Qwen3VLVisionModel")
    mergers = [visual.merger, *visual.deepstack_merger_list]

    def score(disturbed: int | None, keep: Any) -> torch.Tensor:
        def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            noise = torch.zeros_like(output)
            noise[disturbed + tokens] = 1.0  # type: ignore[operator]
            return output + noise

        handles = [merger.register_forward_hook(hook) for merger in mergers] if disturbed is not None else []
        try:
            with torch.no_grad(), kept_patches(network, keep):
                return network.scores(network.pixels(images), len(images))
        finally:
            for handle in handles:
                handle.remove()

    torch.testing.assert_close(score(5, kept), score(None, kept))
    assert not torch.allclose(score(6, kept), score(None, kept), atol=1e-4)
    assert not torch.allclose(score(None, kept), score(None, None), atol=1e-4)
    torch.testing.assert_close(score(None, np.tile(np.arange(tokens), (len(images), 1))), score(None, None))


def test_removal_in_small_batches_gives_the_same_curves(vlm: VisionLanguageModel) -> None:
    network, images = network_and_images(vlm)
    orders = [random_ranks(len(images), 16, seed) for seed in range(3)]
    whole = removal_curves(replace(network, rows_at_once=None), images, orders, ["yes"])
    parts = removal_curves(replace(network, rows_at_once=2), images, orders, ["yes"])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one["yes"].deletion, other["yes"].deletion, atol=1e-5)
        np.testing.assert_allclose(one["yes"].insertion, other["yes"].insertion, atol=1e-5)


def test_pictures_of_different_sizes_are_refused(vlm: VisionLanguageModel) -> None:
    network, images = network_and_images(vlm)
    with pytest.raises(ConnectomeBenchError, match="different sizes"):
        network.pixels([images[0].resize((64, 64)), *images[1:]])


def test_relevance_changes_gradients_and_nothing_else(vlm: VisionLanguageModel) -> None:
    network, images = network_and_images(vlm)
    with torch.no_grad():
        before = network.scores(network.pixels(images), len(images))
    found = explain_row(network, images, network.classes, methods_of(network))
    with torch.no_grad():
        torch.testing.assert_close(network.scores(network.pixels(images), len(images)), before, rtol=0, atol=0)
    assert found.log_odds["yes"] == pytest.approx(float(before[0, 1] - before[0, 0]), rel=1e-3)
    relevance = found.maps["attnlrp", "patches", "yes"]
    assert relevance.shape == (len(images), 8, 8) and relevance.max() > 0
    assert grid_edge(network, 8) == 4
    # evidence for one of two answers speaks against the other
    assert not (relevance * found.maps["attnlrp", "patches", "no"]).any()


def test_rows_are_explained_with_their_own_question(vlm: VisionLanguageModel, tmp_path: Path) -> None:
    parts = {"train": range(0, 4), "validation": range(4, 6), "test": range(6, 8)}
    own = {p: [asked(n) | {"answer": ("no", "yes")[n % 2], "label": n % 2} for n in parts[p]] for p in parts}
    data = load_rows(str(write_dataset(tmp_path, rows=own)), "fly", "test")
    record = explain_rows(vlm, data, AttributionConfig(rows=2, random_orders=1)).record
    assert record["removal"] == "patches dropped" and record["layers"] == ["block 1", "block 2"]
    measured = {(one["method"], one["measure"]) for one in record["measures"]}
    assert {("attnlrp", "deletion"), ("layercam", "insertion"), ("attnlrp", "like_shuffled")} <= measured


def test_what_cannot_be_explained_is_refused(tiny_vlm: Path) -> None:
    vlm = load_vlm(tiny_vlm)
    one = asked() | {"task": "endpoint_localization"}
    with pytest.raises(ConnectomeBenchError, match="places"):
        open_network(vlm, one)
    vlm.can_score = False
    with pytest.raises(ConnectomeBenchError, match="thinks"):
        open_network(vlm, asked())
