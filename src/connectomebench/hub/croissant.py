"""Croissant 1.1 metadata (``croissant.json``) of a dataset repository.

Made from the manifest alone. https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and, for the fields on
responsible use, https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html. Repository, files and the partition
out of the file name are described as the Hub does in its own Croissant, which lacks sources and rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import get_species
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.column_docs import COLUMNS, GEOMETRY_CONTENT, REPLIES_CONTENT
from connectomebench.dataset.row_format import entry_features
from connectomebench.dataset.schema import GEOMETRY
from connectomebench.hub.responsible_use import responsible_use

HUB = "https://huggingface.co"
_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
# a repository has no checksum of its own; the Hub writes this address in its place
_NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"
_REPO = "repo"
_SPLITS = "splits"
_TYPES = {
    "string": "sc:Text",
    "float64": "cr:Float64",
    "int64": "cr:Int64",
    "uint64": "cr:UInt64",
    "timestamp[ms]": "sc:DateTime",
}
_CREATIVE_COMMONS = re.compile(r"cc-(by(?:-(?:nc|nd|sa|nc-nd|nc-sa))?)-([0-9.]+)")


def croissant_text(manifest: Mapping[str, Any], repo_id: str) -> str:
    """Return the text of ``croissant.json``; see :func:`croissant`.

    The same manifest always gives the same text.
    """
    return json.dumps(croissant(manifest, repo_id), indent=2, ensure_ascii=False) + "\n"


def croissant(manifest: Mapping[str, Any], repo_id: str) -> dict[str, Any]:
    """Build the Croissant metadata of a dataset repository, validated if `mlcroissant` is installed.

    One FileObject for the repository, one FileSet and one RecordSet a species, one field a stored column, and the
    partition as a field that comes from the file name. The date of publication is left out: it is not known here.

    Parameters
    ----------
    manifest
        From :func:`connectomebench.dataset.manifest.add_species`, or merged from several; entries may come from the
        Hub.
    repo_id
        ``ORG/NAME``.

    Returns
    -------
    dict
        JSON-LD.

    Raises
    ------
    ConnectomeBenchError
        If the manifest lacks something, a species is unknown, or mlcroissant finds an error.
    """
    namespace, _, name = repo_id.partition("/")
    if not namespace or not name:
        raise ConnectomeBenchError(f"{repo_id!r} is no name of a repository; give ORG/NAME")
    try:
        document = _document(manifest, namespace, name)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConnectomeBenchError(
            f"the manifest of {repo_id} is not complete ({error!r:.120}); build the species again"
        ) from error
    if find_spec("mlcroissant") is not None:
        _check(json.dumps(document), repo_id)
    return document


@lru_cache(maxsize=32)
def _check(document: str, repo_id: str) -> None:
    """Validate JSON-LD, which takes longer than all else about a card: what was found valid is not looked at again."""
    import mlcroissant as mlc

    try:
        mlc.Metadata.from_json(mlc.Context(), json.loads(document))
    except mlc.ValidationError as error:
        found = " ".join(str(error).split())[:200]
        raise ConnectomeBenchError(
            f"the Croissant of {repo_id} is not valid ({found}); this is a fault of connectomebench, please report it"
        ) from error


def _document(manifest: Mapping[str, Any], namespace: str, name: str) -> dict[str, Any]:
    task = get_task(manifest["task"])
    entries: Mapping[str, Any] = manifest["species"]
    sources = {species: entry["source"] for species, entry in entries.items()}
    url = f"{HUB}/datasets/{namespace}/{name}"
    citation = "\n".join(dict.fromkeys(s["citation"] for s in sources.values() if s["citation"]))
    return {
        "@context": json.loads(files("connectomebench.hub").joinpath("croissant_context.json").read_text("utf-8")),
        "@type": "sc:Dataset",
        "name": name,
        "description": _description(task, entries),
        "conformsTo": _CONFORMS_TO,
        **({"citeAs": citation} if citation else {}),
        "creator": {"@type": "sc:Organization", "name": namespace, "url": f"{HUB}/{namespace}"},
        "inLanguage": "en",
        "keywords": _keywords(task, sources),
        "license": _one_or_all(sorted({_licence(source["license"]) for source in sources.values()})),
        **{key: _one_or_all(value) for key, value in sorted(responsible_use(manifest, task).items())},
        "url": url,
        "version": str(manifest["format_version"]),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": _REPO,
                "name": _REPO,
                "description": "The repository on the Hub.",
                "contentUrl": url,
                "encodingFormat": "git+https",
                "sha256": _NO_CHECKSUM,
            },
            *map(_file_set, entries),
        ],
        "recordSet": [_splits(), *(_record_set(task, species, entry) for species, entry in entries.items())],
    }


def _one_or_all(value: str | list[str]) -> str | list[str]:
    """Unwrap a list of one, as mlcroissant does."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _description(task: Task, entries: Mapping[str, Any]) -> str:
    parts = (f"`{species}`: {_title(species)}, {_counts(entry, task)}" for species, entry in entries.items())
    contents = "; ".join(parts)
    return (
        "Places in automatic segmentations of brain volumes, drawn as pictures, each with one question for a "
        f"proofreader. {task.title}: {task.question} {contents}."
    )


