"""Linear probe: a frozen encoder, one pooled vector per image, and a scikit-learn head on all views.

Of the two images of a pair (`segment_identity`) the head also sees how far their vectors differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.base import Answer, Batch, check_views, column
from connectomebench.models.encoders import SIGLIP2, Encoder, Pooling, load_encoder
from connectomebench.models.features import FeatureStore, encoder_store, stored_rows
from connectomebench.models.head_io import load_head, save_head
from connectomebench.models.heads import Head, HeadCandidate, fit_head
from connectomebench.models.images import StoredImage, grid_image, image_key
from connectomebench.models.pair_features import over_directions, with_difference

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

HeadKind = Literal["logistic", "mlp"]
ProbeLayout = Literal["views", "grid", "averaged"]


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of a probe.

    Attributes
    ----------
    encoder
        A transformers vision model (Hub id or folder), or ``efficientnet_lite0``, which needs no network; the tower or
        the merger of a Qwen3-VL as ``MODEL:tower`` or ``MODEL:merger``.
    encoder_revision
        Branch, tag or commit of the Hub id; None takes the newest.
    pooling
        How the tokens of an image become one vector: mean, max, cls, or parts, a mean for each part that the image
        shows and for what lies between them (:mod:`connectomebench.models.part_pooling`).
    head
        ``logistic`` regression, or ``mlp``: one hidden layer of 128 units.
    folds
        Folds of the grouped cross-validation.
    c_grid
        Candidate inverse L2 penalties, strongest penalty first.
    seed
        Seed of folds and perceptron.
    layout
        ``views``: each view is encoded, and their vectors are joined. ``grid``: all views of a row are encoded as one
        picture (:mod:`connectomebench.models.view_grid`). ``averaged``: each view is encoded, and the vectors of the
        three directions are averaged, of views and of slices.
    scale_floor
        Features that vary less than this share of the median feature are not stretched to a deviation of 1; see
        :class:`connectomebench.models.heads.HeadCandidate`.
    """

    encoder: str = SIGLIP2
    encoder_revision: str | None = None
    pooling: Pooling = "mean"
    head: HeadKind = "logistic"
    folds: int = 5
    c_grid: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    seed: int = 0
    layout: ProbeLayout = "views"
    scale_floor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "c_grid", tuple(float(c) for c in self.c_grid))
        if not self.c_grid or min(self.c_grid) <= 0:
            raise ConnectomeBenchError("c_grid needs at least one number, all above 0")
        if self.folds < 2:
            raise ConnectomeBenchError(f"folds is {self.folds}; cross-validation needs at least 2")
        if self.head not in get_args(HeadKind):
            raise ConnectomeBenchError(f"unknown head {self.head!r}; choose logistic or mlp")
        if self.layout not in get_args(ProbeLayout):
            raise ConnectomeBenchError(f"unknown layout {self.layout!r}; choose {', '.join(get_args(ProbeLayout))}")
        if not 0 <= self.scale_floor < math.inf:
            raise ConnectomeBenchError(f"scale_floor is {self.scale_floor}; give 0 or more, and a finite number")

    def stored(self) -> dict[str, Any]:
        """Return the settings as they are stored and identify a probe: without those that older probes did not have."""
        settings = asdict(self)
        if self.layout == "views":
            del settings["layout"]
        if not self.scale_floor:
            del settings["scale_floor"]
        return settings

    @classmethod
    def of_stored(cls, stored: Mapping[str, Any]) -> ProbeConfig:
        """Read what :meth:`stored` wrote, now or before there was a floor."""
        return cls(**{"scale_floor": 0.0, **stored})


def head_candidates(config: ProbeConfig) -> list[HeadCandidate]:
    """Return the candidate heads: standardised features, then logistic regression or a perceptron."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    def head(c: float) -> Any:
        if config.head == "logistic":
            return LogisticRegression(C=c, max_iter=2000)
        return MLPClassifier((128,), alpha=1 / c, max_iter=100, random_state=config.seed)

    return [
        HeadCandidate(
            {"head": config.head, "C": c},
            Pipeline([("scale", StandardScaler()), ("head", head(c))]),
            config.scale_floor,
        )
        for c in config.c_grid
    ]


def training_columns(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the answers and groups of a training set.

    Raises
    ------
    ConnectomeBenchError
        If a column is missing or there are no rows.
    """
    missing = {"images", "answer", "group"} - set(dataset.column_names)
    if missing:
        raise ConnectomeBenchError(f"the training set lacks the columns {', '.join(sorted(missing))}; build it again")
    if not len(dataset):
        raise ConnectomeBenchError("the training set has no rows; build more samples")
    return list(dataset["answer"]), list(dataset["group"])


def training_fingerprint(dataset: Dataset) -> str:
    """Hash the training data: images in order, answers, groups; 32 hex digits."""
    keys = [[image_key(image) for image in images] for images in stored_rows(dataset)()]
    return content_key(keys, *training_columns(dataset))


