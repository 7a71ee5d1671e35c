"""Dataset card: YAML for the Hub and `load_dataset`, and text for readers, from manifest and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import declare_from_manifest, get_species
from connectomebench.core.task_explanations import ALL_CUE_TITLES, BASELINES, MASK_BASELINES
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.card_template import LEVEL, ORGANISATION, estimate_text, render
from connectomebench.dataset.column_docs import COLUMNS, GEOMETRY_CONTENT, LABEL_RULES, REPLIES_CONTENT
from connectomebench.dataset.leak_words import look_alike_text, read_look_alikes, shared_text
from connectomebench.dataset.licences import strictest
from connectomebench.dataset.parquet_errors import parquet_errors
from connectomebench.dataset.row_format import entry_features
from connectomebench.dataset.sample_grid import SAMPLES, picture_name
from connectomebench.dataset.schema import GEOMETRY, TEACHER_REPLIES, shard_paths

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard, DatasetCardData

TEMPLATE = "hub_cards/dataset.md.jinja"
SHOWN_METRICS = ("balanced_accuracy", "auroc")

_COLUMNS = ("answer", "origin", "extent_nm")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class PartitionFacts:
    """Facts about the files of one partition, for the card.

    Attributes
    ----------
    answers, origins
        Number of rows of each.
    extents_nm
        Edges of the cubes shown, nm.
    file_bytes, table_bytes
        Size of the files, and of their columns before compression.
    """

    answers: Mapping[str, int]
    origins: Mapping[str, int]
    extents_nm: frozenset[float]
    file_bytes: int
    table_bytes: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.origins.values())


def partition_facts(shards: Iterable[Callable[[], BinaryIO]]) -> PartitionFacts:
    """Read the facts about a partition.

    Parameters
    ----------
    shards
        Open its Parquet files, one after the other. Their footers and three small columns are read, in one range for
        each row group, so that files on the Hub may stay there.

    Raises
    ------
    ValueError
        If one is no Parquet file (also as ``pyarrow.ArrowInvalid``).
    KeyError
        If one lacks a column.
    """
    import pyarrow.parquet as pq

    counts: dict[str, Counter[Any]] = {name: Counter() for name in _COLUMNS}
    file_bytes = table_bytes = 0
    for open_shard in shards:
        with open_shard() as shard:
            try:
                file = pq.ParquetFile(shard, pre_buffer=True)
                small = file.read(list(_COLUMNS))
            except OSError as error:
                if type(error) is not OSError:  # a lost connection has a type of its own
                    raise
                raise ValueError(f"not a Parquet file: {error}") from error  # what pyarrow cannot decode
            for name, values in counts.items():
                values.update(small[name].to_pylist())
            file_bytes += shard.seek(0, 2)
            table_bytes += sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
    answers, origins, extents_nm = counts.values()
    return PartitionFacts(dict(answers), dict(origins), frozenset(extents_nm), file_bytes, table_bytes)


def write_card(folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None) -> Path:
    """Write the README.md of a dataset folder, with the images in the folder.

    Parameters
    ----------
    folder
        ``OUT/TASK``, with the Parquet files of every species in the manifest.
    manifest
        From :func:`connectomebench.dataset.manifest.add_species`.
    repo_id
        Name of the dataset on the Hub; the organisation's by default.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    ConnectomeBenchError
        If a file of the dataset is missing or the card is not valid.
    """
    path = folder / "README.md"
    write_text(path, str(dataset_card(folder, manifest, repo_id)))
    return path


def dataset_card(
    folder: Path,
    manifest: Mapping[str, Any],
    repo_id: str | None = None,
    pictures: Collection[str] | None = None,
    elsewhere: Mapping[str, Mapping[str, PartitionFacts]] | None = None,
) -> DatasetCard:
    """Return the card of a dataset folder; see :func:`write_card`.

    Parameters
    ----------
    folder, manifest, repo_id
        As for :func:`write_card`.
    pictures
        Species whose picture (:func:`connectomebench.dataset.sample_grid.picture_name`) will stand beside the
        card; None takes those whose picture is in the folder.
    elsewhere
        Species whose files are not in the folder -> partition -> what is known of these files.
    """
    from huggingface_hub import DatasetCard

    declare_from_manifest(manifest)  # a manifest merged from several has been read in parts
    task = get_task(manifest["task"])
    if pictures is None:
        pictures = {name for name in manifest["species"] if (folder / picture_name(name)).is_file()}
    stored = {name: (elsewhere or {}).get(name) or _species_facts(folder / name) for name in manifest["species"]}
    configs = [
        {**_config(name, entry, stored[name], pictures), "features": entry_features(task, entry)}
        for name, entry in manifest["species"].items()
    ]
    simulated = {
        key: [f"`{name}`" for name, entry in manifest["species"].items() if entry["source"][key]]
        for key in ("simulated_errors", "simulated_em")
    }
    shown = simulated["simulated_em"] if task.has_em else []
    # species may be of different formats
    kinds = {name: kind for config in configs for name, kind in config["features"].items()}
    contents = COLUMNS | {GEOMETRY: GEOMETRY_CONTENT, TEACHER_REPLIES: REPLIES_CONTENT}
    licences = sorted({c["source"]["license"] for c in configs})
    text = render(
        TEMPLATE,
        card_data=_card_data(task, configs, manifest, licences).to_yaml(),
        task=task,
        configs=configs,
        answers=sorted({a for c in configs for p in c["partitions"] for a in p["answers"]}) if task.labels else [],
        columns=[
            {"name": n, "type": _type_name(kinds[n]), "content": content}
            for n, content in contents.items()
            if n in kinds
        ],
        label_rule=LABEL_RULES.get(task.name),
        places=task.scoring == "places",
        simulated_errors=simulated["simulated_errors"],
        any_simulated_errors=bool(simulated["simulated_errors"]),
        simulated_em=shown,
        any_simulated_em=bool(shown),
        licences=licences,
        strictest=strictest(licences),
        samples=SAMPLES,
        level=f"{LEVEL:.0%}",
        repo_id=repo_id or f"{ORGANISATION}/{task.name}",
        format_version=manifest["format_version"],
        package_version=manifest["package_version"],
    )
    card = DatasetCard(text)
    if not card.data.to_dict().get("configs"):
        raise ConnectomeBenchError(f"{folder}: the card has no config; the template {TEMPLATE} is damaged")
    return card


def _card_data(
    task: Task, configs: list[dict[str, Any]], manifest: Mapping[str, Any], licences: list[str]
) -> DatasetCardData:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    rows = sum(p["rows"] for c in configs for p in c["partitions"])
    microscopies = sorted({f"{get_species(c['name']).microscopy}-microscopy" for c in configs})
    tags = ["connectomics", "proofreading", "neuroscience", *microscopies, "segmentation", ORGANISATION]
    if any(c["source"]["simulated_errors"] for c in configs):
        tags.append("simulated")
    data = DatasetCardData(
        pretty_name=f"ConnectomeBench: {task.title}",
        language=["en"],
        license=licences if len(licences) > 1 else licences[0],
        task_categories=["visual-question-answering", "image-classification"]
        if task.labels
        else ["visual-question-answering"],
        size_categories=[next((name for limit, name in _SIZES if rows < limit), "n>1M")],
        tags=[*tags, f"format-version:{manifest['format_version']}"],
    )
    infos = {}
    for config in configs:
        splits = SplitDict()
        for part in config["partitions"]:
            splits.add(SplitInfo(part["name"], num_bytes=part["table_bytes"], num_examples=part["rows"]))
        infos[config["name"]] = DatasetInfo(
            features=config["features"],
            splits=splits,
            download_size=sum(p["file_bytes"] for p in config["partitions"]),
            dataset_size=sum(p["table_bytes"] for p in config["partitions"]),
        )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    data["configs"] = [
        {
            "config_name": config["name"],
            "data_files": [{"split": p, "path": f"{config['name']}/{p}-*.parquet"} for p in PARTITIONS],
        }
        for config in configs
    ]
    return data


def _species_facts(folder: Path) -> dict[str, PartitionFacts]:
    found = {}
    for name in PARTITIONS:
        paths = shard_paths(folder, name)
        with parquet_errors(paths):
            found[name] = partition_facts(partial(open, p, "rb") for p in paths)
    return found


def _config(
    species: str, entry: Mapping[str, Any], stored: Mapping[str, PartitionFacts], pictures: Collection[str]
) -> dict[str, Any]:
    """Collect the values of one species for the card."""
    partitions = [_partition(p, stored[p]) for p in PARTITIONS]
    extents = {round(e) for facts in stored.values() for e in facts.extents_nm}
    rules, result = entry["config"]["partition"], entry["partition"]
    kept_apart = "no segment, no body and no place" if rules["group_by"] == "body" else "no segment and no place"
    measured = entry.get("candidates")
    return {
        "name": species,
        "title": get_species(species).title,
        "source": entry["source"],
        "picture": picture_name(species) if species in pictures else None,
        "baselines": [_baseline(row) for row in entry.get("baselines") or []],
        "cues": [_cue(row) for row in entry.get("cues") or []],
        "mask_baselines": [_mask_baseline(row) for row in entry.get("mask_baselines") or []],
        "partitions": partitions,
        "extent": f"{min(extents)}" if len(extents) == 1 else f"{min(extents)} to {max(extents)}",
        "origins": ", ".join(f"{sum(p['origins'].get(o, 0) for p in partitions)} {o}" for o in _origins(partitions)),
        "candidates": measured and ", ".join(_measure(k, v) for k, v in measured.items() if isinstance(v, int | float)),
        "partition_rule": f"{_held_out(rules)}cubes of {rules['cube_nm']:g} nm go to one partition each, then whatever "
        f"is shared is dropped, so that {kept_apart} is in two partitions.",
        "segmentations": [(name, found["rows"]) for name, found in entry.get("segmentations", {}).items()],
        "bodies": result["bodies"],
        "bodies_shared": result["bodies_shared"],
        "leaks": f"{shared_text(entry['leaks'])}. {look_alike_text(entry['leaks'], read_look_alikes(entry))}",
        "dropped": [(s, r, n) for s, reasons in entry["dropped"].items() for r, n in reasons.items() if n],
        "teachers": [_teacher(one) for one in entry.get(TEACHER_REPLIES, {}).get("teachers", [])],
        "fingerprint": entry["fingerprint"],
    }


def _held_out(rules: Mapping[str, Any]) -> str:
    """Word a held-out half, which datasets of earlier versions do not have."""
    half = rules.get("test_half")
    return f"the half of the volume towards {half} is test, and nothing else is; of the other half, " if half else ""


def _teacher(one: Mapping[str, Any]) -> str:
    """Describe an entry of ``teachers`` (:mod:`connectomebench.finetuning.teacher`), which may come from the Hub."""
    rows = " and ".join(f"{one['rows'][p]:d} {p} rows" for p in PARTITIONS if p in one["rows"])
    who = f"`{one['model']}` (revision `{one['revision']}`, condition `{one['condition']}`)"
    return f"{one['replies']:d} of {who} to {rows}"


def _baseline(row: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an entry of ``baselines``; it may come from the Hub, so every value is checked."""
    if row["model"] not in BASELINES or row["partition"] not in PARTITIONS:
        raise ValueError("an entry of `baselines` names no baseline or no partition")
    return {
        "model": row["model"],
        "partition": row["partition"],
        "n": f"{row['n']:d}",
        "n_groups": f"{row['n_groups']:d}",
        "metrics": [estimate_text(*(row["metrics"][m][k] for k in ("value", "low", "high"))) for m in SHOWN_METRICS],
    }


