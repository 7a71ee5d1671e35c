"""Probes on all views in one picture, on a perceptron, and on the vision tower of a vision-language model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_qwen3_vl import make_tiny_qwen3_vl

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.encoders import load_encoder
from connectomebench.models.images import decode, grid_image, image_key
from connectomebench.models.open_network import open_network
from connectomebench.models.probe import ProbeConfig, load_probe, train_probe
from connectomebench.models.vlm_encoder import VlmEncoder, vlm_part


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_grid_is_a_square_of_all_images(count: int) -> None:
    images = [Image.new("RGB", (40, 40), (10 * number, 0, 0)) for number in range(count)]
    whole = decode(grid_image(images))
    assert whole.width == whole.height
    columns, rows = {2: (2, 1), 3: (2, 2), 6: (3, 2)}[count]
    for number in range(count):
        place = ((number % columns + 0.5) / columns, (number // columns + 0.5) / rows)
        assert whole.getpixel((int(place[0] * whole.width), int(place[1] * whole.height))) == (10 * number, 0, 0)
    assert image_key(grid_image(images)) != image_key(grid_image(images[::-1]))
    assert image_key(grid_image(images)) == image_key(grid_image([image.copy() for image in images]))


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_a_grid_is_encoded_once_and_answered_alike(head, train, test_rows, patches, tmp_path: Path) -> None:
    config = ProbeConfig(layout="grid", head=head, folds=3, c_grid=(0.01, 1.0))  # type: ignore[arg-type]
    probe = train_probe(train, config, tmp_path / "cache", encoder=patches, progress=False)
    assert patches.images == len(train) + 1 or patches.images == len(train)
    probe.save(tmp_path / "probe")
    loaded = load_probe(tmp_path / "probe", encoder=patches)
    assert loaded.config == config and loaded.revision == probe.revision
    few = test_rows.select(range(5))
    assert loaded.predict(few[:]) == probe.predict(few[:])
    assert probe.head.pipeline[0].n_features_in_ == patches.dim


def test_an_averaged_probe_does_not_mind_the_order_of_directions(train, test_rows, patches, tmp_path: Path) -> None:
    def three(rows):
        return rows.map(lambda row: {"images": [*row["images"], row["images"][0]]})

    config = ProbeConfig(layout="averaged", folds=3, c_grid=(0.01, 1.0))
    probe = train_probe(three(train), config, encoder=patches, progress=False)
    assert probe.head.pipeline[0].n_features_in_ == patches.dim
    probe.save(tmp_path / "probe")
    loaded = load_probe(tmp_path / "probe", encoder=patches)
    images = three(test_rows.select(range(6)))["images"]
    found = loaded.predict_images(images)
    assert found == probe.predict_images(images)
    turned = loaded.predict_images([row[1:] + row[:1] for row in images])
    for one, other in zip(found, turned, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    with pytest.raises(ConnectomeBenchError, match="the rows have 2 images"):
        train_probe(train, config, encoder=patches, progress=False)
    with pytest.raises(ConnectomeBenchError, match="layout 'averaged' cannot be explained"):
        open_network(probe, {})


def test_older_probes_keep_their_revision(train, patches, tmp_path: Path) -> None:
    probe = train_probe(train, ProbeConfig(folds=2, c_grid=(1.0,)), encoder=patches, progress=False)
    probe.save(tmp_path)
    assert "layout" not in json.loads((tmp_path / "config.json").read_text())["config"]
    with pytest.raises(ConnectomeBenchError, match="unknown layout 'row'; choose views, grid, averaged"):
        ProbeConfig(layout="row")  # type: ignore[arg-type]


def test_tower_and_merger_are_those_of_the_whole_model(tmp_path_factory, train) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = make_tiny_qwen3_vl(tmp_path_factory.mktemp("vlm"))
    tower, merger = (load_encoder(f"{folder}:{part}") for part in ("tower", "merger"))
    assert isinstance(tower, VlmEncoder) and vlm_part(str(folder)) is None
    assert tower.input_px == merger.input_px == 64
    assert tower.revision == merger.revision and tower.name != merger.name
    image = train[0]["images"][0].resize((64, 64))
    whole = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True).eval()
    inputs = AutoProcessor.from_pretrained(folder).image_processor(images=[image], return_tensors="pt")
    with torch.inference_mode():
        expected = whole.model.visual(inputs["pixel_values"], inputs["image_grid_thw"])
    for encoder, tokens in ((tower, expected.last_hidden_state), (merger, expected.pooler_output)):
        found = encoder.encode([image, train[1]["images"][1]])
        assert found.shape == (2, *tokens.shape) and encoder.dim == tokens.shape[1]
        np.testing.assert_allclose(found[0], tokens.numpy(), atol=1e-5)
        assert not np.allclose(found[0], found[1])
    with pytest.raises(ConnectomeBenchError, match="no class token"):
        train_probe(train, ProbeConfig(pooling="cls"), encoder=merger, progress=False)
    probe = train_probe(train, ProbeConfig(pooling="max", folds=2, c_grid=(1.0,)), encoder=merger, progress=False)
    assert probe.head.pipeline[0].n_features_in_ == 3 * merger.dim  # both views, and how they differ


def test_models_without_such_a_tower_are_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig

    ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path / "vit")
    for name in (f"{tmp_path / 'vit'}:tower", f"{tmp_path / 'absent'}:merger"):
        with pytest.raises(ConnectomeBenchError, match="cannot load the vision tower") as caught:
            load_encoder(name)
        assert "\n" not in str(caught.value)
