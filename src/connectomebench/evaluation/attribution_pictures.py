"""Draw attribution maps over the pictures of a row, and the sweep over the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.evaluation.attribution_place import near_mask, near_nm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHOD_NAMES = {
    "layercam": "LayerCAM",
    "gradcam": "GradCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "attnlrp": "AttnLRP",
}
"""Method -> its name for people."""

_HEAT = np.array([214, 0, 120], np.float32)  # on neither blue nor orange, which are segments
_METHOD_COLOURS = {
    "layercam": "#0072b2",
    "gradcam": "#d55e00",
    "eigencam": "#009e73",
    "eigengradcam": "#cc79a7",
    "attnlrp": "#000000",
}
_SWEPT = {
    "insertion": "log-odds gained by putting\nthe evidence back first",
    "deletion": "log-odds lost by removing\nthe evidence first",
    "near_above_drawing": "share of evidence near the\ncorrection, above that of drawing",
}


def overlay(image: Image.Image, one: NDArray[np.floating], largest: float, px: int = 320) -> Image.Image:
    """Draw a map over a picture: the more evidence, the more magenta.

    Parameters
    ----------
    image
        RGB, square.
    one
        The map, shape (rows, columns), none below 0.
    largest
        Value of full colour; the largest of all pictures of the row, so that they can be compared.
    px
        Edge of the result, px.

    Returns
    -------
    Image
        RGB, px wide and high.
    """
    under = np.asarray(image.convert("RGB").resize((px, px), Image.Resampling.BICUBIC), np.float32)
    # paler, so that the colours of segments do not hide the map
    under = under * 0.55 + 255 * 0.45
    scaled = np.asarray(one, np.float32) / largest if largest > 0 else np.zeros_like(one, np.float32)
    wide = np.asarray(Image.fromarray(scaled).resize((px, px), Image.Resampling.BICUBIC))
    share = 0.85 * np.clip(wide, 0, 1)[..., None]
    return Image.fromarray(np.round(under * (1 - share) + _HEAT * share).astype(np.uint8))


def row_figure(
    row: Mapping[str, Any],
    images: Sequence[Image.Image],
    maps: Mapping[str, NDArray[np.floating]],
    title: str,
    view_names: Mapping[str, str],
) -> Figure:
    """Draw the evidence for each answer over the pictures of one row.

    Parameters
    ----------
    row
        As for :func:`.attribution_place.near_mask`, with ``views``.
    images
        Its pictures.
    maps
        Answer -> evidence, shape (pictures, rows, columns).
    title
        Over the figure.
    view_names
        View -> its name for people.

    Returns
    -------
    Figure
        A line of pictures for each answer, below the pictures alone; a circle marks :func:`.near_nm`.
    """
    from matplotlib.figure import Figure

    lines = [("the pictures", None), *((f"evidence for “{answer}”", own) for answer, own in maps.items())]
    figure = Figure(figsize=(2.5 * len(images) + 0.5, 2.5 * len(lines) + 0.7), dpi=100, layout="constrained")
    axes: Any = figure.subplots(len(lines), len(images), squeeze=False)
    figure.suptitle(title, fontsize=10)
    for line, (name, own) in zip(axes, lines, strict=True):
        largest = float(own.max()) if own is not None else 0.0
        for number, (axis, image, view) in enumerate(zip(line, images, row["views"], strict=True)):
            axis.imshow(image if own is None else overlay(image, own[number], largest), extent=(0, 1, 1, 0))
            near = near_mask(row, view)
            if near is not None and not near.all():
                axis.contour(near.astype(float), [0.5], colors="#333333", linewidths=0.8, extent=(0, 1, 0, 1))
            axis.set(xticks=[], yticks=[])
            if own is None:
                axis.set_title(view_names.get(view, view), fontsize=9)
        line[0].set_ylabel(name, fontsize=9)
    figure.supxlabel(
        f"The more magenta, the more evidence. Circle: {near_nm(row['extent_nm']):g} nm round the place.", fontsize=8
    )
    return figure


def sweep_figure(record: Mapping[str, Any]) -> Figure:
    """Draw the measures of every method over the layers of a record, with 95% intervals.

    Parameters
    ----------
    record
        From :func:`.attribution_run.explain_rows`.
    """
    from matplotlib.figure import Figure

    layers: list[str] = record["layers"]
    names = [layer.removeprefix("block ") for layer in layers]
    figure = Figure(figsize=(8, 8.5), dpi=100, layout="constrained")
    axes: Any = figure.subplots(len(_SWEPT), 1, sharex=True)
    known = {(m["method"], m["layer"], m["measure"]): m for m in record["measures"]}
    for axis, (measure, label) in zip(axes, _SWEPT.items(), strict=True):
        axis.axhline(0, color="#888888", linewidth=0.8)
        for number, (method, colour) in enumerate(_METHOD_COLOURS.items()):
            places = [*layers, "patches"] if method == "attnlrp" else layers
            found = [(x, known[method, p, measure]) for x, p in enumerate(places) if (method, p, measure) in known]
            if not found:
                continue
            x = np.array([place for place, _ in found]) + (number - 2) * 0.08
            values = np.array([m["value"] for _, m in found], float)
            low, high = (np.array([m[key] for _, m in found], float) for key in ("lower", "upper"))
            axis.errorbar(
                x,
                values,
                yerr=np.nan_to_num([values - low, high - values]),
                color=colour,
                marker="o",
                markersize=3.5,
                linewidth=1.2 if len(found) > 1 else 0,
                elinewidth=0.8,
                label=METHOD_NAMES[method],
            )
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
    if any(method == "attnlrp" for method, _, _ in known):
        names.append("patches")
    axes[-1].set_xticks(range(len(names)), names)
    axes[-1].set_xlabel("block of the network" + (" (patches: relevance at the start)" if "patches" in names else ""))
    axes[0].legend(fontsize=8, ncols=3, loc="upper left")
    data = record["data"]
    figure.suptitle(
        f"{record['model']} on {data['task']}/{data['species']}: {data['rows']} rows; 0 is a map in random order",
        fontsize=10,
    )
    return figure
