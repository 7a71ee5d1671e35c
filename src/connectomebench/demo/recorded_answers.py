"""Read the models' recorded answers to the samples of the demo."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.answer_scores import is_right, recorded_score
from connectomebench.demo.stored_samples import StoredSamples

if TYPE_CHECKING:
    import pandas as pd

    from connectomebench.evaluation.results import Summary
    from connectomebench.models.model_record import ModelRecord

_log = logging.getLogger(__name__)

_WAIT_S = 60.0


@dataclass(frozen=True)
class RecordedAnswer:
    """One model's answer to one sample.

    Attributes
    ----------
    model
        Its name, with the condition if that is not the default.
    prediction
        The answer; None if it could not be parsed.
    probability
        P(yes); None if the model states none.
    score
        Between 0 and 1 (:mod:`connectomebench.demo.answer_scores`); 1 or 0 where an answer is right or wrong.
    right
        Whether that counts as correct.
    reply
        Text of a language model; None if it wrote none.
    """

    model: str
    prediction: str | None
    probability: float | None
    score: float
    right: bool
    reply: str | None


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """Result records of the samples that are shown.

    Attributes
    ----------
    frame
        The records (:func:`connectomebench.evaluation.results.read_results`) whose dataset is the one that is shown.
    left_out
        Number of further records, about other data.
    by_sample
        (task, species, sample) -> rows of ``frame``.
    summaries
        Estimates with 95% intervals over groups.
    trained_on
        (model, revision, task) -> number of training rows, from the records of the models.
    kinds
        Model -> kind of model, from the same records.
    unreadable
        Whether there are records that cannot be read; the reason is in the log.
    """

    frame: pd.DataFrame | None = None
    left_out: int = 0
    by_sample: Mapping[tuple[str, str, str], Sequence[RecordedAnswer]] = field(default_factory=dict)
    summaries: Sequence[Summary] = ()
    trained_on: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    unreadable: bool = False

    def of(self, row: Mapping[str, Any]) -> Sequence[RecordedAnswer]:
        """Return the models' answers to a row, by name."""
        return self.by_sample.get((row["task"], row["species"], row["sample_id"]), ())

    def always(self, model: str, row: Mapping[str, Any]) -> str | None:
        """Return the one answer that a model gives to every sample of the task of a row; None if it gives several."""
        from connectomebench.evaluation.results import label

        here = [
            summary.always
            for summary in self.summaries
            if (label(summary.model, summary.condition), summary.task, summary.species)
            == (model, row["task"], row["species"])
        ]
        return here[0] if len(set(here)) == 1 else None


class AnswerRecords:
    """Result records, read and summarised in a background thread so that the page appears first.

    Parameters
    ----------
    folder
        Where ``results`` and ``models`` are.
    samples
        Samples that are shown.
    """

    def __init__(self, folder: Path, samples: StoredSamples) -> None:
        self._where = folder, samples
        self._lock = Lock()
        self._loaded: Future[RecordedAnswers] | None = None

    def start(self) -> Future[RecordedAnswers]:
        """Start reading the records, unless already started."""
        with self._lock:
            if self._loaded is None:
                executor = ThreadPoolExecutor(1, thread_name_prefix="records")
                self._loaded = executor.submit(_try_to_load, *self._where)
                executor.shutdown(wait=False)
            return self._loaded

    def get(self) -> RecordedAnswers:
        """Wait for the records and return them.

        Raises
        ------
        ConnectomeBenchError
            If they take too long.
        """
        try:
            return self.start().result(_WAIT_S)
        except TimeoutError:
            raise ConnectomeBenchError("the result records are still being read; try again in a minute") from None


def _try_to_load(folder: Path, samples: StoredSamples) -> RecordedAnswers:
    """Read the records; on failure show samples without them and log the reason, since it names local paths."""
    try:
        return _load(folder, samples)
    except ConnectomeBenchError as error:
        _log.warning("%s", error)
        return RecordedAnswers(unreadable=True)


def _load(folder: Path, samples: StoredSamples) -> RecordedAnswers:
    if not any((folder / "results").rglob("*.parquet")):
        return RecordedAnswers()
    from connectomebench.evaluation.results import label, read_results, summarise

    everything = read_results(folder / "results")
    fingerprints = {collection.fingerprint for collection in samples.collections.values()}
    frame = everything[everything["dataset_fingerprint"].isin(fingerprints)].reset_index(drop=True)
    by_sample: dict[tuple[str, str, str], list[RecordedAnswer]] = {}
    columns = ("task", "species", "sample_id", "model", "condition", "prediction", "probability", "answer", "reply")
    for task, species, sample, model, condition, prediction, probability, answer, reply in zip(
        *(frame[name] for name in columns), strict=True
    ):
        stated = None if probability is None or math.isnan(probability) else float(probability)
        score = recorded_score(task, prediction, answer)
        right = is_right(task, score)
        said = RecordedAnswer(label(model, condition), prediction, stated, score, right, reply or None)
        by_sample.setdefault((task, species, sample), []).append(said)
    ordered = {key: tuple(sorted(said, key=lambda one: one.model)) for key, said in by_sample.items()}
    summaries = tuple(summarise(frame)) if len(frame) else ()
    # by revision and task: the records of a model from the Hub are named after its repository
    models = {(model.revision, model.task): model for model in _models(folder / "models")}
    answered = set(zip(frame["model"], frame["model_revision"], frame["task"], strict=True))
    known = {key: models[key[1:]] for key in answered if key[1:] in models}
    rows = {key: sum(sum(data.rows.values()) for data in model.trained_on) for key, model in known.items()}
    kinds = {name: model.kind for (name, _, _), model in known.items()}
    return RecordedAnswers(frame, len(everything) - len(frame), ordered, summaries, rows, kinds)


def _models(folder: Path) -> list[ModelRecord]:
    from connectomebench.models.model_record import FILE_NAME, read_record

    records = [read_record(path.parent) for path in sorted(folder.rglob(FILE_NAME))]
    return [record.of_task(task) for record in records for task in record.tasks]
