from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_encoders import pictures, save_tiny

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.attn_lrp import attn_lrp, divide, pass_on
from connectomebench.models.encoders import load_encoder
from connectomebench.models.heads import Head, fit_head
from connectomebench.models.open_network import open_network
from connectomebench.models.probe import Probe, ProbeConfig, head_candidates
from connectomebench.models.row_network import RowNetwork, kept_patches, log_odds


def make_probe(folder: Path, kind: str, views: int = 3, **settings: Any) -> Probe:
    """A probe on a tiny random encoder and random features."""
    encoder = load_encoder(save_tiny(kind, folder))
    config = ProbeConfig(save_tiny(kind, folder), c_grid=(0.1,), folds=2, **settings)
    random = np.random.default_rng(0)
    blocks = views + int(views == 2)
    features = random.normal(size=(24, blocks * encoder.dim)).astype(np.float32)
    answers = ["yes" if value > 0 else "no" for value in features[:, 0]]
    head: Head = fit_head(features, answers, [str(n) for n in range(24)], head_candidates(config), 2)
    return Probe(config, encoder, head, views, "trained", None)


def scores_of(network: RowNetwork, images: list[Image.Image], views: int = 3) -> torch.Tensor:
    with torch.no_grad():
        return network.scores(network.pixels(images), views)


@pytest.mark.parametrize(
    ("kind", "settings", "views"),
    [
        ("vit", {"pooling": "cls"}, 3),
        ("siglip", {"head": "mlp"}, 3),
        ("dinov2_with_registers", {"pooling": "max"}, 2),
        ("resnet", {}, 3),
    ],
)
def test_a_probe_as_a_network_scores_as_the_probe(kind: str, settings: Any, views: int, tmp_path: Path) -> None:
    probe = make_probe(tmp_path, kind, views, **settings)
    network = open_network(probe, {})
    images = pictures(2 * views)
    found = scores_of(network, images, views).softmax(-1).numpy()
    features = probe._store.rows(lambda: [images[:views], images[views:]])
    if views == 2:
        features = np.concatenate([features, np.abs(features[:, :32] - features[:, 32:])], axis=1)
    np.testing.assert_allclose(found, probe.head.pipeline.predict_proba(features), atol=1e-4)
    assert network.classes == ("no", "yes")
    assert len(network.layers) == (1 if kind == "vit" else 2)  # nothing reaches a class token after the last attention


def test_efficientnet_has_its_blocks(efficientnet: Any) -> None:
    head = make_head(3 * 1280)
    network = open_network(Probe(ProbeConfig("efficientnet_lite0"), efficientnet, head, 3, "t", None), {})
    images = pictures(3)
    features = efficientnet.encode(images).mean(axis=1).reshape(1, -1)
    found = scores_of(network, images).softmax(-1).numpy()
    np.testing.assert_allclose(found, head.pipeline.predict_proba(features), atol=1e-3)
    assert list(network.layers)[-1] == "block 17" and network.entry is None and network.keep is None


def make_head(dim: int) -> Head:
    features = np.random.default_rng(0).normal(size=(12, dim)).astype(np.float32)
    answers = ["yes", "no"] * 6
    return fit_head(features, answers, [str(n) for n in range(12)], head_candidates(ProbeConfig(c_grid=(0.01,))), 2)


def test_dropped_patches_leave_no_trace(tmp_path: Path) -> None:
    network = open_network(make_probe(tmp_path, "vit"), {})
    images = pictures(3, 32)
    changed = []
    for image in images:
        pixels = np.array(image)
        pixels[:16, 16:] = 0  # patch 1 of the grid of 2 x 2
        changed.append(Image.fromarray(pixels))
    kept = np.tile([0, 2, 3], (3, 1))
    assert not torch.allclose(scores_of(network, images), scores_of(network, changed))
    with kept_patches(network, kept):
        torch.testing.assert_close(scores_of(network, images), scores_of(network, changed))
    with kept_patches(network, np.tile([3, 1, 0, 2], (3, 1))):
        everything = scores_of(network, images)
    torch.testing.assert_close(everything, scores_of(network, images))


def test_patches_of_a_convolutional_network_are_not_dropped(tmp_path: Path) -> None:
    network = open_network(make_probe(tmp_path, "resnet"), {})
    with pytest.raises(ConnectomeBenchError, match="blur"), kept_patches(network, np.zeros((3, 1), int)):
        pass


def test_log_odds_of_many_answers() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5]])
    p = scores.softmax(-1)[0, 1]
    torch.testing.assert_close(log_odds(scores, 1)[0], (p / (1 - p)).log())


def test_relevance_is_kept_by_functions_and_halved_by_products() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    y = pass_on(torch.nn.functional.gelu, x)
    weights = torch.arange(5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(x * gradient, (y * weights).detach())
    (gradient,) = torch.autograd.grad((divide(x, 4) * weights).sum(), x)
    torch.testing.assert_close(gradient, weights / 4)


@pytest.mark.parametrize("kind", ["vit", "siglip", "dinov2_with_registers"])
def test_attn_lrp_changes_gradients_and_nothing_else(kind: str, tmp_path: Path) -> None:
    encoder: Any = load_encoder(save_tiny(kind, tmp_path))
    pixels = encoder.pixels(pictures(1))

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        given = pixels.clone().requires_grad_()
        out = encoder.module(pixel_values=given).last_hidden_state
        (gradient,) = torch.autograd.grad(out.square().sum(), given)
        return out.detach(), gradient

    before, plain = run()
    with attn_lrp(encoder.module):
        during, relevant = run()
    after, again = run()
    torch.testing.assert_close(before, during, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(before, after, atol=0, rtol=0)
    torch.testing.assert_close(plain, again, atol=0, rtol=0)
    assert not torch.allclose(plain, relevant)


def test_relevance_is_conserved_where_nothing_takes_it(tmp_path: Path) -> None:
    """Without biases and attention, what arrives at the patches is the whole output: the norm's last layer as well."""
    encoder: Any = load_encoder(save_tiny("vit", tmp_path))
    module = encoder.module
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bias") or "v_proj" in name or "attention.value" in name:
                weight.zero_()
    seen: list[torch.Tensor] = []

    def hook(_module: Any, inputs: Any) -> Any:
        seen.append(inputs[0].detach().requires_grad_())
        return (seen[0], *inputs[1:])

    handle = next(m for n, m in module.named_modules() if n.endswith("layers.0")).register_forward_pre_hook(hook)
    with attn_lrp(module):
        out = module(pixel_values=encoder.pixels(pictures(1))).last_hidden_state
        total = (out * torch.linspace(-1, 1, out.shape[-1])).sum()
        (gradient,) = torch.autograd.grad(total, seen[0])
    handle.remove()
    torch.testing.assert_close((seen[0] * gradient).sum(), total.detach(), rtol=1e-4, atol=1e-4)


def test_attn_lrp_wants_attention(tmp_path: Path) -> None:
    encoder: Any = load_encoder(save_tiny("resnet", tmp_path))
    with pytest.raises(ConnectomeBenchError, match="transformers"), attn_lrp(encoder.module):
        pass
    assert "forward" not in encoder.module.__dict__
