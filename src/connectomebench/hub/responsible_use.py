"""Croissant RAI fields: origin, limits and intended use of a dataset.

https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html; every number and name is from the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectomebench.core.species import get_species
from connectomebench.core.tasks import Task
from connectomebench.dataset.column_docs import LABEL_RULES
from connectomebench.dataset.leak_words import look_alike_text, read_look_alikes, shared_text
from connectomebench.dataset.repo_layout import TAG


def responsible_use(manifest: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the RAI fields: how a dataset was made, its omissions, and its intended use.

    Parameters
    ----------
    manifest
        From :func:`connectomebench.dataset.manifest.add_species`, or merged from several.
    task
        The task that the manifest names.

    Returns
    -------
    dict
        The fields ``rai:...`` by their names: texts, or lists of texts.

    Raises
    ------
    ConnectomeBenchError
        If a species is unknown.
    KeyError, TypeError, AttributeError
        If the manifest lacks something.
    """
    entries: Mapping[str, Any] = manifest["species"]
    errors = {entry["source"]["simulated_errors"] for entry in entries.values()}
    rule = LABEL_RULES.get(task.name)
    biases = [
        "Shares of answers are those of the dataset (cases and look-alike controls), not how often errors occur in a "
        "volume."
    ]
    if True in errors:
        biases.append("Simulated errors follow a rule; they are not spread as those of an automatic segmentation.")
    if False in errors:
        biases.append("Real corrections lie where people chose to proofread.")
    return {
        "rai:dataCollection": "Nothing was measured for this dataset. "
        + " ".join(_collection(species, entry["source"], task) for species, entry in entries.items()),
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataCollectionMissingData": " ".join(_dropped(species, entry) for species, entry in entries.items()),
        "rai:dataCollectionRawData": "Segmentation, meshes and image volumes stay at the source; rows hold pictures "
        "drawn from them.",
        "rai:dataPreprocessingProtocol": [
            f"Every place is drawn as PNG pictures ({', '.join(task.views)}).",
            *(_partition_rule(species, entry) for species, entry in entries.items()),
        ],
        "rai:dataAnnotationProtocol": [
            "Answers follow from the corrections by a rule; nobody labelled the pictures.",
            *([rule] if rule else []),
        ],
        "rai:annotationsPerItem": "One, by the rule.",
        "rai:machineAnnotationTools": [f"connectomebench {manifest['package_version']}"],
        "rai:dataBiases": biases,
        "rai:dataLimitations": [
            "A picture shows less than a proofreader sees, who can turn the object and follow it beyond the view.",
            "A label is right where the proofreading is: what nobody has corrected yet counts as correct.",
            "Rows of one `group` are not independent: resample groups.",
            *(shared for species, entry in entries.items() if (shared := _shared_bodies(species, entry))),
        ],
        "rai:dataUseCases": [
            "Training, validation and testing of models that answer the question of the task.",
            "Not for changing a reconstruction without a person who checks.",
        ],
        "rai:dataSocialImpact": "Meant to save people work in the proofreading of brain reconstructions. A wrong "
        "answer that nobody checks spoils the reconstruction and what is concluded from it.",
        "rai:personalSensitiveInformation": [_personal(species) for species in entries],
        "rai:dataReleaseMaintenancePlan": "`manifest.json` holds configuration, counts, library versions and "
        f"fingerprints of each species. The tag {TAG} names the format of the rows and follows the branch `main`.",
    }


def _collection(species: str, source: Mapping[str, Any], task: Task) -> str:
    title = get_species(species).title
    text = f"`{species}` ({title}): segmentation and truth from {source['name']}, version {source['version']}, licence "
    text += f"{source['license']}; "
    if source["simulated_errors"]:
        text += "the errors are simulated: proofread neurons were cut and fused"
    else:
        text += "the errors are those that the proofreading of the source corrected"
    if task.has_em and source["simulated_em"]:
        text += "; the slices of image data are simulated, drawn from the meshes: they are no micrographs"
    return f"{text}."


def _dropped(species: str, entry: Mapping[str, Any]) -> str:
    reasons = [
        f"{count} in {step}: {reason}"
        for step, reasons in entry["dropped"].items()
        for reason, count in reasons.items()
        if count
    ]
    return f"Left out of `{species}`: {'; '.join(reasons) or 'nothing'}."


def _partition_rule(species: str, entry: Mapping[str, Any]) -> str:
    rule = entry["config"]["partition"]
    kept_apart = "no segment, no body and no place" if rule["group_by"] == "body" else "no segment and no place"
    leaks, pairs = entry["leaks"], read_look_alikes(entry)
    return (
        f"`{species}`: cubes of {rule['cube_nm']:g} nm go to one partition each, then whatever is shared is dropped, "
        f"so that {kept_apart} is in two partitions. Found shared in the written files: {shared_text(leaks)}. "
        f"{look_alike_text(leaks, pairs)}"
    )


def _shared_bodies(species: str, entry: Mapping[str, Any]) -> str | None:
    found = entry["partition"]
    if not found["bodies_shared"]:
        return None
    return (
        f"`{species}`: {found['bodies_shared']} of {found['bodies']} bodies run through more than one partition, at "
        "different places."
    )


def _personal(species: str) -> str:
    if species == "human":
        return (
            "`human`: tissue of one person, removed in surgery and published de-identified by its authors; the rows "
            "hold pictures of cells, segment numbers and places, nothing else about that person."
        )
    return f"`{species}`: none; {get_species(species).title}."