def _keywords(task: Task, sources: Mapping[str, Any]) -> list[str]:
    simulated = any(s["simulated_errors"] or (task.has_em and s["simulated_em"]) for s in sources.values())
    keywords = ["connectomics", "proofreading", "neuroscience", "segmentation", task.name, *map(_title, sources)]
    return [*keywords, "simulated"] if simulated else keywords


def _title(species: str) -> str:
    return get_species(species).title


def _counts(entry: Mapping[str, Any], task: Task) -> str:
    counts = []
    for partition in PARTITIONS:
        answers: Mapping[str, int] = entry["counts"][partition]
        by_answer = f" ({', '.join(f'{answers[a]} {a}' for a in sorted(answers))})" if task.labels and answers else ""
        counts.append(f"{sum(answers.values())} rows in {partition}{by_answer}")
    return ", ".join(counts)


def _licence(name: str) -> str:
    """Return the URL of a Creative Commons licence; other licences keep their name."""
    found = _CREATIVE_COMMONS.fullmatch(name)
    return f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/" if found else name


def _files(species: str) -> str:
    return f"{species}-parquet"


def _file_set(species: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": _files(species),
        "name": _files(species),
        "description": f"Rows of `{species}`.",
        "containedIn": {"@id": _REPO},
        "encodingFormat": "application/x-parquet",
        "includes": f"{species}/*.parquet",
    }


def _splits() -> dict[str, Any]:
    key = f"{_SPLITS}/name"
    return {
        "@type": "cr:RecordSet",
        "@id": _SPLITS,
        "name": _SPLITS,
        "description": "The partitions of every species.",
        "dataType": "cr:Split",
        "key": {"@id": key},
        "field": [{"@type": "cr:Field", "@id": key, "name": "name", "dataType": "sc:Text"}],
        "data": [{key: partition} for partition in PARTITIONS],
    }


def _record_set(task: Task, species: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    # a value that was cut out already must match again: mlcroissant applies the pattern once more after a join
    pattern = rf"(?:{species}/)?({'|'.join(PARTITIONS)})(?:-.+parquet)?$"
    partition = {
        "@type": "cr:Field",
        "@id": f"{species}/split",
        "name": "split",
        "description": "the partition, from the name of the file",
        "dataType": "sc:Text",
        "references": {"field": {"@id": f"{_SPLITS}/name"}},
        "source": _source(species, {"fileProperty": "fullpath"}, {"regex": pattern}),
    }
    kinds = entry_features(task, entry)
    return {
        "@type": "cr:RecordSet",
        "@id": species,
        "name": species,
        "description": f"{_title(species)}: {_counts(entry, task)}. Fingerprint of the data: {entry['fingerprint']}.",
        "key": {"@id": f"{species}/sample_id"},
        "field": [partition, *(_field(species, column, kind) for column, kind in kinds.items())],
    }


def _source(species: str, extract: dict[str, str], transform: dict[str, str] | None = None) -> dict[str, Any]:
    source = {"fileSet": {"@id": _files(species)}, "extract": extract}
    return source | ({"transform": transform} if transform else {})


def _field(species: str, column: str, kind: Any) -> dict[str, Any]:
    from datasets import ClassLabel, Image, List

    levels = 0
    while isinstance(kind, List):
        kind, levels = kind.feature, levels + 1
    if isinstance(kind, dict):
        return _replies_field(species, column, list(kind))
    is_image = isinstance(kind, Image)
    classes = kind.names if isinstance(kind, ClassLabel) else []
    named = f" ({', '.join(f'{i}: {name}' for i, name in enumerate(classes))})" if classes else ""
    return {
        "@type": "cr:Field",
        "@id": f"{species}/{column}",
        "name": column,
        "description": (COLUMNS | {GEOMETRY: GEOMETRY_CONTENT})[column] + named,
        **({"arrayShape": ",".join(["-1"] * levels)} if levels else {}),
        "dataType": "sc:ImageObject" if is_image else _TYPES[kind.dtype],
        **({"isArray": True} if levels else {}),
        # mlcroissant 1.1 reads a list of pictures by the older name alone (mlcommons/croissant#909)
        **({"repeated": True} if levels and is_image else {}),
        "source": _source(species, {"column": column}, {"jsonPath": "bytes"} if is_image else None),
    }


def _replies_field(species: str, column: str, parts: list[str]) -> dict[str, Any]:
    """Describe a field of text lists, as the Hub does."""
    return {
        "@type": "cr:Field",
        "@id": f"{species}/{column}",
        "name": column,
        "description": REPLIES_CONTENT,
        "arrayShape": "-1",
        "isArray": True,
        "subField": [
            {
                "@type": "cr:Field",
                "@id": f"{species}/{column}/{part}",
                "name": part,
                "description": f"`{part}` of an entry of `{column}`",
                "dataType": "sc:Text",
                "source": _source(species, {"column": column}, {"jsonPath": f"[*].{part}"}),
            }
            for part in parts
        ],
    }
