"""Response analysis as JSON, CSV, a figure and a page."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, write_json, write_text
from connectomebench.core.version import __version__
from connectomebench.evaluation.responses.changes import CueChange, checkpoint_series, find_changes, given_series
from connectomebench.evaluation.responses.cues import ANALYSIS_WORDS, Replies, collect_replies
from connectomebench.evaluation.responses.lexicon import Lexicon, Mention
from connectomebench.evaluation.responses.summary import (
    FEWEST,
    ReplySummary,
    enough_resamples,
    summarise_replies,
)
from connectomebench.evaluation.statistics import Estimate
from connectomebench.report.responses_figure import draw_responses

if TYPE_CHECKING:
    import pandas as pd

JSON, CUES, CHANGES, FIGURE, PAGE = "replies.json", "cues.csv", "changes.csv", "cues.png", "index.html"
"""Files in the folder of the analysis."""
_EXAMPLES = 2
_AROUND = 90


@dataclass(frozen=True)
class Example:
    """A cue mention with its context."""

    before: str
    words: str
    after: str
    model: str
    task: str


def write_responses(frame: pd.DataFrame, out: Path, lexicon: Lexicon, order: Sequence[str] = ()) -> list[Path]:
    """Analyse the replies in result records and write JSON, CSV, figure and page.

    Parameters
    ----------
    frame
        From :func:`connectomebench.evaluation.results.read_results`.
    out
        Folder; made if needed.
    lexicon
        From :func:`connectomebench.evaluation.responses.lexicon.read_lexicon`.
    order
        Models, first to last, as `connectomebench.evaluation.results.label` names them. Without it, models whose names
        differ in the number of a checkpoint alone are compared.

    Returns
    -------
    list[Path]
        The files, the page first. The same input gives the same bytes.

    Raises
    ------
    ConnectomeBenchError
        If there are no replies, or the order is wrong.
    """
    replies, silent = collect_replies(frame, lexicon)
    series = [given_series(replies, order)] if order else checkpoint_series(replies)
    summaries = [summarise_replies(one, lexicon) for one in tqdm(replies, desc="Estimating", unit="file", disable=None)]
    changes = [change for models in series for change in find_changes(replies, models, lexicon)]
    if order and not changes:
        raise ConnectomeBenchError(f"{order[0]} and {order[-1]} share no sample with replies from both; evaluate both")
    left_out = draw_responses(summaries, changes, lexicon, out / FIGURE)
    write_json(out / JSON, _document(summaries, series, changes, silent, lexicon))
    _write_csv(out / CUES, [row for summary in summaries for row in _cue_rows(summary)])
    written = [out / PAGE, out / JSON, out / CUES, out / FIGURE]
    if changes:
        _write_csv(out / CHANGES, [_change_row(change) for change in changes])
        written.append(out / CHANGES)
    write_text(out / PAGE, _page(summaries, series, changes, silent, left_out, lexicon))
    return written


def _document(
    summaries: Sequence[ReplySummary],
    series: Sequence[Sequence[str]],
    changes: Sequence[CueChange],
    silent: Sequence[str],
    lexicon: Lexicon,
) -> dict[str, Any]:
    """Build the content of the JSON file."""
    return {
        "code_version": __version__,
        "lexicon": {"key": lexicon.key, "cues": {cue.name: cue.title for cue in lexicon.cues}},
        "resamples": enough_resamples(lexicon),
        "without_replies": list(silent),
        "replies": [
            _where(one.replies)
            | {"samples": one.n_samples}
            | {name: _plain(getattr(one, name)) for name in ("words", "tokens", "reasoned", "parsed")}
            | {
                "cues": [
                    {
                        "cue": used.cue,
                        "use": used.use,
                        "share": _plain(used.share),
                        "right": _plain(used.right),
                        "right_same_answer": _plain(used.right_same_answer),
                        "holm_p": _number(used.holm),
                    }
                    for used in one.cues
                ]
            }
            for one in summaries
        ],
        "series": [list(models) for models in series],
        "changes": [
            {name: getattr(change, name) for name in ("first", "last", "task", "species", "partition", "cue", "use")}
            | {
                "samples": change.n_samples,
                "difference": _plain(change.difference),
                "holm_p": _number(change.holm),
                "verdict": change.verdict,
            }
            for change in changes
        ],
    }


def _where(replies: Replies) -> dict[str, str]:
    names = ("model", "revision", "task", "species", "partition", "condition")
    return {name: getattr(replies, name) for name in names}


def _cue_rows(summary: ReplySummary) -> list[dict[str, Any]]:
    """Return one row per cue and use."""
    rows = []
    for used in summary.cues:
        row = _where(summary.replies) | {"cue": used.cue, "use": used.use}
        row |= _columns("share", used.share) | {"replies": used.share.n, "groups": used.share.n_groups}
        row |= _columns("right", used.right) | _columns("right_same_answer", used.right_same_answer)
        rows.append(row | {"holm_p": _number(used.holm)})
    return rows


def _change_row(change: CueChange) -> dict[str, Any]:
    names = ("first", "last", "task", "species", "partition", "cue", "use")
    row = {name: getattr(change, name) for name in names} | _columns("difference", change.difference)
    return row | {"samples": change.n_samples, "holm_p": _number(change.holm), "verdict": change.verdict}


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Return value and bounds as three columns."""
    bounds = (math.nan,) * 3 if estimate is None else (estimate.value, estimate.lower, estimate.upper)
    return {f"{name}{end}": _number(bound) for end, bound in zip(("", "_lower", "_upper"), bounds, strict=True)}


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else {name: _number(value) for name, value in asdict(estimate).items()}


