"""Run a model on a partition and keep one record a row, each on the disk as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.version import __version__
from connectomebench.evaluation.results import DEFAULT, write_results
from connectomebench.evaluation.resume_log import SUFFIX, ResumeLog, open_journal, remove_journal
from connectomebench.models.base import Batch, Model

if TYPE_CHECKING:
    from datasets import Dataset

Prepare = Callable[[Batch], Batch]


@dataclass(frozen=True)
class RunOptions:
    """How much is asked at a time, and how much it may cost.

    Attributes
    ----------
    batch_rows
        Rows a call of the model.
    workers
        Calls at a time. More than one only for models that may be called from several threads (endpoints).
    max_usd
        What all rows together may cost, those of earlier runs of the same evaluation among them; None sets no bound.
    """

    batch_rows: int = 32
    workers: int = 1
    max_usd: float | None = None

    def __post_init__(self) -> None:
        if self.batch_rows < 1 or self.workers < 1:
            raise ConnectomeBenchError("rows and calls at a time must be at least 1")
        if self.max_usd is not None and not self.max_usd > 0:
            raise ConnectomeBenchError(f"the budget is {self.max_usd} USD; it must be above 0")


DEFAULT_RUN = RunOptions()


def evaluate_model(
    model: Model,
    dataset: Dataset,
    partition: str,
    fingerprint: str,
    path: Path,
    *,
    condition: str = DEFAULT,
    prepare: Prepare | None = None,
    effort: RunOptions = DEFAULT_RUN,
) -> Path:
    """Ask a model about every row of a partition and write the result records.

    Answers are kept in ``PATH.partial`` as they come. The same call goes on there after it was cut off, however that
    was; only rows whose answer was still awaited are asked again.

    Parameters
    ----------
    model
        Any of our models.
    dataset
        Rows as stored, one task and species.
    partition
        Name of the partition the rows come from.
    fingerprint
        Of the dataset, from its manifest.
    path
        Parquet file to write; written whole or not at all.
    condition
        What is unlike the usual (:mod:`connectomebench.evaluation.results`).
    prepare
        Changes a batch before it is shown, for example takes its images away.
    effort
        How much at a time, and at what cost.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ConnectomeBenchError
        If the model cannot be asked, the budget is spent, or another evaluation is under way there.
    """
    ids: list[str] = list(dataset["sample_id"])
    constant = {
        "model": model.name,
        "model_revision": model.revision,
        "dataset_fingerprint": fingerprint,
        "partition": partition,
        "condition": condition,
        "code_version": __version__,
    }
    with open_journal(path.with_name(path.name + SUFFIX), constant) as journal:
        left = [number for number, sample in enumerate(ids) if sample not in journal.records]
        with tqdm(
            total=len(ids),
            initial=len(ids) - len(left),
            desc=f"evaluate {model.name}",
            unit="row",
            leave=False,
            delay=1,
        ) as bar:
            ask = _asker(model, constant, prepare or (lambda batch: batch))
            _work(ask, _batches(dataset, left, effort.batch_rows), journal, effort, bar)
        write_results(path, [journal.records[sample] for sample in ids])
    remove_journal(path.with_name(path.name + SUFFIX))
    return path


def _batches(dataset: Dataset, numbers: Sequence[int], size: int) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(numbers), size):
        yield dataset[list(numbers[start : start + size])]


def _asker(
    model: Model, constant: Mapping[str, Any], prepare: Prepare
) -> Callable[[dict[str, list[Any]]], list[dict[str, Any]]]:
    """Return what asks the model about one batch and makes the records."""

    def ask(batch: dict[str, list[Any]]) -> list[dict[str, Any]]:
        shown = prepare(batch)
        began = time.perf_counter()
        answers = model.predict(shown)
        seconds = (time.perf_counter() - began) / len(answers)
        return [
            {
                "sample_id": batch["sample_id"][i],
                "task": batch["task"][i],
                "species": batch["species"][i],
                **constant,
                "question": answer.question or shown["question"][i],
                "prediction": answer.prediction,
                "probability": answer.probabilities.get("yes"),
                "answer": batch["answer"][i],
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

    return ask


def _work(
    ask: Callable[[dict[str, list[Any]]], list[dict[str, Any]]],
    batches: Iterator[dict[str, list[Any]]],
    journal: ResumeLog,
    effort: RunOptions,
    bar: tqdm[Any],
) -> None:
    """Ask about all batches, several at a time, and keep each answer; what is under way when one fails is kept too."""
    awaited: set[Future[list[dict[str, Any]]]] = set()
    stopped: BaseException | None = None
    with ThreadPoolExecutor(effort.workers) as pool:
        while True:
            try:
                # what a row costs is known once one has been paid for
                workers = effort.workers if effort.max_usd is None or journal.records else 1
                while stopped is None and len(awaited) < workers and (batch := next(batches, None)) is not None:
                    _check_budget(journal, len(awaited), effort.max_usd)
                    awaited.add(pool.submit(ask, batch))
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
                    continue
                journal.add(future.result())
                bar.update(len(future.result()))
    if stopped is not None:
        raise stopped


def _check_budget(journal: ResumeLog, awaited: int, max_usd: float | None) -> None:
    """Raise where one more call could spend more than the budget, judged by the dearest row so far."""
    if max_usd is None:
        return
    costs = [record["cost_usd"] for record in journal.records.values()]
    known = [cost for cost in costs if cost is not None]
    if costs and not known:
        raise ConnectomeBenchError("what a row costs is not known, so no budget can be kept; give the prices of tokens")
    dearest = max(known, default=0.0)
    # a row of which the server did not say what it took is counted as the dearest
    spent = sum(known) + dearest * (len(costs) - len(known))
    if spent + (awaited + 1) * dearest > max_usd:
        raise ConnectomeBenchError(
            f"the budget of {max_usd} USD is spent ({spent:.4f} USD for {len(costs)} rows, {awaited} under way); "
            "raise it and run the same command to go on"
        )
