"""Differences between stated and recomputed accuracies and sample counts."""

from __future__ import annotations

from itertools import combinations

from connectomebench.core.tasks import get_task
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.reproduction.aggregates import Cell
from connectomebench.reproduction.differences import (
    SAME,
    PublishedDifference,
    base,
    matching_run,
    method_of,
    name,
    percent,
    place_of,
    right_share,
)
from connectomebench.reproduction.methods import style
from connectomebench.reproduction.published_names import UNNAMED_SPECIES
from connectomebench.reproduction.published_records import Run, majority
from connectomebench.reproduction.results_folder import Published
from connectomebench.reproduction.unanswered import unanswered_scores


def accuracy_differences(published: Published) -> list[PublishedDifference]:
    """Return all differences in accuracies and samples."""
    checks = (
        _not_reproduced,
        _one_or_majority,
        _two_names,
        _unparsed,
        _unanswered,
        _other_samples,
        _people,
        _disagreeing_totals,
        _train_counts,
    )
    return [found for check in checks if (found := check(published)) is not None]


def _one_or_majority(published: Published) -> PublishedDifference | None:
    """Compare one answer per sample with the majority of several."""
    runs = [r for r in published.runs if r.votes > 1 and {"accuracy", "majority_accuracy"} <= set(r.stated)]
    rows, runs_shown = [], []
    for run in runs:
        first = right_share(run, [s.votes[0] for s in run.samples])
        voted = right_share(run, [majority(s.votes) for s in run.samples])
        if abs(first - run.stated["accuracy"]) < SAME and abs(voted - run.stated["majority_accuracy"]) < SAME:
            rows.append((name(run), str(run.votes), percent(first), percent(voted)))
            runs_shown.append(run)
    if not rows:
        return None
    return PublishedDifference(
        "votes",
        "“accuracy” is of the first answer alone, “majority_accuracy” of all votes",
        "Both come out exactly. They are different measurements: the accuracy that a file states is that of one answer "
        "a sample, although the prediction stored beside it is the majority.",
        ("run", "votes", "accuracy (first answer)", "majority_accuracy (all votes)"),
        tuple(rows),
        frozenset(place_of(r) for r in runs_shown),
    )


def _not_reproduced(published: Published) -> PublishedDifference | None:
    """Find stated accuracies that do not follow from the stored answers."""
    rows, places = [], set()
    for run in published.runs:
        votes = [(v, s.truth) for s in run.samples for v in s.votes]
        found = {
            "accuracy": right_share(run, [s.votes[0] for s in run.samples]),
            "majority_accuracy": right_share(run, [majority(s.votes) for s in run.samples]),
            "individual_accuracy": sum(v == t for v, t in votes) / max(1, sum(v is not None for v, _ in votes)),
        }
        as_no = {
            "accuracy": right_share(run, [bool(s.votes[0]) for s in run.samples]),
            "majority_accuracy": right_share(run, [majority([bool(v) for v in s.votes]) for s in run.samples]),
        }
        for measure, value in found.items():
            # a reply without an answer counts as "no" in some files: see `_unanswered`
            rules = (value, as_no.get(measure, value))
            if measure in run.stated and all(abs(run.stated[measure] - rule) > SAME for rule in rules):
                rows.append((name(run), measure, percent(run.stated[measure]), percent(value)))
                places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "not_reproduced",
        "A stated accuracy is not what the answers in the same file give",
        "The file may have been changed or cut after it was written.",
        ("run", "number", "stated", "from the answers"),
        tuple(rows),
        frozenset(places),
    )


