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

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "head.skops"

# The only types beyond those skops trusts by default. Trees are checked after loading, see `_check_trees`.
TRUSTED = frozenset({"sklearn.neural_network._stochastic_optimizers.AdamOptimizer", "sklearn.tree._tree.Tree"})


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
    except ValueError:
        raise ConnectomeBenchError(f"{folder / CONFIG} is not JSON; train the {kind} again") from None
    if config.get("kind") != kind or config.get("format") != FORMAT:
        found = f"{config.get('kind')} of format {config.get('format')}"
        raise ConnectomeBenchError(f"{folder} holds a {found}, not a {kind} of format {FORMAT}; give another folder")
    if hashlib.sha256(weights).hexdigest() != config["head_sha256"]:
        raise ConnectomeBenchError(f"{folder / WEIGHTS} does not belong to its {CONFIG}; train the {kind} again")
    foreign = sorted(set(skops.io.get_untrusted_types(data=weights)) - TRUSTED)
    if foreign:
        raise ConnectomeBenchError(f"{folder / WEIGHTS} holds types that are not allowed: {', '.join(foreign)}")
    pipeline = skops.io.loads(weights, trusted=sorted(TRUSTED))
    _check_trees(pipeline, folder / WEIGHTS)
    head = Head(
        tuple(config["classes"]),
        pipeline,
        config["scale"],
        tuple(config["bias"]),
        tuple(config["prior"]),
        config["cross_validation"],
    )
    return head, config


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