def _number(value: float) -> float | None:
    """Return a JSON number, None if not finite."""
    return value if math.isfinite(value) else None


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _page(
    summaries: Sequence[ReplySummary],
    series: Sequence[Sequence[str]],
    changes: Sequence[CueChange],
    silent: Sequence[str],
    left_out: int,
    lexicon: Lexicon,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("connectomebench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, pattern="%.2f": pattern % value if math.isfinite(value) else "n/a"
    environment.filters["finite"] = math.isfinite
    titles = {cue.name: cue.title for cue in lexicon.cues}
    return environment.get_template("responses.html").render(
        css=Markup(files("connectomebench.report").joinpath("templates/report.css").read_text(encoding="utf-8")),
        summaries=summaries,
        titles=titles,
        figure=FIGURE,
        right=[(one, used) for one in summaries for used in one.cues if used.holm <= 0.05],
        compared=sum(math.isfinite(used.holm) for one in summaries for used in one.cues),
        series=series,
        changes=changes,
        silent=silent,
        left_out=left_out,
        examples=_examples([one.replies for one in summaries], lexicon),
        resamples=enough_resamples(lexicon),
        analysis_words=ANALYSIS_WORDS,
        fewest=FEWEST,
        lexicon_key=lexicon.key,
        version=__version__,
        csv=CUES,
        json=JSON,
    )


def _examples(replies: Sequence[Replies], lexicon: Lexicon) -> list[tuple[str, list[Example], list[Example]]]:
    """Select affirmed and denied mentions of every cue, evenly spaced."""
    found: dict[tuple[str, str], list[tuple[Replies, str, Mention]]] = {}
    for one in replies:
        for text, mentions in zip(one.text, one.mentions, strict=True):
            for mention in mentions:
                found.setdefault((mention.cue, mention.reading), []).append((one, text, mention))

    def pick(cue: str, reading: str) -> list[Example]:
        there = found.get((cue, reading), [])
        steps = [len(there) * (2 * i + 1) // (2 * _EXAMPLES) for i in range(_EXAMPLES)] if there else []
        return [_example(*there[i]) for i in dict.fromkeys(steps)]

    return [(cue.title, pick(cue.name, "affirmed"), pick(cue.name, "denied")) for cue in lexicon.cues]


def _example(replies: Replies, text: str, mention: Mention) -> Example:
    """Extract a mention with its context from a reply, at word boundaries."""
    before = text[: mention.start][-_AROUND:]
    after = text[mention.end :][:_AROUND]
    if len(before) == _AROUND:
        before = f"… {before.partition(' ')[2]}"
    if len(after) == _AROUND:
        after = f"{after.rpartition(' ')[0]} …"
    return Example(before, text[mention.start : mention.end], after, replies.name, replies.task)
