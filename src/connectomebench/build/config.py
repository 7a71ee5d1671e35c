"""Build configuration: a YAML file read into frozen dataclasses, checked before any work starts."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from connectomebench.build.failure_policy import FailureConfig
from connectomebench.core.cut import ProposalConfig
from connectomebench.core.errors import ConnectomeBenchError, unknown_name
from connectomebench.core.files import content_key
from connectomebench.core.species import OwnSpecies, declare_species, get_species
from connectomebench.core.tasks import get_task
from connectomebench.core.text import decode_text
from connectomebench.core.trusted import TrustedConfig
from connectomebench.partition.assign import PartitionConfig
from connectomebench.rendering.views import ViewConfig
from connectomebench.sites.candidates import CandidateConfig
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.matched_controls import ControlConfig
from connectomebench.sites.site_rules import SITE_RULES
from connectomebench.sources.cave.cave_config import TablesConfig
from connectomebench.sources.factory import SourceConfig

_LABEL_VOLUMES = ("automatic", "proofread", "supervoxels")
DEFAULT_TASKS = ("merge_action", "endpoint_error_identification_with_em", "merge_error_identification", "split_action")
BUILDABLE_TASKS = tuple(SITE_RULES)


@dataclass(frozen=True)
class BuildConfig:
    """All settings that decide what a dataset holds and when a build stops.

    Attributes
    ----------
    species
        Species config the samples go to. In a file, one of one's own is a mapping in its place: see ``own_species``.
    source
        Where the samples come from.
    tasks
        Tasks that share one partition.
    own_species
        Declares ``species`` where it is none of the five.
    trusted
        Bodies that `connectomebench proofread` never joins with each other; no dataset depends on it.
    """

    species: str
    source: SourceConfig
    tasks: tuple[str, ...] = DEFAULT_TASKS
    sites: SiteConfig = field(default_factory=SiteConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    controls: ControlConfig = field(default_factory=ControlConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    failures: FailureConfig = field(default_factory=FailureConfig)
    own_species: OwnSpecies | None = None
    trusted: TrustedConfig = field(default_factory=TrustedConfig)

    def __post_init__(self) -> None:
        if self.own_species is not None:
            if self.species != self.own_species.name:
                raise ConnectomeBenchError(
                    f"species is {self.species!r}, but own_species declares {self.own_species.name!r}; name one species"
                )
            object.__setattr__(self, "species", declare_species(self.own_species))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest."""
        values = dataclasses.asdict(self)
        del values["trusted"]
        return values

    def fingerprint(self) -> str:
        """Hash all values that affect a dataset; the same hash and data give the same dataset.

        Failure, retry and cache settings are left out, so that a stopped build can resume with other ones, and the list
        of tasks, so that one can be added.
        """
        values = {name: value for name, value in self.as_dict().items() if name not in ("failures", "tasks")}
        if values["own_species"] is None:  # a configuration without one has the fingerprint that it always had
            del values["own_species"]
        if not self.views.geometry:  # likewise one without geometry channels
            values["views"] = {name: value for name, value in values["views"].items() if name != "geometry"}
        return content_key(values | {"source": self.source_values()})

    def source_values(self) -> dict[str, Any]:
        """Return the settings of the source that affect what is seen in it."""
        values = dataclasses.asdict(self.source)
        if values["cave"] is not None:
            for name in ("max_failed_share", "cache_gb", "requests"):
                del values["cave"][name]
            if self.source.cave is not None and self.source.cave.tables == TablesConfig():
                # a configuration without any has the fingerprint that it always had
                del values["cave"]["tables"]
        if values["volumes"] is not None:
            del values["volumes"]["affinity"]  # proofreading is compared with it, and no model sees it
        return values


def load_config(path: Path, overrides: dict[str, Any] | None = None, *, truth_needed: bool = True) -> BuildConfig:
    """Read a build configuration.

    Parameters
    ----------
    path
        YAML file.
    overrides
        Values that replace those of the file, with dotted keys (``"partition.group_by"``).
    truth_needed
        False to accept volumes without truth, which can be proofread but give no datasets.

    Raises
    ------
    ConnectomeBenchError
        For a missing file, bad YAML, unknown keys, wrong types, or an unknown species or task.

    Examples
    --------
    >>> from pathlib import Path
    >>> from connectomebench import load_config
    >>> config = load_config(Path("examples/quickstart.yaml"), {"controls.max_cases": 20})
    >>> config.species, config.controls.max_cases
    ('fly', 20)
    """
    text, data = _read_yaml(path)
    if not isinstance(data, dict):
        raise ConnectomeBenchError(f"{path} must be a mapping with at least `species` and `source`")
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        place = data
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return parse_config(data, str(path), text, truth_needed=truth_needed)


