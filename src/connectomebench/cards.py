"""The dataset card, made from the manifest alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connectomebench.files import write_text
from connectomebench.records import PARTITIONS, features
from connectomebench.resources import resource_path
from connectomebench.species import get_species
from connectomebench.tasks import get_task

_ANSWER_RULES = {
    "merge_action": "yes = both segments belong to one proofread body; no = two segments in contact that do not.",
    "endpoint_error_identification_with_em": "yes = a correction of this segment lies at its end; no = the end is natural.",
    "merge_error_identification": "yes = the segment fuses two bodies at this place; no = a natural branch point.",
    "split_action": "yes = the cut parts the bodies (good > k * bad for every relevant body); no = it does not.",
}


def write_card(folder: Path, manifest: dict[str, Any]) -> Path:
    """Write ``README.md`` of a dataset folder.

    Parameters
    ----------
    folder
        Dataset folder, with the Parquet files of every species in the manifest.
    manifest
        See :mod:`connectomebench.manifest`.

    Returns
    -------
    Path
        The card. Its YAML names one config a species and one file pattern a partition, and describes the features, so
        that ``load_dataset(folder, species)`` needs nothing else.
    """
    path = folder / "README.md"
    write_text(path, render_card(folder, manifest))
    return path


def render_card(folder: Path, manifest: dict[str, Any]) -> str:
    """Return the text of the card; see :func:`write_card`."""
    from huggingface_hub import DatasetCardData
    from jinja2 import Environment, StrictUndefined

    task = get_task(manifest["task"])
    entries = [entry | {"name": name} for name, entry in manifest["species"].items()]
    for entry in entries:
        entry["species_title"] = get_species(entry["name"]).title
    licenses = sorted({entry["source"]["license"] for entry in entries})
    data = DatasetCardData(
        pretty_name=task.title,
        license=licenses[0] if len(licenses) == 1 else "other",
        license_name=None if len(licenses) == 1 else "mixed: see each species",
        task_categories=["image-classification", "visual-question-answering"],
        tags=["connectomics", "neuroscience", "proofreading", "connectomebench", *sorted(manifest["species"])],
        size_categories=_size_category(sum(_rows(entry) for entry in entries)),
        configs=[_config(entry["name"]) for entry in entries],
        dataset_info=[_dataset_info(folder, task.name, entry) for entry in entries],
    )
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters["percent"] = lambda share: "unknown" if share is None else f"{100 * share:.1f}%"
    template = environment.from_string(resource_path("hub_cards/dataset.md.jinja").read_text(encoding="utf-8"))
    return template.render(
        card_data=data.to_yaml().strip(),
        title=task.title,
        task=task.name,
        question=task.question,
        answer_rule=_ANSWER_RULES[task.name],
        labels=task.labels,
        views=task.views,
        has_em=task.has_em,
        species=entries,
        simulated=_simulated(entries, task.has_em),
    )


def _simulated(entries: list[dict[str, Any]], has_em: bool) -> dict[str, str]:
    """What is not real, by species."""
    words = {}
    for entry in entries:
        source = entry["source"]
        what = (["the errors"] if source["simulated_errors"] else []) + (
            ["the image data"] if source["simulated_em"] and has_em else []
        )
        if what:
            words[entry["name"]] = f"{' and '.join(what)} are simulated on real proofread neurons"
    return words


def _rows(entry: dict[str, Any]) -> int:
    return sum(sum(counts.values()) for counts in entry["counts"].values())


def _size_category(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M"


def _config(species: str) -> dict[str, Any]:
    files = [{"split": p, "path": f"{species}/{p}-*.parquet"} for p in PARTITIONS]
    return {"config_name": species, "data_files": files}


def _dataset_info(folder: Path, task: str, entry: dict[str, Any]) -> dict[str, Any]:
    sizes = {p: sum(f.stat().st_size for f in (folder / entry["name"]).glob(f"{p}-*.parquet")) for p in PARTITIONS}
    return {
        "config_name": entry["name"],
        "features": features(task)._to_yaml_list(),
        "splits": [
            {"name": p, "num_bytes": sizes[p], "num_examples": sum(entry["counts"][p].values())} for p in PARTITIONS
        ],
        "download_size": sum(sizes.values()),
        "dataset_size": sum(sizes.values()),
    }
