"""Trivial baseline: brightness and area of each colour (visible segment size), without shape.

The same features match controls to cases before a dataset is written: a model could learn whatever they separate
without looking at a neuron.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectomebench.core.files import content_key
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.features import FeatureStore, stored_rows
from connectomebench.models.head_io import load_head, save_head
from connectomebench.models.heads import Head, HeadCandidate, fit_head
from connectomebench.models.images import StoredImage
from connectomebench.models.probe import training_columns, training_fingerprint
from connectomebench.rendering.colour_features import NAMES, image_features
from connectomebench.rendering.colours import BLUE, ORANGE

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TrivialConfig:
    """Settings of the trivial model: folds of the grouped cross-validation, and the seed of folds and forest."""

    folds: int = 5
    seed: int = 0


def _candidates(seed: int) -> list[HeadCandidate]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = [
        HeadCandidate(
            {"head": "logistic", "C": c},
            Pipeline([("scale", StandardScaler()), ("head", LogisticRegression(C=c, max_iter=2000))]),
        )
        for c in (0.01, 0.1, 1.0)
    ]
    forest = [
        HeadCandidate(
            {"head": "forest", "min_samples_leaf": leaf},
            Pipeline([("head", RandomForestClassifier(200, min_samples_leaf=leaf, random_state=seed))]),
        )
        for leaf in (10, 3)
    ]
    return logistic + forest


def _store(cache: Path | None) -> FeatureStore:
    settings = {"name": "trivial", "names": list(NAMES), "colours": [list(BLUE), list(ORANGE)], "format": 1}
    return FeatureStore(
        cache, settings, lambda images: np.stack([image_features(i) for i in images]).astype(np.float32)
    )


class TrivialModel:
    """A trained trivial model; see :func:`train_trivial` and :func:`load_trivial`."""

    name = "trivial"

    def __init__(self, config: TrivialConfig, head: Head, views: int, trained_on: str, cache: Path | None) -> None:
        self.config = config
        self.head = head
        self.views = views
        self.trained_on = trained_on
        self.revision = content_key(asdict(config), list(NAMES), trained_on)[:16]
        self._store = _store(cache)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch; see :class:`connectomebench.models.base.Model`."""
        images: Sequence[Sequence[StoredImage]] = column(batch, "images")
        check_views(images, self.views)
        return self.head.answers(self._store.rows(lambda: images)) if len(images) else []

    def save(self, folder: Path) -> None:
        """Write the model to a folder for :func:`load_trivial`."""
        details: dict[str, Any] = {
            "config": asdict(self.config),
            "views": self.views,
            "trained_on": self.trained_on,
            "revision": self.revision,
        }
        save_head(folder, self.head, self.name, details)


def train_trivial(
    train: Dataset, config: TrivialConfig | None = None, cache: Path | None = None, *, progress: bool = True
) -> TrivialModel:
    """Train the trivial model: logistic regression or a random forest, chosen by grouped cross-validation.

    Parameters
    ----------
    train
        Stored rows; ``images``, ``answer`` and ``group`` are read.
    config
        Settings; None takes the defaults.
    cache
        Folder for the features; None keeps them in memory.
    progress
        Show progress bars for steps of over a second.

    Raises
    ------
    ConnectomeBenchError
        If columns, rows, answers or groups are too few.
    """
    config = config or TrivialConfig()
    answers, groups = training_columns(train)
    views = len(train[0]["images"])
    features = _store(cache).rows(stored_rows(train), views * len(train), "measure images" if progress else None)
    words = "fit trivial model" if progress else None
    head = fit_head(features, answers, groups, _candidates(config.seed), config.folds, config.seed, words)
    return TrivialModel(config, head, views, training_fingerprint(train), cache)


def load_trivial(folder: Path, cache: Path | None = None) -> TrivialModel:
    """Load a model saved by :meth:`TrivialModel.save`.

    Raises
    ------
    ConnectomeBenchError
        If the folder is damaged.
    """
    head, saved = load_head(folder, TrivialModel.name)
    return TrivialModel(TrivialConfig(**saved["config"]), head, saved["views"], saved["trained_on"], cache)
