"""Result records of a teacher about small rows, made by the functions that an evaluation uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stored_rows import partition_rows

from connectomebench.dataset.manifest import read_manifest
from connectomebench.evaluation.results import result_path, write_results

OTHER = {"yes": "no", "no": "yes"}
CONDITION = "votes5-t0.7"


def analysed(answer: str, seen: str = "The pieces line up.") -> str:
    return f"<analysis>\n{seen}\n</analysis>\n<answer>{answer}</answer>"


def votes_on(row: Mapping[str, Any], right: int, of: int = 5) -> list[str]:
    return [row["answer"]] * right + [OTHER[row["answer"]]] * (of - right)


def record(
    row: Mapping[str, Any], partition: str, fingerprint: str, votes: Sequence[str | None], replies: Sequence[str]
) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("sample_id", "task", "species", "question", "answer", "group")},
        "partition": partition,
        "condition": CONDITION,
        "model": "teacher",
        "model_revision": "a" * 32,
        "dataset_fingerprint": fingerprint,
        "code_version": "1",
        "prediction": votes[0],
        "reply": replies[0],
        "votes": list(votes),
        "replies": list(replies),
    }


def write_replies(
    dataset: Path,
    results: Path,
    right: Mapping[str, Sequence[int]],
    species: str = "fly",
    **changes: Any,
) -> Path:
    """Write records of five votes a row, of which so many are right; ``changes`` replace columns of every record."""
    entry = read_manifest(dataset)["species"][species]
    for partition, numbers in right.items():
        rows = partition_rows(species=species)[partition]
        records = []
        for row, count in zip(rows, numbers, strict=True):
            votes = votes_on(row, count)
            replies = [analysed(vote, f"Draw {number} of {row['sample_id']}.") for number, vote in enumerate(votes)]
            records.append(record(row, partition, entry["fingerprint"], votes, replies) | changes)
        first = records[0]
        write_results(
            result_path(results, first["model"], first["task"], species, partition, first["condition"]), records
        )
    return results
