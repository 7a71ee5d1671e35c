"""Data read from a CAVE dataset and stored with the build: roots, edit history, surveys of the edits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from connectomebench.core.correction import Corrections, GivenIds, Skipped
from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.files import content_key, write_json
from connectomebench.core.site import Point
from connectomebench.core.spatial_batches import group_by_place
from connectomebench.core.species import get_species
from connectomebench.sources.cave.cave_config import CaveConfig
from connectomebench.sources.cave.connect import ProofreadRoots, proofread_roots
from connectomebench.sources.cave.edit_corrections import find_corrections
from connectomebench.sources.cave.graph import utc
from connectomebench.sources.cave.history import (
    UNREADABLE_DETAILS,
    UNREADABLE_ROOTS,
    JudgedOperation,
    differences,
)
from connectomebench.sources.cave.jobs import (
    History,
    HistoryJob,
    JobSpec,
    SurveyJob,
    load_history,
    make_surveys,
    read_history,
)
from connectomebench.sources.cave.retries import RUN_AGAIN
from connectomebench.sources.cave.root_files import read_root_ids
from connectomebench.sources.cave.survey_index import State, SurveyIndex

if TYPE_CHECKING:
    from connectomebench.execution.runner import Runner

_ROOTS_PER_JOB = 200

JobT = TypeVar("JobT")
RootOf = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]


def final_state(config: CaveConfig, species: str, cache: Path) -> datetime:
    """Return the time of the final state, UTC: the configured one, or that of the first run, which is stored."""
    if config.until is not None:
        return utc(config.until, "source.cave.until")
    key = content_key(species, config.server, config.datastack, config.graph_table, config.segmentation)
    path = cache / f"final-state-{key}.json"
    if not path.exists():
        write_json(path, {"until": datetime.now(UTC).isoformat(timespec="seconds")})
    return utc(json.loads(path.read_text(encoding="utf-8"))["until"], str(path))


@contextmanager
def answers_needed(what: str) -> Iterator[None]:
    """Make an error of a server that no step can do without one line for users."""
    try:
        yield
    except SiteUnavailable as error:
        raise ConnectomeBenchError(f"{what}: {error}; {RUN_AGAIN}") from None


class Archive:
    """Roots, history and surveys of a build. Each step runs once, in groups that write one file each.

    Parameters
    ----------
    spec
        Dataset and cache folder.
    base
        Folder that relative paths of the configuration start from.
    runner
        Runs the groups.
    """

    def __init__(self, spec: JobSpec, base: Path, runner: Runner) -> None:
        self.spec = spec
        self._base = base
        self._runner = runner

    @cached_property
    def roots(self) -> ProofreadRoots:
        """Proofread roots, with given ids that were followed or left out."""
        config = self.spec.config
        key = content_key("roots 2", self.spec.dataset, asdict(config.roots), self._given())
        path = self.spec.cache / "roots" / f"{key}.json"
        if not path.exists():
            species, connection = get_species(self.spec.species), self.spec.open().connection
            found = proofread_roots(connection, config.roots, species, self.spec.until, self._base)
            texts = ({str(given): value for given, value in part.items()} for part in (found.followed, found.failed))
            followed, failed = texts
            write_json(path, {"roots": found.ids.tolist(), "followed": followed, "failed": failed})
        data = json.loads(path.read_text(encoding="utf-8"))
        followed, failed = (
            {int(given): value for given, value in data[part].items()} for part in ("followed", "failed")
        )
        return ProofreadRoots(np.asarray(data["roots"], np.uint64), followed, failed)

    def _given(self) -> list[int] | None:
        """Return the ids of the file of roots: another content under the same name gives other roots."""
        file = self.spec.config.roots.file
        return None if file is None else read_root_ids(self._base / file)

    @cached_property
    def history(self) -> History:
        """Operations in the logs of the roots, without duplicates, sorted by id.

        Raises
        ------
        ConnectomeBenchError
            If the share of roots without a readable history is above `max_failed_share`.
        """
        roots = self.roots.ids
        jobs = [
            HistoryJob(self.spec, tuple(roots[i : i + _ROOTS_PER_JOB].tolist()))
            for i in range(0, len(roots), _ROOTS_PER_JOB)
        ]
        self._do(read_history, jobs, "edit history")
        judged: dict[int, JudgedOperation] = {}
        left_out: dict[int, str] = {}
        failed = dict(self.roots.failed)
        for job in jobs:
            found = load_history(job.path)
            judged |= {j.operation.operation_id: j for j in found.judged}
            left_out |= found.left_out
            failed |= found.failed
        # an operation is in the logs of all roots that it touched: it counts once, and is read if one group could
        left_out = {number: reason for number, reason in left_out.items() if number not in judged}
        paths = [job.path for job in jobs]
        self._check_share(len(failed), len(roots) + len(self.roots.failed), failed.values(), "roots", paths)
        unread = [reason for reason in left_out.values() if reason in (UNREADABLE_DETAILS, UNREADABLE_ROOTS)]
        self._check_share(len(unread), len(judged) + len(left_out), unread, "operations", paths)
        return History(tuple(judged[k] for k in sorted(judged)), left_out, failed)

    @cached_property
    def survey_index(self) -> SurveyIndex:
        """Surveys of all edits.

        Raises
        ------
        ConnectomeBenchError
            If more places than `max_failed_share` cannot be read.
        """
        judged, rules = self.history.judged, self.spec.config.survey
        places = np.asarray([j.operation.place_nm for j in judged], np.float64).reshape(-1, 3)
        jobs = [
            SurveyJob(self.spec, tuple(judged[i] for i in rows.tolist()))
            for rows in group_by_place(places, rules.cutout_nm, rules.places_per_batch)
        ]
        self._do(make_surveys, jobs, "surveys")
        index = SurveyIndex([job.path for job in jobs])
        with_failures = [path for path, found in index.files() if found.failed]
        self._check_share(len(index.failed), len(judged), index.failed.values(), "places", with_failures)
        return index

    def _do(self, work: Callable[[JobT], object], jobs: list[JobT], label: str) -> None:
        with closing(self._runner.run(work, jobs, label)) as results, answers_needed(label):
            for _ in tqdm(results, label, total=len(jobs), unit="group", delay=1):
                pass

    def _check_share(self, failed: int, total: int, reasons: Iterable[str], what: str, paths: list[Path]) -> None:
        """Stop where too many reads failed; delete the files with failures, so that the next run tries them again."""
        share = self.spec.config.max_failed_share
        if failed <= share * total:
            return
        for path in paths:
            path.unlink(missing_ok=True)
        reason = Counter(reasons).most_common(1)[0][0]
        raise ConnectomeBenchError(
            f"{failed} of {total} {what} could not be read (most often: {reason}), more than "
            f"source.cave.max_failed_share = {share:g}; run again to continue from here, or raise the share"
        )

    @cached_property
    def corrections(self) -> Corrections:
        """Ground truth, with counts of what was left out by reason."""
        history, index = self.history, self.survey_index
        roots = self.roots
        counts = Counter(f"operations left out: {reason}" for reason in history.left_out.values())
        counts["proofread roots"], counts["operations"] = len(roots.ids), len(history.judged)
        counts["ids followed to their descendant"] = len(roots.followed)
        counts["roots whose history cannot be read"] = len(history.failed)
        counts["edits that cannot be surveyed"] = len(index.without)
        counts["places that cannot be read"] = len(index.failed)
        counts.update(self._compared())
        operations = {j.operation.operation_id: j.operation for j in history.judged}
        skipped = [
            Skipped(operations[number].edit_id, operations[number].place_nm, reason)
            for number, reason in sorted(index.failed.items())
        ]
        surveys = {s.operation_id: s for s in index.light()}
        least = self.spec.config.survey.min_body_voxels
        complete = frozenset(roots.ids.tolist())
        found = find_corrections(history.judged, surveys, complete, least, counts, skipped)
        return replace(found, given_ids=GivenIds(roots.followed, history.failed))

    def _compared(self) -> dict[str, int]:
        """Compare some roots with their ancestors by supervoxels; count the differences that operations explain."""
        roots = self.roots.ids[: self.spec.config.roots.compare].tolist()
        judged = self.history.judged
        if not roots or not judged:
            return {}
        since = min(j.operation.before for j in judged)
        touched = {s for j in judged if j.outcome == "correction" for s in (*j.operation.sources, *j.operation.sinks)}
        with answers_needed("the comparison of roots with their ancestors"):
            found = differences(self.spec.open().connection.graph, roots, since, self.spec.until)
        sets = [ids for d in found for ids in (*d.gained.values(), *d.lost.values())]
        explained = sum(not touched.isdisjoint(ids.tolist()) for ids in sets)
        return {
            "roots compared with their ancestors": len(found),
            "sets of supervoxels gained or lost by them": len(sets),
            "of these, touched by a correction": explained,
        }

    def lookup(self, segment: int, place_nm: Point, beside: Sequence[int] = ()) -> RootOf:
        """Give the roots of supervoxels at the time when a segment is looked at.

        Roots in the survey are known; the server is asked for all others. Of several times it takes one at which the
        segments ``beside`` existed too, if there is one.
        """
        state = self.survey_index.state(segment, place_nm, beside)
        return self._roots(state.root_of, state, self._when(state))

    def states(self, segment: int, place_nm: Point) -> tuple[RootOf, RootOf]:
        """Give the roots of supervoxels at the time when a segment is looked at, and in the final state."""
        state = self.survey_index.state(segment, place_nm)
        final = State(state.survey, final=True)
        return self._roots(state.root_of, state, self._when(state)), self._roots(final.root_of, final, self.spec.until)

    def _roots(self, known: RootOf, state: State, when: datetime) -> RootOf:
        """Look supervoxels up in a survey, and ask for the others."""
        graph = self.spec.open().connection.graph

        def root_of(supervoxels: NDArray[np.uint64]) -> NDArray[np.uint64]:
            found = known(supervoxels)
            unknown = (found == 0) & (supervoxels != 0) & ~np.isin(supervoxels, state.survey.supervoxels)
            if unknown.any():
                found[unknown] = graph.roots(supervoxels[unknown], when)
            return found

        return root_of

    def time_of(self, segment: int, place_nm: Point) -> datetime:
        """Return the time at which a segment is shown, UTC."""
        return self._when(self.survey_index.state(segment, place_nm))

    def _when(self, state: State) -> datetime:
        return self.spec.until if state.final else self._before[state.survey.operation_id]

    @cached_property
    def _before(self) -> dict[int, datetime]:
        return {j.operation.operation_id: j.operation.before for j in self.history.judged}
