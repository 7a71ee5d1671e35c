"""Qwen3-VL-32B's shape, and the arithmetic that a step of LoRA training needs at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# dense bfloat16, FLOP/s, from Nvidia's data sheets, by a part of the name that CUDA gives; the first that fits counts
PUBLISHED_PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
}


@dataclass(frozen=True)
class Step:
    """What one batch holds.

    Attributes
    ----------
    tokens
        Of each row, without padding, images among them.
    learnt
        Tokens of all rows that the loss is taken on.
    patches
        Of each image, before neighbours are merged.
    padded
        Tokens of the batch with padding.
    """

    tokens: Sequence[int]
    learnt: int
    patches: Sequence[int]
    padded: int


def qwen3_vl_32b(token_ids: dict[str, Any]) -> Any:
    """Return the configuration of Qwen/Qwen3-VL-32B-Instruct, as published.

    Parameters
    ----------
    token_ids
        ``image_token_id``, ``video_token_id`` and ``vision_start_token_id`` of the tokenizer in use.
    """
    from transformers import Qwen3VLConfig

    return Qwen3VLConfig(
        text_config={
            "vocab_size": 151936,
            "hidden_size": 5120,
            "intermediate_size": 25600,
            "num_hidden_layers": 64,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 262144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
            "out_hidden_size": 5120,
        },
        tie_word_embeddings=False,
        **token_ids,
    )


def training_flops(config: Any, step: Step, adapter_parameters: int) -> float:
    """Count the FLOPs that one step of LoRA training needs, whatever the implementation.

    A product of matrices counts 2 per weight and token. Through the language model: forward once and backward once,
    since frozen weights need no gradient of their own; attention (causal, so half of the square) forward once and
    backward twice; the head on learnt tokens alone. Adapter weights count 6 a token. The vision tower is frozen and
    nothing below it learns, so it counts forward alone; the mergers above it forward and backward. What gradient
    checkpointing computes again is not counted, nor norms, softmax and rotary embeddings. After PaLM's MFU
    (arXiv:2204.02311, appendix B).

    Parameters
    ----------
    config
        Of transformers' Qwen3-VL.
    step
        One batch.
    adapter_parameters
        Weights that learn; all are taken to see every token.
    """
    text, vision = config.text_config, config.vision_config
    heads, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    layer = 2 * text.hidden_size * (heads + kv) + 3 * text.hidden_size * text.intermediate_size
    tokens = sum(step.tokens)
    language = 4 * text.num_hidden_layers * layer * tokens
    language += 3 * text.num_hidden_layers * sum(2 * count**2 * heads for count in step.tokens)
    language += 4 * text.hidden_size * text.vocab_size * step.learnt

    wide, patches = vision.hidden_size, sum(step.patches)
    block = 4 * wide**2 + 2 * wide * vision.intermediate_size
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    tower = 2 * (vision.depth * block + pixels * wide) * patches
    tower += vision.depth * sum(4 * count**2 * wide for count in step.patches)
    merged = vision.spatial_merge_size**2
    merger = merged * wide * (merged * wide + vision.out_hidden_size)
    mergers = 4 * (1 + len(vision.deepstack_visual_indexes)) * merger * patches / merged
    return float(language + tower + mergers + 6 * adapter_parameters * tokens)


def published_peak(device: str) -> float | None:
    """Return the published dense bfloat16 FLOP/s of a GPU, or None where none is listed."""
    return next((peak for name, peak in PUBLISHED_PEAKS.items() if name in device), None)


def measured_peak() -> float:
    """Measure the FLOP/s of a large product of matrices: bfloat16 on a GPU, float32 on a CPU; the best of ten."""
    import time

    import torch

    on_gpu = torch.cuda.is_available()
    size = 8192 if on_gpu else 2048
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.matmul(one, other)
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