def _mask_baseline(row: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an entry of ``mask_baselines``; it may come from the Hub, so every value is checked."""
    if row["baseline"] not in MASK_BASELINES or row["partition"] not in PARTITIONS:
        raise ValueError("an entry of `mask_baselines` names no baseline or no partition")
    return {
        "baseline": row["baseline"],
        "how": MASK_BASELINES[row["baseline"]],
        "partition": row["partition"],
        "n": f"{row['n']:d}",
        "n_groups": f"{row['n_groups']:d}",
        "metrics": [
            estimate_text(*(row["metrics"][m][k] for k in ("value", "low", "high"))) for m in ("miou", "iou", "dice")
        ],
    }


def _cue(row: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an entry of ``cues``; it may come from the Hub, so every value is checked."""
    if row["cue"] not in ALL_CUE_TITLES or row["partition"] not in PARTITIONS:
        raise ValueError("an entry of `cues` names no cheap cue or no partition")
    notes = {"inherent": "part of what the task asks", "matched": "at chance by design"}
    return {
        "cue": row["cue"],
        "looks_at": ALL_CUE_TITLES[row["cue"]],
        "partition": row["partition"],
        "n": f"{row['n']:d}",
        "n_groups": f"{row['n_groups']:d}",
        "accuracy": estimate_text(*(row[key] for key in ("value", "low", "high"))),
        "note": "; ".join(words for key, words in notes.items() if row[key] is True),
    }


def _partition(name: str, facts: PartitionFacts) -> dict[str, Any]:
    return {
        "name": name,
        "rows": facts.rows,
        "answers": facts.answers,
        "origins": facts.origins,
        "file_bytes": facts.file_bytes,
        "table_bytes": facts.table_bytes,
        "size": f"{facts.file_bytes / 1e6:.1f} MB",
    }


def _origins(partitions: list[dict[str, Any]]) -> list[str]:
    return sorted({o for p in partitions for o in p["origins"]})


def _measure(name: str, value: Any) -> str:
    return f"{name} {value:.2f}" if isinstance(value, float) else f"{value} {name}"


def _type_name(kind: Any) -> str:
    """Return the type of a column as named by the Hub's viewer."""
    from datasets import ClassLabel, Image, List

    if isinstance(kind, List):
        return f"list of {_type_name(kind.feature)}"
    if isinstance(kind, dict):
        return f"({', '.join(f'{name}: {_type_name(part)}' for name, part in kind.items())})"
    if isinstance(kind, ClassLabel):
        return f"class ({', '.join(kind.names)})"
    return "image" if isinstance(kind, Image) else kind.dtype
