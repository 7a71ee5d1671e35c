"""Connectome proofreading as Hugging Face datasets, models and metrics.

The names below are the public API. Each is imported when it is first used, so that ``import connectomebench`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from connectomebench.core.version import __version__

if TYPE_CHECKING:
    from connectomebench.build.config import load_config
    from connectomebench.build.pipeline import build_datasets
    from connectomebench.core.correction import CorrectionConfig
    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.core.geometry import Mesh
    from connectomebench.core.species import get_species
    from connectomebench.core.tasks import get_task
    from connectomebench.corrections.find import find_corrections
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.calibration import (
        brier_score_multiclass,
        expected_calibration_error,
        maximum_calibration_error,
    )
    from connectomebench.evaluation.comparison import compare
    from connectomebench.evaluation.dataset_check import check_dataset
    from connectomebench.evaluation.evaluator import EvalData, evaluate
    from connectomebench.evaluation.model_spec import ModelSpec
    from connectomebench.evaluation.result_records import read_results
    from connectomebench.evaluation.statistics import balanced_accuracy
    from connectomebench.evaluation.summary import summarise
    from connectomebench.hub.publish import publish
    from connectomebench.models.registry import load_model
    from connectomebench.rendering.engines import choose_engine
    from connectomebench.sources.volumes.arrays import VolumeSpec, open_volume

__all__ = [
    "ConnectomeBenchError",
    "CorrectionConfig",
    "EvalData",
    "Mesh",
    "ModelSpec",
    "VolumeSpec",
    "__version__",
    "balanced_accuracy",
    "brier_score_multiclass",
    "build_datasets",
    "check_dataset",
    "choose_engine",
    "compare",
    "evaluate",
    "expected_calibration_error",
    "find_corrections",
    "get_species",
    "get_task",
    "load_config",
    "load_model",
    "load_rows",
    "maximum_calibration_error",
    "open_volume",
    "publish",
    "read_results",
    "summarise",
]

_MODULES = {
    "ConnectomeBenchError": "core.errors",
    "CorrectionConfig": "core.correction",
    "EvalData": "evaluation.evaluator",
    "Mesh": "core.geometry",
    "ModelSpec": "evaluation.model_spec",
    "VolumeSpec": "sources.volumes.arrays",
    "balanced_accuracy": "evaluation.statistics",
    "brier_score_multiclass": "evaluation.calibration",
    "build_datasets": "build.pipeline",
    "check_dataset": "evaluation.dataset_check",
    "choose_engine": "rendering.engines",
    "compare": "evaluation.comparison",
    "evaluate": "evaluation.evaluator",
    "expected_calibration_error": "evaluation.calibration",
    "find_corrections": "corrections.find",
    "get_species": "core.species",
    "get_task": "core.tasks",
    "load_config": "build.config",
    "load_model": "models.registry",
    "load_rows": "dataset.loading",
    "maximum_calibration_error": "evaluation.calibration",
    "open_volume": "sources.volumes.arrays",
    "publish": "hub.publish",
    "read_results": "evaluation.result_records",
    "summarise": "evaluation.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
