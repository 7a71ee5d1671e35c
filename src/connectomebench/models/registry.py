"""Load any model by folder or Hub repository, and save heads with their record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.dataset.manifest import library_versions
from connectomebench.dataset.rows import DataRecord
from connectomebench.models.base import Model
from connectomebench.models.choices import WEIGHT, ChoiceModel, choosing
from connectomebench.models.encoders import EFFICIENTNET, EFFICIENTNET_MIDDLE
from connectomebench.models.model_files import ADAPTER_CONFIG, REPO_ID, open_files, read_json
from connectomebench.models.model_record import FILE_NAME, ModelKind, ModelRecord, read_record, write_record
from connectomebench.models.recalibration import Recalibration, read_recalibrations

if TYPE_CHECKING:
    from connectomebench.models.grey_baseline import GreyModel
    from connectomebench.models.node_probe import NodeProbe
    from connectomebench.models.probe import Probe
    from connectomebench.models.trivial_baseline import TrivialModel

_LIBRARIES = ("connectomebench", "numpy", "pillow", "scikit-learn", "scipy", "skops", "torch", "transformers")


def load_model(name: str, revision: str | None = None, *, base: str | None = None, cache: Path | None = None) -> Model:
    """Load a probe, a baseline, an image network, an adapter or a vision-language model.

    The kind is read from ``connectomebench.json``; for third-party models from ``adapter_config.json`` and
    ``config.json``.

    Parameters
    ----------
    name
        Folder, or ``ORG/NAME`` on the Hub.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    base
        For an adapter: folder or ``ORG/NAME`` of its base model, instead of the one it names.
    cache
        For probes: folder for the encoder's vectors; None keeps them in memory.

    Returns
    -------
    Model
        See :class:`connectomebench.models.base.Model`.

    Raises
    ------
    ConnectomeBenchError
        If the model does not exist, is damaged or of an unknown kind, or the Hub cannot be reached.

    Examples
    --------
    >>> from connectomebench import load_model, load_rows
    >>> model = load_model("quickstart-out/models/trivial/merge_action/fly")
    >>> rows = load_rows("quickstart-out/merge_action", "fly", "test")
    >>> answers = model.predict(rows.dataset[:2])
    >>> [sorted(answer.probabilities) for answer in answers]
    [['no', 'yes'], ['no', 'yes']]
    """
    return open_model(name, revision, base=base, cache=cache)[0]


@extras_named()
def open_model(
    name: str, revision: str | None = None, *, base: str | None = None, cache: Path | None = None
) -> tuple[Model, ModelRecord | None]:
    """Load a model as :func:`load_model` does, with its record; None for third-party models."""
    source = open_files(name, revision)
    folder = source.folder
    record = read_record(folder) if (folder / FILE_NAME).is_file() else None
    kind = record.kind if record else _foreign_kind(folder, name)
    if base is not None and kind != "adapter":
        raise ConnectomeBenchError(f"{name} is no adapter, so it has no base model; leave out the base")
    if kind in ("adapter", "vlm"):
        from connectomebench.models.vlm_loading import load_vlm

        return load_vlm(name, source.commit, base), record
    if source.commit is not None and kind in ("probe", "grey", "node_probe"):
        _check_encoder(folder, name)
    model = choosing(_LOADERS[kind](folder, cache), record)
    if record is not None and model.revision != record.revision:
        raise ConnectomeBenchError(f"{folder / FILE_NAME} does not belong to the other files; train the model again")
    return model, record


def open_recalibrations(name: str, revision: str | None = None) -> tuple[Recalibration, ...]:
    """Return the calibrations stored beside a model, one for each task and species that they were fitted on.

    Parameters
    ----------
    name, revision
        As for :func:`load_model`.

    Raises
    ------
    ConnectomeBenchError
        If the model does not exist, or its ``calibration.json`` is damaged.
    """
    return read_recalibrations(open_files(name, revision).folder)


def _foreign_kind(folder: Path, name: str) -> ModelKind:
    if (folder / ADAPTER_CONFIG).is_file():
        return "adapter"
    config = folder / "config.json"
    if config.is_file() and {"text_config", "vision_config"} <= read_json(config).keys():
        return "vlm"
    raise ConnectomeBenchError(f"{name} holds no supported model; see docs/hub.md")


def _check_encoder(folder: Path, name: str) -> None:
    """Raise if a probe from the Hub would read local files."""
    config = read_json(folder / "config.json").get("config")
    encoder = config.get("encoder") if isinstance(config, dict) else None
    if encoder not in (EFFICIENTNET, EFFICIENTNET_MIDDLE) and not (
        isinstance(encoder, str) and REPO_ID.fullmatch(encoder)
    ):
        raise ConnectomeBenchError(f"{name} uses the encoder {str(encoder)[:80]!r}, which is not a Hub model")


def _load_probe(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.probe import load_probe

    return load_probe(folder, cache)


def _load_grey(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.grey_baseline import load_grey

    return load_grey(folder, cache)


def _load_trivial(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.trivial_baseline import load_trivial

    return load_trivial(folder, cache)


def _load_image_classifier(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.image_classifier import load_image_classifier

    return load_image_classifier(folder)


def _load_multitask(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.multitask import load_multitask

    return load_multitask(folder)


def _load_mask_unet(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.mask_unet import load_mask_model

    return load_mask_model(folder)


def _load_node_probe(folder: Path, cache: Path | None) -> Model:
    from connectomebench.models.node_probe import load_node_probe

    return load_node_probe(folder)


_LOADERS: dict[ModelKind, Callable[[Path, Path | None], Model]] = {
    "probe": _load_probe,
    "grey": _load_grey,
    "trivial": _load_trivial,
    "image_classifier": _load_image_classifier,
    "multitask_vit": _load_multitask,
    "mask_unet": _load_mask_unet,
    "node_probe": _load_node_probe,
}


def save_head_model(
    model: Probe | TrivialModel | GreyModel | ChoiceModel | NodeProbe, folder: Path, data: DataRecord
) -> None:
    """Write a probe or a baseline with its record, for :func:`load_model` and the Hub.

    Parameters
    ----------
    model
        The trained model.
    folder
        Output folder; created if needed.
    data
        Provenance of the training rows.
    """
    judge: Any = model.inner if isinstance(model, ChoiceModel) else model
    judge.save(folder)
    probe: Any = getattr(judge, "probe", judge)
    chooses = {WEIGHT: model.none_weight} if isinstance(model, ChoiceModel) else {}
    encoder: dict[str, Any] = getattr(probe, "encoder_identity", {})
    kinds: dict[str, ModelKind] = {
        "Probe": "probe",
        "TrivialModel": "trivial",
        "GreyModel": "grey",
        "NodeProbe": "node_probe",
    }
    record = ModelRecord(
        kind=kinds[type(judge).__name__],
        name=model.name,
        revision=model.revision,
        task=data.task,
        base_model=encoder.get("name"),
        base_revision=encoder.get("revision"),
        config=asdict(probe.config) | chooses,
        trained_on=(data,),
        versions=library_versions(_LIBRARIES),
    )
    write_record(folder, record)
