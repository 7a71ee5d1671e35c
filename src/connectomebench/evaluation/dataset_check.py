"""Check a dataset: how far cheap cues lead from its training partition to its test partition."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.task_explanations import ALL_CUE_TITLES, MATCHED_CUES
from connectomebench.core.tasks import get_task
from connectomebench.core.version import __version__
from connectomebench.dataset.loading import fetch_manifest, load_rows
from connectomebench.dataset.manifest import FILE_NAME, read_manifest
from connectomebench.dataset.row_format import entry_format
from connectomebench.evaluation.comparison import FEW_GROUPS
from connectomebench.evaluation.cue_scores import CueScore, score_cues
from connectomebench.evaluation.formatting import interval_text, without_nan
from connectomebench.evaluation.mask_check import MaskCheck, mask_entry
from connectomebench.evaluation.place_cues import score_place_cues
from connectomebench.evaluation.result_records import result_path, write_results
from connectomebench.evaluation.true_answers import true_answers

if TYPE_CHECKING:
    from connectomebench.dataset.rows import DataRecord, Rows

TRAIN, JUDGED = "train", "test"
CUE_PREFIX = "cue-"
"""Before the name of a cue: what its answers are called in result records."""


@dataclass(frozen=True)
class DatasetCheck:
    """Scores of all cheap cues on one species of one dataset.

    Attributes
    ----------
    name
        Folder or ``ORG/NAME``, as it was asked for.
    data
        The judged rows.
    scores
        One a cue, the plainest first.
    matched
        Names of the cues that controls were matched on when the dataset was built.
    chance
        What guessing is worth where answers are places; None elsewhere, where it follows from the number of answers.
    """

    name: str
    data: DataRecord
    scores: tuple[CueScore, ...]
    matched: tuple[str, ...]
    chance: float | None = None

    def limit(self, threshold: float) -> float:
        """Return the score that lies as far above chance as the threshold does with two answers.

        Chance is one half with two answers, one in k with k, and the mean score of a random node where answers are
        places; the room above it shrinks or grows with it.
        """
        chance = 1 / max(2, len(self.data.rows)) if self.chance is None else self.chance
        return chance + (threshold - 0.5) * 2 * (1 - chance)

    def leading(self, threshold: float) -> tuple[CueScore, ...]:
        """Return the cues whose whole interval lies above :meth:`limit`; inherent ones are no flaw."""
        limit = self.limit(threshold)
        return tuple(one for one in self.scores if not one.inherent and one.estimate.lower > limit)


@dataclass(frozen=True)
class NotChecked:
    """A dataset that cannot be checked.

    Attributes
    ----------
    name
        Folder of the dataset.
    reason
        One line.
    is_error
        Something is wrong with it; otherwise the check is not made for its task.
    """

    name: str
    reason: str
    is_error: bool


def find_datasets(name: str, species: str, task: str | None = None) -> tuple[str, ...]:
    """List the datasets that a name stands for.

    Parameters
    ----------
    name
        Folder of one task, output folder of several tasks, or ``ORG/NAME`` on the Hub.
    species
        Config; datasets of an output folder without it are left out.
    task
        Of an output folder, this one alone.

    Returns
    -------
    tuple of str
        Names for :func:`check_dataset`.

    Raises
    ------
    ConnectomeBenchError
        If an output folder holds no dataset of the species or task.
    """
    from connectomebench.dataset.public.load_public import recognise

    folder = Path(name)
    if not folder.is_dir() or (folder / FILE_NAME).exists() or recognise(name) is not None:
        return (name,)
    manifests = {path.parent: read_manifest(path.parent) for path in sorted(folder.glob(f"*/{FILE_NAME}"))}
    if not manifests:
        raise ConnectomeBenchError(f"{name} holds no dataset; name a folder with {FILE_NAME} in it or below it")
    present = {where: manifest for where, manifest in manifests.items() if species in manifest["species"]}
    if not present:
        known = sorted({one for manifest in manifests.values() for one in manifest["species"]})
        raise ConnectomeBenchError(f"no dataset in {name} holds the species {species!r}; there is {', '.join(known)}")
    chosen = tuple(str(where) for where, manifest in present.items() if task in (None, manifest["task"]))
    if not chosen:
        known = ", ".join(sorted(manifest["task"] for manifest in present.values()))
        raise ConnectomeBenchError(f"no dataset in {name} holds the task {task!r} of {species}; there is {known}")
    return chosen


def check_dataset(
    name: str,
    species: str,
    *,
    task: str | None = None,
    revision: str | None = None,
    cache: Path | None = None,
    rows_cache: Path | None = None,
    seed: int = 0,
    progress: bool = False,
    records: Path | None = None,
) -> DatasetCheck:
    """Score every cheap cue on a dataset: gradient boosting on its training rows, judged on its test rows.

    Where answers are places, the cues are lazy rules that name a node, and nothing is learnt.

    Parameters
    ----------
    name
        Folder of one task, or ``ORG/NAME`` on the Hub.
    species
        Config.
    task
        For public datasets that hold several.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    cache
        Folder for what is measured on pictures; None takes a temporary one.
    rows_cache
        Folder for the cache of `datasets`; its own by default.
    seed
        Of gradient boosting and of the bootstrap.
    progress
        Show a bar for what takes over a second.
    records
        Folder of result records; what each cue answers goes there as that of a model ``cue-NAME``, to compare with.

    Raises
    ------
    ConnectomeBenchError
        If rows cannot be loaded, a partition is empty or has one answer only, or the answer is a mask.

    Examples
    --------
    >>> from connectomebench import check_dataset
    >>> check = check_dataset("quickstart-out/merge_action", "fly")
    >>> [score.cue for score in check.scores]
    ['trivial', 'one_piece', 'silhouette', 'grey', 'metadata']
    """
    from connectomebench.dataset.public.load_public import recognise

    test = load_rows(name, species, JUDGED, revision, rows_cache, task=task)
    if get_task(test.data.task).scoring == "places":
        cues = score_place_cues(test.dataset, seed=seed)
        _write_records(records, test, cues.scores)
        return DatasetCheck(name, test.data, cues.scores, (), cues.chance)
    if not get_task(test.data.task).labels:
        raise ConnectomeBenchError(f"{name}: the answer to {test.data.task} is a mask, which no cheap cue can give")
    pinned = test.data.revision if test.data.repo else revision
    train = load_rows(name, species, TRAIN, pinned, rows_cache, task=task)
    for rows in (train, test):
        if len(rows.data.rows) < 2:
            found = f"the one answer {next(iter(rows.data.rows))!r}" if rows.data.rows else "no rows"
            raise ConnectomeBenchError(
                f"{name}: {rows.data.partition} of {species} has {found}, so that no cue can be judged; "
                "build it with more data"
            )
    with TemporaryDirectory() as temporary:
        where = Path(temporary) if cache is None else cache
        found = tuple(score_cues(train.dataset, test.dataset, where, seed=seed, progress=progress))
    _write_records(records, test, found)
    return DatasetCheck(name, test.data, found, _matched(name, test.data) if recognise(name) is None else ())


def _write_records(folder: Path | None, rows: Rows, scores: Sequence[CueScore]) -> None:
    """Write what the cues answer as result records, one file a cue."""
    if folder is None:
        return
    data, columns = rows.data, rows.dataset.remove_columns(["images"])[:]
    truth = true_answers(columns)
    for score in scores:
        model = CUE_PREFIX + score.cue
        # a cue learns from the training rows of this dataset by fixed settings: those and this code are its version
        constant = {
            "partition": data.partition,
            "model": model,
            "model_revision": content_key(score.cue, data.fingerprint, score.n_train, __version__)[:16],
            "dataset_fingerprint": data.fingerprint,
            "code_version": __version__,
        }
        found = [
            {name: columns[name][i] for name in ("sample_id", "task", "species", "question", "group")}
            | constant
            | {"prediction": prediction, "answer": truth[i]}
            for i, prediction in enumerate(score.predictions)
        ]
        write_results(result_path(folder, model, data.task, data.species, data.partition), found)


def _matched(name: str, data: DataRecord) -> tuple[str, ...]:
    """Name the cues that a build matched its controls on: before format 2 of the rows, the first alone."""
    if get_task(data.task).has_candidates:
        return ()  # sites are matched, candidates of one site are not
    manifest = read_manifest(Path(name)) if data.repo is None else fetch_manifest(data.repo, str(data.revision))
    return MATCHED_CUES if entry_format(manifest["species"][data.species])[0] >= 2 else MATCHED_CUES[:1]


def asks_for_masks(name: str, task: str | None = None, revision: str | None = None) -> bool:
    """Return whether the answers of a dataset are masks.

    Parameters
    ----------
    name
        Folder of one task, or ``ORG/NAME`` on the Hub.
    task
        For public datasets that hold several.
    revision
        As for :func:`check_dataset`.
    """
    from connectomebench.dataset.public.load_public import recognise

    if task is None:
        if recognise(name) is not None:
            return False
        folder = Path(name)
        local = (folder / FILE_NAME).exists()
        task = (read_manifest(folder) if local else fetch_manifest(name, revision or "main"))["task"]
    return get_task(str(task)).scoring == "masks"


def check_datasets(
    name: str,
    species: str,
    *,
    task: str | None = None,
    revision: str | None = None,
    progress: bool = False,
    records: Path | None = None,
) -> tuple[list[DatasetCheck], list[NotChecked]]:
    """Check all datasets that a name stands for (:func:`find_datasets`); other parameters: :func:`check_dataset`.

    Returns
    -------
    checks, left_out
        In the order of their folders. Of an output folder, what cannot be checked does not keep the rest from it.
        Datasets of masks are in neither: :func:`connectomebench.evaluation.mask_check.check_masks` is for them.

    Raises
    ------
    ConnectomeBenchError
        If there is none, or the only one cannot be checked.
    """
    names = find_datasets(name, species, task)
    checks: list[DatasetCheck] = []
    left_out: list[NotChecked] = []
    for one in names:
        try:
            if asks_for_masks(one, task, revision):
                continue  # see connectomebench.evaluation.mask_check
            checks.append(check_dataset(one, species, task=task, revision=revision, progress=progress, records=records))
        except ConnectomeBenchError as error:
            if names == (name,):
                raise
            left_out.append(NotChecked(one, str(error), True))
    return checks, left_out


def cues_entry(check: DatasetCheck) -> list[dict[str, Any]]:
    """Return the scores as plain values, for the manifest (``cues``) and JSON.

    Returns
    -------
    list
        One dict a cue: ``cue``, ``looks_at``, ``trained_on``, ``partition``, balanced accuracy ``value``, ``low`` and
        ``high`` (95% over groups; None where undefined), ``n``, ``n_groups``, ``n_train``, ``numbers``, ``inherent``
        and ``matched`` (at chance by design).
    """
    return [
        without_nan(
            {
                "cue": one.cue,
                "looks_at": ALL_CUE_TITLES[one.cue],
                "trained_on": TRAIN,
                "partition": JUDGED,
                "value": float(one.estimate.value),
                "low": float(one.estimate.lower),
                "high": float(one.estimate.upper),
                "n": one.estimate.n,
                "n_groups": one.estimate.n_groups,
                "n_train": one.n_train,
                "numbers": one.numbers,
                "inherent": one.inherent,
                "matched": one.cue in check.matched,
            }
        )
        for one in check.scores
    ]


def as_json(
    checks: Sequence[DatasetCheck],
    left_out: Sequence[NotChecked],
    threshold: float | None,
    masks: Sequence[MaskCheck] = (),
) -> str:
    """Format checks as one JSON object.

    Parameters
    ----------
    checks, left_out
        From :func:`check_datasets`.
    masks
        From :func:`connectomebench.evaluation.mask_check.check_masks`.
    threshold
        Balanced accuracy that no interval may lie above, as it is with two answers (:meth:`DatasetCheck.limit`); None
        judges nothing.

    Returns
    -------
    str
        Keys ``datasets`` (each with ``task``, ``species``, ``repo``, ``revision``, ``fingerprint``, ``cues`` and
        ``leading``, the names of the cues above the threshold, or for masks ``mask_baselines``), ``left_out``,
        ``fail_above`` and ``failed``.
    """
    datasets = [
        {
            "dataset": check.name,
            "task": check.data.task,
            "species": check.data.species,
            "repo": check.data.repo,
            "revision": check.data.revision,
            "fingerprint": check.data.fingerprint,
            "cues": cues_entry(check),
            "leading": None if threshold is None else [one.cue for one in check.leading(threshold)],
        }
        for check in checks
    ]
    datasets += [
        {
            "dataset": check.name,
            "task": check.data.task,
            "species": check.data.species,
            "repo": check.data.repo,
            "revision": check.data.revision,
            "fingerprint": check.data.fingerprint,
            "mask_baselines": mask_entry(check),
        }
        for check in masks
    ]
    return json.dumps(
        {
            "datasets": datasets,
            "left_out": [{"dataset": one.name, "reason": one.reason} for one in left_out],
            "fail_above": threshold,
            "failed": threshold is not None and any(check.leading(threshold) for check in checks),
        },
        indent=2,
    )


def as_text(check: DatasetCheck, threshold: float | None) -> str:
    """Format one check as a table, with what it means below."""
    n, n_groups = check.scores[0].estimate.n, check.scores[0].estimate.n_groups
    where = f"{check.data.task}/{check.data.species}"
    places = check.chance is not None
    rows = [
        (
            "cue",
            "place score" if places else "balanced accuracy",
            "n",
            "groups",
            "answers with" if places else "looks at",
        )
    ]
    for one in check.scores:
        found = one.estimate
        rows.append((one.cue, interval_text(found), f"{found.n}", f"{found.n_groups}", _looks_at(one, check.matched)))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    how = "lazy rules" if places else f"cheap cues, gradient boosting on {check.scores[0].n_train} {TRAIN} rows"
    lines = [f"{where}: {how}, judged on {n} {JUDGED} rows in {n_groups} groups; 95% intervals over groups"]
    if check.chance is not None:
        lines.append(f"  a node at random scores {check.chance:.3f}")
    lines += [
        "  " + "  ".join([*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    if n_groups < FEW_GROUPS:
        lines.append(f"  only {n_groups} groups: these intervals are too narrow; build with more data")
    if any(math.isnan(one.estimate.lower) for one in check.scores):
        lines.append("  without an interval nothing can be judged: all rows are of one group")
    if threshold is not None:
        leading = check.leading(threshold)
        names = ", ".join(one.cue for one in leading)
        limit = f"{check.limit(threshold):g}"
        lines.append(
            f"  FAIL: the whole interval of {names} lies above {limit}; a model may take the same short cut"
            if leading
            else f"  pass: no interval lies wholly above {limit}, other than of inherent cues"
        )
    return "\n".join(lines)


def _looks_at(score: CueScore, matched: Sequence[str]) -> str:
    notes = []
    if score.inherent:
        notes.append("inherent: part of what the task asks, never fails")
    if score.cue in matched:
        notes.append("at chance by design: controls are matched on it")
    return ALL_CUE_TITLES[score.cue] + (f" ({'; '.join(notes)})" if notes else "")
