"""Look at what this package writes: datasets, result records and models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.dataset.manifest import FILE_NAME as MANIFEST
from connectomebench.dataset.manifest import is_built, read_manifest
from connectomebench.inspection.findings import Finding
from connectomebench.models.model_record import FILE_NAME as MODEL_RECORD
from connectomebench.models.model_record import read_record

_SHOWN_COLUMNS = 12


def is_dataset(path: Path) -> bool:
    """Return whether a folder is a dataset of this package."""
    return (path / MANIFEST).is_file()


def is_model(path: Path) -> bool:
    """Return whether a folder is a model."""
    return (
        (path / MODEL_RECORD).is_file() or (path / "adapter_config.json").is_file() or (path / "config.json").is_file()
    )


def datasets_in(path: Path) -> list[Path]:
    """Return the datasets directly in a folder, as a build writes them."""
    return sorted(p.parent for p in path.glob(f"*/{MANIFEST}"))


def models_in(path: Path) -> list[Path]:
    """Return the models in a folder, which lie in ``MODEL/TASK/SPECIES``."""
    return sorted(p.parent for depth in ("*", "*/*", "*/*/*") for p in path.glob(f"{depth}/{MODEL_RECORD}"))


def describe_dataset(path: Path) -> Finding:
    """Describe a dataset: rows by species and partition, source, and whether its files are whole."""
    manifest = read_manifest(path)
    facts: dict[str, Any] = {"task": manifest["task"], "format": manifest["format_version"]}
    warnings = []
    for species, entry in manifest["species"].items():
        counts = entry["counts"]
        facts[species] = {p: {answer or "any": n for answer, n in counts[p].items()} for p in PARTITIONS}
        source = entry["source"]
        facts[f"{species}, source"] = f"{source['name']} {source['version']}"
        facts[f"{species}, licence"] = source["license"]
        facts[f"{species}, fingerprint"] = entry["fingerprint"]
        leaks = {name: n for name, n in entry.get("leaks", {}).items() if n}
        if leaks:
            facts[f"{species}, leaks"] = leaks
        warnings += [f"{species}: {warning}" for warning in entry.get("warnings", ())]
        if not is_built(path, species, entry["config_fingerprint"]):
            warnings.append(f"{species} is not whole: rows are missing or damaged; build it again")
    names = list(manifest["species"])
    usage = tuple(f'load_dataset("{path}", "{species}")' for species in names)
    usage += tuple(
        f"connectomebench evaluate --model MODEL --dataset {path} --species {species} --out results"
        for species in names[:1]
    )
    return Finding(str(path), f"dataset of the task {manifest['task']}", facts, tuple(warnings), usage)


def describe_model(path: Path) -> Finding:
    """Describe a model folder."""
    usage = (f'load_model("{path}")',)
    if (path / MODEL_RECORD).is_file():
        record = read_record(path)
        facts: dict[str, Any] = {
            "kind": record.kind,
            "name": record.name,
            "revision": record.revision,
            "task": ", ".join(record.tasks),
            "based on": record.base_model,
            "trained on": {
                (d.species if len(record.tasks) == 1 else f"{d.species}, {d.task}"): (
                    f"{d.repo or d.source.get('name', 'a folder')}, {d.fingerprint}"
                )
                for d in record.trained_on
            },
            "written by": f"connectomebench {record.code_version}",
        }
        return Finding(
            str(path),
            f"model ({record.kind}) for the {'task' if len(record.tasks) == 1 else 'tasks'} {', '.join(record.tasks)}",
            facts,
            (),
            usage,
        )
    name = "adapter_config.json" if (path / "adapter_config.json").is_file() else "config.json"
    try:
        config = json.loads((path / name).read_text(encoding="utf-8"))
        facts = {
            key: config[key]
            for key in ("base_model_name_or_path", "peft_type", "model_type", "architectures")
            if key in config
        }
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path / name} cannot be read ({error}); copy the model again") from error
    warnings = (
        () if any(path.glob("*.safetensors")) else ("there are no weights as safetensors; pickled ones are never read",)
    )
    return Finding(str(path), "model without a record of this package", facts, warnings, usage)


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files in a folder and below, or the file itself, by name."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    return sorted(
        p for p in path.rglob("*.parquet") if not any(part.startswith(".") for part in p.relative_to(path).parts)
    )


def describe_tables(path: Path) -> Finding:
    """Describe Parquet files: result records of this package, or any other table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from connectomebench.evaluation.result_records import result_schema

    wanted = {f.name for f in result_schema() if not f.nullable}
    results: dict[str, int] = {}
    other: Counter[str] = Counter()
    columns: list[str] = []
    warnings = []
    for file in parquet_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        try:
            table = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:120]
            warnings.append(f"{name} cannot be read ({reason}): copy it again; an LFS pointer needs `git lfs pull`")
            continue
        if wanted <= set(table.schema_arrow.names):
            results[name] = table.metadata.num_rows
        else:
            columns = columns or list(table.schema_arrow.names)
            other[str(Path(name).parent)] += table.metadata.num_rows
    if results:
        facts: dict[str, Any] = {"files": len(results), "rows": sum(results.values()), **results}
        usage = (f"connectomebench report --results {path}",)
        return Finding(str(path), "result records of evaluations", facts, tuple(warnings), usage)
    facts = {"rows": sum(other.values()), "columns": columns[:_SHOWN_COLUMNS], **(other if len(other) > 1 else {})}
    usage = (
        f'load_dataset("parquet", data_dir="{path}")'
        if path.is_dir()
        else f'load_dataset("parquet", data_files="{path}")',
    )
    return Finding(str(path), "Parquet tables", facts, tuple(warnings), usage)