def _two_names(published: Published) -> PublishedDifference | None:
    """Find totals that label the majority's accuracy as balanced accuracy."""
    rows, places = [], set()
    for cell in published.cells:
        values = cell.values
        if cell.method != "vlm" or not {"accuracy", "balanced_accuracy", "majority_accuracy"} <= set(values):
            continue
        run = matching_run(published, cell)
        if run is None or abs(values["balanced_accuracy"] - values["majority_accuracy"]) > SAME:
            continue
        first = right_share(run, [s.votes[0] for s in run.samples])
        fits = "first answer" if abs(values["accuracy"] - first) < SAME else "neither"
        if abs(values["accuracy"] - values["majority_accuracy"]) < SAME:
            fits = "majority"
        rows.append(
            (
                base(cell.file),
                get_task(cell.task).title,
                f"{percent(values['accuracy'])} ({fits})",
                f"{percent(values['balanced_accuracy'])} (majority)",
                f"{name(run)}, {run.votes} votes",
            )
        )
        places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "two_names",
        "The VLM's “balanced accuracy” in the files of totals is the accuracy of the majority",
        "What stands beside it as accuracy is in brackets. Where that is the first answer, the two numbers of a cell "
        "differ by the number of answers, not by how common each answer is.",
        ("file", "task", "accuracy", "balanced accuracy", "stems from"),
        tuple(rows),
        frozenset(places),
    )


def _unparsed(published: Published) -> PublishedDifference | None:
    """Find stated accuracies that exclude votes without an answer."""
    rows, places = [], set()
    for run in published.runs:
        total = sum(len(s.votes) for s in run.samples)
        held = sum(v is not None for s in run.samples for v in s.votes)
        right = sum(v == s.truth for s in run.samples for v in s.votes)
        stated = run.stated.get("individual_accuracy")
        if stated is None or held == total or abs(stated - right / held) > SAME:
            continue
        rows.append((name(run), f"{total - held} of {total}", percent(stated), percent(right / total)))
        places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "unparsed",
        "Votes without a readable answer are left out of “individual_accuracy”",
        "The stated share divides by the votes that hold an answer. Ours counts a vote without one as wrong.",
        ("run", "votes without an answer", "stated (left out)", "ours (wrong)"),
        tuple(rows),
        frozenset(places),
    )


def _unanswered(published: Published) -> PublishedDifference | None:
    """Score runs with samples that no vote answers under each rule for those."""
    rows, places = [], set()
    for run in published.runs:
        scores = unanswered_scores(run)
        if scores is None:
            continue
        stated = run.stated.get("majority_accuracy", run.stated.get("accuracy"))
        rows.append(
            (
                name(run),
                f"{scores.answered} of {scores.samples}",
                percent(stated) if stated is not None else "",
                f"{percent(scores.as_no[0])}, balanced {percent(scores.as_no[1])}",
                f"{percent(scores.left_out[0])}, balanced {percent(scores.left_out[1])}",
                f"{percent(scores.wrong[0])}, balanced {percent(scores.wrong[1])}",
            )
        )
        places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "unanswered",
        "Samples without an answer in any vote: counted as “no”, left out, or wrong",
        "The publication counts a reply without an answer as “no”, which is right for every sample whose answer is no. "
        "Ours counts it as wrong. On the answered samples alone, the rule makes no difference.",
        ("run", "answered", "stated", "as “no”", "answered samples alone", "as wrong (ours)"),
        tuple(rows),
        frozenset(places),
    )


def _other_samples(published: Published) -> PublishedDifference | None:
    """Find runs on one task with different samples."""
    rows, places = [], set()
    for task in dict.fromkeys(r.task for r in published.runs):
        sets: dict[str, list[Run]] = {}
        for run in published.runs:
            if run.task == task:
                sets.setdefault(run.fingerprint, []).append(run)
        if len(sets) < 2:
            continue
        for number, runs in enumerate(sets.values(), start=1):
            shared = [
                f"{_shared(runs[0], others[0])} with set {other}"
                for other, others in enumerate(sets.values(), start=1)
                if other != number
            ]
            who = ", ".join(dict.fromkeys(style(method_of(r)).title for r in runs))
            rows.append((get_task(task).title, str(number), who, str(len(runs[0].samples)), "; ".join(shared)))
            places |= {place_of(r) for r in runs}
    if not rows:
        return None
    return PublishedDifference(
        "samples",
        "Not all methods were asked about the same samples",
        "Differences between such runs hold the difference of their samples too. Only runs on the same samples can be "
        "compared pair by pair.",
        ("task", "set", "asked about it", "samples", "shared"),
        tuple(rows),
        frozenset(places),
    )


def _shared(one: Run, other: Run) -> str:
    first, second = ({s.sample_id for s in r.samples} for r in (one, other))
    if any(key.startswith("number-") for key in first | second):
        return "an unknown number (samples are only numbered)"
    return str(len(first & second))


