"""Maps of what a model looks at: class activation maps of any layer, and relevance at the patches.

Every map is evidence for one answer: where it is high, the model found what speaks for that answer. Methods of
pytorch-grad-cam (LayerCAM, GradCAM, EigenCAM, EigenGradCAM) look at one layer; AttnLRP follows the relevance back to
the patches of a transformer. A map says where a model looked and not whether it was right to look there, nor, by
itself, that the model depends on it: :mod:`connectomebench.evaluation.faithfulness` measures that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from connectomebench.models.row_network import RowNetwork

Method = Literal["layercam", "gradcam", "eigencam", "eigengradcam", "attnlrp"]
CAMS: tuple[Method, ...] = ("layercam", "gradcam", "eigencam", "eigengradcam")
DEFAULT_METHOD: Method = "layercam"
ENTRY = "patches"
"""Layer of AttnLRP: the patches as they enter the network."""

_MOST = 14  # rows and columns of a convolutional map; larger ones are averaged first, or a decomposition takes minutes

Maps = dict[tuple[Method, str, str], NDArray[np.float32]]
"""(method, layer, answer) -> evidence at every place, shape (pictures, rows, columns), none below 0."""


@dataclass(frozen=True)
class RowMaps:
    """Maps of one row.

    Attributes
    ----------
    maps
        See :data:`Maps`; the scale is that of the network and the same for all pictures of a map.
    log_odds
        Answer -> its log-odds against the others, before calibration.
    """

    maps: Maps
    log_odds: dict[str, float]


def methods_of(network: RowNetwork) -> tuple[Method, ...]:
    """Return the methods that explain a network."""
    relevance: tuple[Method, ...] = ("attnlrp",) if network.entry is not None else ()
    return (*(CAMS if network.layers else ()), *relevance)


def check_methods(network: RowNetwork, methods: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods, and raise ConnectomeBenchError if one is unknown or does not explain the network."""
    known = methods_of(network)
    wrong = next((name for name in methods if name not in known), None)
    if wrong is not None:
        why = "explains transformers only" if wrong in get_args(Method) else "is unknown"
        raise ConnectomeBenchError(f"method {wrong} {why}; choose {', '.join(known)}")
    return tuple(name for name in known if name in methods)


def explain_row(
    network: RowNetwork,
    images: Sequence[Image.Image],
    answers: Sequence[str],
    methods: Sequence[Method],
    layers: Sequence[str] | None = None,
) -> RowMaps:
    """Draw the maps of one row.

    Parameters
    ----------
    network
        From :func:`connectomebench.models.open_network.open_network`.
    images
        The pictures of the row, RGB, in the order of its views.
    answers
        For which evidence is shown.
    methods
        From :func:`check_methods`.
    layers
        Names of layers for class activation maps; None takes all.

    Returns
    -------
    RowMaps
        EigenCAM knows no answer: its maps are the same for all. A principal component has no sign; that of EigenCAM
        is taken so that its largest value is above 0, that of EigenGradCAM so that it goes with the evidence.
    """
    maps: Maps = {}
    odds: dict[str, float] = {}
    chosen = {name: network.layers[name] for name in (layers if layers is not None else network.layers)}
    cams: list[Method] = [method for method in methods if method in CAMS]
    if cams:
        activations, gradients, odds = _activations(network, images, answers, chosen)
        for name, activation in activations.items():
            for method, answer, found in _cams(network, cams, activation, gradients[name]):
                maps[method, name, answer] = found
    if "attnlrp" in methods:
        relevance, odds = _relevance(network, images, answers)
        maps |= {("attnlrp", ENTRY, answer): np.maximum(own, 0) for answer, own in relevance.items()}
    return RowMaps(maps, odds)


def _activations(
    network: RowNetwork, images: Sequence[Image.Image], answers: Sequence[str], layers: Mapping[str, torch.nn.Module]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, NDArray[np.float32]]], dict[str, float]]:
    """Run once, and once back for each answer; maps have shape (pictures, channels, rows, columns)."""
    import torch
    from pytorch_grad_cam import ActivationsAndGradients

    from connectomebench.models.row_network import log_odds

    pictures = len(images)
    watched = ActivationsAndGradients(network.module, list(layers.values()), lambda t: _as_map(network, t, pictures))
    odds: dict[str, float] = {}
    gradients: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in layers}
    try:
        with torch.enable_grad():
            scores = network.scores(network.pixels(images), pictures)
            activations = [one.float().numpy() for one in watched.activations]
            # pictures of whole numbers carry no gradient; that of the first weight passes all layers
            wanted = network.first_weight
            if wanted is None:
                wanted = next(p for p in network.module.parameters() if p.requires_grad)
            for number, answer in enumerate(answers):
                watched.gradients = []
                own = log_odds(scores, network.classes.index(answer)).sum()
                odds[answer] = float(own.detach())
                torch.autograd.grad(own, wanted, retain_graph=number + 1 < len(answers), allow_unused=True)
                for name, gradient in zip(layers, watched.gradients, strict=True):
                    gradients[name][answer] = gradient.float().numpy()
    finally:
        watched.release()
    return dict(zip(layers, activations, strict=True)), gradients, odds


