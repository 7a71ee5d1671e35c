"""Methods: titles, order and colour-blind safe colours (Okabe and Ito)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectomebench.core.task_explanations import MODEL_NAMES
from connectomebench.evaluation.results import label

_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY, _YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#B8A800",
)
_SPARE = (_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY, _YELLOW)


@dataclass(frozen=True)
class Style:
    """Title and plot style of a method.

    Attributes
    ----------
    title
        For people.
    colour
        ``#RRGGBB``; None where any spare colour will do.
    marker
        Of matplotlib.
    hollow
        Drawn as an outline.
    """

    title: str
    colour: str | None
    marker: str = "o"
    hollow: bool = False


_STYLES = {
    "linear_probe": Style("Linear probe", _BLUE, "o"),
    "linear_probe_single": Style("Linear probe (single fit)", _BLUE, "o", hollow=True),
    "resnet_small": Style("ResNet-50 (512 samples)", _YELLOW, "v"),
    "resnet_frozen": Style("ResNet-50 (frozen)", _ORANGE, "s", hollow=True),
    "resnet_finetuned": Style("ResNet-50 (fine-tuned)", _ORANGE, "s"),
    "vlm": Style("VLM (with confidence)", _RED, "D"),
    "vlm_answer_only": Style("VLM (answer only)", _RED, "D", hollow=True),
    "vlm_published": Style("VLM (as published)", _RED, "D"),
    "vlm_stated": Style("VLM (stated confidence)", _GREEN, "^"),
    "vlm_votes": Style("VLM (share of votes)", _PURPLE, "P"),
    "gpt-5": Style("GPT-5", _GREEN, "^"),
    "gemini-3-pro-preview": Style("Gemini 3 Pro preview", _PURPLE, "P"),
    "person-1": Style("Person 1", "#7A7A7A", "*"),
    "person-2": Style("Person 2", "#7A7A7A", "*", hollow=True),
}


def ours(model: str, condition: str) -> str:
    """Name the method of a model of ours in a condition, where published methods stand beside it."""
    return f"{_OURS}{label(model, condition)}"


def is_ours(method: str) -> bool:
    """Return whether a method was named by :func:`ours`."""
    return method.startswith(_OURS)


def style(method: str) -> Style:
    """Return the style of a method; unknown methods keep their name."""
    if is_ours(method):
        return Style(f"{style(method.removeprefix(_OURS)).title} (ours)", None, "X")
    if method in _STYLES:
        return _STYLES[method]
    return Style(MODEL_NAMES[method][0] if method in MODEL_NAMES else _network_title(method) or method, None)


_OURS = "ours: "
_NETWORK = re.compile(r"(?P<network>\w+?)_(?P<how>frozen|small|finetuned|run_(?P<stamp>\w+?))(?:-(?P<number>\d+))?")
_HOW = {"frozen": "frozen", "small": "512 samples", "finetuned": "fine-tuned"}


def _network_title(method: str) -> str | None:
    """Return the title of another network, or of another run: ``convnext_large (frozen)``."""
    found = _NETWORK.fullmatch(method)
    if found is None:
        return None
    network = "ResNet-50" if found["network"] in ("resnet", "resnet50") else found["network"]
    how = f"run {found['stamp']}" if found["stamp"] else _HOW[found["how"]]
    number = f", {found['number']}" if found["number"] else ""
    return f"{network} ({how}{number})"


def colours(methods: list[str]) -> dict[str, str]:
    """Return a colour per method; methods without their own take spare ones in order."""
    taken = {s.colour for m in methods if (s := style(m)).colour}
    spare = [c for c in _SPARE if c not in taken] or list(_SPARE)
    result, used = {}, 0
    for method in methods:
        own = style(method).colour
        result[method] = own or spare[used % len(spare)]
        used += own is None
    return result


def in_order(methods: set[str]) -> list[str]:
    """Sort methods: people, probes, ResNets, vision-language models, then by name."""
    order = ["person-1", "person-2", *_STYLES, *MODEL_NAMES]
    return sorted(methods, key=lambda m: (order.index(m) if m in order else len(order), m))


def published_method(model: str, condition: str) -> str:
    """Return the method of a model in published records, regardless of votes."""
    if model.endswith("-finetuned"):
        return "vlm" if "confidence" in condition.split("+") else "vlm_answer_only"
    return model
