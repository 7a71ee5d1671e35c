"""A Qwen3-VL that scores answers, as one differentiable network over the pictures of a row.

Its vision tower sees every patch; four neighbours become one token of the language model. Maps are drawn over the
patches of the tower. What is removed are tokens of the language model: masked from its attention, while the others
keep their places. The tower has seen the whole picture, so the tokens that stay may know a little of those that go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.models.answer_tokens import answer_endings
from connectomebench.models.chat import Conversation
from connectomebench.models.prompt import messages
from connectomebench.models.row_network import RowNetwork
from connectomebench.models.vlm import VisionLanguageModel


def vlm_network(vlm: VisionLanguageModel, row: Mapping[str, Any]) -> RowNetwork:
    """Return the network that answers the question of a row from its pictures.

    Parameters
    ----------
    vlm
        A Qwen3-VL, with or without a LoRA adapter, that can be scored.
    row
        ``task``, ``question`` and ``views`` are read.

    Returns
    -------
    RowNetwork
        Scores are log-likelihoods of the replies, as :meth:`.vlm.VisionLanguageModel.score` compares them.

    Raises
    ------
    ConnectomeBenchError
        If the model is of another architecture or thinks before it answers, or the task's answers are none of a set;
        from ``pixels``, if the pictures of a row differ in size.
    """
    inner = _qwen3_vl(vlm)
    task = get_task(row["task"]).for_views(row["views"])
    if not task.labels:
        raise ConnectomeBenchError(f"the answers of {task.name} are places; attribution explains answers of a set")
    asked = messages(row)
    shared, endings = answer_endings(vlm.processor.tokenizer, task.labels)
    tower, merge = inner.visual, int(inner.visual.config.spatial_merge_size)

    def pixels(images: Sequence[Image.Image]) -> Any:
        views = len(row["views"])
        rows = [Conversation(asked, list(images[n : n + views])) for n in range(0, len(images), views)]
        inputs = vlm.tensors(rows)
        grids = inputs["image_grid_thw"]
        if not bool((grids == grids[0]).all()) or grids[0, 1] != grids[0, 2]:
            raise ConnectomeBenchError(
                "the pictures of a row have different sizes or are not square, and their maps could not be put side by "
                "side; build with em_px as large as image_px"
            )
        return inputs

    def scores(inputs: Any, _views: int) -> torch.Tensor:
        return vlm.log_likelihoods(inputs, shared, endings)

    def patches(tokens: torch.Tensor, pictures: int) -> torch.Tensor:
        """Sort the patches of the tower, which come by fours, row by row."""
        own = tokens.reshape(pictures, -1, tokens.shape[-1])
        edge = round((own.shape[1] / merge**2) ** 0.5)
        blocks = own.reshape(pictures, edge, edge, merge, merge, -1).transpose(2, 3)
        return blocks.reshape(pictures, (edge * merge) ** 2, -1)

    @contextmanager
    def keep(kept: NDArray[np.integer]) -> Iterator[None]:
        handle = inner.language_model.register_forward_pre_hook(_masking(kept), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    # gradients pass all layers of the tower on their way to its first weight
    tower.patch_embed.proj.weight.requires_grad_()
    return RowNetwork(
        tuple(task.labels),
        vlm.model,
        pixels,
        scores,
        {f"block {number}": block.norm2 for number, block in enumerate(tower.blocks, 1)},
        keep=keep,
        entry=tower.blocks[0],
        patches=patches,
        repeat=lambda inputs, times: {name: torch.cat([own] * times) for name, own in inputs.items()},
        merged=merge,
        rows_at_once=vlm.batch_size,
        first_weight=tower.patch_embed.proj.weight,
    )


def _qwen3_vl(vlm: VisionLanguageModel) -> Any:
    """Return tower and language model, whatever wraps them."""
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

    if not vlm.can_score:
        raise ConnectomeBenchError(f"{vlm.name} thinks before it answers and cannot be explained; choose another model")
    for module in vlm.model.modules():
        if isinstance(module, Qwen3VLModel):
            return module
    raise ConnectomeBenchError(f"{vlm.name} is no Qwen3-VL; other vision-language models cannot be explained")


def _masking(kept: NDArray[np.integer]) -> Any:
    """Mask from the attention of the language model all tokens of pictures but some.

    Parameters
    ----------
    kept
        Tokens that stay, of each picture, row by row from 0; shape (pictures, tokens).
    """

    def hook(
        _module: Any, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        visual = named["visual_pos_masks"]
        each = int(visual.sum()) // len(kept)
        stay = np.zeros((len(kept), each), np.int64)
        np.put_along_axis(stay, kept.astype(np.int64), 1, axis=1)
        mask = named["attention_mask"].clone()
        mask[visual] = torch.from_numpy(stay.ravel()).to(mask)
        return positional, named | {"attention_mask": mask}

    return hook
