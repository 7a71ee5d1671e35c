"""Node probe: which of the drawn nodes is the place asked for, from a frozen encoder's features where they are drawn.

Each view is encoded once. A node's features are the encoder's patches at its position, interpolated and averaged over
the views, minus their mean over the nodes of its row, so that only what tells it from the others counts. A logistic
regression scores every node; the best one is the answer, of a cut the best two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.place_score import score_row
from connectomebench.core.tasks import MESH_VIEWS, get_task
from connectomebench.models.base import Answer, Batch, column
from connectomebench.models.encoders import BATCH, Encoder, load_encoder
from connectomebench.models.head_io import load_head, save_head
from connectomebench.models.heads import Head, fit_head
from connectomebench.models.images import decode
from connectomebench.models.place_baselines import best_nodes, node_array, places_asked
from connectomebench.models.probe import ProbeConfig, head_candidates, training_fingerprint
from connectomebench.rendering.camera import view_frame

if TYPE_CHECKING:
    from datasets import Dataset

KIND = "node_probe"
_COLUMNS = ("images", "views", "task", "question", "extent_nm")
_READ = (*_COLUMNS, "answer", "target_nm", "location_nm", "group")


@dataclass(frozen=True)
class NodeProbeConfig:
    """Settings of a node probe.

    Attributes
    ----------
    encoder, encoder_revision, folds, c_grid, seed, scale_floor
        See :class:`connectomebench.models.probe.ProbeConfig`; the head is logistic.
    """

    encoder: str = ProbeConfig.encoder
    encoder_revision: str | None = None
    folds: int = 5
    c_grid: tuple[float, ...] = field(default=(1e-5, 1e-4, 1e-3, 1e-2))
    seed: int = 0
    scale_floor: float = ProbeConfig.scale_floor

    def as_probe(self) -> ProbeConfig:
        """Return the same settings for the head of a probe."""
        return ProbeConfig(**vars(self))

    def stored(self) -> dict[str, Any]:
        """Return the settings as they are stored and identify a probe: without a floor that is 0, as of older ones."""
        return {name: value for name, value in asdict(self).items() if value or name != "scale_floor"}


def node_positions(nodes_nm: NDArray[np.floating], extent_nm: float, view: str) -> NDArray[np.float64]:
    """Return where nodes are drawn in a view.

    Parameters
    ----------
    nodes_nm
        Shape (n, 3), nm relative to the centre of the views.
    extent_nm
        Edge of the view, nm.
    view
        Name of a mesh view.

    Returns
    -------
    float64, shape (n, 2)
        Column and row as shares of the edge of the picture.
    """
    return np.asarray(nodes_nm, np.float64) @ view_frame(view)[:2].T / extent_nm + 0.5


def tokens_at(tokens: NDArray[np.float32], positions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Interpolate an image's patches at positions, bilinearly.

    Parameters
    ----------
    tokens
        Shape (patches, dim), row by row of a square grid.
    positions
        Shape (n, 2): column and row as shares of the edge.

    Returns
    -------
    float32, shape (n, dim)

    Raises
    ------
    ConnectomeBenchError
        If the patches are no square grid.
    """
    edge = round(len(tokens) ** 0.5)
    if edge * edge != len(tokens):
        raise ConnectomeBenchError(f"the encoder gives {len(tokens)} patches, no square grid; choose another one")
    # centres of patches lie half a patch inside
    at = np.clip(np.asarray(positions, np.float64) * edge - 0.5, 0, edge - 1)
    low = np.minimum(np.floor(at).astype(np.int64), max(edge - 2, 0))
    high = np.minimum(low + 1, edge - 1)
    share = (at - low).astype(np.float32)
    grid = tokens.reshape(edge, edge, -1)
    (x0, y0), (x1, y1), (u, v) = low.T, high.T, share.T[..., None]
    upper = grid[y0, x0] * (1 - u) + grid[y0, x1] * u
    lower = grid[y1, x0] * (1 - u) + grid[y1, x1] * u
    return upper * (1 - v) + lower * v


