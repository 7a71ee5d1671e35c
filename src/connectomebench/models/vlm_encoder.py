"""The eyes of a vision-language model as a frozen encoder: its vision tower, or what its language model is shown.

Only the vision part of a checkpoint is read, so that a probe on a model of 32 billion weights needs memory for its
tower alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.folder_revision import folder_revision

Part = Literal["tower", "merger"]
_LARGEST_PX: Final = 512


def vlm_part(name: str) -> tuple[str, Part] | None:
    """Read ``MODEL:tower`` or ``MODEL:merger``; None for a name without either.

    Examples
    --------
    >>> vlm_part("Qwen/Qwen3-VL-32B-Instruct:merger")
    ('Qwen/Qwen3-VL-32B-Instruct', 'merger')
    >>> vlm_part("google/siglip2-so400m-patch16-512") is None
    True
    """
    model, _, part = name.rpartition(":")
    for known in get_args(Part):
        if model and part == known:
            return model, known
    return None


class VlmEncoder:
    """Vision tower of a Qwen3-VL, with or without its merger.

    The tower gives a vector for each patch, and the merger one for each four of them, as long as those of the language
    model, which sees nothing else of the picture but the tower's earlier layers (DeepStack).

    Parameters
    ----------
    name
        Hub id or local folder of the whole model, with weights as safetensors.
    part
        ``tower`` or ``merger``.
    revision
        Branch, tag or commit on the Hub; None takes the newest.

    Raises
    ------
    ConnectomeBenchError
        If it cannot be loaded or is not a Qwen3-VL.
    """

    has_cls = False

    def __init__(self, name: str, part: Part, revision: str | None = None) -> None:
        import torch
        from transformers import AutoConfig, AutoImageProcessor
        from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
        from transformers.utils import logging

        self.name, self.part = f"{name}:{part}", part
        source: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        # the report of the language model's weights, which are left out, would only alarm
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            config = AutoConfig.from_pretrained(name, **source)
            if config.model_type != "qwen3_vl":
                raise ValueError(f"its model_type is {config.model_type}, not qwen3_vl")
            self._processor = AutoImageProcessor.from_pretrained(name, **source)
            loaded: Any = Qwen3VLVisionModel.from_pretrained(
                name,
                config=config.vision_config,
                key_mapping={r"^model\.visual\.": ""},
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **source,
            )
            model, loading = loaded
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConnectomeBenchError(f"cannot load the vision tower of {name!r}: {reason}") from error
        finally:
            logging.set_verbosity(verbosity)
        if loading["missing_keys"]:
            missing = sorted(loading["missing_keys"])[0]
            raise ConnectomeBenchError(f"the vision tower of {name!r} lacks weights (for example {missing})")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        self.revision = getattr(config, "_commit_hash", None) or folder_revision(Path(name))
        grid = self._processor(images=[Image.new("RGB", (_LARGEST_PX, _LARGEST_PX))], return_tensors="pt")
        # the size that its processor leaves as it is
        self.input_px = int(grid["image_grid_thw"][0, 1]) * int(config.vision_config.patch_size)
        self.dim = self.encode([Image.new("RGB", (64, 64))]).shape[2]

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Encode RGB images; see :class:`.encoders.Encoder`. Patches come in the order of the model, four by four."""
        import torch

        size = (self.input_px, self.input_px)
        squares = [image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0) for image in images]
        inputs = self._processor(images=squares, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            found = self._model(inputs["pixel_values"].float(), inputs["image_grid_thw"])
        tokens = found.last_hidden_state if self.part == "tower" else found.pooler_output
        return tokens.reshape(len(images), -1, tokens.shape[-1]).float().cpu().numpy()
