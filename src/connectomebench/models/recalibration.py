"""Recalibrated probabilities: a map fitted on validation answers, stored beside the model, applied to new answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key, write_json
from connectomebench.models.base import Answer, Batch, Model

FILE_NAME = "calibration.json"
FORMAT, FORMAT_OF_TASKS = 1, 2
Method = Literal["temperature", "platt", "isotonic"]

# a stated 0 or 1 has no finite log odds; records hold what models state, which may be exactly that
_EPSILON = 1e-6
_LARGEST_FILE = 2_000_000


@dataclass(frozen=True)
class Recalibration:
    """A map from the stated P(yes) of one model to a calibrated one.

    Attributes
    ----------
    method
        ``temperature``: the log odds divided by a number above 0 (Guo et al., ICML 2017), which changes no answer.
        ``platt``: a slope and an intercept of the log odds (Platt, 1999). ``isotonic``: a step-free increasing map
        between knots (Zadrozny and Elkan, KDD 2002), for hundreds of rows or more.
    parameters
        ``(temperature,)``, ``(slope, intercept)``, or the knots: first all stated, then all calibrated probabilities.
    task, species
        Whose validation rows it was fitted on.
    model, model_revision
        Whose answers they were.
    dataset_fingerprint
        Of the rows.
    n, n_groups
        Rows, and groups of rows.
    """

    method: Method
    parameters: tuple[float, ...]
    task: str
    species: str
    model: str
    model_revision: str
    dataset_fingerprint: str
    n: int
    n_groups: int

    def __post_init__(self) -> None:
        numbers = self.parameters
        knots = len(numbers) // 2
        right = {
            "temperature": len(numbers) == 1 and numbers[0] > 0,
            "platt": len(numbers) == 2,
            "isotonic": knots >= 1 and len(numbers) == 2 * knots and _is_map(numbers[:knots], numbers[knots:]),
        }
        if not all(math.isfinite(number) for number in numbers) or not right.get(self.method, False):
            raise ConnectomeBenchError(
                f"a calibration by {self.method!r} cannot have the parameters {str(numbers)[:60]}; fit it again"
            )

    def apply(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Return the calibrated P(yes).

        Parameters
        ----------
        probability
            Stated P(yes), shape (rows,), in [0, 1]; NaN stays NaN.

        Examples
        --------
        A model that is too sure of itself:

        >>> from connectomebench.models.recalibration import Recalibration
        >>> cooler = Recalibration("temperature", (2.0,), "merge_action", "fly", "probe", "r", "f", 100, 50)
        >>> cooler.apply([0.9, 0.5]).round(3).tolist()
        [0.75, 0.5]
        """
        stated = np.asarray(probability, np.float64)
        if self.method == "isotonic":
            half = len(self.parameters) // 2
            found = np.interp(stated, self.parameters[:half], self.parameters[half:])
            return np.where(np.isnan(stated), np.nan, found)
        odds = log_odds(stated)
        if self.method == "temperature":
            return _sigmoid(odds / self.parameters[0])
        slope, intercept = self.parameters
        return _sigmoid(slope * odds + intercept)

    @property
    def key(self) -> str:
        """Hash of the map: 16 hex digits; part of the revision of whatever answers with it."""
        return content_key(asdict(self))[:16]


def log_odds(probability: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) with p kept a millionth away from 0 and 1."""
    clipped = np.clip(np.asarray(probability, np.float64), _EPSILON, 1 - _EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return expit(odds)


def _is_map(stated: Sequence[float], calibrated: Sequence[float]) -> bool:
    """Return whether knots are an increasing map of [0, 1] into itself."""
    inside = all(0 <= number <= 1 for number in (*stated, *calibrated))
    return inside and bool(np.all(np.diff(stated) > 0)) and bool(np.all(np.diff(calibrated) >= 0))


class RecalibratedModel:
    """A yes/no model whose probabilities pass through a :class:`Recalibration`.

    The answer is "yes" where the calibrated probability is at least one half. Replies, costs and seconds are those of
    the model.

    Attributes
    ----------
    name, revision
        See :class:`connectomebench.models.base.Model`; the revision includes the map's.
    """

    def __init__(self, model: Model, recalibration: Recalibration) -> None:
        self._model = model
        self.recalibration = recalibration
        self.name = model.name
        self.revision = content_key(model.revision, recalibration.key)[:16]

    def predict(self, batch: Batch) -> list[Answer]:
        """Answer every row; a row without probabilities keeps its answer."""
        return [recalibrate_answer(answer, self.recalibration) for answer in self._model.predict(batch)]


def recalibrate_answer(answer: Answer, recalibration: Recalibration) -> Answer:
    """Return an answer with calibrated probabilities, and the answer that they make the likelier one.

    Raises
    ------
    ConnectomeBenchError
        If the probabilities are not of yes and no.
    """
    if not answer.probabilities:
        return answer
    if set(answer.probabilities) != {"yes", "no"}:
        raise ConnectomeBenchError(
            f"a calibration is of yes and no, and these answers are {', '.join(sorted(answer.probabilities))[:60]}"
        )
    yes = float(recalibration.apply([answer.probabilities["yes"]])[0])
    return replace(answer, prediction=likelier(yes), probabilities={"yes": yes, "no": 1 - yes})


def likelier(yes: float) -> str:
    """Return the answer of a calibrated P(yes)."""
    return "yes" if yes >= 0.5 else "no"


def save_recalibration(folder: Path, recalibration: Recalibration) -> Path:
    """Write a map into a model's folder; maps of other species and tasks there stay.

    Returns
    -------
    Path
        ``FOLDER/calibration.json``: maps by species, and of a model of several tasks by task and species (format 2).
    """
    path = folder / FILE_NAME
    kept = {(one.task, one.species): one for one in (*read_recalibrations(folder), recalibration)}
    by_task: dict[str, dict[str, Any]] = {}
    for (task, species), one in sorted(kept.items()):
        by_task.setdefault(task, {})[species] = asdict(one)
    if len(by_task) == 1:
        write_json(path, {"format": FORMAT, "species": by_task[recalibration.task]})
    else:
        write_json(path, {"format": FORMAT_OF_TASKS, "tasks": by_task})
    return path


def read_recalibrations(folder: Path) -> tuple[Recalibration, ...]:
    """Read the maps in a model's folder, sorted by task and species; empty where there are none.

    Raises
    ------
    ConnectomeBenchError
        If the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return ()
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("too large")
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] == FORMAT_OF_TASKS:
            named = [(task, own) for task, own in stored["tasks"].items()]
        elif stored["format"] == FORMAT:
            named = [(None, stored["species"])]
        else:
            raise ValueError(f"format {stored['format']!r}")
        found = [_parsed(values, task, str(name)) for task, own in named for name, values in own.items()]
        return tuple(sorted(found, key=lambda one: (one.task, one.species)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ConnectomeBenchError(
            f"{path} is not a calibration ({reason}); delete it or run connectomebench calibrate again"
        ) from None


def _parsed(values: Mapping[str, Any], task: str | None, species: str) -> Recalibration:
    texts = {name: values[name] for name in ("task", "species", "model", "model_revision", "dataset_fingerprint")}
    if values["method"] not in get_args(Method) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"the entry {species!r}")
    if values["species"] != species:
        raise ValueError(f"the entry {species!r} is of {values['species']!r}")
    if task is not None and values["task"] != task:
        raise ValueError(f"an entry of {task!r} is of {values['task']!r}")
    numbers = tuple(float(number) for number in values["parameters"])
    return Recalibration(values["method"], numbers, **texts, n=int(values["n"]), n_groups=int(values["n_groups"]))
