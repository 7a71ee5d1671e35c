"""Choose among candidates with a model that judges one candidate: each is scored by itself, and none by a threshold.

Such a row shows each candidate with the base segment in three views, as ``merge_action`` shows a pair. So a row of k
candidates is k rows of that task, and any model with probabilities of yes and no can learn from them and answer them.
At most one candidate is right: given the odds of each, the probability of a candidate is its odds over the sum of all
odds and the weight of none, which is fitted on validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.tasks import MESH_VIEWS, NONE, candidate_view, get_task
from connectomebench.models.base import Answer, Batch, Model, column

if TYPE_CHECKING:
    from datasets import Dataset

    from connectomebench.models.model_record import ModelRecord

ASKED_OF_EACH = "merge_action"
"""The task of a row that shows one candidate."""
WEIGHT = "none_weight"
"""Key of the weight of none in the settings of a model record."""
_FLOOR = 1e-6
_BATCH = 64

T = TypeVar("T")
Learnt = TypeVar("Learnt", bound=Model)


def is_choice(dataset: Dataset) -> bool:
    """Tell whether rows are choices among candidates; an empty dataset holds none."""
    if "task" not in dataset.column_names or not len(dataset):
        return False
    return get_task(str(dataset.select_columns(["task"])[0]["task"])).has_candidates


def by_candidate(images: Sequence[Sequence[T]]) -> tuple[list[Sequence[T]], list[int]]:
    """Divide the images of rows into those of each candidate.

    Returns
    -------
    list, list of int
        The three images of every candidate of every row, and the number of candidates of each row.

    Raises
    ------
    ConnectomeBenchError
        If a row does not have three images a candidate.
    """
    n = len(MESH_VIEWS)
    wrong = next((len(row) for row in images if len(row) % n or not row), None)
    if wrong is not None:
        raise ConnectomeBenchError(
            f"a choice among candidates has {n} images for each of them, and this row has {wrong}"
        )
    flat = [row[k : k + n] for row in images for k in range(0, len(row), n)]
    return flat, [len(row) // n for row in images]


def letters_of(views: Sequence[str]) -> tuple[str, ...]:
    """Return the letters of the candidates that a row shows, in order."""
    return tuple(dict.fromkeys(candidate_view(view)[0] for view in views))


def candidate_rows(dataset: Dataset) -> Dataset:
    """Turn every candidate of every row into a row of its own: is this one right, yes or no.

    Parameters
    ----------
    dataset
        Stored rows of a choice among candidates; ``sample_id``, ``images``, ``views``, ``answer`` and ``group`` are
        read.

    Returns
    -------
    datasets.Dataset
        With these columns and ``task`` and ``question`` of :data:`ASKED_OF_EACH`; pictures stay as they are stored.

    Raises
    ------
    ConnectomeBenchError
        If a column is missing or rows have other numbers of images.
    """
    import pyarrow as pa
    from datasets import Dataset, Features, Image, List, Value

    names = ["sample_id", "images", "views", "answer", "group"]
    missing = sorted(set(names) - set(dataset.column_names))
    if missing:
        raise ConnectomeBenchError(
            f"rows lack the columns {', '.join(missing)}; load the dataset without dropping them"
        )
    stored: Any = dataset.select_columns(names).with_format("arrow")[:]
    table = stored.combine_chunks()
    small = table.drop_columns(["images"]).to_pylist()
    _, counts = by_candidate([row["views"] for row in small])
    pictures = table["images"].chunk(0) if table.num_rows else pa.array([], pa.list_(pa.null()))
    files = pictures.flatten()
    if len(files) != len(MESH_VIEWS) * sum(counts):
        raise ConnectomeBenchError("rows have other numbers of images and views; fetch or build the dataset again")
    offsets = pa.array(range(0, len(files) + 1, len(MESH_VIEWS)), pa.int32())
    letters = [(row, letter) for row in small for letter in letters_of(row["views"])]
    asked = get_task(ASKED_OF_EACH)
    text = Value("string")
    made = {
        "sample_id": pa.array([f"{row['sample_id']}/{letter}" for row, letter in letters]),
        "task": pa.array([ASKED_OF_EACH] * len(letters)),
        "images": pa.ListArray.from_arrays(offsets, files),
        "views": pa.array([list(MESH_VIEWS)] * len(letters)),
        "question": pa.array([asked.question] * len(letters)),
        "answer": pa.array(["yes" if row["answer"] == letter else "no" for row, letter in letters]),
        "group": pa.array([row["group"] for row, _ in letters]),
    }
    kinds: dict[str, Any] = {name: text for name in made}
    features = Features(kinds | {"images": List(Image()), "views": List(text)})
    return Dataset(
        pa.table(made).cast(features.arrow_schema), fingerprint=content_key(dataset._fingerprint, "candidates")
    )


def _letters(count: int) -> tuple[str, ...]:
    return get_task("merge_action_multiple_choice").labels[:count]


class ChoiceModel:
    """A model that chooses among candidates by judging each.

    Parameters
    ----------
    inner
        Gives the probability of yes for rows of one candidate.
    none_weight
        Odds that none is right, above 0; see :func:`fit_none_weight`.
    """

    def __init__(self, inner: Model, none_weight: float) -> None:
        self.inner = inner
        self.none_weight = none_weight

    @property
    def name(self) -> str:
        """Name of the inner model."""
        return self.inner.name

    @property
    def revision(self) -> str:
        """Changes with the inner model and the weight of none."""
        return content_key(self.inner.revision, "choice", repr(self.none_weight))[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row of a batch; see :class:`connectomebench.models.base.Model`.

        Raises
        ------
        ConnectomeBenchError
            If a row does not have three images a candidate, or the inner model gives no probability.
        """
        images = column(batch, "images")
        if not len(images):
            return []
        flat, counts = by_candidate(images)
        odds = _odds(self.inner, flat)
        answers, start = [], 0
        for count in counts:
            answers.append(choose(odds[start : start + count], self.none_weight))
            start += count
        return answers