class Probe:
    """A trained probe; see :func:`train_probe` and :func:`load_probe`.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`.
    config, head
        Settings and fitted head; ``head.cross_validation`` holds the scores.
    views
        Number of images per row.
    encoder
        The frozen encoder.
    """

    name = "probe"

    def __init__(
        self, config: ProbeConfig, encoder: Encoder, head: Head, views: int, trained_on: str, cache: Path | None
    ) -> None:
        self.config = config
        self.head = head
        self.views = views
        self.trained_on = trained_on
        self.encoder = encoder
        self.encoder_identity = {"name": encoder.name, "revision": encoder.revision}
        self.revision = content_key(config.stored(), self.encoder_identity, trained_on)[:16]
        self._store: FeatureStore = encoder_store(encoder, config.pooling, cache)

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch from its ``images``; see :class:`connectomebench.models.base.Model`.

        Raises
        ------
        ConnectomeBenchError
            If the rows do not have as many images as in training.
        """
        return self.predict_images(column(batch, "images"))

    def predict_images(self, images: Sequence[Sequence[StoredImage]]) -> list[Answer]:
        """Answer rows given by their images only."""
        check_views(images, self.views)
        if not len(images):
            return []
        grid = self.config.layout == "grid"
        vectors = self._store.rows((lambda: ([grid_image(row)] for row in images)) if grid else (lambda: images))
        return self.head.answers(_seen_by_head(vectors, self.views, self.config.layout))

    def save(self, folder: Path, kind: str = "probe") -> None:
        """Write the probe (without the encoder's weights) to a folder for :func:`load_probe`.

        Parameters
        ----------
        folder
            Output folder; created if needed.
        kind
            Kind of model, checked by the loader.
        """
        details = {
            "config": self.config.stored(),
            "encoder": self.encoder_identity,
            "views": self.views,
            "trained_on": self.trained_on,
            "revision": self.revision,
        }
        save_head(folder, self.head, kind, details)


def _seen_by_head(vectors: NDArray[np.float32], views: int, layout: ProbeLayout) -> NDArray[np.floating]:
    """Make a head's features, shape (rows, features), of the vectors of each row's images."""
    if layout == "grid":
        return vectors
    return over_directions(vectors, views) if layout == "averaged" else with_difference(vectors, views)


def train_probe(
    train: Dataset,
    config: ProbeConfig | None = None,
    cache: Path | None = None,
    *,
    encoder: Encoder | None = None,
    change: Callable[[StoredImage], StoredImage] | None = None,
    progress: bool = True,
) -> Probe:
    """Train a probe.

    Parameters
    ----------
    train
        Stored rows; ``images``, ``answer`` and ``group`` are read.
    config
        Settings; None takes the defaults.
    cache
        Folder for the encoder's vectors; None keeps them in memory.
    encoder
        A loaded encoder; None loads the one in ``config``.
    change
        Applied to every image before it is encoded (the grey baseline uses it).
    progress
        Show progress bars for steps of over a second.

    Raises
    ------
    ConnectomeBenchError
        If columns, rows, answers or groups are too few, or the encoder cannot be loaded.
    """
    config = config or ProbeConfig()
    answers, groups = training_columns(train)
    encoder = encoder or load_encoder(config.encoder, config.encoder_revision)
    views = len(train[0]["images"])
    store = encoder_store(encoder, config.pooling, cache)
    grid = config.layout == "grid"
    rows = stored_rows(train, change, "grid" if grid else "views")
    vectors = store.rows(rows, (1 if grid else views) * len(train), "encode images" if progress else None)
    features = _seen_by_head(vectors, views, config.layout)
    words = "fit probe" if progress else None
    head = fit_head(features, answers, groups, head_candidates(config), config.folds, config.seed, words)
    return Probe(config, encoder, head, views, training_fingerprint(train), cache)


def load_probe(
    folder: Path, cache: Path | None = None, *, encoder: Encoder | None = None, kind: str = "probe"
) -> Probe:
    """Load a saved probe.

    Parameters
    ----------
    folder
        Written by :meth:`Probe.save`.
    cache
        Folder for the encoder's vectors; None keeps them in memory.
    encoder
        A loaded encoder; None loads it by name.
    kind
        The kind given to :meth:`Probe.save`.

    Raises
    ------
    ConnectomeBenchError
        If the folder is damaged, holds another kind of model, or the encoder differs from training.
    """
    head, saved = load_head(folder, kind)
    config = ProbeConfig.of_stored(saved["config"])
    encoder = encoder or load_encoder(config.encoder, config.encoder_revision)
    probe = Probe(config, encoder, head, saved["views"], saved["trained_on"], cache)
    if probe.encoder_identity != saved["encoder"]:
        raise ConnectomeBenchError(
            f"the probe in {folder} was trained on encoder {saved['encoder']['name']} revision "
            f"{saved['encoder']['revision']}, not on {encoder.name} {encoder.revision}; train it again"
        )
    return probe
