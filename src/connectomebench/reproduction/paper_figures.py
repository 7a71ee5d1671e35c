"""Write the four figures of the paper for any scores."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectomebench.cards.plotting import dark, render, save
from connectomebench.core.files import write_text
from connectomebench.reproduction.captions import scaling_caption, species_caption
from connectomebench.reproduction.drawing import draw_scaling, draw_species
from connectomebench.reproduction.methods import is_ours
from connectomebench.reproduction.published_names import COLUMNS
from connectomebench.reproduction.score_table import Metric, Score


@dataclass(frozen=True)
class FigurePlan:
    """Name, title, plot function and caption function of a figure."""

    name: str
    title: str
    metric: Metric
    by_species: bool


PLANS = (
    FigurePlan("scaling", "Accuracy against training samples", "balanced_accuracy", by_species=False),
    FigurePlan("cross_species", "Accuracy by species", "balanced_accuracy", by_species=True),
    FigurePlan("ece_scaling", "Calibration error against training samples", "ece", by_species=False),
    FigurePlan("ece_cross_species", "Calibration error by species", "ece", by_species=True),
)


@dataclass(frozen=True)
class Figure:
    """A written figure.

    Attributes
    ----------
    plan
        What it is.
    caption
        Text with the number of samples behind every mark.
    images
        The same as data URIs of SVG: (narrow, dark) -> URI, for a page.
    """

    plan: FigurePlan
    caption: str
    images: dict[tuple[bool, bool], str]


def write_figures(scores: Sequence[Score], tasks: Sequence[str], out: Path, remark: str = "") -> list[Figure]:
    """Write every figure reproducibly as ``OUT/NAME.png``, ``.pdf`` and ``.txt`` (caption).

    A figure for which there is no score at all is left out.

    Parameters
    ----------
    scores
        What to draw.
    tasks
        One panel each, in this order. A panel without scores says so; of tasks that were not published it is left out.
    out
        Folder to write to.
    remark
        Stands above every figure and its caption, for example that samples are simulated.

    Raises
    ------
    ConnectomeBenchError
        If the folder cannot be written.
    """
    figures = []
    for plan in PLANS:
        shown = compared(scores) if plan.by_species else list(scores)
        drawn = [s for s in shown if s.metric == plan.metric and (plan.by_species or s.train_samples)]
        if not drawn:
            continue
        panels = [task for task in tasks if task in COLUMNS or any(s.task == task for s in drawn)]
        draw: Callable = draw_species if plan.by_species else draw_scaling
        caption = (species_caption if plan.by_species else scaling_caption)(shown, panels, plan.metric)
        caption = f"{remark}\n{caption}" if remark else caption
        wide, narrow = (draw(shown, panels, plan.metric, columns, remark) for columns in (2, 1))
        for ending in ("png", "pdf"):
            save(wide, out / f"{plan.name}.{ending}")
        write_text(out / f"{plan.name}.txt", caption + "\n")
        images = {}
        for is_narrow, figure in ((False, wide), (True, narrow)):
            picture = render(figure, "svg")
            images |= {(is_narrow, False): _uri(picture), (is_narrow, True): _uri(dark(picture))}
        figures.append(Figure(plan, caption, images))
    return figures


def compared(scores: Sequence[Score]) -> list[Score]:
    """Drop methods without several species if other methods have them.

    Where any published method has scores of several species, those with accuracies of one species alone are left out.
    """
    species: dict[str, set[str]] = {}
    for score in scores:
        if score.metric == "balanced_accuracy":
            species.setdefault(score.method, set()).add(score.species)
    several = {method for method, found in species.items() if len(found) > 1}
    return [
        s for s in scores if not several or s.metric != "balanced_accuracy" or s.method in several or is_ours(s.method)
    ]


def _uri(data: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode('ascii')}"