def _odds(model: Model, images: Sequence[Sequence[Any]]) -> list[float]:
    """Return the odds of each candidate, from its three images."""
    asked = get_task(ASKED_OF_EACH)
    n = len(images)
    rows = {
        "images": list(images),
        "views": [list(MESH_VIEWS)] * n,
        "task": [ASKED_OF_EACH] * n,
        "question": [asked.question] * n,
    }
    found = []
    for answer in model.predict(rows):
        if "yes" not in answer.probabilities:
            raise ConnectomeBenchError(
                f"{model.name} gives no probability of yes, so it cannot choose among candidates"
            )
        yes = min(max(answer.probabilities["yes"], _FLOOR), 1 - _FLOOR)
        found.append(yes / (1 - yes))
    return found


def choose(odds: Sequence[float], none_weight: float) -> Answer:
    """Answer one row from the odds of its candidates.

    Examples
    --------
    >>> from connectomebench.models.choices import choose
    >>> choose([0.5, 3.0], 1.0).prediction, choose([0.5, 0.25], 1.0).prediction
    ('b', 'none')
    """
    weights = [*odds, none_weight]
    names = (*_letters(len(odds)), NONE)
    total = sum(weights)
    probabilities = {name: weight / total for name, weight in zip(names, weights, strict=True)}
    return Answer(max(names, key=probabilities.__getitem__), probabilities)


def fit_none_weight(inner: Model, validation: Dataset) -> float:
    """Fit the weight of none on validation rows, by the likelihood of their answers.

    Without a row, or where an answer does not occur, a weak prior keeps it near 1, which is right for a model whose
    probabilities are.

    Parameters
    ----------
    inner
        Judges one candidate.
    validation
        Stored rows of a choice among candidates.
    """
    from scipy.optimize import minimize_scalar

    odds: list[list[float]] = []
    answers: list[str] = []
    for start in range(0, len(validation), _BATCH):
        rows = validation[start : start + _BATCH]
        flat, counts = by_candidate(rows["images"])
        found = iter(_odds(inner, flat))
        odds += [[next(found) for _ in range(count)] for count in counts]
        answers += rows["answer"]

    def loss(log_weight: float) -> float:
        said = (choose(own, float(np.exp(log_weight))) for own in odds)
        return 0.05 * log_weight**2 - sum(np.log(one.probabilities[a]) for one, a in zip(said, answers, strict=True))

    best: Any = minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def train_any(train: Dataset, validation: Dataset, learn: Callable[[Dataset], Learnt]) -> Learnt | ChoiceModel:
    """Train a model; for a choice among candidates one that judges each, with a weight of none fitted on validation.

    Parameters
    ----------
    train, validation
        Stored rows of one task.
    learn
        Trains a model on rows of yes and no, or of whatever task the rows are.
    """
    if not is_choice(train):
        return learn(train)
    inner = learn(candidate_rows(train))
    return ChoiceModel(inner, fit_none_weight(inner, validation))


def choosing(model: Model, record: ModelRecord | None) -> Model:
    """Return a loaded model as it was saved: one that chooses among candidates if its record has a weight of none.

    Raises
    ------
    ConnectomeBenchError
        If the weight is no number above 0.
    """
    weight = None if record is None else record.config.get(WEIGHT)
    if weight is None:
        return model
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ConnectomeBenchError(f"the record of {model.name} has no sound {WEIGHT}; train the model again")
    return ChoiceModel(model, float(weight))