class NodeProbe:
    """A trained node probe; see :func:`train_node_probe` and :func:`load_node_probe`.

    Attributes
    ----------
    name, revision
        As in result records.
    config, head, trained_on
        Settings, the fitted head, and the fingerprint of the training rows.
    encoder_identity
        Name and revision of the encoder.
    """

    name = "probe"

    def __init__(self, config: NodeProbeConfig, encoder: Encoder, head: Head, trained_on: str) -> None:
        self.config = config
        self.head = head
        self.trained_on = trained_on
        self.encoder_identity = {"name": encoder.name, "revision": encoder.revision}
        self.revision = content_key(KIND, config.stored(), self.encoder_identity, trained_on)[:16]
        self._encoder = encoder

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row with numbers of nodes; see :class:`connectomebench.models.base.Model`.

        Raises
        ------
        ConnectomeBenchError
            If a task asks for no place, or a question lists no nodes.
        """
        tasks = map(get_task, column(batch, "task"))
        yes = self.head.classes.index("yes")
        # nodes of a row are compared with each other alone: no probabilities are needed, and few rows may leave none
        scores = [self.head.log_scores(features)[:, yes] for features in self._node_features(batch)]
        return [Answer(best_nodes(own, task), {}) for own, task in zip(scores, tasks, strict=True)]

    def node_scores(self, batch: Batch) -> list[NDArray[np.float64]]:
        """Score the nodes of every row: how likely each is that of the right answer, by itself.

        Returns
        -------
        list of float64
            Shape (nodes,) each, in the order of their numbers; they do not add up to 1.

        Raises
        ------
        ConnectomeBenchError
            If a question lists no nodes.
        """
        yes = self.head.classes.index("yes")
        return [self.head.probabilities(features)[:, yes] for features in self._node_features(batch)]

    def _node_features(self, batch: Batch) -> Iterator[NDArray[np.float32]]:
        columns = {name: column(batch, name) for name in _COLUMNS}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return _features(rows, self._encoder)

    def save(self, folder: Path) -> None:
        """Write the probe (without the encoder's weights) to a folder for :func:`load_node_probe`."""
        details = {
            "config": self.config.stored(),
            "encoder": self.encoder_identity,
            "trained_on": self.trained_on,
            "revision": self.revision,
        }
        save_head(folder, self.head, KIND, details)


def train_node_probe(
    train: Dataset, config: NodeProbeConfig | None = None, *, encoder: Encoder | None = None, progress: bool = True
) -> NodeProbe:
    """Train a node probe: every node is an example, right where naming it alone would score most in its row.

    Parameters
    ----------
    train
        Stored rows of a task that asks for places.
    config
        Settings; None takes the defaults.
    encoder
        A loaded encoder; None loads the one in ``config``.
    progress
        Show a progress bar for steps of over a second.

    Raises
    ------
    ConnectomeBenchError
        If columns, rows, nodes or groups are too few, or the encoder cannot be loaded.
    """
    config = config or NodeProbeConfig()
    missing = set(_READ) - set(train.column_names)
    if missing:
        raise ConnectomeBenchError(f"the training set lacks the columns {', '.join(sorted(missing))}; build it again")
    if not len(train):
        raise ConnectomeBenchError("the training set has no rows; build more samples")
    encoder = encoder or load_encoder(config.encoder, config.encoder_revision)
    rows = list(_stored(train))
    answers = [word for row in rows for word in _right_nodes(row)]
    features = np.concatenate(list(_features(rows, encoder, "encode images" if progress else None)))
    groups = [row["group"] for row in rows for _ in range(len(node_array(row["question"])))]
    words = "fit node probe" if progress else None
    head = fit_head(features, answers, groups, head_candidates(config.as_probe()), config.folds, config.seed, words)
    return NodeProbe(config, encoder, head, training_fingerprint(train))


def load_node_probe(folder: Path, *, encoder: Encoder | None = None) -> NodeProbe:
    """Load a saved node probe.

    Raises
    ------
    ConnectomeBenchError
        If the folder is damaged or of another kind, or the encoder differs from training.
    """
    head, saved = load_head(folder, KIND)
    stored = {"scale_floor": 0.0, **saved["config"]}
    config = NodeProbeConfig(**{**stored, "c_grid": tuple(stored["c_grid"])})
    encoder = encoder or load_encoder(config.encoder, config.encoder_revision)
    probe = NodeProbe(config, encoder, head, saved["trained_on"])
    if probe.encoder_identity != saved["encoder"]:
        raise ConnectomeBenchError(
            f"the probe in {folder} was trained on encoder {saved['encoder']['name']} revision "
            f"{saved['encoder']['revision']}, not on {encoder.name} {encoder.revision}; train it again"
        )
    return probe


def _stored(train: Dataset) -> Iterator[dict[str, Any]]:
    """Iterate over rows with their pictures as stored."""
    for batch in train.select_columns(list(_READ)).with_format("arrow").iter(batch_size=64):
        table: Any = batch
        yield from table.to_pylist()


def _right_nodes(row: Mapping[str, Any]) -> list[str]:
    """Say of each node whether naming it alone scores most: yes or no; of a cut, the nodes of the best pair."""
    task, nodes = get_task(row["task"]), node_array(row["question"])
    true = np.array(row["target_nm"], np.float64) - np.array(row["location_nm"], np.float64)
    apart = np.linalg.norm(nodes[:, None] - true[None], axis=2)
    wanted = sum(places_asked(task))
    right = {int(np.argmin(apart.min(axis=1)))} if wanted == 1 else {int(n) for n in apart.argmin(axis=0)}
    return ["yes" if number in right else "no" for number in range(len(nodes))]


def _features(
    rows: Sequence[Mapping[str, Any]], encoder: Encoder, progress: str | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the features of each row's nodes; float32, shape (nodes, dim)."""
    from tqdm.auto import tqdm

    with tqdm(total=len(rows), desc=progress, unit="row", disable=progress is None, delay=1) as bar:
        per_batch = max(1, BATCH // len(MESH_VIEWS))
        for start in range(0, len(rows), per_batch):
            some = rows[start : start + per_batch]
            shown = [
                [(v, i) for v, i in zip(row["views"], row["images"], strict=True) if v in MESH_VIEWS] for row in some
            ]
            tokens = iter(encoder.encode([decode(image) for own in shown for _, image in own]))
            for row, own in zip(some, shown, strict=True):
                nodes = node_array(row["question"])
                at = [
                    tokens_at(
                        next(tokens)[int(encoder.has_cls) :], node_positions(nodes, float(row["extent_nm"]), view)
                    )
                    for view, _ in own
                ]
                local = np.mean(at, axis=0, dtype=np.float32)
                yield local - local.mean(axis=0)
                bar.update(1)


def mean_score(probe: NodeProbe, rows: Dataset) -> float:
    """Return the mean score of a probe's answers to rows, each scored as the metrics do."""
    given = [
        answer.prediction for start in range(0, len(rows), 64) for answer in probe.predict(rows[start : start + 64])
    ]
    return float(np.mean([score_row(one, row) for one, row in zip(given, _stored(rows), strict=True)]))
