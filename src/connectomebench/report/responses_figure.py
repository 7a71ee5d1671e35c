"""Figure of the response analysis: cue frequencies, and their change over a training run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectomebench.core.files import atomic_path
from connectomebench.evaluation.responses.changes import CueChange
from connectomebench.evaluation.responses.lexicon import Lexicon
from connectomebench.evaluation.responses.summary import ReplySummary

FEWEST_REASONED = 0.05
"""Share of replies with an analysis below which a model is left out of the figure: it names next to nothing."""
_SETS = 4
_COLUMNS = 2
# Okabe and Ito's colour-blind safe palette
_MARKS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"), ("#cc79a7", "^"))
_UNDECIDED = "#8a8f96"


def draw_responses(
    summaries: Sequence[ReplySummary], changes: Sequence[CueChange], lexicon: Lexicon, path: Path
) -> int:
    """Plot the cues of every model, up to four per panel, and the changes between checkpoints below.

    Parameters
    ----------
    summaries, changes
        From `connectomebench.evaluation.responses.summary` and `connectomebench.evaluation.responses.changes`.
    lexicon
        The one that was read with.
    path
        PNG file.

    Returns
    -------
    int
        How many models were left out since they write no analysis (`FEWEST_REASONED`).
    """
    from matplotlib.figure import Figure

    shown = [one for one in summaries if one.reasoned.value >= FEWEST_REASONED]
    panels = [*_panels(shown), *_changed(changes)]
    rows = max(1, -(-len(panels) // _COLUMNS))
    most = max((len(panel) for panel in _panels(shown)), default=1)
    height = (0.14 + 0.11 * most) * len(lexicon.cues) + 1.6
    figure = Figure(figsize=(12, height * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axis, panel in zip(axes, panels, strict=False):
        if isinstance(panel[0], ReplySummary):
            _draw_cues(axis, panel, lexicon)
        else:
            _draw_changes(axis, panel, lexicon)
    for axis in list(axes)[len(panels) :]:
        axis.set_axis_off()
    if not panels:
        figure.text(0.5, 0.5, "no model writes an analysis", ha="center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    return len(summaries) - len(shown)


def _panels(shown: Sequence[ReplySummary]) -> list[list[Any]]:
    """Group models of one task, species and partition, at most four."""
    by_place: dict[tuple[str, str, str], list[ReplySummary]] = defaultdict(list)
    for one in shown:
        by_place[one.replies.place].append(one)
    return [ones[start : start + _SETS] for _, ones in sorted(by_place.items()) for start in range(0, len(ones), _SETS)]


def _changed(changes: Sequence[CueChange]) -> list[list[Any]]:
    """Group the changes of one pair of models by task, species and partition."""
    by_pair: dict[tuple[str, ...], list[CueChange]] = defaultdict(list)
    for change in changes:
        by_pair[change.first, change.last, change.task, change.species, change.partition].append(change)
    return list(by_pair.values())


def _draw_cues(axis: Any, ones: Sequence[ReplySummary], lexicon: Lexicon) -> None:
    place = {cue.name: i for i, cue in enumerate(lexicon.cues)}
    step = 0.8 / len(ones)
    for number, (one, (colour, marker)) in enumerate(zip(ones, _MARKS, strict=False)):
        name = f"{one.replies.name} (n = {one.reasoned.n} replies, {one.reasoned.n_groups} groups)"
        for use, sign in (("affirmed", 1), ("denied", -1)):
            found = [used for used in one.cues if used.use == use]
            values = [sign * used.share.value for used in found]
            heights = [place[used.cue] - 0.4 + step * (number + 0.5) for used in found]
            low = [used.share.value - used.share.lower for used in found]
            high = [used.share.upper - used.share.value for used in found]
            axis.errorbar(
                values,
                heights,
                xerr=[low, high] if sign > 0 else [high, low],
                fmt=marker,
                markersize=4,
                linewidth=1.2,
                color=colour,
                label=name if sign > 0 else None,
            )
    axis.axvline(0, color="0.2", linewidth=1)
    _finish(axis, lexicon, "denied  ←  share of replies, 95% interval  →  affirmed")
    axis.set_xlim(-1.02, 1.02)
    axis.set_xticks([-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1])
    axis.set_xticklabels(["1", "0.75", "0.5", "0.25", "0", "0.25", "0.5", "0.75", "1"])
    axis.set_title("/".join(ones[0].replies.place), fontsize=11, loc="left")


def _draw_changes(axis: Any, changes: Sequence[CueChange], lexicon: Lexicon) -> None:
    place = {cue.name: i for i, cue in enumerate(lexicon.cues)}
    for use, shift, face in (("affirmed", -0.18, True), ("denied", 0.18, False)):
        for decided in (True, False):
            found = [c for c in changes if c.use == use and (c.verdict != "undecided") == decided]
            colour = _MARKS[0][0] if decided else _UNDECIDED
            axis.errorbar(
                [c.difference.value for c in found],
                [place[c.cue] + shift for c in found],
                xerr=[
                    [c.difference.value - c.difference.lower for c in found],
                    [c.difference.upper - c.difference.value for c in found],
                ],
                fmt="o",
                markersize=5,
                linewidth=1.2,
                color=colour,
                markerfacecolor=colour if face else "white",
                label=f"{use}, {'changed (corrected p ≤ 0.05)' if decided else 'undecided'}",
            )
    axis.axvline(0, color="0.2", linewidth=1)
    _finish(axis, lexicon, "less  ←  change of the share, 95% interval  →  more")
    first = changes[0]
    axis.set_title(
        f"{'/'.join((first.task, first.species, first.partition))}, {first.n_samples} samples\n"
        f"from {first.first}\nto {first.last}",
        fontsize=11,
        loc="left",
    )


def _finish(axis: Any, lexicon: Lexicon, label: str) -> None:
    axis.set_yticks(range(len(lexicon.cues)), [cue.title for cue in lexicon.cues], fontsize=10)
    axis.set_ylim(len(lexicon.cues) - 0.5, -0.5)
    for i in range(0, len(lexicon.cues), 2):
        axis.axhspan(i - 0.5, i + 0.5, color="0.96", zorder=0)
    axis.grid(axis="x", color="0.88", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(label, fontsize=10)
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, -0.06), frameon=False, fontsize=9)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