def _as_map(network: RowNetwork, tensor: torch.Tensor, pictures: int) -> torch.Tensor:
    """Bring the output of a layer to the shape (pictures, channels, rows, columns); large maps are averaged."""
    import torch

    if network.patches is not None:
        patches = network.patches(tensor, pictures)
        edge = square_edge(patches.shape[1])
        return patches.transpose(1, 2).reshape(len(patches), -1, edge, edge)
    if max(tensor.shape[2:]) > _MOST:
        return torch.nn.functional.adaptive_avg_pool2d(tensor, _MOST)
    return tensor


def square_edge(patches: int) -> int:
    """Return the edge of a square grid of so many patches; ConnectomeBenchError if there is none."""
    edge = round(patches**0.5)
    if edge * edge != patches:
        raise ConnectomeBenchError(f"the network has {patches} patches, no square grid; give it square pictures")
    return edge


def _cams(
    network: RowNetwork,
    methods: Sequence[Method],
    activation: NDArray[np.float32],
    gradients: Mapping[str, NDArray[np.float32]],
) -> list[tuple[Method, str, NDArray[np.float32]]]:
    """Combine activations and gradients of one layer by each method, for each answer.

    The methods of pytorch-grad-cam get what is kept of one run; without layers of their own they watch nothing.
    """
    from pytorch_grad_cam import GradCAM, LayerCAM
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection, get_2d_projection_with_sign_correction

    found: list[tuple[Method, str, NDArray[np.float32]]] = []
    if "eigencam" in methods:
        same = np.maximum(get_2d_projection_with_sign_correction(activation), 0)
        for answer in gradients:
            found.append(("eigencam", answer, same))
    kinds: list[tuple[Method, Any]] = [("layercam", LayerCAM), ("gradcam", GradCAM)]
    for method, kind in kinds:
        if method in methods:
            cam = kind(network.module, [])
            for answer, gradient in gradients.items():
                own = cam.get_cam_image(None, None, None, activation, gradient, False)
                found.append((method, answer, np.maximum(own, 0).astype(np.float32, copy=False)))
    if "eigengradcam" in methods:
        projection, projected = None, None
        for answer, gradient in gradients.items():
            product = gradient * activation
            # of two answers, one gradient is the other's opposite and has the same components
            if projection is None or projected is None or not np.allclose(product, -projected, rtol=1e-4, atol=0):
                projection, projected = get_2d_projection(product), product
            evidence = product.sum(axis=1)
            centred = evidence - evidence.mean(axis=(1, 2), keepdims=True)
            sign = np.where((projection * centred).sum(axis=(1, 2)) < 0, -1, 1).astype(np.float32)
            found.append(("eigengradcam", answer, np.maximum(projection * sign[:, None, None], 0)))
    return found


def _relevance(
    network: RowNetwork, images: Sequence[Image.Image], answers: Sequence[str]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Return the relevance of every patch for each answer by AttnLRP, shape (pictures, rows, columns), and log-odds."""
    import torch

    from connectomebench.models.attn_lrp import attn_lrp
    from connectomebench.models.row_network import log_odds

    assert network.entry is not None and network.patches is not None
    seen: list[torch.Tensor] = []

    def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        tokens = inputs[0].detach().requires_grad_()
        seen.append(tokens)
        return (tokens, *inputs[1:])

    handle = network.entry.register_forward_pre_hook(hook)
    relevance: dict[str, NDArray[np.float32]] = {}
    odds: dict[str, float] = {}
    try:
        with torch.enable_grad(), attn_lrp(network.module):
            scores = network.scores(network.pixels(images), len(images))
            for answer in answers:
                own = log_odds(scores, network.classes.index(answer)).sum()
                odds[answer] = float(own.detach())
                (gradient,) = torch.autograd.grad(own, seen[0], retain_graph=True)
                patches = network.patches((seen[0].detach() * gradient).sum(-1, keepdim=True), len(images))
                edge = square_edge(patches.shape[1])
                relevance[answer] = patches.reshape(-1, edge, edge).float().cpu().numpy()
    finally:
        handle.remove()
    return relevance, odds
