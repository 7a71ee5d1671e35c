"""A real Qwen3-VL, tiny and untrained, with its own tokenizer and processor; and a LoRA adapter of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.finetuning.adapter import LORA_TARGETS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MERGES = Path(__file__).parents[1] / "fixtures" / "qwen3_merges.json"
# turns and pictures as Qwen3-VL's own template writes them
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def few_merges() -> PreTrainedTokenizerFast:
    """The tokenizer of Qwen3 with only the merges of our prompts: these fall into the same tokens as with the whole."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kept = json.loads(MERGES.read_text(encoding="utf-8"))
    merges = [tuple(merge.split(" ")) for merge in kept.pop("merges")]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*SPECIAL, *letters, *("".join(merge) for merge in merges)])
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    steps = json.loads(tokenizer.to_str()) | {name: kept[name] for name in kept if name != "credit"}
    tokenizer = Tokenizer.from_str(json.dumps(steps))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(token, special=False) for token in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
    )


def make_tiny_qwen3_vl(
    folder: Path, seed: int = 0, hidden: int = 64, image_px: int = 64, whole: Path | None = None
) -> Path:
    """Write the model, its tokenizer and its processor to a folder that transformers' Auto classes load.

    Parameters
    ----------
    folder
        Where it goes.
    seed
        Of the weights.
    hidden
        Width of the language model.
    image_px
        Images above ``image_px`` squared are made smaller.
    whole
        Folder with the whole tokenizer of Qwen3; None takes the few merges of the fixture.
    """
    import torch
    from transformers import (
        AutoTokenizer,
        GenerationConfig,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = few_merges() if whole is None else AutoTokenizer.from_pretrained(whole)
    ids: dict[str, int] = {token: int(tokenizer.get_vocab()[token]) for token in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            # larger than in training, so that answers depend on the pictures
            "initializer_range": 0.2,
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
        # what the published models come with: sampling, which a deterministic evaluation must not take over
        do_sample=True,
        temperature=0.7,
        top_k=20,
        top_p=0.8,
        repetition_penalty=1.5,
    )
    model.save_pretrained(folder)
    size: dict[str, Any] = {"shortest_edge": 32 * 32, "longest_edge": image_px * image_px}
    patches: dict[str, Any] = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
    Qwen3VLProcessor(
        Qwen2VLImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3, **patches),
        tokenizer,
        Qwen3VLVideoProcessor(size=size, **patches),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def make_tiny_adapter(base: Path, folder: Path, seed: int = 0) -> Path:
    """Write a LoRA adapter of the model in ``base``, with random weights that are not zero, as PEFT saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(base, use_safetensors=True)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=LORA_TARGETS))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    adapted.save_pretrained(str(folder))
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
