"""Run a model on a partition and write one record per row, each saved as soon as it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.version import __version__
from connectomebench.evaluation.results import DEFAULT, stated_probability, write_results
from connectomebench.evaluation.resume_log import SUFFIX, ResumeLog, open_resume_log, remove_resume_log
from connectomebench.evaluation.true_answers import true_answers
from connectomebench.models.base import Batch, Model
from connectomebench.models.chat import UnansweredError

if TYPE_CHECKING:
    from datasets import Dataset

_AGAIN = "fetch or build the dataset again"

Prepare = Callable[[Batch], Batch]


@dataclass(frozen=True)
class RunConfig:
    """Batching, concurrency and budget of an evaluation.

    Attributes
    ----------
    batch_rows
        Rows per model call.
    workers
        Concurrent calls. More than one only for thread-safe models (endpoints).
    max_usd
        Maximum total cost, including earlier runs of the same evaluation and requests that timed out; None sets no
        limit.
    """

    batch_rows: int = 32
    workers: int = 1
    max_usd: float | None = None

    def __post_init__(self) -> None:
        if self.batch_rows < 1 or self.workers < 1:
            raise ConnectomeBenchError("batch rows and workers must be at least 1")
        if self.max_usd is not None and not self.max_usd > 0:
            raise ConnectomeBenchError(f"the budget is {self.max_usd} USD; it must be above 0")


DEFAULT_RUN = RunConfig()


def evaluate_model(
    model: Model,
    dataset: Dataset,
    partition: str,
    fingerprint: str,
    path: Path,
    *,
    condition: str = DEFAULT,
    name: str | None = None,
    prepare: Prepare | None = None,
    run_options: RunConfig = DEFAULT_RUN,
) -> Path:
    """Evaluate a model on every row of a partition and write the result records.

    Answers are appended to ``PATH.partial`` as they arrive. After an interruption, the same call resumes from it; only
    unanswered rows are evaluated again.

    Parameters
    ----------
    model
        Any model.
    dataset
        Rows as stored, one task and species.
    partition
        Name of the partition the rows come from.
    fingerprint
        Fingerprint of the dataset, from its manifest.
    path
        Parquet file to write; written whole or not at all.
    condition
        Name of the condition (:func:`connectomebench.evaluation.prompt_variants.condition`).
    name
        Name of the model in the records; None takes its own.
    prepare
        Applied to a batch before the model sees it, for example an ablation.
    run_options
        Batching, concurrency and budget.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ConnectomeBenchError
        If the model fails, the budget is spent, or another evaluation is writing to ``path``.
    """
    ids: list[str] = list(dataset["sample_id"])
    constant = {
        "model": name or model.name,
        "model_revision": model.revision,
        "dataset_fingerprint": fingerprint,
        "partition": partition,
        "condition": condition,
        "code_version": __version__,
    }
    with open_resume_log(path.with_name(path.name + SUFFIX), constant) as log:
        left = [number for number, sample in enumerate(ids) if sample not in log.records]
        with tqdm(
            total=len(ids),
            initial=len(ids) - len(left),
            desc=f"evaluate {constant['model']}",
            unit="row",
            leave=False,
            delay=1,
        ) as bar:
            evaluate_batch = _batch_evaluator(model, constant, prepare or (lambda batch: batch))
            _run_batches(evaluate_batch, _batches(dataset, left, run_options.batch_rows), log, run_options, bar)
        write_results(path, [log.records[sample] for sample in ids])
    remove_resume_log(path.with_name(path.name + SUFFIX))
    return path


def _batches(dataset: Dataset, numbers: Sequence[int], size: int) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(numbers), size):
        own = list(numbers[start : start + size])
        try:
            yield dataset[own]
        except (OSError, SyntaxError) as error:  # of Pillow, over a picture
            raise _damaged(dataset, own, error) from None


def _damaged(dataset: Dataset, numbers: Sequence[int], error: Exception) -> ConnectomeBenchError:
    """Return an error that names the row whose picture cannot be decoded."""
    for number in numbers:
        try:
            dataset[number]
        except (OSError, SyntaxError) as own:
            sample, error = dataset.select_columns(["sample_id"])[number]["sample_id"], own
            return ConnectomeBenchError(
                f"row {sample}: a picture is damaged ({error}); fetch or build the dataset again"
            )
    return ConnectomeBenchError(f"rows cannot be read ({error}); {_AGAIN}")


def _batch_evaluator(
    model: Model, constant: Mapping[str, Any], prepare: Prepare
) -> Callable[[dict[str, list[Any]]], list[dict[str, Any]]]:
    """Return a function that evaluates one batch and returns its records."""

    def evaluate_batch(batch: dict[str, list[Any]]) -> list[dict[str, Any]]:
        prepared = prepare(batch)
        began = time.perf_counter()
        answers = model.predict(prepared)
        truth = true_answers(batch)
        seconds = (time.perf_counter() - began) / len(answers)
        return [
            {
                "sample_id": batch["sample_id"][i],
                "task": batch["task"][i],
                "species": batch["species"][i],
                **constant,
                "question": answer.question or prepared["question"][i],
                "prediction": answer.prediction,
                "probability": stated_probability(answer.prediction, answer.probabilities),
                "answer": truth[i],
                "group": batch["group"][i],
                "reply": answer.reply,
                "votes": list(answer.votes) or None,
                "replies": list(answer.replies) or None,
                "derived": answer.derived,
                "latency_s": seconds if answer.latency_s is None else answer.latency_s,
                "prompt_tokens": answer.prompt_tokens,
                "tokens": answer.tokens,
                "cost_usd": answer.cost_usd,
            }
            for i, answer in enumerate(answers)
        ]

    return evaluate_batch


def _run_batches(
    evaluate_batch: Callable[[dict[str, list[Any]]], list[dict[str, Any]]],
    batches: Iterator[dict[str, list[Any]]],
    log: ResumeLog,
    run_options: RunConfig,
    bar: tqdm[Any],
) -> None:
    """Evaluate all batches concurrently and log each answer, also those in flight when one fails."""
    awaited: set[Future[list[dict[str, Any]]]] = set()
    stopped: BaseException | None = None
    spending = Spending()
    spending.add(log.records.values())
    for lost in log.lost:
        spending.add_cost(lost["cost_usd"], lost["requests"])
    with ThreadPoolExecutor(run_options.workers) as pool:
        while True:
            try:
                # the cost of a row is known only after the first one
                workers = run_options.workers if run_options.max_usd is None or log.records else 1
                while stopped is None and len(awaited) < workers and (batch := next(batches, None)) is not None:
                    spending.check(len(awaited), run_options.max_usd)
                    awaited.add(pool.submit(evaluate_batch, batch))
                done, awaited = wait(awaited, return_when=FIRST_COMPLETED)
            except (ConnectomeBenchError, KeyboardInterrupt) as error:
                if isinstance(stopped, KeyboardInterrupt):
                    raise
                stopped = error
                continue
            if not done:
                break
            for future in done:
                if (failure := future.exception()) is not None:
                    stopped = stopped or failure
                    if isinstance(failure, UnansweredError):
                        # the server may bill what nobody has waited for
                        log.add_lost(failure.requests, failure.cost_usd)
                        spending.add_cost(failure.cost_usd, failure.requests)
                    continue
                log.add(future.result())
                spending.add(future.result())
                bar.update(len(future.result()))
    if stopped is not None:
        raise stopped


@dataclass
class Spending:
    """What an evaluation has cost so far, kept up as answers come.

    Attributes
    ----------
    known_usd
        Sum of the known costs.
    dearest_usd
        Highest cost of a row.
    rows, unknown
        Rows answered, and calls of unknown cost: rows, and requests that timed out.
    """

    known_usd: float = 0.0
    dearest_usd: float = 0.0
    rows: int = 0
    unknown: int = 0

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count answered rows."""
        for record in records:
            self.rows += 1
            self.add_cost(record["cost_usd"])

    def add_cost(self, cost_usd: float | None, calls: int = 1) -> None:
        """Count calls and what they cost together; None where that is unknown."""
        if cost_usd is None:
            self.unknown += calls
        else:
            self.known_usd += cost_usd
            self.dearest_usd = max(self.dearest_usd, cost_usd)

    def check(self, awaited: int, max_usd: float | None) -> None:
        """Raise if one more call could exceed the budget, judged by the dearest row so far."""
        if max_usd is None:
            return
        if self.rows and self.unknown >= self.rows and not self.known_usd:
            raise ConnectomeBenchError(
                "the cost of a row is unknown, so the budget cannot be enforced; give token prices"
            )
        # a call of unknown cost counts as the dearest
        spent = self.known_usd + self.dearest_usd * self.unknown
        if spent + (awaited + 1) * self.dearest_usd > max_usd:
            raise ConnectomeBenchError(
                f"the budget of {max_usd} USD is spent ({spent:.4f} USD for {self.rows} rows, {awaited} in flight); "
                "raise it and run the same command to resume"
            )
