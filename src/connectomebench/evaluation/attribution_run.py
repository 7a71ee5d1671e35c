"""Explain a model on rows of a dataset: measures of every map with intervals, and what is needed to draw them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.evaluation.attribution import (
    DEFAULT_METHOD,
    Maps,
    Method,
    RowMaps,
    check_methods,
    explain_row,
    methods_of,
)
from connectomebench.evaluation.attribution_place import NEAR_NM, near_shares
from connectomebench.evaluation.faithfulness import (
    Curves,
    gains,
    grid_edge,
    random_ranks,
    ranks,
    removal_curves,
    removal_of,
    to_grid,
)
from connectomebench.evaluation.formatting import without_nan
from connectomebench.evaluation.statistics import Estimate, bootstrap_interval
from connectomebench.evaluation.subsample import balanced_sample
from connectomebench.evaluation.weighted_statistics import OfSums

if TYPE_CHECKING:
    from PIL import Image

    from connectomebench.dataset.rows import Rows
    from connectomebench.models.base import Model
    from connectomebench.models.row_network import RowNetwork

FORMAT = 1
_KEPT_COLUMNS = ("sample_id", "group", "answer", "origin", "views", "location_nm", "extent_nm", "target_nm")


@dataclass(frozen=True)
class AttributionConfig:
    """What is explained, and how long it may take.

    Attributes
    ----------
    methods
        Of :data:`.attribution.Method`; empty takes all that explain the model.
    swept
        Methods whose faithfulness is measured at every layer; of the others at the last layer alone.
    rows
        Rows that are explained, balanced over the answers.
    random_orders
        Random orders of patches that a map is compared with, in each row.
    seed
        Of rows, random orders and weights.
    """

    methods: tuple[Method, ...] = ()
    swept: tuple[Method, ...] = (DEFAULT_METHOD,)
    rows: int = 24
    random_orders: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rows, self.random_orders) < 1 or self.seed < 0:
            raise ConnectomeBenchError("rows and random_orders must be at least 1, seed 0")


@dataclass(frozen=True)
class ExplainedRow:
    """A row with its pictures and maps, as they are drawn."""

    row: Mapping[str, Any]
    images: tuple[Image.Image, ...]
    explained: RowMaps


@dataclass(frozen=True)
class Attribution:
    """Outcome of :func:`explain_rows`.

    Attributes
    ----------
    record
        JSON-serialisable: identity of model and data, measures of every method and layer, and of every row.
    rows
        What the figures are drawn from.
    """

    record: dict[str, Any]
    rows: tuple[ExplainedRow, ...]


def explain_rows(model: Model, rows: Rows, config: AttributionConfig | None = None) -> Attribution:
    """Explain a model on rows and measure the maps.

    For every method and layer: how faithful the evidence for the model's own answer is
    (:mod:`connectomebench.evaluation.faithfulness`), how much of the evidence for the true answer lies near the
    correction, in rows that have one (:mod:`connectomebench.evaluation.attribution_place`); and for every method, at
    the last layer, how alike the map is to that of the same network with shuffled weights (Adebayo et al. 2018): a map
    that stays the same shows the picture and not what was learnt.

    Parameters
    ----------
    model
        See :func:`connectomebench.models.open_network.open_network`.
    rows
        From :func:`connectomebench.load_rows`.
    config
        None takes the defaults.

    Raises
    ------
    ConnectomeBenchError
        If the model or a method does not fit, or the task's answers are none of a set.
    """
    from tqdm.auto import tqdm

    from connectomebench.models.open_network import open_network

    config = config or AttributionConfig()
    task = get_task(rows.data.task)
    if not task.labels:
        raise ConnectomeBenchError(f"the answers of {task.name} are places; attribution explains answers of a set")
    if not len(rows.dataset):
        raise ConnectomeBenchError(f"the {rows.data.partition} partition has no rows to explain; choose another")
    network = open_network(model, rows.dataset[0])
    methods = check_methods(network, config.methods or methods_of(network))
    config = replace(config, methods=methods, swept=tuple(m for m in config.swept if m in methods))
    chosen = balanced_sample(rows.dataset["answer"], min(config.rows, len(rows.dataset)), config.seed)
    measures: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    shown: list[ExplainedRow] = []
    selected: Any = rows.dataset.select(chosen)
    for number, row in enumerate(tqdm(selected, desc="explain", unit="row", delay=1)):
        network = open_network(model, row)
        own = _explained(network, row, methods)
        shown.append(own)
        predicted = max(own.explained.log_odds, key=own.explained.log_odds.__getitem__)
        samples.append(
            {name: row[name] for name in ("sample_id", "group", "answer", "origin")}
            | {"predicted": predicted, "log_odds": own.explained.log_odds}
        )
        seed = config.seed * 100_003 + number
        measures += _measure(network, own, predicted, config, seed)
        with shuffled_weights(network, config.seed):
            measures += _alike(own, _explained(network, row, methods, last=True), predicted)
    record = {
        "format": FORMAT,
        "code_version": __version__,
        "model": model.name,
        "model_revision": model.revision,
        "data": asdict(rows.data) | {"rows": len(samples)},
        "config": asdict(config),
        "removal": removal_of(network),
        "near_nm": NEAR_NM,
        "layers": list(network.layers),
        "measures": _summaries(measures, config.seed),
        "samples": samples,
    }
    return Attribution(without_nan(record), tuple(shown))


@contextmanager
def shuffled_weights(network: RowNetwork, seed: int) -> Iterator[None]:
    """Put the numbers of every weight in another order while the block runs; the head of a probe stays.

    Shuffled, the weights keep their distribution, so that the layers are as active as before.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = [weight.data for weight in network.module.parameters()]
    before = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))
        yield
    finally:
        for weight, was in zip(weights, before, strict=True):
            weight.copy_(was)


