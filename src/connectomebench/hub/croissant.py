"""`croissant.json`: a dataset repository told in Croissant 1.1, so that other tools find, read and judge it.

Made from the manifest alone. https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and, for the fields on
responsible use, https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html. Repository, files and the partition
out of the file name are told as the Hub does in its own Croissant, which says nothing of sources and rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.partitions import PARTITIONS
from connectomebench.core.species import get_species
from connectomebench.core.tasks import Task, get_task
from connectomebench.dataset.column_docs import COLUMNS, REPLIES_CONTENT
from connectomebench.dataset.schema import TEACHER_REPLIES, features
from connectomebench.hub.responsible_use import responsible_use

if TYPE_CHECKING:
    import mlcroissant as mlc

HUB = "https://huggingface.co"
_CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
# what 1.1 adds to the context that mlcroissant starts from
_CONTEXT = {
    "arrayShape": "cr:arrayShape",
    "containedIn": "cr:containedIn",
    "description": {"@container": "@language"},
    "isArray": "cr:isArray",
    "name": {"@container": "@language"},
}
# a repository has no checksum of its own; the Hub writes this address in its place
_NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"
_REPO = "repo"
_SPLITS = "splits"
_TYPES = {"string": "TEXT", "float64": "FLOAT64", "int64": "INT64", "uint64": "UINT64", "timestamp[ms]": "DATETIME"}
_CREATIVE_COMMONS = re.compile(r"cc-(by(?:-(?:nc|nd|sa|nc-nd|nc-sa))?)-([0-9.]+)")


def croissant_text(manifest: Mapping[str, Any], repo_id: str) -> str:
    """Return the content of ``croissant.json``; see :func:`croissant`.

    The same manifest always gives the same text.
    """
    return json.dumps(croissant(manifest, repo_id), indent=2, ensure_ascii=False) + "\n"


def croissant(manifest: Mapping[str, Any], repo_id: str) -> dict[str, Any]:
    """Describe a dataset repository in Croissant, checked by mlcroissant.

    One FileObject for the repository, one FileSet and one RecordSet a species, one field a stored column, and the
    partition as a field that comes from the file name. The date of publication is left out: it is not known here.

    Parameters
    ----------
    manifest
        From :func:`connectomebench.dataset.manifest.add_species`, or merged from several; entries may come from the Hub.
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
    import mlcroissant as mlc

    namespace, _, name = repo_id.partition("/")
    if not namespace or not name:
        raise ConnectomeBenchError(f"{repo_id!r} is no name of a repository; give ORG/NAME")
    context = mlc.Context(conforms_to=_CONFORMS_TO[0])  # pyright: ignore[reportArgumentType]
    context.rdf.context.update(_CONTEXT)
    url = f"{HUB}/datasets/{repo_id}"
    try:
        task = get_task(manifest["task"])
        entries: Mapping[str, Any] = manifest["species"]
        sources = {species: entry["source"] for species, entry in entries.items()}
        repository = mlc.FileObject(
            ctx=context,
            id=_REPO,
            name=_REPO,
            description="The repository on the Hub.",
            content_url=url,
            encoding_formats=["git+https"],
            sha256=_NO_CHECKSUM,
        )
        metadata = mlc.Metadata(
            ctx=context,
            name=name,
            description=_description(task, entries),
            conforms_to=list(_CONFORMS_TO),
            url=url,
            version=str(manifest["format_version"]),
            license=[*sorted({_licence(source["license"]) for source in sources.values()})],
            cite_as="\n".join(dict.fromkeys(s["citation"] for s in sources.values() if s["citation"])) or None,
            creators=[mlc.Organization(ctx=context, name=namespace, url=f"{HUB}/{namespace}")],
            keywords=_keywords(task, sources),
            in_language=["en"],
            distribution=[repository, *(_file_set(context, species) for species in entries)],
            record_sets=[_splits(context), *(_record_set(context, task, s, entry) for s, entry in entries.items())],
            **responsible_use(manifest, task),
        )
        return metadata.to_json()
    except mlc.ValidationError as error:
        told = " ".join(str(error).split())[:200]
        raise ConnectomeBenchError(
            f"the Croissant of {repo_id} is not valid ({told}); this is a fault of connectomebench, please report it"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ConnectomeBenchError(
            f"the manifest of {repo_id} is not complete ({error!r:.120}); build the species again"
        ) from error


def _description(task: Task, entries: Mapping[str, Any]) -> str:
    told = "; ".join(f"`{species}`: {_title(species)}, {_counts(entry, task)}" for species, entry in entries.items())
    return (
        "Places in automatic segmentations of brain volumes, drawn as pictures, each with one question for a "
        f"proofreader. {task.title}: {task.question} {told}."
    )


def _keywords(task: Task, sources: Mapping[str, Any]) -> list[str]:
    simulated = any(s["simulated_errors"] or (task.has_em and s["simulated_em"]) for s in sources.values())
    words = ["connectomics", "proofreading", "neuroscience", "segmentation", task.name, *map(_title, sources)]
    return [*words, "simulated"] if simulated else words


def _title(species: str) -> str:
    return get_species(species).title


def _counts(entry: Mapping[str, Any], task: Task) -> str:
    told = []
    for partition in PARTITIONS:
        answers: Mapping[str, int] = entry["counts"][partition]
        by_answer = f" ({', '.join(f'{answers[a]} {a}' for a in sorted(answers))})" if task.labels and answers else ""
        told.append(f"{sum(answers.values())} rows in {partition}{by_answer}")
    return ", ".join(told)


def _licence(name: str) -> str:
    """Return the address of a Creative Commons licence; others keep the name that the manifest has."""
    found = _CREATIVE_COMMONS.fullmatch(name)
    return f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/" if found else name


def _files(species: str) -> str:
    return f"{species}-parquet"


def _file_set(context: mlc.Context, species: str) -> mlc.FileSet:
    import mlcroissant as mlc

    return mlc.FileSet(
        ctx=context,
        id=_files(species),
        name=_files(species),
        description=f"Rows of `{species}`.",
        contained_in=[_REPO],
        encoding_formats=["application/x-parquet"],
        includes=[f"{species}/*.parquet"],
    )


def _splits(context: mlc.Context) -> mlc.RecordSet:
    import mlcroissant as mlc

    key = f"{_SPLITS}/name"
    return mlc.RecordSet(
        ctx=context,
        id=_SPLITS,
        name=_SPLITS,
        description="The partitions of every species.",
        data_types=[mlc.DataType.SPLIT],
        key=key,  # pyright: ignore[reportArgumentType]
        fields=[mlc.Field(ctx=context, id=key, name="name", data_types=[mlc.DataType.TEXT])],
        data=[{key: partition} for partition in PARTITIONS],
    )


def _record_set(context: mlc.Context, task: Task, species: str, entry: Mapping[str, Any]) -> mlc.RecordSet:
    import mlcroissant as mlc

    # a value that was cut out already must match again: mlcroissant applies the pattern once more after a join
    pattern = rf"(?:{species}/)?({'|'.join(PARTITIONS)})(?:-.+parquet)?$"
    partition = mlc.Field(
        ctx=context,
        id=f"{species}/split",
        name="split",
        description="the partition, from the name of the file",
        data_types=[mlc.DataType.TEXT],
        references=mlc.Source(ctx=context, field=f"{_SPLITS}/name"),
        source=mlc.Source(
            ctx=context,
            file_set=_files(species),
            extract=mlc.Extract(ctx=context, file_property="fullpath"),  # pyright: ignore[reportArgumentType]
            transforms=[mlc.Transform(ctx=context, regex=pattern)],
        ),
    )
    kinds = features(task, replies=TEACHER_REPLIES in entry)
    return mlc.RecordSet(
        ctx=context,
        id=species,
        name=species,
        description=f"{_title(species)}: {_counts(entry, task)}. Fingerprint of the data: {entry['fingerprint']}.",
        key=f"{species}/sample_id",  # pyright: ignore[reportArgumentType]
        fields=[partition, *(_field(context, species, column, kind) for column, kind in kinds.items())],
    )


def _field(context: mlc.Context, species: str, column: str, kind: Any) -> mlc.Field:
    import mlcroissant as mlc
    from datasets import ClassLabel, Image, List

    levels = 0
    while isinstance(kind, List):
        kind, levels = kind.feature, levels + 1
    if isinstance(kind, dict):
        return _replies_field(context, species, column, list(kind))
    is_image = isinstance(kind, Image)
    classes = kind.names if isinstance(kind, ClassLabel) else []
    named = f" ({', '.join(f'{i}: {name}' for i, name in enumerate(classes))})" if classes else ""
    return mlc.Field(
        ctx=context,
        id=f"{species}/{column}",
        name=column,
        description=COLUMNS[column] + named,
        data_types=[mlc.DataType.IMAGE_OBJECT if is_image else getattr(mlc.DataType, _TYPES[kind.dtype])],
        is_array=True if levels else None,
        array_shape=",".join(["-1"] * levels) or None,
        # mlcroissant 1.1 reads a list of pictures by the older name alone (mlcommons/croissant#909)
        repeated=True if levels and is_image else None,
        source=mlc.Source(
            ctx=context,
            file_set=_files(species),
            extract=mlc.Extract(ctx=context, column=column),
            transforms=[mlc.Transform(ctx=context, json_path="bytes")] if is_image else [],
        ),
    )


def _replies_field(context: mlc.Context, species: str, column: str, parts: list[str]) -> mlc.Field:
    """Describe a list of several texts each, as the Hub does."""
    import mlcroissant as mlc

    return mlc.Field(
        ctx=context,
        id=f"{species}/{column}",
        name=column,
        description=REPLIES_CONTENT,
        is_array=True,
        array_shape="-1",
        sub_fields=[
            mlc.Field(
                ctx=context,
                id=f"{species}/{column}/{part}",
                name=part,
                description=f"`{part}` of an entry of `{column}`",
                data_types=[mlc.DataType.TEXT],
                source=mlc.Source(
                    ctx=context,
                    file_set=_files(species),
                    extract=mlc.Extract(ctx=context, column=column),
                    transforms=[mlc.Transform(ctx=context, json_path=f"[*].{part}")],
                ),
            )
            for part in parts
        ],
    )