def _read_yaml(path: Path) -> tuple[str, Any]:
    """Read a YAML file as plain values; dates stay text, since no setting is a date object."""
    import yaml

    class _Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        text = decode_text(path.read_bytes())
        return text, yaml.load(text, _Loader)
    except OSError as error:
        raise ConnectomeBenchError(f"cannot read configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from error


def _line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the number of the line of a YAML text that holds the value at a place, or the nearest one around it."""
    import yaml

    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    line = None
    for part in place:
        inner = None
        if isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
        if inner is not None:  # parts that name a type, not a key, are passed over
            node, line = inner, inner.start_mark.line + 1
    return line


def parse_config(
    data: dict[str, Any], origin: str = "configuration", text: str = "", *, truth_needed: bool = True
) -> BuildConfig:
    """Check plain values and make a :class:`BuildConfig`; see :func:`load_config` for the errors.

    Parameters
    ----------
    data
        The values.
    origin
        Where they come from, for messages.
    text
        The YAML text they come from, so that messages can name a line.
    truth_needed
        As for :func:`load_config`.
    """
    from pydantic import TypeAdapter, ValidationError

    data = _with_own_species(data)
    _reject_unknown_keys(BuildConfig, data, origin)
    try:
        config = TypeAdapter(BuildConfig).validate_python(data)
    except ValidationError as error:
        # where one or several are allowed, both are tried: the one that got furthest was meant
        first = max(error.errors(), key=lambda found: len(found["loc"]))
        where = ".".join(
            str(p) for p in first["loc"] if not re.fullmatch(r"dict\[.*\]|VolumeSpec|int|tuple\[.*\]", str(p))
        )
        line = _line_of(text, first["loc"]) if text else None
        at = origin if line is None else f"{origin} line {line}"
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason if reason != first["msg"] else reason.lower()
        raise ConnectomeBenchError(f"{at}: {where or 'top level'}: {reason}") from error
    volumes = config.source.volumes
    if truth_needed and volumes is not None and volumes.proofread is None and volumes.simulated is None:
        raise ConnectomeBenchError(
            f"{origin}: source.volumes: add `proofread` (the truth) or `simulated` (how errors are simulated in labels "
            "without truth); without either a segmentation can only be proofread (connectomebench proofread)"
        )
    get_species(config.species)
    if not config.tasks:
        raise ConnectomeBenchError(f"{origin}: tasks is empty; name at least one of {', '.join(BUILDABLE_TASKS)}")
    for task in config.tasks:
        get_task(task)
    for task in config.tasks:
        kinds = get_task(task).candidates
        if kinds and not set(kinds) & set(config.candidates.kinds):
            raise ConnectomeBenchError(
                f"{origin}: {task} needs candidates: name at least one of {', '.join(kinds)} in candidates.kinds"
            )
    low, high = config.sites.extent_nm
    if not 0 < low <= high:
        raise ConnectomeBenchError(f"{origin}: sites.extent_nm must be two lengths in nm, smallest first")
    if config.proposals.reach_nm < high:
        raise ConnectomeBenchError(
            f"{origin}: proposals.reach_nm ({config.proposals.reach_nm:g}) must be at least the largest view ({high:g})"
        )
    cave = config.source.cave
    if cave is not None and cave.survey.cutout_nm < max(2 * high, config.proposals.reach_nm):
        raise ConnectomeBenchError(
            f"{origin}: source.cave.survey.cutout_nm ({cave.survey.cutout_nm:g}) must be at least twice the largest "
            f"view ({high:g}) and at least proposals.reach_nm ({config.proposals.reach_nm:g})"
        )
    return config


def _with_own_species(data: dict[str, Any]) -> dict[str, Any]:
    """Move a declared species to its own key, and use its view and voxel size where nothing else states them."""
    own = data.get("species")
    if not isinstance(own, dict):
        return data
    data = {**data, "species": own.get("name"), "own_species": own}
    extent, voxel = own.get("view_extent_nm"), own.get("voxel_size_nm")
    sites = data.get("sites") or {}
    if extent is not None and isinstance(sites, dict) and "extent_nm" not in sites:
        data["sites"] = {**sites, "extent_nm": extent}
    source = data.get("source")
    volumes = source.get("volumes") if isinstance(source, dict) else None
    if voxel is not None and isinstance(source, dict) and isinstance(volumes, dict):
        filled = {k: _with_voxel_size(volumes[k], voxel) for k in _LABEL_VOLUMES if k in volumes}
        data["source"] = {**source, "volumes": {**volumes, **filled}}
    return data


def _with_voxel_size(volume: Any, voxel_nm: Any) -> Any:
    """State the voxel size of a volume, or of several named ones, where it is not."""
    if _is_named(volume):
        return {name: _with_voxel_size(one, voxel_nm) for name, one in volume.items()}
    return {"voxel_size_nm": voxel_nm, **volume} if isinstance(volume, dict) else volume


def _reject_unknown_keys(kind: Any, data: Any, where: str) -> None:
    """Walk nested dataclasses and reject unknown keys, suggesting the nearest ones."""
    if not dataclasses.is_dataclass(kind) or not isinstance(data, dict):
        return
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            raise unknown_name(f"key in {where}", str(key), fields)
        for inner in _members(hints[key]):
            if typing.get_origin(inner) is not dict:
                if not (_holds_names(hints[key]) and _is_named(value)):
                    _reject_unknown_keys(inner, value, f"{where}: {key}")
            elif _is_named(value):
                for name, one in value.items():
                    _reject_unknown_keys(typing.get_args(inner)[1], one, f"{where}: {key}: {name}")


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return () if typing.get_origin(hint) is Literal else (hint,)


def _holds_names(hint: Any) -> bool:
    """Check whether a field takes either one value or several named values."""
    return any(typing.get_origin(member) is dict for member in _members(hint))


def _is_named(value: Any) -> bool:
    """Check whether a value is a mapping of mappings: several named values rather than one."""
    return isinstance(value, dict) and bool(value) and all(isinstance(one, dict) for one in value.values())