def _explained(
    network: RowNetwork, row: Mapping[str, Any], methods: Sequence[Method], last: bool = False
) -> ExplainedRow:
    from connectomebench.models.images import decode

    images = tuple(decode(image) for image in row["images"])
    layers = list(network.layers)[-1:] if last else None
    explained = explain_row(network, images, network.classes, methods, layers)
    return ExplainedRow({name: row[name] for name in _KEPT_COLUMNS}, images, explained)


def _last_layers(maps: Maps) -> dict[Method, str]:
    return {method: layer for method, layer, _ in maps}


def _measure(
    network: RowNetwork, own: ExplainedRow, predicted: str, config: AttributionConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the measures of a row's maps: faithfulness for the answer given, place for the true one."""
    maps = own.explained.maps
    last = _last_layers(maps)
    judged: list[tuple[Method, str]] = [
        (method, layer)
        for method, layer, answer in maps
        if answer == predicted and (method in config.swept or layer == last[method])
    ]
    edge = grid_edge(network, next(iter(maps.values())).shape[1])
    count, patches = len(own.images), edge * edge
    orders: list[NDArray[np.integer]] = [
        ranks(to_grid(maps[method, layer, predicted], edge), seed) for method, layer in judged
    ]
    chance = [random_ranks(count, patches, seed * 31 + n) for n in range(config.random_orders)]
    curves = [found[predicted] for found in removal_curves(network, own.images, [*orders, *chance], [predicted])]
    random: list[Curves] = curves[len(orders) :]
    for (method, layer), curve in zip(judged, curves, strict=False):
        found = gains(curve, random)
        yield _entry(own, method, layer, "deletion", found.deletion)
        yield _entry(own, method, layer, "insertion", found.insertion)
    truth = own.row["answer"]
    if own.row["origin"] == "control":
        return
    for method, layer, answer in maps:
        shares = near_shares(own.row, own.images, maps[method, layer, answer]) if answer == truth else None
        if shares is not None:
            yield _entry(own, method, layer, "near", shares.share)
            yield _entry(own, method, layer, "near_by_area", shares.area)
            yield _entry(own, method, layer, "near_by_drawing", shares.drawn)
            yield _entry(own, method, layer, "near_above_drawing", shares.share - shares.drawn)


def _alike(own: ExplainedRow, shuffled: ExplainedRow, predicted: str) -> Iterator[dict[str, Any]]:
    """Yield the rank correlation of each map at the last layer with that of shuffled weights."""
    from scipy.stats import spearmanr

    for (method, layer, answer), other in shuffled.explained.maps.items():
        if answer != predicted:
            continue
        one = own.explained.maps[method, layer, answer].ravel()
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            alike: Any = spearmanr(one, other.ravel())
            yield _entry(own, method, layer, "like_shuffled", float(alike.statistic))


def _entry(own: ExplainedRow, method: str, layer: str, measure: str, value: float) -> dict[str, Any]:
    return {"group": own.row["group"], "method": method, "layer": layer, "measure": measure, "value": value}


def _summaries(measures: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Average each measure of each method and layer over the rows, with intervals over groups."""
    together: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for one in measures:
        together.setdefault((one["method"], one["layer"], one["measure"]), []).append(one)
    return [
        {"method": method, "layer": layer, "measure": measure}
        | asdict(_mean([one["value"] for one in own], [one["group"] for one in own], seed))
        for (method, layer, measure), own in together.items()
    ]


def _mean(values: Sequence[float], groups: Sequence[str], seed: int) -> Estimate:
    terms = np.stack([np.ones(len(values)), np.asarray(values, np.float64)])
    return bootstrap_interval(OfSums(terms, lambda sums: sums[:, 1] / sums[:, 0]), groups, seed=seed)
