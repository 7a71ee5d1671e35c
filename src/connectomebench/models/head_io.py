"""Save and load heads: a folder with ``config.json`` and ``head.skops``, without pickles or code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, write_json
from connectomebench.models.heads import Head
from connectomebench.models.skops_check import TRUSTED, check_skops

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "head.skops"


def save_head(folder: Path, head: Head, kind: str, details: dict[str, Any]) -> None:
    """Write a head and its description; each file atomically, the config last.

    Parameters
    ----------
    folder
        Output folder; created if needed, existing files are replaced.
    head
        The head.
    kind
        Kind of model, checked when loading.
    details
        JSON-serialisable; returned by :func:`load_head`.
    """
    import skops.io

    weights = skops.io.dumps(head.pipeline)
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(weights)
    config = {
        "format": FORMAT,
        "kind": kind,
        **details,
        "classes": list(head.classes),
        "prior": list(head.prior),
        "scale": head.scale,
        "bias": list(head.bias),
        "cross_validation": head.cross_validation,
        "head_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / CONFIG, config)


def load_head(folder: Path, kind: str) -> tuple[Head, dict[str, Any]]:
    """Load a head.

    Parameters
    ----------
    folder
        Written by :func:`save_head`.
    kind
        The expected kind.

    Returns
    -------
    Head, dict
        The head, and the config including the ``details`` given to :func:`save_head`.

    Raises
    ------
    ConnectomeBenchError
        If files are missing, damaged, of another kind or format, or hold a type that is not allowed.
    """
    import skops.io

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise ConnectomeBenchError(f"{folder} is not a saved {kind}: {Path(error.filename).name} is missing") from None
    except (ValueError, RecursionError):
        raise ConnectomeBenchError(f"{folder / CONFIG} is not JSON; train the {kind} again") from None
    if not isinstance(config, dict):
        raise ConnectomeBenchError(f"{folder / CONFIG} holds no settings; train the {kind} again")
    if config.get("kind") != kind or config.get("format") != FORMAT:
        found = f"{str(config.get('kind'))[:40]} of format {str(config.get('format'))[:40]}"
        raise ConnectomeBenchError(f"{folder} holds a {found}, not a {kind} of format {FORMAT}; give another folder")
    if hashlib.sha256(weights).hexdigest() != config.get("head_sha256"):
        raise ConnectomeBenchError(f"{folder / WEIGHTS} does not belong to its {CONFIG}; train the {kind} again")
    try:
        check_skops(weights)
        pipeline = skops.io.loads(weights, trusted=list(TRUSTED))
    except Exception as error:  # skops and scikit-learn raise many kinds for a damaged file
        reason = str(error) if type(error) is ValueError and error.__cause__ is None else "is damaged"
        raise ConnectomeBenchError(f"{folder / WEIGHTS} {reason.splitlines()[0]}; train the {kind} again") from error
    _check_steps(pipeline, folder / WEIGHTS)
    _check_trees(pipeline, folder / WEIGHTS)
    head = _head(config, pipeline, folder / CONFIG)
    _check_answer(head, folder / WEIGHTS)
    return head, config


def _head(config: dict[str, Any], pipeline: Any, path: Path) -> Head:
    try:
        classes = tuple(str(name) for name in config["classes"])
        bias, prior = (tuple(float(number) for number in config[name]) for name in ("bias", "prior"))
        scale = float(config["scale"])
        if not len(classes) == len(bias) == len(prior) or not np.isfinite([scale, *bias]).all():
            raise ValueError("of different lengths")
        if min(prior) <= 0 or not np.isclose(sum(prior), 1):
            raise ValueError("no shares")
        return Head(classes, pipeline, scale, bias, prior, dict(config["cross_validation"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConnectomeBenchError(f"{path} lacks a sound calibration; train the model again") from error


def _check_steps(pipeline: Any, path: Path) -> None:
    """Raise unless the steps are those of our heads: scaled features or not, then one of three classifiers."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.tree._tree import Tree

    steps = getattr(pipeline, "steps", None) if type(pipeline) is Pipeline else None
    found = [(step[0], type(step[1])) for step in steps] if isinstance(steps, list) else []
    scaled = [("scale", StandardScaler)]
    heads = {(*scaled, ("head", LogisticRegression)), (*scaled, ("head", MLPClassifier))}
    if tuple(found) not in {*heads, (("head", RandomForestClassifier),)}:
        raise ConnectomeBenchError(f"{path} is no head of this package: {_names(found)}; train the model again")
    trees = getattr(pipeline[-1], "estimators_", [])
    if any(type(one) is not DecisionTreeClassifier or type(getattr(one, "tree_", None)) is not Tree for one in trees):
        raise ConnectomeBenchError(f"{path} holds a forest of something else than trees; train the model again")


def _names(steps: list[tuple[Any, type]]) -> str:
    return ", ".join(kind.__name__ for _, kind in steps) or "no pipeline"


def _check_answer(head: Head, path: Path) -> None:
    """Raise unless the head answers a row of zeros."""
    try:
        row = np.zeros((1, int(head.pipeline[0].n_features_in_)))
        with np.errstate(all="ignore"):
            sound = head.pipeline.predict_proba(row).shape == (1, len(head.classes)) and bool(head.answers(row))
    except Exception as error:  # whatever scikit-learn raises
        raise ConnectomeBenchError(f"{path} gives no answer ({type(error).__name__}); train the model again") from error
    if not sound:
        raise ConnectomeBenchError(f"{path} does not have one score for each answer; train the model again")


def _check_trees(pipeline: Any, path: Path) -> None:
    """Raise on decision trees with out-of-range pointers, which scikit-learn follows unchecked."""
    head = pipeline[-1]
    for estimator in getattr(head, "estimators_", ()):
        tree = estimator.tree_
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        nodes = np.arange(tree.node_count)
        leaf = left == -1
        inner = ~leaf
        sound = (
            tree.n_features == head.n_features_in_
            and np.array_equal(leaf, right == -1)
            # children come after their parent, so traversal terminates
            and np.all((left > nodes) & (left < len(nodes)) | leaf)
            and np.all((right > nodes) & (right < len(nodes)) | leaf)
            and np.all((feature[inner] >= 0) & (feature[inner] < head.n_features_in_))
        )
        if not sound:
            raise ConnectomeBenchError(f"{path} holds a damaged decision tree; train the model again")
