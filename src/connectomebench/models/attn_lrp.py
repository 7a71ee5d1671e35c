"""AttnLRP of transformers as gradient x input: relevance of every input in one backward pass.

The rules of Achtibat et al. 2024 (arXiv:2402.05602) in their gradient form: within :func:`attn_lrp`, the gradient of
an output times a tensor is the relevance of that tensor. Norms keep the relevance of their input (their deviation is
taken as a constant), element-wise functions pass it on in proportion, and a product divides it between its factors.

The package lxt holds the same rules, but version 2.1 cannot be imported with transformers 5, patches classes for the
whole process, and knows no vision tower of transformers. Here single modules are changed, and changed back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from connectomebench.core.errors import ConnectomeBenchError

# shares of relevance: a product halves it, and scores are themselves a product of query and key
_FACTORS = {"q_proj": 4, "query": 4, "k_proj": 4, "key": 4, "v_proj": 2, "value": 2}
_JOINED = {"qkv": (4, 4, 2)}
_SOFTMAX = (nn.Softmax, nn.LogSoftmax, nn.MultiheadAttention)


class _Identity(torch.autograd.Function):
    """Pass relevance through an element-wise function unchanged: the gradient is output / input."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        y = function(x)
        # where the input is 0 so is its relevance, whatever the gradient
        ctx.save_for_backward(torch.where(x == 0, 0, y / torch.where(x == 0, 1, x)))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        return None, gradient * ctx.saved_tensors[0]


class _Divide(torch.autograd.Function):
    """Leave values as they are and divide the gradient by numbers that broadcast."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(by)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        return gradient / ctx.saved_tensors[0], None


def pass_on(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Apply an element-wise function by the identity rule: relevance of the input is that of the output."""
    found: Any = _Identity.apply(function, x)
    return found


def divide(x: torch.Tensor, by: float | torch.Tensor) -> torch.Tensor:
    """Return ``x`` with its gradient divided by ``by``: the uniform rule of a product."""
    found: Any = _Divide.apply(x, torch.as_tensor(by, dtype=x.dtype, device=x.device))
    return found


@contextmanager
def attn_lrp(model: nn.Module) -> Iterator[None]:
    """Change the backward pass of a transformer to AttnLRP; values and weights stay as they are.

    Parameters
    ----------
    model
        In evaluation mode: a vision tower of transformers (ViT, DINOv2, SigLIP, ...), or a vision-language model.

    Raises
    ------
    ConnectomeBenchError
        If it has no attention with projections of its own, or a gated layer that is not known.
    """
    handles: list[Any] = []
    changed: list[nn.Module] = []

    def change(module: nn.Module, forward: Callable[..., Any]) -> None:
        module.forward = forward
        changed.append(module)

    attention = 0
    try:
        for name, module in model.named_modules():
            last = name.rsplit(".", 1)[-1]
            if _is_linear(module) and (last in _FACTORS or last in _JOINED):
                handles.append(module.register_forward_hook(_dividing(module, _FACTORS.get(last) or _JOINED[last])))
                attention += 1
            elif isinstance(module, nn.LayerNorm):
                change(module, _layer_norm(module))
            elif type(module).__name__.endswith("RMSNorm"):
                change(module, _rms_norm(module))
            elif {"gate_proj", "up_proj", "down_proj", "act_fn"} <= dict(module.named_children()).keys():
                change(module, _gated(module))
            elif "weights_in" in dict(module.named_children()):
                raise ConnectomeBenchError(f"AttnLRP has no rule for {type(module).__name__}; use another method")
            elif _is_activation(module):
                change(module, _activation(module))
        if not attention:
            raise ConnectomeBenchError("AttnLRP explains transformers; this network has no attention that it knows")
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in changed:
            module.__dict__.pop("forward", None)


def _is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear layer, or one with a LoRA adapter around it."""
    return isinstance(module, nn.Linear) or isinstance(getattr(module, "base_layer", None), nn.Linear)


def _is_activation(module: nn.Module) -> bool:
    """Return whether a module is an element-wise function, of torch or of transformers."""
    return (
        type(module).__module__ in ("torch.nn.modules.activation", "transformers.activations")
        and not isinstance(module, _SOFTMAX)
        and not any(True for _ in module.parameters())
    )


def _dividing(module: Any, factors: int | tuple[int, ...]) -> Callable[..., torch.Tensor]:
    shares = torch.as_tensor(factors, dtype=torch.float32)
    if shares.ndim:
        shares = shares.repeat_interleave(module.out_features // len(shares))

    def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return divide(output, shares)

    return hook


def _activation(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    plain = type(module).forward.__get__(module)
    return lambda x: pass_on(plain, x)


def _layer_norm(module: nn.LayerNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        deviation = (x.var(dim=-1, unbiased=False, keepdim=True) + module.eps).sqrt()
        y = (x - mean) / deviation.detach()
        if module.weight is not None:
            y = y * module.weight
        return y if module.bias is None else y + module.bias

    return forward


def _rms_norm(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
        return module.weight * (wide * scale.detach()).to(x.dtype)

    return forward


def _gated(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    # the activation is changed beside it, and found through the module
    return lambda x: module.down_proj(divide(module.act_fn(module.gate_proj(x)) * module.up_proj(x), 2))
