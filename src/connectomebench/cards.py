"""The dataset card: YAML for the Hub and `load_dataset`, and text for people, both made from manifest and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.errors import ConnectomeBenchError
from connectomebench.files import write_text
from connectomebench.partition import PARTITIONS
from connectomebench.records import features, read_small_columns, shard_paths
from connectomebench.resources import resource_path
from connectomebench.species import get_species
from connectomebench.tasks import Task, get_task

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard, DatasetCardData

TEMPLATE = "hub_cards/dataset.md.jinja"
ORGANISATION = "connectomebench"

COLUMNS = {
    "sample_id": "name of the sample: a hash of what is shown, never of the answer",
    "task": "name of the task",
    "species": "species config",
    "images": "pictures, in the order of `views`",
    "views": "names of the pictures: front, side, top are orthographic views of meshes, em_* slices of image data",
    "question": "the question, to be shown with the pictures",
    "answer": "the answer as text",
    "label": "the answer as a class; empty where the answer is a place",
    "target_nm": "points (x, y, z in nm) where the answer is a place, else empty",
    "location_nm": "centre of all views: x, y, z in nm",
    "extent_nm": "edge of the cube shown, nm",
    "segment_ids": "segments shown, before the correction; the first is the one asked about",
    "body_ids": "the proofread bodies that they belong to",
    "group": "samples of one group share segments: the unit to resample",
    "origin": "edit (a real correction), control (real, nothing to correct) or simulated",
    "edit_id": "name of the correction, empty for controls",
    "edit_time": "when the correction was made, where known",
    "source": "where segmentation and truth come from",
    "source_version": "version of the source",
}

LABEL_RULES = {
    "merge_action": "yes: both segments belong to one proofread body; no: they touch, at comparable distance and size, "
    "and do not.",
    "endpoint_error_identification": "Candidates are the ends of the segment's skeleton; yes: a merge correction lies "
    "near.",
    "endpoint_error_identification_with_em": "Candidates are the ends of the segment's skeleton; yes: a merge "
    "correction lies near.",
    "merge_error_identification": "Candidates are the branch points of the segment's skeleton; yes: the place fuses "
    "two bodies.",
    "split_action": "A cut is good (yes) if and only if good > k * bad for every body larger than t in the cutout, "
    "where good is what is split off and does not belong to the body, and bad is what does (k and t: `manifest.json`).",
}

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None) -> Path:
    """Write the README.md of a dataset folder.

    Parameters
    ----------
    folder
        ``OUT/TASK``, with the Parquet files of every species in the manifest.
    manifest
        From :func:`connectomebench.manifest.add_species`.
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


def dataset_card(folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None) -> DatasetCard:
    """Make the card of a dataset folder; see :func:`write_card`."""
    from huggingface_hub import DatasetCard
    from jinja2 import Environment, StrictUndefined

    task = get_task(manifest["task"])
    template = resource_path(TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    configs = [_config(folder, name, entry) for name, entry in manifest["species"].items()]
    simulated = {
        key: [f"`{name}`" for name, entry in manifest["species"].items() if entry["source"][key]]
        for key in ("simulated_errors", "simulated_em")
    }
    shown = simulated["simulated_em"] if task.has_em else []
    kinds = features(task)
    text = environment.from_string(template).render(
        card_data=_card_data(task, configs, manifest).to_yaml(),
        task=task,
        configs=configs,
        answers=sorted({a for c in configs for p in c["partitions"] for a in p["answers"]}) if task.labels else [],
        columns=[{"name": n, "type": _type_name(kinds[n]), "content": content} for n, content in COLUMNS.items()],
        label_rule=LABEL_RULES.get(task.name),
        simulated_errors=simulated["simulated_errors"],
        any_simulated_errors=bool(simulated["simulated_errors"]),
        simulated_em=shown,
        any_simulated_em=bool(shown),
        repo_id=repo_id or f"{ORGANISATION}/{task.name}",
        format_version=manifest["format_version"],
        package_version=manifest["package_version"],
    )
    card = DatasetCard(text)
    if not card.data.to_dict().get("configs"):
        raise ConnectomeBenchError(f"{folder}: the card has no config; the template {TEMPLATE} is damaged")
    return card


def _card_data(task: Task, configs: list[dict[str, Any]], manifest: Mapping[str, Any]) -> DatasetCardData:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    rows = sum(p["rows"] for c in configs for p in c["partitions"])
    licenses = sorted({c["source"]["license"] for c in configs})
    tags = ["connectomics", "proofreading", "neuroscience", "electron-microscopy", "segmentation", ORGANISATION]
    if any(c["source"]["simulated_errors"] for c in configs):
        tags.append("simulated")
    data = DatasetCardData(
        pretty_name=f"ConnectomeBench: {task.title}",
        language=["en"],
        license=licenses if len(licenses) > 1 else licenses[0],
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
            features=features(task),
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


def _config(folder: Path, species: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what the card says about one species."""
    partitions = [_partition(folder / species, p) for p in PARTITIONS]
    extents = {round(e) for p in partitions for e in p["extents"]}
    rules, result = entry["config"]["partition"], entry["partition"]
    kept_apart = "no segment, no body and no place" if rules["group_by"] == "body" else "no segment and no place"
    measured = entry.get("candidates")
    return {
        "name": species,
        "title": get_species(species).title,
        "source": entry["source"],
        "partitions": partitions,
        "extent": f"{min(extents)}" if len(extents) == 1 else f"{min(extents)} to {max(extents)}",
        "origins": ", ".join(f"{sum(p['origins'].get(o, 0) for p in partitions)} {o}" for o in _origins(partitions)),
        "candidates": measured and ", ".join(_measure(k, v) for k, v in measured.items() if v is not None),
        "partition_rule": f"cubes of {rules['cube_nm']:g} nm go to one partition each, then whatever is shared is "
        f"dropped, so that {kept_apart} is in two partitions.",
        "bodies": result["bodies"],
        "bodies_shared": result["bodies_shared"],
        "leaks": ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in entry["leaks"].items()),
        "dropped": [(s, r, n) for s, reasons in entry["dropped"].items() for r, n in reasons.items() if n],
        "fingerprint": entry["fingerprint"],
    }


def _partition(folder: Path, partition: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    small = read_small_columns(folder, partition, ["answer", "origin", "extent_nm"]).to_pydict()
    paths = shard_paths(folder, partition)
    file_bytes = sum(path.stat().st_size for path in paths)
    metadata = [pq.read_metadata(path) for path in paths]
    return {
        "name": partition,
        "rows": len(small["answer"]),
        "answers": dict(Counter(small["answer"])),
        "origins": dict(Counter(small["origin"])),
        "extents": set(small["extent_nm"]),
        "file_bytes": file_bytes,
        "table_bytes": sum(m.row_group(i).total_byte_size for m in metadata for i in range(m.num_row_groups)),
        "size": f"{file_bytes / 1e6:.1f} MB",
    }


def _origins(partitions: list[dict[str, Any]]) -> list[str]:
    return sorted({o for p in partitions for o in p["origins"]})


def _measure(name: str, value: Any) -> str:
    return f"{name} {value:.2f}" if isinstance(value, float) else f"{value} {name}"


def _type_name(kind: Any) -> str:
    """Name the type of a column as the Hub's viewer does."""
    from datasets import ClassLabel, Image, List

    if isinstance(kind, List):
        return f"list of {_type_name(kind.feature)}"
    if isinstance(kind, ClassLabel):
        return f"class ({', '.join(kind.names)})"
    return "image" if isinstance(kind, Image) else kind.dtype
