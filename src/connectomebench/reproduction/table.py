"""Benchmark table of stated and recomputed scores, as HTML cells and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from connectomebench.core.tasks import get_task
from connectomebench.reproduction.differences import Place, PublishedDifference, method_of
from connectomebench.reproduction.methods import in_order, style
from connectomebench.reproduction.published_names import COLUMNS, UNNAMED_SPECIES
from connectomebench.reproduction.published_records import Run
from connectomebench.reproduction.results_folder import Published
from connectomebench.reproduction.score_table import Score
from connectomebench.reproduction.unanswered import unanswered_scores

EXPECTED = (
    "person-1",
    "linear_probe",
    "linear_probe_single",
    "resnet_frozen",
    "resnet_finetuned",
    "vlm",
    "gpt-5",
    "gemini-3-pro-preview",
)
"""Methods that have their lines in the table whether there are records or not."""

_LINES = (
    ("stated", "published"),
    ("stated_first", "published, one answer"),
    ("stated_votes", "published, each vote"),
    ("ours", "ours"),
    ("ours_first", "ours, one answer"),
    ("ours_votes", "ours, each vote"),
    ("ours_as_no", "ours, no answer as “no”"),
    ("ours_answered", "ours, answered samples alone"),
    ("n", "samples (groups)"),
)
_MARKED = {
    "not_reproduced": ("stated", "stated_first", "stated_votes"),
    "votes": ("stated", "stated_first"),
    "two_names": ("stated",),
    "unparsed": ("stated_votes",),
    "people": ("stated",),
    "unanswered": ("stated", "ours", "ours_as_no", "ours_answered"),
    "outputs": ("stated", "ours"),
    "probe": ("stated", "ours"),
    "totals": ("stated",),
    "samples": ("n",),
}
"""Difference -> the lines of the table that carry its mark."""
_SPECIAL = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_SPECIAL |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_TYPESET = {
    "±": r"$\pm$",
    "√": r"$\surd$",
    "−": "$-$",
    "²": r"\textsuperscript{2}",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class Entry:
    """One cell: its text, empty without records, and its footnote marks."""

    text: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableLine:
    """One line of a method: its label, and one entry per task."""

    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Block:
    """The lines of one method."""

    title: str
    lines: tuple[TableLine, ...]


@dataclass(frozen=True)
class Note:
    """A footnote: its mark and its difference."""

    mark: str
    title: str
    key: str


@dataclass(frozen=True)
class Table:
    """The table, one column per task of `COLUMNS`.

    Attributes
    ----------
    blocks
        One a method, in the order of the table.
    notes
        In the order of their marks.
    empty
        One line for each cell without any number.
    """

    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]
    empty: tuple[str, ...]


def benchmark_table(
    published: Published,
    stated: Sequence[Score],
    own: Sequence[Score],
    swept: Sequence[Score],
    differences: Sequence[PublishedDifference],
) -> Table:
    """Build the table of the mouse data.

    Parameters
    ----------
    published
        What was read.
    stated, own, swept
        Its scores (:mod:`.published_scores`).
    differences
        Differences in the footnotes.
    """
    used = [d for d in differences if d.key in _MARKED and d.places]
    marks = {d.key: chr(ord("a") + number) for number, d in enumerate(used)}
    runs = {(method_of(run), run.task): run for run in published.runs if run.species == UNNAMED_SPECIES}
    methods = in_order({*EXPECTED, *(method for method, _ in runs)})
    blocks, empty = [], []
    unread = sum("left out" in file.state for file in published.files)
    files = f"{unread} file{'s are' if unread > 1 else ' is'} left out"
    nothing = f"were read ({files}, wholly or in part: see below)" if unread else "in the folder"
    for method in methods:
        lines = []
        texts = {place: _texts(place, runs.get(place), stated, own, swept) for place in ((method, t) for t in COLUMNS)}
        for kind, title in _LINES:
            entries = tuple(
                _entry(
                    texts[method, task].get(kind, ""), [marks[d.key] for d in used if _bears(d, kind, (method, task))]
                )
                for task in COLUMNS
            )
            if any(entry.text for entry in entries):
                lines.append(TableLine(title, entries))
        blocks.append(Block(style(method).title, tuple(lines)))
        empty += [
            f"{style(method).title}, {get_task(task).title.lower()}: no answers and no totals {nothing}"
            for (_, task), found in texts.items()
            if not found and (method in EXPECTED or method.startswith("person"))
        ]
    return Table(tuple(blocks), tuple(Note(marks[d.key], d.title, d.key) for d in used), tuple(empty))


def latex(table: Table, resamples: int) -> str:
    r"""Return the table as LaTeX (booktabs), in a ``table*`` with its notes below."""
    head = " & ".join(escape(get_task(task).title) for task in COLUMNS)
    parts = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\caption{{{escape(caption(resamples))}}}",
        f"\\begin{{tabular}}{{ll{'r' * len(COLUMNS)}}}",
        "\\toprule",
        f"Method & & {head} \\\\",
    ]
    for block in table.blocks:
        parts.append("\\midrule")
        for number, line in enumerate(block.lines):
            title = escape(block.title) if number == 0 else ""
            cells = " & ".join(_typeset(entry) for entry in line.entries)
            parts.append(f"{title} & {escape(line.title)} & {cells} \\\\")
        if not block.lines:
            parts.append(f"{escape(block.title)} & {' & ' * len(COLUMNS)} \\\\")
    parts += ["\\bottomrule", "\\end{tabular}", ""]
    parts += [f"\\par\\footnotesize\\textsuperscript{{{note.mark}}} {escape(note.title)}." for note in table.notes]
    return "\n".join([*parts, "\\end{table*}", ""])


def caption(resamples: int) -> str:
    """Return the caption of the table."""
    return (
        "Balanced accuracy in percent on mouse data (50 is guessing). Published: as the files state it. Ours: from the "
        f"single answers in them, an unreadable answer counted as wrong; brackets hold 95% intervals, {resamples} "
        "bootstrap resamples of groups of samples that share a segment. After ± stand the standard error as stated "
        "(people) or the standard deviation of repeats (probe). Lines without brackets come from totals alone."
    )


def escape(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_SPECIAL.get(c, _TYPESET.get(c, c)) for c in text)


def _texts(
    place: Place, run: Run | None, stated: Sequence[Score], own: Sequence[Score], swept: Sequence[Score]
) -> dict[str, str]:
    """Return the texts of a cell by the names in `_LINES`, without empty lines."""
    found = _stated_texts(place, run, stated)
    tested = found.pop("n", None)
    found |= _own_texts(place, own) | _unanswered_texts(run)
    if tested and found.get("n", "").split(" ")[0] != tested:
        found["n"] = f"{tested}; ours {found['n']}" if "n" in found else tested
    best = [s for s in swept if (s.method, s.task) == place and s.metric == "balanced_accuracy"]
    if best:
        score = max(best, key=lambda s: s.train_samples or 0)
        found["ours"] = (
            f"{_percent(score.value)} ± {_percent(score.upper - score.value)}"
            if score.interval
            else _percent(score.value)
        )
        found["n"] = f"{score.n}, {score.how}"
    return found


def _stated_texts(place: Place, run: Run | None, stated: Sequence[Score]) -> dict[str, str]:
    if run is None or run.is_network:
        scores = [s for s in stated if (s.method, s.task, s.species) == (*place, UNNAMED_SPECIES)]
        values = [s for s in scores if s.metric == "balanced_accuracy"]
        texts = {"stated": " or ".join(_percent(s.value) for s in values)}
        tested = [str(s.n) for s in values if s.n is not None]
        return {k: v for k, v in (texts | {"n": " or ".join(tested)}).items() if v}
    lines = {"stated_first": "accuracy", "stated": "majority_accuracy", "stated_votes": "individual_accuracy"}
    if run.votes == 1:
        lines = {"stated": "accuracy"}
    texts = {line: _percent(run.stated[key]) for line, key in lines.items() if key in run.stated}
    if "accuracy_se" in run.stated and "stated" in texts:
        texts["stated"] += f" ± {_percent(run.stated['accuracy_se'])}"
    return texts


def _own_texts(place: Place, own: Sequence[Score]) -> dict[str, str]:
    texts: dict[str, str] = {}
    here = [s for s in own if (s.method, s.task, s.species) == (*place, UNNAMED_SPECIES) and s.metric != "ece"]
    voted = any(s.how.startswith("majority") for s in here)
    for score in here:
        line = "ours"
        if score.metric == "vote_share":
            line = "ours_votes"
        elif voted and not score.how.startswith("majority"):
            line = "ours_first"
        texts[line] = _percent(score.value)
        if math.isfinite(score.lower):
            texts[line] += f" [{_percent(score.lower)}, {_percent(score.upper)}]"
        texts["n"] = f"{score.n} ({score.n_groups})"
    return texts


def _unanswered_texts(run: Run | None) -> dict[str, str]:
    scores = None if run is None else unanswered_scores(run)
    if scores is None:
        return {}
    return {
        "ours_as_no": _percent(scores.as_no[1]),
        "ours_answered": f"{_percent(scores.left_out[0])} (accuracy of {scores.answered})"
        if scores.answered
        else "none",
    }


def _entry(text: str, marks: Sequence[str]) -> Entry:
    return Entry(text, tuple(marks) if text else ())


def _bears(difference: PublishedDifference, kind: str, place: Place) -> bool:
    return kind in _MARKED[difference.key] and place in difference.places


def _typeset(entry: Entry) -> str:
    marks = f"\\textsuperscript{{{','.join(entry.marks)}}}" if entry.marks else ""
    return escape(entry.text) + marks


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
