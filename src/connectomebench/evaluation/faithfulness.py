"""Faithfulness of an attribution map: whether the answer depends on the patches that the map calls important.

Patches are removed in the order of the map, the most important first (deletion), and put back in that order into
almost nothing (insertion). The score of a map is how much more the log-odds of its answer fall, or rise, than with
patches in random order: the area between both curves, after Petsiuk et al. 2018 and Samek et al. 2017. A map that says
nothing scores 0. Of each picture of a row the same share is removed.

A transformer runs without the removed patches, which leaves no trace of them (:func:`.row_network.kept_patches`);
blackened patches would be a picture that no model was trained on. For a convolutional network, which needs all of
them, they are replaced by a strongly blurred copy of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from connectomebench.models.row_network import RowNetwork

Removal = Literal["patches dropped", "patches blurred"]
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Removed shares of the patches; never all, since nothing can be said of no patches."""

BLUR_GRID = 14
"""Patches to an edge where patches are blurred."""


@dataclass(frozen=True)
class Curves:
    """Log-odds of an answer while patches are removed.

    Attributes
    ----------
    deletion
        With the most important removed first, at each of :data:`SHARES`.
    insertion
        With the least important removed first: read backwards, the most important are put back first.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


@dataclass(frozen=True)
class Gains:
    """What an order of patches is worth against random ones, in log-odds; above 0 is better than random.

    Attributes
    ----------
    deletion
        How much lower the answer's log-odds are, averaged over the removed shares.
    insertion
        How much higher they are.
    """

    deletion: float
    insertion: float


def removal_of(network: RowNetwork) -> Removal:
    """Return how patches of a network are removed."""
    return "patches blurred" if network.keep is None else "patches dropped"


def to_grid(maps: NDArray[np.floating], edge: int) -> NDArray[np.float64]:
    """Resize maps, shape (pictures, rows, columns), to a square grid: averaged down or bilinear, not cut off."""
    resized = [
        np.asarray(Image.fromarray(one.astype(np.float32)).resize((edge, edge), Image.Resampling.BILINEAR))
        for one in maps
    ]
    return np.stack(resized).astype(np.float64)


def ranks(maps: NDArray[np.floating], seed: int) -> NDArray[np.intp]:
    """Order the patches of each picture, the most important first; ties, such as zeros, in random order.

    Parameters
    ----------
    maps
        Shape (pictures, rows, columns).
    seed
        Of the order among equals.

    Returns
    -------
    NDArray
        Shape (pictures, patches).
    """
    flat = maps.reshape(len(maps), -1)
    noise = np.random.default_rng(seed).random(flat.shape)
    return np.lexsort((noise, -flat), axis=-1)


def random_ranks(pictures: int, patches: int, seed: int) -> NDArray[np.intp]:
    """Order the patches of each picture at random; shape (pictures, patches)."""
    return np.random.default_rng(seed).permuted(np.tile(np.arange(patches), (pictures, 1)), axis=1)


def grid_edge(network: RowNetwork, map_edge: int) -> int:
    """Return removable patches to an edge: those of a transformer, whose maps have them, or :data:`BLUR_GRID`."""
    return map_edge // network.merged if network.keep is not None else BLUR_GRID


def removal_curves(
    network: RowNetwork, images: Sequence[Image.Image], orders: Sequence[NDArray[np.integer]], answers: Sequence[str]
) -> list[dict[str, Curves]]:
    """Remove patches in several orders, and in reverse.

    Parameters
    ----------
    network
        From :func:`connectomebench.models.open_network.open_network`.
    images
        The pictures of one row.
    orders
        Each of shape (pictures, patches), the most important first.
    answers
        Whose log-odds are followed.

    Returns
    -------
    list of dict
        Of each order, answer -> curves.
    """
    both = [order if forward else order[:, ::-1] for order in orders for forward in (True, False)]
    patches = both[0].shape[1]
    values = np.empty((len(both), len(SHARES), len(answers)))
    for step, share in enumerate(SHARES):
        removed = int(share * patches)
        if not removed and step:
            values[:, step] = values[:, step - 1]
            continue
        # with all patches there, order does not matter
        values[:, step] = _log_odds(network, images, both if removed else both[:1], removed, answers)
    return [
        {a: Curves(values[2 * i, :, k], values[2 * i + 1, :, k]) for k, a in enumerate(answers)}
        for i in range(len(orders))
    ]


def gains(own: Curves, random: Sequence[Curves]) -> Gains:
    """Compare the curves of a map with those of random orders, both directions of which are alike.

    Examples
    --------
    >>> flat = Curves(np.zeros(5), np.zeros(5))
    >>> gains(Curves(np.full(5, -1.0), np.full(5, 2.0)), [flat])
    Gains(deletion=1.0, insertion=2.0)
    """
    chance = np.mean([curve for one in random for curve in (one.deletion, one.insertion)], axis=0)
    width = SHARES[-1] - SHARES[0]

    def area(curve: NDArray[np.float64]) -> float:
        return float(np.trapezoid(curve, SHARES) / width)

    return Gains(area(chance) - area(own.deletion), area(own.insertion) - area(chance))


def _log_odds(
    network: RowNetwork,
    images: Sequence[Image.Image],
    orders: Sequence[NDArray[np.integer]],
    removed: int,
    answers: Sequence[str],
) -> NDArray[np.float64]:
    """Return log-odds without the first patches of each order; shape (orders, answers)."""
    import torch

    from connectomebench.models.row_network import kept_patches, log_odds

    views = len(images)
    with torch.inference_mode():
        if network.keep is not None:
            most = network.rows_at_once or len(orders)
            if len(orders) > most:
                parts = [orders[n : n + most] for n in range(0, len(orders), most)]
                return np.concatenate([_log_odds(network, images, part, removed, answers) for part in parts])
            pixels = network.repeat(network.pixels(images), len(orders))
            kept = np.concatenate([order[:, removed:] for order in orders]) if removed else None
            with kept_patches(network, kept):
                scores = network.scores(pixels, views)
        else:
            blurred = [blur(image) for image in images]
            shown = [
                mix(image, soft, order[:removed])
                for ranked in orders
                for image, soft, order in zip(images, blurred, ranked, strict=True)
            ]
            scores = network.scores(network.pixels(shown), views)
        return np.stack([log_odds(scores.double(), network.classes.index(a)).cpu().numpy() for a in answers], axis=1)


def blur(image: Image.Image) -> Image.Image:
    """Blur a picture so strongly that nothing of the size of a patch is left."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / BLUR_GRID))


def mix(image: Image.Image, blurred: Image.Image, patches: NDArray[np.integer]) -> Image.Image:
    """Replace patches of a picture, numbered row by row, by those of its blurred copy."""
    mask = np.zeros(BLUR_GRID * BLUR_GRID, np.uint8)
    mask[patches] = 255
    wide = Image.fromarray(mask.reshape(BLUR_GRID, BLUR_GRID)).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(blurred, image, wide)