def _people(published: Published) -> PublishedDifference | None:
    """Compare stated and balanced accuracies of people."""
    rows, places = [], set()
    for run in published.runs:
        error = run.stated.get("accuracy_se")
        if error is None or "accuracy" not in run.stated:
            continue
        n, share = len(run.samples), run.stated["accuracy"]
        yes = sum(s.truth for s in run.samples)
        answers = ["yes" if s.votes[0] else "no" if s.votes[0] is not None else "" for s in run.samples]
        balanced = balanced_accuracy(answers, ["yes" if s.truth else "no" for s in run.samples])
        formula = "yes" if abs((share * (1 - share) / n) ** 0.5 - error) < SAME else "no"
        rows.append(
            (
                name(run),
                str(n),
                f"{yes} yes, {n - yes} no",
                f"{percent(share)} ± {percent(error)}",
                percent(balanced),
                formula,
            )
        )
        places.add(place_of(run))
    if not rows:
        return None
    return PublishedDifference(
        "people",
        "People answered few samples, with unequally common answers",
        "The stated number is plain accuracy with a standard error √(p(1 − p)/n), which takes samples as independent. "
        "Ours is balanced accuracy, as for the models, with a 95% interval.",
        ("person", "n", "truth", "stated accuracy ± error", "balanced accuracy", "error by that formula"),
        tuple(rows),
        frozenset(places),
    )


def _disagreeing_totals(published: Published) -> PublishedDifference | None:
    """Find cells with different values in two files."""
    rows, places = [], set()
    cells = [c for c in published.cells if c.method.startswith("resnet") and "balanced_accuracy" in c.values]
    for one, other in combinations(cells, 2):
        same_place = (one.method, one.task, one.species) == (other.method, other.task, other.species)
        if not same_place or abs(one.values["balanced_accuracy"] - other.values["balanced_accuracy"]) < 1e-4:
            continue
        twins = sorted(
            {
                style(c.method).title
                for c in cells
                for this in (one, other)
                if c.task == this.task
                and c.method != this.method
                and c.values["balanced_accuracy"] == this.values["balanced_accuracy"]
            }
        )
        rows.append(
            (
                f"{style(one.method).title}, {get_task(one.task).title.lower()}",
                _total(one),
                _total(other),
                f"one is the value of {twins[0]}" if twins else "",
            )
        )
        places.add((one.method, one.task))
    if not rows:
        return None
    return PublishedDifference(
        "totals",
        "Two files give one cell different values",
        "Balanced accuracies of the same method and task that cannot both be meant. Where one of them is to the last "
        "digit that of another method, this is noted.",
        ("cell", "one", "other", "remark"),
        tuple(rows),
        frozenset(places),
    )


def _total(cell: Cell) -> str:
    samples = f", {cell.n} samples" if cell.n is not None else ""
    return f"{percent(cell.values['balanced_accuracy'])} ({base(cell.file)}{samples})"


def _train_counts(published: Published) -> PublishedDifference | None:
    """Find inconsistent numbers of training and test samples."""
    rows = []
    for task in dict.fromkeys(c.task for c in published.counts):
        listed = [c for c in published.counts if c.task == task and not c.method]
        tested = next((c.test_samples for c in listed if c.test_samples is not None), None)
        found = sorted({c.n for c in published.cells if _mouse_resnet(c, task) and c.n is not None})
        if len({c.train_samples for c in listed}) > 1 or (tested is not None and found not in ([], [tested])):
            rows.append(
                (
                    get_task(task).title,
                    ", ".join(f"{c.train_samples} ({base(c.file)})" for c in listed),
                    str(tested) if tested is not None else "",
                    ", ".join(map(str, found)),
                )
            )
    if not rows:
        return None
    return PublishedDifference(
        "counts",
        "Numbers of training and test samples differ between files",
        "Figures take the number that stands beside a result, else that of model_metadata.json.",
        ("task", "training samples as listed", "test samples as listed", "test samples of ResNet results"),
        tuple(rows),
        frozenset(),
    )


def _mouse_resnet(cell: Cell, task: str) -> bool:
    return cell.task == task and cell.species == UNNAMED_SPECIES and cell.method.startswith("resnet")
